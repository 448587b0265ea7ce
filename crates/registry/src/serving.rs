//! What the registry says is to be served, as models to load.
//!
//! [`Served`] follows the registry, this server's changes and those of others: the production version
//! of each registered model, and what [`Endpoint`]s name by version, stage or alias. It copies the
//! files of each such version into a folder of its own, checked against their digests, and hands them
//! out as a [`ModelSource`]. Files come from the configured store alone. What cannot be served is an
//! entry that says why; a version that serves is not taken away by a successor that cannot. Where an
//! endpoint names nothing any more, as with an alias that was deleted, what it served leaves.

mod endpoint;
mod folders;
mod follower;
mod held;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use salver_core::{Error, ModelEntry, ModelName, ModelSource, ModelSpec, Result};
use tokio::sync::watch;

pub use self::endpoint::Endpoint;
use self::folders::Folders;
use self::follower::{Follower, INTERVAL};
use crate::types::ModelVersion;
use crate::{Registry, files};

/// How far the first look at the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLook {
    /// The registry did not answer so far.
    Pending,
    /// The registry cannot be reached; it is asked again and again.
    Failed,
    /// Everything that is to be served is there, or known not to be servable.
    Done,
}

/// The models of a registry that are served.
pub struct Served {
    registry: Registry,
    endpoints: Vec<Endpoint>,
    folders: Arc<Folders>,
    entries: RwLock<Arc<BTreeMap<ModelName, ModelEntry>>>,
    first_look: watch::Sender<FirstLook>,
}

impl Served {
    /// Prepares to serve what is in production and what `endpoints` name, with files below `folder`;
    /// nothing is looked at before [`Served::follow`].
    ///
    /// # Errors
    /// `InvalidInput` for two endpoints of one name; `NotReady` or `Full` where the folder cannot be
    /// written.
    pub fn open(registry: Registry, endpoints: Vec<Endpoint>, folder: &Path) -> Result<Self> {
        Endpoint::check(&endpoints)?;
        Ok(Self {
            registry,
            endpoints,
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
        self.prepare().await;
        Follower::new(self, changed).run().await;
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

impl ModelSource for Served {
    fn scan(&self) -> Vec<ModelEntry> {
        self.entries.read().values().cloned().collect()
    }

    fn find(&self, name: &str) -> Option<ModelEntry> {
        self.entries.read().get(name).cloned()
    }
}

/// Brings the files of a version here and reads what they are.
async fn fetch(registry: &Registry, folders: &Arc<Folders>, name: &str, version: &ModelVersion) -> Result<ModelSpec> {
    let name = ModelName::new(name).map_err(|error| error.context("it cannot be served under its name"))?;
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
