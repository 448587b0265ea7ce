//! Where a version's files come from: which sources a version may name, and what they stand for.
//!
//! Nothing is fetched here: a source is recorded, and what it says is held against what the
//! registry itself knows.

use salver_core::{Error, Result};
use salver_store::database::{Session, sql};

use crate::files::{ARTIFACTS, path_of};
use crate::models::NewVersion;
use crate::runs::read_run;
use crate::{logged, names};

/// What a source stands for.
pub(crate) struct Origin {
    /// Where the files are.
    pub(crate) location: String,
    /// The run that made them, where that is known.
    pub(crate) run_id: Option<String>,
}

/// Checks a source and follows it to where the files are.
pub(crate) async fn resolve(session: &mut Session, new: &NewVersion) -> Result<Origin> {
    let source = new.source.as_str();
    if source.is_empty() {
        return Err(Error::invalid_input("Missing value for required parameter 'source'"));
    }
    if names::uri_has_traversal(source) {
        return Err(refused(source, "it must not leave its place by '..'"));
    }
    let run_id = new.run_id.clone().filter(|run_id| !run_id.is_empty());
    let run = match &run_id {
        Some(run_id) => read_run(session, run_id).await.ok(),
        None => None,
    };
    let model = match &new.model_id {
        Some(model_id) => Some(logged::read_logged(session, model_id).await?.info),
        None => None,
    };
    let run_id = run_id.or_else(|| model.as_ref().and_then(|model| model.source_run_id.clone()));
    let origin = |location: String| Ok(Origin { location, run_id: run_id.clone() });
    let roots = [run.as_ref().map(|run| &run.artifact_uri), model.as_ref().map(|model| &model.artifact_uri)];
    let is_inside = |uri: &str| roots.iter().flatten().any(|root| is_below(uri, root));
    match source.split_once(':') {
        Some(("models", rest)) => {
            let rest = rest.trim_start_matches('/');
            if rest.starts_with("m-") {
                return match &model {
                    Some(model) if model.model_id == rest => origin(model.artifact_uri.clone()),
                    _ => Err(refused(source, "'model_id' must be the model that it names")),
                };
            }
            let (location, original_run) = original(session, source, rest).await?;
            Ok(Origin { location, run_id: run_id.or(original_run) })
        }
        Some(("runs", rest)) => {
            let (named, path) =
                rest.trim_start_matches('/').split_once('/').unwrap_or((rest.trim_start_matches('/'), ""));
            match &run {
                Some(run) if run.run_id == named => origin(of_run(session, &run.artifact_uri, named, path).await?),
                _ => Err(refused(source, "'run_id' must be the run that it names")),
            }
        }
        Some(("mlflow-artifacts", rest)) => {
            let location = format!("{ARTIFACTS}{}", in_store(rest));
            match is_inside(&location) {
                true => origin(location),
                false => Err(refused(source, "it must lie below the artifacts of 'run_id' or 'model_id'")),
            }
        }
        Some(("http" | "https", rest)) if rest.contains(PROXY) => {
            let (_, path) = rest.split_once(PROXY).unwrap_or_default();
            let location = format!("{ARTIFACTS}{}", path.trim_matches('/'));
            match is_inside(&location) {
                true => origin(location),
                false => Err(refused(source, "it must lie below the artifacts of 'run_id' or 'model_id'")),
            }
        }
        // A single letter is a drive.
        Some((scheme, _)) if scheme.len() > 1 && scheme != "file" && !scheme.contains('/') => origin(source.to_owned()),
        _ => match is_inside(source) {
            true => origin(source.to_owned()),
            false => Err(refused(source, "a local path must lie below the artifacts of 'run_id'")),
        },
    }
}

/// The path of the artifact proxy of any MLflow server.
const PROXY: &str = "/mlflow-artifacts/artifacts/";

fn refused(source: &str, why: &str) -> Error {
    Error::invalid_input(format!("Invalid model version source: '{source}': {why}"))
}

fn is_below(uri: &str, root: &str) -> bool {
    uri.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Takes the path out of `/P` or `//HOST/P`.
fn in_store(rest: &str) -> &str {
    match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => rest,
    }
    .trim_matches('/')
}

/// A run's model may be a logged one, which lies elsewhere.
async fn of_run(session: &mut Session, artifact_uri: &str, run_id: &str, path: &str) -> Result<String> {
    let statement = sql("SELECT artifact_uri FROM logged_models WHERE source_run_id = ? AND name = ? \
                         AND lifecycle_stage = 'active' ORDER BY creation_time DESC LIMIT 1");
    if let Some(row) = session.first(statement.bind(run_id).bind(path)).await?
        && path_of(artifact_uri).is_some()
    {
        return row.text("artifact_uri");
    }
    Ok(format!("{artifact_uri}/{path}").trim_end_matches('/').to_owned())
}

/// Follows `NAME/VERSION` to the files of that version.
async fn original(session: &mut Session, source: &str, named: &str) -> Result<(String, Option<String>)> {
    let parts = named.split_once('/').and_then(|(name, version)| Some((name, version.parse::<i64>().ok()?)));
    let (name, version) = parts.ok_or_else(|| refused(source, "expected models:/NAME/VERSION or models:/m-ID"))?;
    let statement = sql("SELECT location, run_id FROM model_versions WHERE name = ? AND version = ?");
    let row = session.first(statement.bind(name).bind(version)).await?;
    let row =
        row.ok_or_else(|| Error::not_found(format!("Model Version (name={name}, version={version}) not found")))?;
    Ok((row.text("location")?, Some(row.text("run_id")?).filter(|run_id| !run_id.is_empty())))
}
