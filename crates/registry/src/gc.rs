//! Clears away blobs that nothing refers to any more.
//!
//! A blob is a candidate once it is older than a grace. It is condemned in a transaction that fails
//! where something refers to it, deleted, and the mark taken away; while it is condemned nothing can
//! begin to refer to it. Stopped at any moment, it goes on from the marks next time.

use std::time::{Duration, SystemTime};

use futures::TryStreamExt as _;
use salver_core::Result;
use salver_store::Digest;
use salver_store::database::sql;
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
        if !dry_run {
            self.finish_condemned().await?;
        }
        let now = SystemTime::now();
        let mut blobs = self.blobs.list();
        while let Some(blob) = blobs.try_next().await? {
            let is_old = now.duration_since(blob.written).is_ok_and(|age| age >= grace);
            let goes = is_old
                && match dry_run {
                    true => !self.is_referred_to(&blob.digest).await?,
                    false => self.condemn(&blob.digest).await?,
                };
            if !goes {
                cleared.kept += 1;
                continue;
            }
            cleared.blobs += 1;
            cleared.bytes += blob.size;
            if !dry_run {
                self.execute(&blob.digest).await?;
            }
        }
        if !dry_run {
            cleared.bytes += self.blobs.sweep_uploads(grace).await?;
        }
        Ok(cleared)
    }

    async fn is_referred_to(&self, digest: &Digest) -> Result<bool> {
        let digest = digest.to_string();
        let statement = sql("SELECT 1 AS found FROM artifacts WHERE digest = ? UNION ALL \
                             SELECT 1 AS found FROM model_version_files WHERE digest = ? LIMIT 1");
        let row = self.database.read().await?.first(statement.bind(&digest).bind(&digest)).await?;
        Ok(row.is_some())
    }

    /// Marks a blob; false: something refers to it.
    async fn condemn(&self, digest: &Digest) -> Result<bool> {
        let digest = digest.to_string();
        let mut session = self.database.write().await?;
        let statement = sql("INSERT INTO condemned (digest) SELECT ? WHERE NOT EXISTS \
                             (SELECT 1 FROM artifacts WHERE digest = ?) AND NOT EXISTS \
                             (SELECT 1 FROM model_version_files WHERE digest = ?) ON CONFLICT DO NOTHING")
        .bind_all([&digest, &digest, &digest]);
        session.hold(FILES).await?;
        let is_marked = session.execute(statement).await? > 0;
        session.commit().await?;
        Ok(is_marked)
    }

    /// Deletes a marked blob, then its mark.
    async fn execute(&self, digest: &Digest) -> Result<()> {
        self.blobs.delete(digest).await?;
        let mut session = self.database.write().await?;
        session.execute(sql("DELETE FROM condemned WHERE digest = ?").bind(digest.to_string())).await?;
        session.commit().await
    }

    /// Goes on with what an earlier collection left.
    async fn finish_condemned(&self) -> Result<()> {
        let rows = self.database.read().await?.all(sql("SELECT digest FROM condemned")).await?;
        for row in rows {
            if let Ok(digest) = row.text("digest")?.parse() {
                self.execute(&digest).await?;
            }
        }
        Ok(())
    }
}
