//! Follows the registry: looks, fetches what is new side by side, and shows what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use salver_core::{ModelEntry, ModelName, ModelSpec, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::held::{Change, Held, Labelled, Wanted};
use super::{FirstLook, Served, fetch};
use crate::ToServe;
use crate::names::VersionRef;
use crate::types::ModelVersion;

/// How often other servers' changes are looked for.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);
/// The label of what is in production.
const PRODUCTION: &str = "production";

/// The state of [`Served::follow`].
pub(super) struct Follower<'a, F> {
    served: &'a Served,
    /// What the endpoints name, in their order.
    targets: Vec<VersionRef>,
    /// By endpoint, or else by registered name.
    held: BTreeMap<String, Held>,
    fetches: JoinSet<Fetched>,
    changed: F,
}

struct Fetched {
    name: String,
    version: ModelVersion,
    spec: Result<ModelSpec>,
}

impl<'a, F: Fn(&ModelName) + Send> Follower<'a, F> {
    pub(super) fn new(served: &'a Served, changed: F) -> Self {
        let targets = served.endpoints.iter().map(|endpoint| endpoint.target.clone()).collect();
        Self { served, targets, held: BTreeMap::new(), fetches: JoinSet::new(), changed }
    }

    pub(super) async fn run(&mut self) {
        let mut changes = self.served.registry.changes();
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
                    note_reachable(&mut is_reachable, self.served.registry.look_for_changes().await);
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
        let first_look = &self.served.first_look;
        if !is_due && self.fetches.is_empty() && *first_look.borrow() != FirstLook::Done {
            self.clean_up().await;
            first_look.send_replace(FirstLook::Done);
        }
    }

    /// Compares what is to be served with what is held.
    async fn look(&mut self) -> Result<()> {
        let wanted = self.wanted(self.served.registry.to_serve(&self.targets).await?);
        let before = self.held.len();
        self.held.retain(|name, _| wanted.contains_key(name));
        let mut is_published = self.held.len() == before;
        for (name, wanted) in wanted {
            let change = match self.held.get_mut(&name) {
                Some(held) => held.follow(wanted),
                None => {
                    let (held, change) = Held::new(wanted);
                    self.held.insert(name.clone(), held);
                    change
                }
            };
            match change {
                Change::None => {}
                Change::Shown => is_published = false,
                Change::Version => self.fetch(name),
            }
        }
        if !is_published {
            self.publish();
            self.clean_up().await;
        }
        Ok(())
    }

    /// Names what was found: an endpoint by its own name, which beats that of a registered model.
    fn wanted(&self, found: ToServe) -> BTreeMap<String, Wanted> {
        let ToServe { in_production, named } = found;
        let is_in_production = |version: &ModelVersion| {
            let place = in_production.binary_search_by(|other| other.name.cmp(&version.name));
            place.is_ok_and(|idx| in_production[idx].version == version.version)
        };
        let labelled = |version: ModelVersion| {
            let mut labels: BTreeSet<String> = version.aliases.iter().cloned().collect();
            if is_in_production(&version) {
                labels.insert(PRODUCTION.to_owned());
            }
            Labelled { version, labels }
        };
        let by_model = in_production.iter().map(|version| (version.name.clone(), Ok(labelled(version.clone()))));
        let endpoints = self.served.endpoints.iter().map(|endpoint| endpoint.name.to_string());
        by_model.chain(endpoints.zip(named.into_iter().map(|found| found.map(labelled)))).collect()
    }

    fn fetch(&mut self, name: String) {
        let Some(held) = self.held.get_mut(&name).and_then(Held::version_mut) else {
            return;
        };
        let version = held.version().clone();
        let (registry, folders) = (self.served.registry.clone(), self.served.folders.clone());
        self.fetches.spawn(async move {
            let spec = fetch(&registry, &folders, &name, &version).await;
            Fetched { name, version, spec }
        });
    }

    fn settle(&mut self, Fetched { name, version, spec }: Fetched) {
        let held = self.held.get_mut(&name).and_then(Held::version_mut);
        if held.is_some_and(|held| held.settle(&version, spec)) {
            self.publish();
        }
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        let is_due = |held: &mut Held| held.version_mut().is_some_and(|held| held.take_due(now));
        let due: Vec<String> =
            self.held.iter_mut().filter_map(|(name, held)| is_due(held).then(|| name.clone())).collect();
        due.into_iter().for_each(|name| self.fetch(name));
    }

    /// Shows what is held, and tells what changed.
    fn publish(&self) {
        let before = self.served.entries.read().clone();
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
        *self.served.entries.write() = after.clone();
        let names: BTreeSet<&ModelName> = before.keys().chain(after.keys()).collect();
        for name in names {
            if !is_alike(before.get(name), after.get(name)) {
                (self.changed)(name);
            }
        }
    }

    /// Removes the files that nothing needs any more.
    async fn clean_up(&self) {
        let needed = self.held.values().flat_map(Held::digests).collect();
        self.served.folders.keep(needed).await;
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
            (Err(before), Err(after)) => (before.kind(), before.message()) == (after.kind(), after.message()),
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
