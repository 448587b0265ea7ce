//! The tracking server that models are imported from: what it has of them, and where.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::Method;
use salver_client::{HttpClient, Login, RemoteFile};
use salver_core::{Error, ErrorKind};
use salver_registry::names::artifact_path;
use serde_json::{Value, json};

use super::source::{Location, Source, Wanted};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Versions, or models, that one answer lists.
const PAGE: usize = 1_000;
/// The most answers that one list takes.
const MOST_PAGES: usize = 1_000;
/// How often one place may lead to another.
const MOST_STEPS: usize = 8;

/// A tracking server.
pub(super) struct Foreign {
    pub(super) client: HttpClient,
}

impl Foreign {
    /// Prepares to ask the server at `url`, with the login that MLflow's client would use.
    pub(super) fn new(url: &str) -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let password = set("MLFLOW_TRACKING_USERNAME").zip(set("MLFLOW_TRACKING_PASSWORD"));
        let login = match (password, set("MLFLOW_TRACKING_TOKEN")) {
            (Some((user, password)), _) => Login::Password { user, password },
            (None, Some(token)) => Login::Token(token),
            (None, None) => Login::Nobody,
        };
        Ok(Self { client: HttpClient::of_mlflow(url, &login).context("--from")? })
    }

    /// Returns the address, as it stands in tags.
    pub(super) fn url(&self) -> String {
        self.client.base().to_string()
    }

    async fn call(&self, method: Method, call: &str, arguments: Value) -> Result<Value> {
        let answer = tokio::time::timeout(PATIENCE, self.client.mlflow(method, call, &arguments)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(Error::not_ready(format!("no answer to {call} within {} s", PATIENCE.as_secs()))));
        answer.with_context(|| format!("the tracking server at {}", self.url()))
    }

    async fn get(&self, call: &str, arguments: Value) -> Result<Value> {
        self.call(Method::GET, call, arguments).await
    }

    /// Returns the names of all registered models; prompts, which are kept with them, are none.
    pub(super) async fn models(&self) -> Result<Vec<String>> {
        let models = self.pages("registered-models/search", "registered_models", json!({})).await?;
        let is_prompt = |model: &Value| {
            let tags = model["tags"].as_array().into_iter().flatten();
            tags.into_iter().any(|tag| tag["key"] == "mlflow.prompt.is_prompt" && tag["value"] == "true")
        };
        let named = models.iter().filter(|model| !is_prompt(model)).filter_map(|model| model["name"].as_str());
        Ok(named.map(str::to_owned).collect())
    }

    /// Returns a registered model.
    pub(super) async fn model(&self, name: &str) -> Result<Value> {
        Ok(self.get("registered-models/get", json!({ "name": name })).await?["registered_model"].take())
    }

    /// Returns the versions of a model that are wanted, the oldest first.
    pub(super) async fn versions(&self, source: &Source) -> Result<Vec<Value>> {
        let name = &source.name;
        let latest = async |stages: Value| {
            let arguments = json!({ "name": name, "stages": stages });
            let found = self.call(Method::POST, "registered-models/get-latest-versions", arguments).await?;
            let versions = found["model_versions"].as_array().cloned().unwrap_or_default();
            anyhow::Ok(versions.into_iter().max_by_key(number))
        };
        let found = match &source.wanted {
            Wanted::All => return self.all_versions(name).await,
            Wanted::Version(version) => {
                let arguments = json!({ "name": name, "version": version });
                Some(self.get("model-versions/get", arguments).await?["model_version"].take())
            }
            Wanted::Alias(alias) => {
                let arguments = json!({ "name": name, "alias": alias });
                Some(self.get("registered-models/alias", arguments).await?["model_version"].take())
            }
            Wanted::Stage(stage) => latest(json!([stage])).await?,
            Wanted::Newest => latest(json!([])).await?,
        };
        let found = found.filter(|version| number(version) > 0);
        found.map(|version| vec![version]).with_context(|| match &source.wanted {
            Wanted::Stage(stage) => format!("no version of '{name}' is in stage {stage} at {}", self.url()),
            _ => format!("'{name}' has no such version at {}", self.url()),
        })
    }

    async fn all_versions(&self, name: &str) -> Result<Vec<Value>> {
        let quoted = match (name.contains('\''), name.contains('"')) {
            (false, _) => format!("'{name}'"),
            (true, false) => format!("\"{name}\""),
            (true, true) => {
                bail!("a name with both kinds of quotes cannot be searched for; import its versions one by one")
            }
        };
        let filter = json!({ "filter": format!("name = {quoted}") });
        let mut versions = self.pages("model-versions/search", "model_versions", filter).await?;
        versions.retain(|version| version["name"] == name);
        versions.sort_by_key(number);
        Ok(versions)
    }

    /// Reads a list to its end.
    async fn pages(&self, call: &str, list: &str, mut arguments: Value) -> Result<Vec<Value>> {
        arguments["max_results"] = json!(PAGE);
        let mut found = Vec::new();
        for _ in 0..MOST_PAGES {
            let mut page = self.get(call, arguments.clone()).await?;
            if let Value::Array(items) = page[list].take() {
                found.extend(items);
            }
            match page["next_page_token"].take() {
                Value::String(token) if !token.is_empty() => arguments["page_token"] = json!(token),
                _ => return Ok(found),
            }
        }
        bail!("{call} of {} does not come to an end", self.url())
    }

    /// Returns what a run logged; none: it is gone.
    pub(super) async fn run(&self, run_id: &str) -> Result<Option<Value>> {
        absent(self.get("runs/get", json!({ "run_id": run_id })).await)
            .map(|found| found.map(|mut run| run["run"].take()))
    }

    /// Returns a logged model; none: it is gone.
    pub(super) async fn logged(&self, model_id: &str) -> Result<Option<Value>> {
        let call = format!("logged-models/{}", salver_protocol::paths::segment(model_id));
        absent(self.get(&call, json!({})).await).map(|found| found.map(|mut model| model["model"].take()))
    }

    /// Finds the folder of a version's files among the artifacts that the server hands out.
    pub(super) async fn folder(&self, name: &str, version: &str) -> Result<String> {
        let mut uri = self.download_uri(name, version).await?;
        for _ in 0..MOST_STEPS {
            uri = match Location::read(&uri, self.client.base())? {
                Location::Folder(path) => return Ok(path),
                Location::Logged(model_id) => {
                    let model = self.logged(&model_id).await?;
                    let model =
                        model.with_context(|| format!("its files were those of model '{model_id}', which is gone"))?;
                    text(&model["info"]["artifact_uri"])?
                }
                Location::Run { run_id, path } => {
                    let run = self.run(&run_id).await?;
                    let run = run.with_context(|| format!("its files were those of run '{run_id}', which is gone"))?;
                    format!("{}/{path}", text(&run["info"]["artifact_uri"])?)
                }
                Location::Version { name, version } => self.download_uri(&name, &version).await?,
                Location::Elsewhere => bail!(
                    "its files are at '{}', which the server at {} does not hand out: log models there with `mlflow server \
                     --serve-artifacts` on, or copy that folder to this machine and run: salver models import DIR --name '{name}'",
                    uri.escape_debug(),
                    self.url()
                ),
            };
        }
        bail!("where its files are leads in a circle, last to '{}'", uri.escape_debug())
    }

    async fn download_uri(&self, name: &str, version: &str) -> Result<String> {
        let arguments = json!({ "name": name, "version": version });
        text(&self.get("model-versions/get-download-uri", arguments).await?["artifact_uri"])
    }

    /// Lists the files of a folder; none of their paths leads out of it.
    pub(super) async fn files(&self, folder: &str) -> Result<Vec<RemoteFile>> {
        let listed = tokio::time::timeout(PATIENCE, self.client.artifacts(folder)).await;
        let files = listed.with_context(|| format!("no list of files from {}", self.url()))?;
        let files = files.with_context(|| format!("the tracking server at {}", self.url()))?;
        for file in &files {
            artifact_path(&file.path)?;
        }
        Ok(files)
    }
}

/// The number of a version; 0: it is none.
pub(super) fn number(version: &Value) -> u64 {
    let text = version["version"].as_str().and_then(|text| text.parse().ok());
    text.or_else(|| version["version"].as_u64()).unwrap_or(0)
}

fn text(value: &Value) -> Result<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    Ok(text.context("the tracking server does not say where the files are")?.to_owned())
}

fn absent(found: Result<Value>) -> Result<Option<Value>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
