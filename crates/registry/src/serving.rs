//! What the registry has in production, as models to load.
//!
//! [`Production`] follows the registry, this server's changes and those of others, copies the files
//! of each version in production into a folder of its own, checked against their digests, and hands
//! them out as a [`ModelSource`]. Files come from the configured store alone. What cannot be served
//! is an entry that says why; a version that serves is not taken away by a successor that cannot.

mod folders;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use salver_core::{Error, ModelEntry, ModelName, ModelSource, ModelSpec, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::folders::Folders;
use crate::types::ModelVersion;
use crate::{Registry, files};

/// How often other servers' changes are looked for.
const INTERVAL: Duration = Duration::from_millis(500);
/// When a store that did not answer is asked again.
const SOON: Duration = Duration::from_secs(5);
/// When what was damaged or gone is looked at again.
const LATER: Duration = Duration::from_secs(60);

/// How far the first look at the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLook {
    /// The registry did not answer so far.
    Pending,
    /// The registry cannot be reached; it is asked again and again.
    Failed,
    /// Everything that was in production is there, or known not to be servable.
    Done,
}

/// The models in production.
pub struct Production {
    registry: Registry,
    folders: Arc<Folders>,
    entries: RwLock<Arc<BTreeMap<ModelName, ModelEntry>>>,
    first_look: watch::Sender<FirstLook>,
}

impl Production {
    /// Prepares to keep files below `folder`; nothing is looked at before [`Production::follow`].
    ///
    /// # Errors
    /// `NotReady` or `Full` where the folder cannot be written.
    pub fn open(registry: Registry, folder: &Path) -> Result<Self> {
        Ok(Self {
            registry,
            folders: Arc::new(Folders::open(folder)?),
            entries: RwLock::default(),
            first_look: watch::Sender::new(FirstLook::Pending),
        })
    }

    /// Tells how far the first look is.
    pub fn first_look(&self) -> watch::Receiver<FirstLook> {
        self.first_look.subscribe()
    }

    /// Follows the registry until dropped; `changed` is called with the name of each model whose
    /// entry is another one from now on.
    pub async fn follow(&self, changed: impl Fn(&ModelName) + Send) {
        let mut follower = Follower { production: self, held: BTreeMap::new(), fetches: JoinSet::new(), changed };
        self.prepare().await;
        follower.run().await;
    }

