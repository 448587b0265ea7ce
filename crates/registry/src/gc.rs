//! Clears away blobs that nothing refers to any more.
//!
//! A blob is a candidate once it is older than a grace. Whether something refers to it is asked, and
//! the blob deleted, in one transaction that holds what every writer of files holds: a writer's row
//! comes before it, and the blob stays, or after it, and the writer finds the blob gone.

use std::time::{Duration, SystemTime};

use futures::TryStreamExt as _;
use salver_core::Result;
use salver_store::Digest;
use salver_store::database::{Session, sql};
use serde::Serialize;

use crate::Registry;
use crate::files::FILES;

/// What a collection found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cleared {
    /// Blobs that nothing refers to.
    pub blobs: u64,
    /// Their bytes, and those of uploads that broke off.
    pub bytes: u64,
    /// Blobs that stay.
    pub kept: u64,
}

impl Registry {
    /// Deletes blobs that nothing refers to and that are older than `grace`; with `dry_run` only
    /// counts them. May run beside servers that use the same store.
    ///
    /// # Errors
    /// Those of the database and the store.
    pub async fn collect_garbage(&self, grace: Duration, dry_run: bool) -> Result<Cleared> {
        let mut cleared = Cleared::default();
        let now = SystemTime::now();
        let mut blobs = self.blobs.list();
        while let Some(blob) = blobs.try_next().await? {
            let is_old = now.duration_since(blob.written).is_ok_and(|age| age >= grace);
            let goes = is_old
                && match dry_run {
                    true => !self.is_referred_to(&blob.digest).await?,
                    false => self.clear_away(&blob.digest).await?,
                };
            match goes {
                true => {
                    cleared.blobs += 1;
                    cleared.bytes += blob.size;
                }
                false => cleared.kept += 1,
            }
        }
        if !dry_run {
            cleared.bytes += self.blobs.sweep_uploads(grace).await?;
        }
        Ok(cleared)
    }

    async fn is_referred_to(&self, digest: &Digest) -> Result<bool> {
        has_reference(&mut self.database.read().await?, digest).await
    }

    /// Deletes a blob; false: something refers to it.
    async fn clear_away(&self, digest: &Digest) -> Result<bool> {
        let mut session = self.database.write().await?;
        session.hold(FILES).await?;
        let goes = !has_reference(&mut session, digest).await?;
        if goes {
            self.blobs.delete(digest).await?;
        }
        session.commit().await?;
        Ok(goes)
    }
}

async fn has_reference(session: &mut Session, digest: &Digest) -> Result<bool> {
    let digest = digest.to_string();
    let statement = sql("SELECT 1 AS found FROM artifacts WHERE digest = ? UNION ALL \
                         SELECT 1 AS found FROM model_version_files WHERE digest = ? LIMIT 1");
    Ok(session.first(statement.bind(&digest).bind(&digest)).await?.is_some())
}
