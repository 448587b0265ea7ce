//! The part of `salver models` that is about the registry: bringing versions in, comparing them,
//! promotion and the way back.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use salver_client::HttpClient;
use salver_core::{ErrorKind, ModelRef, Selector};
use salver_protocol::paths::segment;
use salver_registry::names::{Stage, VersionRef, Which};
use serde_json::{Value, json};

use crate::cli::PushOptions;
use crate::out;
use crate::progress::Progress;

/// The experiment that pushed versions belong to.
const EXPERIMENT: &str = "salver models push";

/// Speaks with one server's registry.
pub(crate) struct Registered<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) json: bool,
}

impl Registered<'_> {
    async fn post(&self, call: &str, arguments: Value) -> Result<Value> {
        Ok(self.client.mlflow(Method::POST, call, &arguments).await?)
    }

    /// Prints what the server said, for programs, or a line for people.
    fn say(&self, reply: &Value, line: impl FnOnce() -> String) -> Result<()> {
        if self.json {
            return out::json(reply);
        }
        out::line(line());
        Ok(())
    }

    /// Registers a file or folder as the next version.
    pub(crate) async fn push(&self, options: &PushOptions) -> Result<()> {
        let files = files(&options.path)?;
        let description = options.description.as_deref().map(text_of).transpose()?;
        let run_id = self.new_run(options).await?;
        let model_id = self.upload(&files, &run_id).await?;
        match self.post("registered-models/create", json!({ "name": options.name })).await {
            Ok(_) => {}
            Err(error) if error.to_string().contains("already exists") => {}
            Err(error) => return Err(error),
        }
        let tags: Vec<Value> = options.tag.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let new = json!({
            "name": options.name,
            "source": format!("models:/{model_id}"),
            "model_id": model_id,
            "run_id": run_id,
            "description": description,
            "tags": tags,
        });
        let made = self.post("model-versions/create", new).await?;
        let version = made["model_version"]["version"].as_str().context("the server names no version")?.to_owned();
        if let Some(alias) = &options.alias {
            let arguments = json!({ "name": options.name, "alias": alias, "version": version });
            self.post("registered-models/alias", arguments).await?;
        }
        if let Some(stage) = &options.stage {
            let body = json!({ "version": version, "stage": stage });
            let call = format!("models/{}/promote", segment(&options.name));
            self.client.registry(Method::POST, &call, Some(&body)).await?;
        }
        self.say(&made["model_version"], || {
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
        let by_name = json!({ "experiment_name": EXPERIMENT });
        let experiment = match self.client.mlflow(Method::GET, "experiments/get-by-name", &by_name).await {
            Ok(found) => found["experiment"]["experiment_id"].clone(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.post("experiments/create", json!({ "name": EXPERIMENT })).await?["experiment_id"].clone()
            }
            Err(error) => return Err(error.into()),
        };
        let now = millis(SystemTime::now());
        let run =
            json!({ "experiment_id": experiment, "start_time": now, "run_name": format!("push {}", options.name) });
        let run = self.post("runs/create", run).await?;
        let run_id = run["run"]["info"]["run_id"].as_str().context("the server names no run")?.to_owned();
        let metrics = options.metric.iter().map(|(key, value)| {
            let value = if value.is_nan() { json!("NaN") } else { json!(value) };
            json!({ "key": key, "value": value, "timestamp": now, "step": 0 })
        });
        let metrics: Vec<Value> = metrics.collect();
        let params: Vec<Value> =
            options.param.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        self.post("runs/log-batch", json!({ "run_id": run_id, "metrics": metrics, "params": params })).await?;
        let end = json!({ "run_id": run_id, "status": "FINISHED", "end_time": millis(SystemTime::now()) });
        self.post("runs/update", end).await?;
        Ok(run_id)
    }

    async fn upload(&self, files: &[(PathBuf, String)], run_id: &str) -> Result<String> {
        let run = self.client.mlflow(Method::GET, "runs/get", &json!({ "run_id": run_id })).await?;
        let experiment = &run["run"]["info"]["experiment_id"];
        let new = json!({ "experiment_id": experiment, "source_run_id": run_id, "model_type": "file" });
        let model = self.post("logged-models", new).await?;
        let info = &model["model"]["info"];
        let model_id = info["model_id"].as_str().context("the server names no model")?.to_owned();
        let root = info["artifact_uri"].as_str().and_then(|uri| uri.strip_prefix("mlflow-artifacts:/"));
        let root = root.context("the server keeps its files elsewhere")?;
        for (file, path) in files {
            let _sending = Progress::spinner(format!("sending {path}"));
            self.client.put_artifact(&format!("{root}/{path}"), file).await?;
        }
        let done = json!({ "model_id": model_id, "status": "LOGGED_MODEL_READY" });
        self.client.mlflow(Method::PATCH, &format!("logged-models/{model_id}"), &done).await?;
        Ok(model_id)
    }

    /// Copies a version's files into a folder.
    pub(crate) async fn pull(&self, model: &str, folder: &Path) -> Result<()> {
        let (name, version) = self.resolve(model, Missing::Production).await?;
        let arguments = json!({ "name": name, "version": version.to_string() });
        let found = self.client.mlflow(Method::GET, "model-versions/get-download-uri", &arguments).await?;
        let uri = found["artifact_uri"].as_str().unwrap_or_default();
        let Some(root) = uri.strip_prefix("mlflow-artifacts:/") else {
            bail!("the files of version {version} of {name} are kept at {uri}, not by this server");
        };
        let files = self.client.artifacts(root).await?;
        ensure!(!files.is_empty(), "version {version} of {name} has no files");
        for path in &files {
            let to = folder.join(path);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
            }
            let _fetching = Progress::spinner(format!("fetching {path}"));
            self.client.get_artifact(&format!("{root}/{path}"), &to).await?;
        }
        let reply = json!({ "name": name, "version": version, "files": files });
        self.say(&reply, || format!("{} file(s) of {name}/{version} are in {}.", files.len(), folder.display()))
    }

    pub(crate) async fn compare(&self, model: &str, versions: &[i64]) -> Result<()> {
        let query: Vec<String> = versions.iter().map(|version| format!("version={version}")).collect();
        let call = format!("models/{}/compare?{}", segment(model), query.join("&"));
        let reply = self.client.registry(Method::GET, &call, None).await?;
        if self.json {
            return out::json(&reply);
        }
        let cards = reply["versions"].as_array().context("the server's versions are no list")?;
        side_by_side(cards).print();
        Ok(())
    }

    pub(crate) async fn promote(&self, model: &str, stage: &str) -> Result<()> {
        let (name, version) = self.resolve(model, Missing::Newest).await?;
        let arguments = json!({ "name": name, "stages": [stage] });
        let present = self.post("registered-models/get-latest-versions", arguments).await?;
        let present = present["model_versions"][0]["version"].as_str().unwrap_or("0").to_owned();
        let body = json!({ "version": version, "stage": stage, "replaces": present });
        let call = format!("models/{}/promote", segment(&name));
        let reply = self.client.registry(Method::POST, &call, Some(&body)).await?;
        self.say(&reply["version"], || match present.as_str() {
            "0" => format!("{name}/{version} is in {stage}."),
            before if before == version.to_string() => format!("{name}/{version} was in {stage} already."),
            before => format!("{name}/{version} is in {stage}; {name}/{before} is archived."),
        })
    }

    pub(crate) async fn rollback(&self, name: &str) -> Result<()> {
        let reply = self.client.registry(Method::POST, &format!("models/{}/rollback", segment(name)), None).await?;
        let version = reply["version"]["version"].as_str().unwrap_or_default();
        self.say(&reply["version"], || format!("{name}/{version} is in production again."))
    }

    pub(crate) async fn archive(&self, model: &str) -> Result<()> {
        let (name, version) = self.resolve(model, Missing::Refused).await?;
        let call = format!("models/{}/versions/{version}/stage", segment(&name));
        let reply = self.client.registry(Method::POST, &call, Some(&json!({ "stage": "archived" }))).await?;
        self.say(&reply["version"], || format!("{name}/{version} is archived."))
    }

    pub(crate) async fn delete(&self, model: &str, yes: bool) -> Result<()> {
        let model: ModelRef = model.parse()?;
        let (what, call) = match &model.selector {
            Selector::Latest => {
                (format!("{} with all its versions", model.name), format!("models/{}", segment(&model.name)))
            }
            Selector::Version(version) => {
                (format!("{}/{version}", model.name), format!("models/{}/versions/{version}", segment(&model.name)))
            }
            Selector::Label(alias) => bail!("name the version instead of its alias '{alias}': it may move meanwhile"),
        };
        if !yes && !confirmed(&format!("Delete {what}?"))? {
            out::line("Nothing was deleted.");
            return Ok(());
        }
        let reply = self.client.registry(Method::DELETE, &call, None).await?;
        self.say(&reply, || format!("{what}: deleted."))
    }

    pub(crate) async fn history(&self, model: Option<&str>, at: Option<&str>, limit: usize) -> Result<()> {
        if let (Some(model), Some(at)) = (model, at) {
            return self.in_production(model, at).await;
        }
        let subject = model.map(|model| format!("&subject={}", segment(&format!("model/{model}")))).unwrap_or_default();
        let reply = self.client.registry(Method::GET, &format!("history?limit={limit}{subject}"), None).await?;
        if self.json {
            return out::json(&reply);
        }
        let mut table = out::Rows::new(&["time", "who", "what", "of", "before", "after"]);
        for change in reply["changes"].as_array().into_iter().flatten() {
            let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
            table.push([
                time(change["time"].as_i64()),
                text("who"),
                text("what"),
                text("subject"),
                short(&change["before"]),
                short(&change["after"]),
            ]);
        }
        table.print();
        Ok(())
    }

    async fn in_production(&self, name: &str, at: &str) -> Result<()> {
        let moment = humantime::parse_rfc3339_weak(at).context("--at: expected a time such as 2026-11-22T10:00:00Z")?;
        let call = format!("models/{}/stages?stage=production&at={}", segment(name), millis(moment));
        let reply = self.client.registry(Method::GET, &call, None).await?;
        let found = &reply["times"][0];
        self.say(&reply, || match found["version"].as_i64() {
            None => format!("Nothing of {name} was in production at {at}."),
            Some(version) => {
                let (since, until) = (time(found["since"].as_i64()), found["until"].as_i64());
                let until = until.map(|until| format!(" until {}", time(Some(until)))).unwrap_or_default();
                let who = found["who"].as_str().unwrap_or_default();
                format!("{name}/{version} was in production since {since}{until}, put there by {who}.")
            }
        })
    }

    pub(crate) async fn describe(&self, model: &str, text: &str) -> Result<()> {
        let model: ModelRef = model.parse()?;
        let text = text_of(text)?;
        let (call, arguments) = match &model.selector {
            Selector::Latest => ("registered-models/update", json!({ "name": *model.name, "description": text })),
            Selector::Version(version) => {
                let version = version.to_string();
                ("model-versions/update", json!({ "name": *model.name, "version": version, "description": text }))
            }
            Selector::Label(_) => bail!("name the version instead of an alias"),
        };
        let reply = self.client.mlflow(Method::PATCH, call, &arguments).await?;
        self.say(&reply, || format!("{model} is described."))
    }

    /// Prints the registered models, if the server has a registry with any.
    pub(crate) async fn list(&self) -> Result<Option<Value>> {
        match self.client.registry(Method::GET, "models?max_results=1000", None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns a registered model with its versions; none: there is none of that name.
    pub(crate) async fn show(&self, name: &str) -> Result<Option<Value>> {
        match self.client.registry(Method::GET, &format!("models/{}", segment(name)), None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds the version that a person names.
    async fn resolve(&self, model: &str, missing: Missing) -> Result<(String, i64)> {
        let (name, which) = VersionRef::split(model)?;
        let found = match (which, missing) {
            (Some(Which::Number(version)), _) => return Ok((name, version)),
            (Some(Which::Alias(alias)), _) => {
                let arguments = json!({ "name": name, "alias": alias });
                self.client.mlflow(Method::GET, "registered-models/alias", &arguments).await?["model_version"].clone()
            }
            (Some(Which::Stage(stage)), _) => self.newest_in(&name, stage).await?,
            (None, Missing::Production) => self.newest_in(&name, Stage::Production).await?,
            (None, Missing::Refused) => bail!("say which version: {name}/VERSION"),
            (None, Missing::Newest) => {
                let call = format!("models/{}", segment(&name));
                let shown = self.client.registry(Method::GET, &call, None).await?;
                let newest = shown["versions"][0].clone();
                ensure!(!newest.is_null(), "{name} has no versions yet");
                newest
            }
        };
        let version = found["version"].as_str().and_then(|text| text.parse().ok());
        Ok((name, version.context("the server names no version")?))
    }

    async fn newest_in(&self, name: &str, stage: Stage) -> Result<Value> {
        let arguments = json!({ "name": name, "stages": [stage.as_str()] });
        let found = self.post("registered-models/get-latest-versions", arguments).await?;
        let found = found["model_versions"][0].clone();
        ensure!(!found.is_null(), "no version of {name} is in {stage}; name one: {name}/VERSION");
        Ok(found)
    }
}

/// What a name without a version stands for.
#[derive(Clone, Copy)]
enum Missing {
    Newest,
    Production,
    Refused,
}

/// Makes the table of registered models.
pub(crate) fn models_table(listed: &Value) -> Option<out::Rows> {
    let models = listed["models"].as_array().filter(|models| !models.is_empty())?;
    let mut table = out::Rows::new(&["registered", "production", "staging", ">newest", "aliases", "changed"]);
    for model in models {
        let versions = model["latest_versions"].as_array();
        let of = |stage: &str| {
            let found = versions.into_iter().flatten().find(|version| version["current_stage"] == stage);
            found.and_then(|version| version["version"].as_str()).unwrap_or_default().to_owned()
        };
        let newest =
            versions.into_iter().flatten().filter_map(|version| version["version"].as_str()?.parse::<u64>().ok());
        let aliases = model["aliases"].as_array().into_iter().flatten().map(|alias| {
            format!("{}={}", alias["alias"].as_str().unwrap_or_default(), alias["version"].as_str().unwrap_or_default())
        });
        table.push([
            model["name"].as_str().unwrap_or_default().to_owned(),
            of("Production"),
            of("Staging"),
            newest.max().map(|version| version.to_string()).unwrap_or_default(),
            aliases.collect::<Vec<_>>().join(", "),
            time(model["last_updated_timestamp"].as_i64()),
        ]);
    }
    Some(table)
}

/// Makes the table of a model's versions.
pub(crate) fn versions_table(shown: &Value) -> out::Rows {
    let mut table = out::Rows::new(&[">version", "stage", "aliases", "metrics", ">size", "digest", "made", "by"]);
    for card in shown["versions"].as_array().into_iter().flatten() {
        let aliases = card["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let metrics = card["metrics"].as_object().into_iter().flatten();
        let metrics = metrics.map(|(key, value)| format!("{key}={}", figure(value)));
        let text = |name: &str| card[name].as_str().unwrap_or_default();
        table.push([
            text("version").to_owned(),
            text("current_stage").to_owned(),
            aliases.collect::<Vec<_>>().join(", "),
            metrics.collect::<Vec<_>>().join(" "),
            card["size"].as_u64().map(super::size).unwrap_or_default(),
            text("digest").chars().take(12).collect(),
            time(card["creation_timestamp"].as_i64()),
            text("user_id").to_owned(),
        ]);
    }
    table
}

/// Makes a table with a column for each version and a row for each thing that can be compared.
fn side_by_side(cards: &[Value]) -> out::Rows {
    let mut headers = vec!["".to_owned()];
    headers.extend(cards.iter().map(|card| format!(">version {}", card["version"].as_str().unwrap_or_default())));
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut table = out::Rows::new(&headers);
    let mut push = |name: &str, of: &dyn Fn(&Value) -> String| {
        let cells = cards.iter().map(of);
        table.push(std::iter::once(name.to_owned()).chain(cells));
    };
    for (name, shown) in [("current_stage", "stage"), ("user_id", "by"), ("run_id", "run")] {
        push(shown, &|card| card[name].as_str().unwrap_or_default().to_owned());
    }
    push("made", &|card| time(card["creation_timestamp"].as_i64()));
    push("size", &|card| card["size"].as_u64().map(super::size).unwrap_or_default());
    push("digest", &|card| card["digest"].as_str().unwrap_or_default().chars().take(12).collect());
    for group in ["metrics", "params"] {
        for key in keys(cards, group) {
            push(&key, &|card| figure(&card[group][&key]));
        }
    }
    table
}

/// Returns the keys of a group in any of the versions, in order.
fn keys(cards: &[Value], group: &str) -> Vec<String> {
    let all = cards.iter().filter_map(|card| card[group].as_object()).flat_map(|object| object.keys().cloned());
    let mut keys: Vec<String> = all.collect();
    keys.sort();
    keys.dedup();
    keys
}

fn figure(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.as_f64().map_or_else(|| other.to_string(), |number| format!("{number}")),
    }
}

/// A change's value in a few words.
fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = match value {
        Value::Null => return String::new(),
        Value::Object(fields) => {
            let shown = fields.iter().filter(|(_, value)| !value.is_null());
            shown.map(|(key, value)| format!("{key}={}", figure(value))).collect::<Vec<_>>().join(" ")
        }
        other => figure(other),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
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

/// Reads a text: as it is, from `@FILE`, or from standard input for `-`.
fn text_of(text: &str) -> Result<String> {
    if text == "-" {
        let mut read = String::new();
        std::io::stdin().read_to_string(&mut read).context("read standard input")?;
        return Ok(read);
    }
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("read {file}")),
        None => Ok(text.to_owned()),
    }
}

fn confirmed(question: &str) -> Result<bool> {
    use std::io::{IsTerminal as _, stdin};
    ensure!(stdin().is_terminal(), "nobody is there to ask; give --yes to delete");
    out::line(format!("{question} [y/N]"));
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: Option<i64>) -> String {
    let Some(millis) = millis.and_then(|millis| u64::try_from(millis).ok()) else {
        return String::new();
    };
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
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

    #[test]
    fn changes_are_shown_in_a_few_words() {
        assert_eq!(short(&json!({ "stage": "Production", "none": null })), "stage=Production");
        assert_eq!(short(&Value::Null), "");
        assert_eq!(short(&json!({ "text": "é".repeat(100) })).chars().count(), 61);
        assert_eq!(time(Some(0)), "1970-01-01T00:00:00Z");
    }
}