    /// Waits until the registry can be read.
    async fn prepare(&self) {
        while let Err(error) = self.registry.prepare().await {
            if self.first_look.send_replace(FirstLook::Failed) != FirstLook::Failed {
                tracing::error!(%error, cause = ?error, "the registry cannot be reached; trying on");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl ModelSource for Production {
    fn scan(&self) -> Vec<ModelEntry> {
        self.entries.read().values().cloned().collect()
    }

    fn find(&self, name: &str) -> Option<ModelEntry> {
        self.entries.read().get(name).cloned()
    }
}

/// The state of [`Production::follow`].
struct Follower<'a, F> {
    production: &'a Production,
    /// By registered name.
    held: BTreeMap<String, Held>,
    fetches: JoinSet<Fetched>,
    changed: F,
}

/// What is known of one registered model.
struct Held {
    wanted: ModelVersion,
    state: State,
    /// The digests of what was served last and before that: their files are kept, since a version
    /// may serve until its successor does.
    kept: [Option<String>; 2],
}

enum State {
    Fetching,
    Good(Arc<ModelSpec>),
    Bad { error: Error, again: Option<Instant> },
}

struct Fetched {
    version: ModelVersion,
    spec: Result<ModelSpec>,
}

impl<F: Fn(&ModelName) + Send> Follower<'_, F> {
    async fn run(&mut self) {
        let mut changes = self.production.registry.changes();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A look that failed is made up for at the next tick.
        let (mut is_due, mut is_reachable) = (true, true);
        loop {
            if is_due {
                changes.mark_unchanged();
                let looked = self.look().await;
                is_due = looked.is_err();
                note_reachable(&mut is_reachable, looked);
            }
            self.note_first_look(is_due).await;
            tokio::select! {
                // Nobody drops the sender: the registry is in `self`.
                _ = changes.changed() => is_due = true,
                _ = ticks.tick() => {
                    note_reachable(&mut is_reachable, self.production.registry.look_for_changes().await);
                    self.try_again();
                }
                Some(fetched) = self.fetches.join_next() => {
                    match fetched {
                        Ok(fetched) => self.settle(fetched),
                        Err(error) => tracing::error!(%error, "fetching a model ended early"),
                    }
                    self.clean_up().await;
                }
            }
        }
    }

    async fn note_first_look(&self, is_due: bool) {
        let first_look = &self.production.first_look;
        if !is_due && self.fetches.is_empty() && *first_look.borrow() != FirstLook::Done {
            self.clean_up().await;
            first_look.send_replace(FirstLook::Done);
        }
    }

    /// Compares what is in production with what is held.
    async fn look(&mut self) -> Result<()> {
        let versions = self.production.registry.in_production().await?;
        let names: BTreeSet<&str> = versions.iter().map(|version| version.name.as_str()).collect();
        let before = self.held.len();
        self.held.retain(|name, _| names.contains(name.as_str()));
        let mut is_published = self.held.len() == before;
        for version in versions {
            match self.held.get_mut(&version.name) {
                Some(held) if is_same(&held.wanted, &version) => {
                    // Aliases may have moved.
                    is_published &= held.wanted.aliases == version.aliases;
                    held.wanted = version;
                }
                Some(held) => {
                    held.wanted = version.clone();
                    held.state = State::Fetching;
                    self.fetch(version);
                }
                None => {
                    let held = Held { wanted: version.clone(), state: State::Fetching, kept: [None, None] };
                    self.held.insert(version.name.clone(), held);
                    self.fetch(version);
                }
            }
        }
        if !is_published {
            self.publish();
            self.clean_up().await;
        }
        Ok(())
    }

    fn fetch(&mut self, version: ModelVersion) {
        let (registry, folders) = (self.production.registry.clone(), self.production.folders.clone());
        self.fetches.spawn(async move { Fetched { spec: fetch(&registry, &folders, &version).await, version } });
    }

    fn settle(&mut self, Fetched { version, spec }: Fetched) {
        let Some(held) = self.held.get_mut(&version.name).filter(|held| is_same(&held.wanted, &version)) else {
            return;
        };
        held.state = match spec {
            Ok(spec) => {
                if held.kept[0] != version.digest {
                    held.kept.swap(0, 1);
                    held.kept[0].clone_from(&version.digest);
                }
                State::Good(Arc::new(spec))
            }
            Err(error) => {
                let is_final = matches!(error.kind(), salver_core::ErrorKind::Unsupported);
                let wait = if error.kind().is_retryable() { SOON } else { LATER };
                let error = error.context(format_args!("version {}", version.version));
                State::Bad { error, again: (!is_final).then(|| Instant::now() + wait) }
            }
        };
        self.publish();
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        let is_due = |held: &Held| matches!(held.state, State::Bad { again: Some(again), .. } if again <= now);
        let due: Vec<ModelVersion> =
            self.held.values().filter(|held| is_due(held)).map(|held| held.wanted.clone()).collect();
        for version in due {
            if let Some(held) = self.held.get_mut(&version.name)
                && let State::Bad { again, .. } = &mut held.state
            {
                *again = None;
            }
            self.fetch(version);
        }
    }

    /// Shows what is held, and tells what changed.
    fn publish(&self) {
        let before = self.production.entries.read().clone();
        let mut after = BTreeMap::new();
        let (named, nameless): (Vec<_>, Vec<_>) = self.held.iter().partition(|(name, _)| ModelName::new(name).is_ok());
        // A name that is none must not take the place of one.
        for (name, held) in named.into_iter().chain(nameless) {
            let name = shown_name(name);
            let entry = held.entry(&name).or_else(|| before.get(&name).cloned());
            if let Some(entry) = entry {
                after.entry(name).or_insert(entry);
            }
        }
        let after = Arc::new(after);
        *self.production.entries.write() = after.clone();
        let names: BTreeSet<&ModelName> = before.keys().chain(after.keys()).collect();
        for name in names {
            if !is_alike(before.get(name), after.get(name)) {
                (self.changed)(name);
            }
        }
    }

    /// Removes the files that nothing needs any more.
    async fn clean_up(&self) {
        let needed = |held: &Held| held.kept.iter().flatten().chain(&held.wanted.digest).cloned().collect::<Vec<_>>();
        let needed: BTreeSet<String> = self.held.values().flat_map(needed).collect();
        self.production.folders.keep(needed).await;
    }
}

impl Held {
    /// Returns what is known; nothing while that is being found out.
    fn entry(&self, name: &ModelName) -> Option<ModelEntry> {
        let versions = match &self.state {
            State::Fetching => return None,
            State::Good(spec) => Ok(vec![spec.clone()]),
            State::Bad { error, .. } => Err(error.clone().context(format_args!("model '{}'", self.wanted.name))),
        };
        let number = self.wanted.version.unsigned_abs();
        let aliases = self.wanted.aliases.iter().cloned();
        let labels = aliases.chain(["production".to_owned()]).map(|label| (label, number)).collect();
        Some(ModelEntry { name: name.clone(), labels, versions })
    }
}

/// Says once that the registry went away, and once that it is back.
fn note_reachable(is_reachable: &mut bool, asked: Result<()>) {
    let answers = asked.is_ok();
    match asked {
        Err(error) if *is_reachable => {
            tracing::error!(%error, cause = ?error, "the registry cannot be read; what serves goes on");
        }
        Ok(()) if !*is_reachable => tracing::info!("the registry can be read again"),
        _ => {}
    }
    *is_reachable = answers;
}

/// Whether nothing has to be fetched anew: a number can come again after its model was deleted.
fn is_same(held: &ModelVersion, found: &ModelVersion) -> bool {
    (held.version, &held.digest, &held.location) == (found.version, &found.digest, &found.location)
}

fn is_alike(before: Option<&ModelEntry>, after: Option<&ModelEntry>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return before.is_none() && after.is_none();
    };
    before.labels == after.labels
        && match (&before.versions, &after.versions) {
            (Ok(before), Ok(after)) => {
                before.len() == after.len()
                    && before.iter().zip(after).all(|(before, after)| Arc::ptr_eq(before, after))
            }
            (Err(before), Err(after)) => before.message() == after.message(),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        }
}

/// Makes a name to show a model under whose own cannot be asked for.
fn shown_name(name: &str) -> ModelName {
    if let Ok(name) = ModelName::new(name) {
        return name;
    }
    let plain = |c: char| if c.is_alphanumeric() || "_-+".contains(c) { c } else { '_' };
    let mut text: String = name.chars().map(plain).take(ModelName::MAX_LEN / 4 - 1).collect();
    text.insert(0, '_');
    ModelName::new(&text).expect("it begins with '_', has at most 32 characters, and only those allowed")
}

/// Brings the files of a version here and reads what they are.
async fn fetch(registry: &Registry, folders: &Arc<Folders>, version: &ModelVersion) -> Result<ModelSpec> {
    let name = ModelName::new(&version.name).map_err(|error| error.context("it cannot be served under its name"))?;
    let Some(digest) = &version.digest else {
        if files::path_of(&version.location).is_some() {
            return Err(Error::unsupported(format!(
                "it has no files: nothing was at '{}' when it was registered",
                version.location.escape_debug()
            )));
        }
        return Err(Error::unsupported(format!(
            "its files are kept at '{}', outside of this server's store, and nothing is fetched from there; log the \
             model to this server and register that",
            version.location.escape_debug()
        )));
    };
    let files = registry.version_files(&version.name, version.version).await?;
    folders.read(&registry.blobs, digest, &files, &name, version.version.unsigned_abs()).await
}
