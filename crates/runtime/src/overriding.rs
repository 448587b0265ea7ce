//! Loads that bring a configuration or files of their own along.
//!
//! What was sent lives only in the versions that were loaded with it: a plain load reads the source
//! again, and an unload forgets a model that the source does not have. A load that is refused
//! leaves no trace in the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use salver_core::{Error, ErrorKind, LoadOverride, ModelEntry, ModelName, Result};

use crate::lifecycle::Lifecycle;
use crate::reconcile::Extent;
use crate::{Runtime, shown};

impl Runtime {
    /// Loads a model with what a client sent in place of its own configuration and files.
    pub(crate) async fn load_overridden(&self, name: &str, by: LoadOverride) -> Result<()> {
        self.explicit()?;
        let shown = shown(name);
        let context = |error: Error| error.context(format_args!("failed to load '{shown}'"));
        let name = ModelName::new(name).map_err(context)?;
        let reading = self.next_reading();
        let (source, read) = (self.source.clone(), name.clone());
        let found = tokio::task::spawn_blocking(move || {
            // A name that only this load makes known is not in the index before it serves.
            let is_known = by.files.is_empty() || source.find(&read).is_some();
            source.overridden(&read, &by).map(|entry| (entry, is_known))
        });
        let found =
            found.await.map_err(|panic| Error::engine(format!("reading what was sent ended early: {panic}")))?;
        let (entry, is_known) = found.map_err(context)?;
        let entry = entry.ok_or_else(|| {
            Error::not_found(format!("failed to load '{shown}', failed to poll from model repository: no such model"))
        })?;
        if let Err(error) = entry.versions {
            return Err(context(error));
        }
        self.overridden.lock().insert(name);
        // In a task of its own, as every load.
        let applied = self.tasks.spawn(apply(self.lifecycle.clone(), entry, reading, is_known)).await;
        let applied = applied.unwrap_or_else(|panic| Err(Error::engine(format!("loading ended early: {panic}"))));
        applied.map_err(|error| context(at_fault(error)))
    }

    /// Unloads a model. One that only loads with files of their own have made is forgotten.
    pub(crate) async fn unload_named(&self, name: &ModelName) -> Result<()> {
        let was_overridden = self.overridden.lock().remove(name);
        if was_overridden && self.find(name).await?.is_none() {
            self.lifecycle.forget(name, self.next_reading()).await;
        } else {
            self.lifecycle.unload(name).await;
        }
        Ok(())
    }
}

/// All versions come, or what served before does again.
async fn apply(lifecycle: Arc<Lifecycle>, entry: ModelEntry, reading: u64, is_known: bool) -> Result<()> {
    let before = as_served(&lifecycle, &entry.name);
    let applied = lifecycle.apply(entry, Extent::Instead, reading).await;
    if applied.is_err() {
        let name = before.name.clone();
        let extent = if lifecycle.residency.is_on_demand() { Extent::InUse } else { Extent::Missing };
        // A failure is logged and on the board already.
        let _ = lifecycle.apply(before, extent, reading).await;
        lifecycle.forget_refused(&name, is_known);
    }
    applied
}

/// Returns the versions of a model that serve, or would at their first use.
fn as_served(lifecycle: &Lifecycle, name: &ModelName) -> ModelEntry {
    let table = lifecycle.table.load();
    let Some(served) = table.served(name) else {
        return ModelEntry { name: name.clone(), labels: BTreeMap::new(), versions: Ok(Vec::new()) };
    };
    let slots = served.slots.values().map(|slot| slot.spec.clone());
    let mut specs: Vec<_> = slots.chain(served.dormant.values().map(|dormant| dormant.spec.clone())).collect();
    specs.sort_by_key(|spec| spec.version);
    ModelEntry { name: name.clone(), labels: served.labels.clone(), versions: Ok(specs) }
}

/// What was sent is at fault, whatever part of the server noticed; a server that is stopping or has
/// no room is not.
fn at_fault(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotReady
        | ErrorKind::Overloaded
        | ErrorKind::Full
        | ErrorKind::Deadline
        | ErrorKind::Cancelled
        | ErrorKind::InvalidInput => error,
        ErrorKind::TooLarge
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Unsupported
        | ErrorKind::Engine
        | ErrorKind::Gone => Error::invalid_input(error.message().to_owned()),
    }
}
