//! The part of `salver models` that is about the registry: looking at versions, comparing them,
//! promotion and the way back. What brings versions in is in `push.rs` and `import.rs`.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use salver_client::HttpClient;
use salver_core::{ErrorKind, ModelRef, Selector};
use salver_protocol::paths::segment;
use salver_registry::names::{Stage, VersionRef, Which};
use serde_json::{Value, json};

use super::tables::{changes, short, side_by_side};
use crate::input::confirmed;
use crate::out;
use crate::progress::Progress;
use crate::units::{millis, time};

/// Speaks with one server's registry.
pub(crate) struct Registered<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) json: bool,
}

impl Registered<'_> {
    pub(super) async fn post(&self, call: &str, arguments: Value) -> Result<Value> {
        Ok(self.client.mlflow(Method::POST, call, &arguments).await?)
    }

    /// Prints what the server said, for programs, or a line for people.
    pub(super) fn say(&self, reply: &Value, line: impl FnOnce() -> String) -> Result<()> {
        if self.json {
            return out::json(reply);
        }
        out::line(line());
        Ok(())
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
        let files: Vec<String> = self.client.artifacts(root).await?.into_iter().map(|file| file.path).collect();
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
        let differences = reply["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
        side_by_side(cards, differences).print();
        differences.iter().flat_map(changes).for_each(out::line);
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
        if !yes && !confirmed(&format!("Delete {what}?"), "delete")? {
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

    /// Returns a version with its files and the stages it was in.
    pub(crate) async fn show_version(&self, model: &str) -> Result<Value> {
        let (name, version) = self.resolve(model, Missing::Newest).await?;
        Ok(self.client.registry(Method::GET, &format!("models/{}/versions/{version}", segment(&name)), None).await?)
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

/// Reads a text: as it is, from `@FILE`, or from standard input for `-`.
pub(super) fn text_of(text: &str) -> Result<String> {
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
