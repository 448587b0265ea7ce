//! Replaces the models of a `models.config` for TF Serving's clients.
//!
//! Off unless a setting names the folder that models may come from: a client must not make the
//! server open any other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use salver_core::{BoxFuture, Error};
use salver_repository::{Kind, Repository};
use salver_runtime::Runtime;
use salver_server::ReloadConfig;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Serves another list of models.
pub(crate) struct Reload {
    paths: Arc<Repository>,
    runtime: Arc<Runtime>,
    within: PathBuf,
    /// One list after the other.
    turn: Arc<Mutex<()>>,
}

impl Reload {
    /// Makes what the server hands lists to, if a folder for their models is given.
    ///
    /// # Errors
    /// Where the folder is none, or there is no list to replace.
    pub(crate) fn allowed(
        within: Option<&Path>,
        paths: Arc<Repository>,
        runtime: Arc<Runtime>,
    ) -> Result<Option<Arc<dyn ReloadConfig>>> {
        let Some(within) = within else {
            return Ok(None);
        };
        let within = within.canonicalize().with_context(|| format!("--reload-config-from {}", within.display()))?;
        ensure!(within.is_dir(), "--reload-config-from {}: expected a folder", within.display());
        let lists = paths.kinds().filter(|(_, kind)| *kind == Kind::TfServingConfig).count();
        ensure!(lists == 1, "--reload-config-from replaces the models of a models.config: give exactly one as PATH");
        Ok(Some(Arc::new(Self { paths, runtime, within, turn: Arc::default() })))
    }
}

impl ReloadConfig for Reload {
    fn reload(&self, config: Bytes) -> BoxFuture<'_, salver_core::Result<()>> {
        let (paths, runtime, within) = (self.paths.clone(), self.runtime.clone(), self.within.clone());
        let turn = self.turn.clone();
        // A client that leaves does not leave half a list behind.
        let whole = tokio::spawn(async move {
            let _turn = turn.lock().await;
            let replace = move || paths.replace_listed(&config, &within);
            let names =
                tokio::task::spawn_blocking(replace).await.map_err(|_| Error::engine("reading ended early"))??;
            tracing::info!(models = names.len(), "a client replaced the models of the models.config");
            let mut changes = JoinSet::new();
            for name in names {
                let runtime = runtime.clone();
                changes.spawn(async move { runtime.reread(&name).await });
            }
            // Each to its end, whatever becomes of the others.
            changes.join_all().await.into_iter().collect()
        });
        Box::pin(async move { whole.await.unwrap_or_else(|_| Err(Error::engine("replacing the models ended early"))) })
    }
}
