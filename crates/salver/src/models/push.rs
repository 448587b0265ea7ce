//! Brings a version in: its run, its files, its registration. `push` takes them from this machine;
//! `import.rs` takes the same steps with what another server has.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use salver_core::ErrorKind;
use salver_protocol::paths::segment;
use serde_json::{Value, json};

use super::registered::{Registered, text_of};
use crate::cli::PushOptions;
use crate::progress::Progress;
use crate::units::millis;

/// The experiment that pushed versions belong to.
const EXPERIMENT: &str = "salver models push";
/// The most metrics of one call; MLflow's servers take as many.
const MOST_METRICS: usize = 900;
/// The most parameters, and the most tags, of one call.
const MOST_TEXTS: usize = 100;

/// What a run logged, in the form that MLflow's interface has for it.
#[derive(Default)]
pub(super) struct Logged {
    pub(super) metrics: Vec<Value>,
    pub(super) params: Vec<Value>,
    pub(super) tags: Vec<Value>,
}

/// Where the files of a version go.
pub(super) struct Place {
    pub(super) model_id: String,
    /// In the server's artifacts.
    pub(super) root: String,
}

impl Registered<'_> {
    /// Registers a file or folder as the next version.
    pub(crate) async fn push(&self, options: &PushOptions) -> Result<()> {
        let files = files(&options.path)?;
        let description = options.description.as_deref().map(text_of).transpose()?;
        let run_id = self.new_run(options).await?;
        let place = self.place(&run_id).await?;
        for (file, path) in &files {
            let _sending = Progress::spinner(format!("sending {path}"));
            self.client.put_artifact(&format!("{}/{path}", place.root), file).await?;
        }
        self.complete(&place).await?;
        self.known_model(json!({ "name": options.name })).await?;
        let tags: Vec<Value> = options.tag.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let new = json!({ "name": options.name, "description": description, "tags": tags });
        let made = self.register(new, &place, &run_id).await?;
        let version = made["version"].as_str().context("the server names no version")?.to_owned();
        if let Some(alias) = &options.alias {
            let arguments = json!({ "name": options.name, "alias": alias, "version": version });
            self.post("registered-models/alias", arguments).await?;
        }
        if let Some(stage) = &options.stage {
            let body = json!({ "version": version, "stage": stage });
            let call = format!("models/{}/promote", segment(&options.name));
            self.client.registry(Method::POST, &call, Some(&body)).await?;
        }
        self.say(&made, || {
            let stage = options.stage.as_ref().map(|stage| format!(", now in {stage}")).unwrap_or_default();
            let next = match options.stage {
                Some(_) => String::new(),
                None => format!("\nServe it: salver models promote {}/{version}", options.name),
            };
            format!("Version {version} of {} is registered{stage}.{next}", options.name)
        })
    }

    /// Notes what was measured as a run of its own.
    async fn new_run(&self, options: &PushOptions) -> Result<String> {
        let now = millis(SystemTime::now());
        let run = json!({ "start_time": now, "run_name": format!("push {}", options.name) });
        let metric = |(key, value): &(String, f64)| {
            let value = if value.is_nan() { json!("NaN") } else { json!(value) };
            json!({ "key": key, "value": value, "timestamp": now, "step": 0 })
        };
        let logged = Logged {
            metrics: options.metric.iter().map(metric).collect(),
            params: options.param.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect(),
            tags: Vec::new(),
        };
        self.note_run(EXPERIMENT, run, &logged, millis(SystemTime::now())).await
    }

    /// Makes a finished run of an experiment, which is made as well if it is not there.
    pub(super) async fn note_run(&self, experiment: &str, mut run: Value, logged: &Logged, end: i64) -> Result<String> {
        let by_name = json!({ "experiment_name": experiment });
        run["experiment_id"] = match self.client.mlflow(Method::GET, "experiments/get-by-name", &by_name).await {
            Ok(found) => found["experiment"]["experiment_id"].clone(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.post("experiments/create", json!({ "name": experiment })).await?["experiment_id"].clone()
            }
            Err(error) => return Err(error.into()),
        };
        let run = self.post("runs/create", run).await?;
        let run_id = run["run"]["info"]["run_id"].as_str().context("the server names no run")?.to_owned();
        for metrics in logged.metrics.chunks(MOST_METRICS) {
            self.post("runs/log-batch", json!({ "run_id": run_id, "metrics": metrics })).await?;
        }
        for (name, texts) in [("params", &logged.params), ("tags", &logged.tags)] {
            for texts in texts.chunks(MOST_TEXTS) {
                self.post("runs/log-batch", json!({ "run_id": run_id, name: texts })).await?;
            }
        }
        self.post("runs/update", json!({ "run_id": run_id, "status": "FINISHED", "end_time": end })).await?;
        Ok(run_id)
    }

    /// Announces a model of a run, whose files will follow.
    pub(super) async fn place(&self, run_id: &str) -> Result<Place> {
        let run = self.client.mlflow(Method::GET, "runs/get", &json!({ "run_id": run_id })).await?;
        let experiment = &run["run"]["info"]["experiment_id"];
        let new = json!({ "experiment_id": experiment, "source_run_id": run_id, "model_type": "file" });
        let model = self.post("logged-models", new).await?;
        let info = &model["model"]["info"];
        let model_id = info["model_id"].as_str().context("the server names no model")?.to_owned();
        let root = info["artifact_uri"].as_str().and_then(|uri| uri.strip_prefix("mlflow-artifacts:/"));
        Ok(Place { model_id, root: root.context("the server keeps its files elsewhere")?.to_owned() })
    }

    /// Says that all files are there.
    pub(super) async fn complete(&self, place: &Place) -> Result<()> {
        let done = json!({ "model_id": place.model_id, "status": "LOGGED_MODEL_READY" });
        self.client.mlflow(Method::PATCH, &format!("logged-models/{}", place.model_id), &done).await?;
        Ok(())
    }

    /// Registers a model, unless it is registered already; says whether it was not.
    pub(super) async fn known_model(&self, model: Value) -> Result<bool> {
        match self.post("registered-models/create", model).await {
            Ok(_) => Ok(true),
            Err(error) if error.to_string().contains("already exists") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Registers the files as the next version of `new["name"]`, and returns it.
    pub(super) async fn register(&self, mut new: Value, place: &Place, run_id: &str) -> Result<Value> {
        new["source"] = json!(format!("models:/{}", place.model_id));
        new["model_id"] = json!(place.model_id);
        new["run_id"] = json!(run_id);
        Ok(self.post("model-versions/create", new).await?["model_version"].take())
    }
}

/// Returns every file of a model with its path within it.
fn files(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let found = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if found.is_file() {
        let name = path.file_name().and_then(|name| name.to_str()).context("the file's name is not UTF-8")?;
        return Ok(vec![(path.to_owned(), name.to_owned())]);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // What a link leads to may lie anywhere.
            ensure!(!kind.is_symlink(), "{} is a link; put the file itself there", entry.path().display());
            if kind.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let file = entry.path();
            let within = file.strip_prefix(path).ok().and_then(Path::to_str);
            let within = within.with_context(|| format!("{} is not UTF-8", file.display()))?.to_owned();
            files.push((file, within));
        }
    }
    ensure!(!files.is_empty(), "{} is empty", path.display());
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_files_with_their_paths_and_links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c.txt"), "x").unwrap();
        std::fs::write(folder.path().join("model.onnx"), "y").unwrap();
        let names: Vec<String> = files(folder.path()).unwrap().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["a/b/c.txt", "model.onnx"]);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(files(folder.path()).unwrap_err().to_string().contains("is a link"));
    }
}
