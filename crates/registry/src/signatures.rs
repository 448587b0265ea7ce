//! The signature of a version that is about to be registered, as its files declare it.
//!
//! Files come from this store, in pieces. What cannot be read, or not soon, is no reason to refuse a
//! version: it then has no signature.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use salver_core::{BoxFuture, Error, Result};
use salver_repository::signature::{self, Files};
use salver_store::Blobs;

use crate::files::{FileInfo, digest_of, files_in, path_of};
use crate::models::NewVersion;
use crate::{Registry, sources};

/// The longest that a registration waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest text that is kept; a signature of a thousand columns has about 60 kB.
const MAX_BYTES: usize = 256 << 10;

/// A signature, and the digest of the files that it was read from.
pub(crate) struct Declared {
    pub(crate) digest: String,
    /// As JSON.
    pub(crate) signature: String,
}

impl Registry {
    /// Reads what the files of a new version declare to take and give.
    pub(crate) async fn declared(&self, new: &NewVersion) -> Option<Declared> {
        match tokio::time::timeout(PATIENCE, self.read_declared(new)).await {
            Ok(Ok(declared)) => declared,
            Ok(Err(error)) => {
                tracing::debug!(model = new.name, %error, "the version gets no signature");
                None
            }
            Err(_) => {
                tracing::warn!(model = new.name, "the version gets no signature: its files could not be read in time");
                None
            }
        }
    }

    async fn read_declared(&self, new: &NewVersion) -> Result<Option<Declared>> {
        let mut session = self.database.read().await?;
        let origin = sources::resolve(&mut session, new).await?;
        let Some(folder) = path_of(&origin.location) else {
            return Ok(None);
        };
        let files = files_in(&mut session, folder).await?;
        drop(session);
        let digest = digest_of(&files);
        let kept =
            Kept { blobs: &self.blobs, files: files.into_iter().map(|file| (file.path.clone(), file)).collect() };
        let Some(signature) = signature::read(&kept).await? else {
            return Ok(None);
        };
        let text = serde_json::to_string(&signature)
            .map_err(|error| Error::engine("a signature cannot be written as JSON").with_source(error))?;
        if text.len() > MAX_BYTES {
            return Err(Error::too_large(format!("a signature of {} bytes, expected at most {MAX_BYTES}", text.len())));
        }
        Ok(Some(Declared { digest, signature: text }))
    }
}

/// The files of a version in the store.
struct Kept<'a> {
    blobs: &'a Blobs,
    files: BTreeMap<String, FileInfo>,
}

impl Files for Kept<'_> {
    fn list(&self) -> Vec<(&str, u64)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file.size.unsigned_abs())).collect()
    }

    fn read<'a>(&'a self, path: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            let file = self.files.get(path).ok_or_else(|| Error::not_found(format!("no file '{path}'")))?;
            let (_, pieces) = self.blobs.get(&file.digest.parse()?, Some(range)).await?;
            Ok(pieces.try_collect::<BytesMut>().await?.freeze())
        })
    }
}
