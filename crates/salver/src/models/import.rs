//! Copies registered models from an MLflow tracking server into this registry.
//!
//! Nothing of a version is made here before all that is said of it there is known; its files then go
//! from server to server, and it is registered when all of them are there. What a version was made
//! from stands in its tags: by them it is known again, so that nothing is imported twice.

mod foreign;
mod incoming;
mod source;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use salver_client::RemoteFile;
use salver_core::{Error, ErrorKind};
use salver_protocol::paths::segment;
use serde_json::{Value, json};

use self::foreign::{Foreign, number};
use self::incoming::{COMPLETE, IDENTITY, Incoming, add, own_tags, tag};
use self::source::{SCHEME, Source, Wanted};
use super::push::{Logged, Place};
use super::registered::Registered;
use crate::cli::{ImportOptions, PushOptions};
use crate::out;
use crate::progress::{Position, Progress};

/// The experiment that runs of imported versions belong to.
const EXPERIMENT: &str = "salver models import";

/// What became of a version.
struct Imported {
    /// As it is called there.
    source: String,
    /// As it is called here.
    name: String,
    version: String,
    /// Whether it was here before.
    is_known: bool,
    files: Vec<RemoteFile>,
}

impl Registered<'_> {
    /// Imports what is asked for, and says what became of it.
    pub(crate) async fn import(&self, options: &ImportOptions) -> Result<()> {
        let source = options.source.as_deref().unwrap_or_default();
        if !options.all && !source.starts_with(SCHEME) {
            return self.import_folder(Path::new(source), options).await;
        }
        let url = options.from.as_deref();
        let url = url.context("say which tracking server has it: --from http://HOST:PORT (or MLFLOW_TRACKING_URI)")?;
        let from = Foreign::new(url)?;
        ensure!(from.client.base() != self.client.base(), "--from is this registry itself; give --server as well");
        let sources = match options.all {
            false => vec![source.parse::<Source>()?],
            true => {
                let names = from.models().await?;
                ensure!(!names.is_empty(), "the tracking server at {url} has no registered models");
                names.into_iter().map(|name| Source { name, wanted: Wanted::All }).collect()
            }
        };
        let (mut imported, mut failed) = (Vec::new(), 0);
        for source in &sources {
            failed += self.import_model(&from, source, options, &mut imported).await?;
        }
        if self.json {
            out::json(&imported.iter().map(Imported::json).collect::<Vec<_>>())?;
        }
        ensure!(failed == 0, "{failed} of {} versions could not be imported", failed + imported.len());
        Ok(())
    }

    /// Registers a folder as `push` does.
    async fn import_folder(&self, folder: &Path, options: &ImportOptions) -> Result<()> {
        let shown = folder.display();
        ensure!(
            folder.is_dir(),
            "'{shown}' is neither a folder nor a model of a tracking server, such as models:/NAME/VERSION"
        );
        ensure!(
            folder.join("MLmodel").is_file() || folder.join("model.toml").is_file(),
            "'{shown}' holds neither MLmodel nor model.toml: give the folder that does (of an mlruns tree, the \
             artifacts of one model)"
        );
        let name = options.name.clone().context("say what to call the model: --name NAME")?;
        let push = PushOptions {
            name,
            path: folder.to_owned(),
            metric: Vec::new(),
            param: Vec::new(),
            tag: Vec::new(),
            description: None,
            stage: None,
            alias: None,
        };
        self.push(&push).await
    }

    /// Imports versions of one model; returns how many could not be.
    async fn import_model(
        &self,
        from: &Foreign,
        source: &Source,
        options: &ImportOptions,
        imported: &mut Vec<Imported>,
    ) -> Result<usize> {
        let (model, versions) = (from.model(&source.name).await?, from.versions(source).await?);
        ensure!(!versions.is_empty() || options.all, "'{}' has no versions at {}", source.name, from.url());
        let name = options.name.as_deref().unwrap_or(&source.name);
        let here = self.show(name).await?.unwrap_or_default();
        let mut failed = 0;
        for version in &versions {
            let incoming = Incoming { model: &model, version, name, here: &here };
            match self.import_version(from, &incoming, options).await {
                Ok(done) => {
                    if !self.json {
                        out::line(done.line());
                    }
                    imported.push(done);
                }
                Err(error) if is_away(&error) => return Err(error.context(incoming.uri())),
                Err(error) if versions.len() == 1 && !options.all => return Err(error.context(incoming.uri())),
                Err(error) => {
                    out::error(out::printable(&format!("{}: {error:#}", incoming.uri())));
                    failed += 1;
                }
            }
        }
        Ok(failed)
    }

    async fn import_version(
        &self,
        from: &Foreign,
        incoming: &Incoming<'_>,
        options: &ImportOptions,
    ) -> Result<Imported> {
        let uri = incoming.uri();
        let folder = from.folder(incoming.field("name"), &number(incoming.version).to_string()).await?;
        let files = from.files(&folder).await?;
        ensure!(!files.is_empty(), "the tracking server has no files of it");
        let done = |version: String, is_known: bool| Imported {
            source: uri.clone(),
            name: incoming.name.to_owned(),
            version,
            is_known,
            files: files.clone(),
        };
        if let Some(known) = self.known(from, incoming, &files).await? {
            let version = known["version"].as_str().unwrap_or_default().to_owned();
            if tag(&known, COMPLETE).is_none() {
                self.finish(incoming, &version, options).await?;
            }
            return Ok(done(version, true));
        }
        let logged = self.logged(from, incoming).await?;
        let run = json!({ "start_time": incoming.version["creation_timestamp"], "run_name": format!("import {uri}") });
        let end = incoming.version["creation_timestamp"].as_i64().unwrap_or_default();
        let run_id = self.note_run(EXPERIMENT, run, &logged, end).await?;
        let place = self.place(&run_id).await?;
        if let Err(error) = self.copy(from, incoming, (&folder, &files), &place).await {
            self.undo(&place, &run_id).await;
            return Err(error);
        }
        let version = match self.register_here(from, incoming, &place, &run_id).await {
            Ok(version) => version,
            Err(error) => {
                // Where only the answer was lost, the version may come to be any moment.
                if error.downcast_ref::<Error>().is_some_and(|error| is_refusal(error.kind())) {
                    self.undo(&place, &run_id).await;
                }
                return Err(error);
            }
        };
        self.finish(incoming, &version, options).await?;
        Ok(done(version, false))
    }

    /// Returns the version that was imported from there before, if it is made of the same files.
    async fn known(&self, from: &Foreign, incoming: &Incoming<'_>, files: &[RemoteFile]) -> Result<Option<Value>> {
        let tags = json!({ "tags": incoming.tags(&from.url()) });
        let is_it = |card: &&Value| IDENTITY.iter().all(|key| tag(card, key) == tag(&tags, key));
        for card in incoming.here["versions"].as_array().into_iter().flatten().filter(is_it) {
            let call = format!("models/{}/versions/{}", segment(incoming.name), number(card));
            let found = self.client.registry(Method::GET, &call, None).await?;
            let file = |file: &Value| Some((file["path"].as_str()?.to_owned(), file["size"].as_u64()));
            let here: BTreeSet<_> = found["files"].as_array().into_iter().flatten().filter_map(file).collect();
            let is_here = |file: &RemoteFile| match file.size {
                Some(_) => here.contains(&(file.path.clone(), file.size)),
                None => here.iter().any(|(path, _)| *path == file.path),
            };
            if here.len() == files.len() && files.iter().all(is_here) {
                return Ok(Some(card.clone()));
            }
        }
        Ok(None)
    }

    /// Collects what was measured of a version.
    async fn logged(&self, from: &Foreign, incoming: &Incoming<'_>) -> Result<Logged> {
        let mut logged = Logged::default();
        let run_id = incoming.field("run_id");
        if !run_id.is_empty() {
            match from.run(run_id).await? {
                Some(run) => add(&mut logged, &run["data"]),
                None => out::error(format!("{}: run {run_id} is gone, and what it measured with it", incoming.uri())),
            }
        }
        let model_id = incoming.field("source").strip_prefix(SCHEME).filter(|id| id.starts_with("m-"));
        if let Some(model_id) = model_id
            && let Some(model) = from.logged(model_id).await?
        {
            add(&mut logged, &model["data"]);
        }
        Ok(logged)
    }

    /// Copies the files, until somebody interrupts it.
    async fn copy(
        &self,
        from: &Foreign,
        incoming: &Incoming<'_>,
        (folder, files): (&str, &[RemoteFile]),
        place: &Place,
    ) -> Result<()> {
        let passed = Arc::new(AtomicU64::new(0));
        let all = files.iter().filter_map(|file| file.size).fold(0, u64::saturating_add);
        let counted = passed.clone();
        let position = move || Position { done: counted.load(Ordering::Relaxed), all };
        let _progress = Progress::bytes(incoming.uri(), position);
        let copying = async {
            for file in files {
                let to = format!("{}/{}", place.root, file.path);
                let copied = from.client.hand_on((folder, file), self.client, &to, &passed).await;
                copied.with_context(|| format!("copy '{}'", file.path))?;
            }
            Ok(())
        };
        tokio::select! {
            copied = copying => copied,
            _ = tokio::signal::ctrl_c() => {
                Err(Error::new(ErrorKind::Cancelled, "interrupted; what had come of it was taken back").into())
            }
        }
    }

    /// Registers the files as a version, with all that is known of it.
    async fn register_here(
        &self,
        from: &Foreign,
        incoming: &Incoming<'_>,
        place: &Place,
        run_id: &str,
    ) -> Result<String> {
        self.complete(place).await?;
        self.make_model(incoming).await?;
        let tags = incoming.tags(&from.url());
        let new = json!({ "name": incoming.name, "description": incoming.field("description"), "tags": tags });
        let made = self.register(new, place, run_id).await?;
        Ok(made["version"].as_str().context("the server names no version")?.to_owned())
    }

    /// Registers the model as it is there; one that is here keeps what it has.
    async fn make_model(&self, incoming: &Incoming<'_>) -> Result<()> {
        let tags: Vec<Value> = own_tags(incoming.model).collect();
        let description = incoming.model["description"].as_str().unwrap_or_default();
        let new = json!({ "name": incoming.name, "description": description, "tags": tags });
        if self.known_model(new).await? {
            return Ok(());
        }
        let mut found =
            self.client.mlflow(Method::GET, "registered-models/get", &json!({ "name": incoming.name })).await?;
        let known = found["registered_model"].take();
        if known["description"].as_str().unwrap_or_default().is_empty() && !description.is_empty() {
            let arguments = json!({ "name": incoming.name, "description": description });
            self.client.mlflow(Method::PATCH, "registered-models/update", &arguments).await?;
        }
        for missing in tags.iter().filter(|new| new["key"].as_str().is_some_and(|key| tag(&known, key).is_none())) {
            let arguments = json!({ "name": incoming.name, "key": missing["key"], "value": missing["value"] });
            self.post("registered-models/set-tag", arguments).await?;
        }
        Ok(())
    }

    /// Gives a version the aliases and the stage that it has there, and notes that it has them.
    async fn finish(&self, incoming: &Incoming<'_>, version: &str, options: &ImportOptions) -> Result<()> {
        let name = incoming.name;
        if !options.unstaged {
            for alias in incoming.aliases() {
                self.post("registered-models/alias", json!({ "name": name, "alias": alias, "version": version }))
                    .await?;
            }
            let stage = incoming.field("current_stage");
            if !matches!(stage, "" | "None") {
                let arguments = json!({ "name": name, "version": version, "stage": stage });
                self.post("model-versions/transition-stage", arguments).await?;
            }
        }
        let arguments = json!({ "name": name, "version": version, "key": COMPLETE, "value": "true" });
        self.post("model-versions/set-tag", arguments).await?;
        Ok(())
    }

    /// Takes back what was made for a version that did not come to be, as far as the server answers.
    async fn undo(&self, place: &Place, run_id: &str) {
        // Files of a registered version are refused: then it is there after all, and all of it stays.
        if self.client.delete_artifacts(&place.root).await.is_err() {
            return;
        }
        let call = format!("logged-models/{}", place.model_id);
        let _ = self.client.mlflow(Method::DELETE, &call, &json!({})).await;
        let _ = self.post("runs/delete", json!({ "run_id": run_id })).await;
    }
}

impl Imported {
    fn line(&self) -> String {
        let Self { source, name, version, files, .. } = self;
        match self.is_known {
            true => format!("{source} is here already, as {name}/{version}."),
            false => format!("{source} is now {name}/{version}: {} file(s).", files.len()),
        }
    }

    fn json(&self) -> Value {
        let files: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        json!({
            "source": self.source,
            "name": self.name,
            "version": self.version,
            "imported": !self.is_known,
            "files": files,
        })
    }
}

/// Whether going on with the next version makes no sense: a server went away, or a person wants no more.
fn is_away(error: &anyhow::Error) -> bool {
    let ends_all =
        |error: &Error| matches!(error.kind(), ErrorKind::NotReady | ErrorKind::Unauthenticated | ErrorKind::Cancelled);
    error.downcast_ref::<Error>().is_some_and(ends_all)
}

/// Whether a server that answers this has surely not done what it was asked for.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Forbidden)
}
