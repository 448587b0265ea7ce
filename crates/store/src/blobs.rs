//! Bytes under the name of their SHA-256, in a folder or an S3 bucket.
//!
//! A blob lies under `blobs/sha256/ab/abcdef…` and never changes; what is still being written lies
//! under `uploads/` and is moved when it is complete, so half a blob has no name. Bytes that are
//! put again replace themselves in one step: readers never notice, a damaged copy is healed, and
//! the blob is young again.
//!
//! # What a garbage collector must do
//! This module knows no references, so it deletes what it is told to. Two rules together keep a
//! blob that somebody acknowledged:
//!
//! 1. The collector asks whether something refers to a blob, and deletes it, under one lock. Only
//!    blobs older than a grace are candidates; a put makes its blob young.
//! 2. A writer puts its blob, then takes that lock, asks [`Blobs::exists`], and commits the row that
//!    refers to it before it lets go.

mod backend;
mod copy;
mod digest;
mod errors;
mod parts;
mod read;
mod sweep;
mod upload;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStoreExt as _};
use salver_core::{Error, Result};

use backend::Backend;
use copy::LocalCopy;
pub use digest::Digest;
use digest::Hasher;
use parts::Parts;
use upload::Upload;

/// What is sent at once, and kept in memory two or three times per upload. S3 takes 5 MiB or more,
/// and 10,000 of them: a blob in a bucket has at most 78 GiB.
const PART_BYTES: usize = 8 << 20;
/// The most that S3 copies in one request.
const COPY_LIMIT_BYTES: u64 = 5 << 30;
/// What [`Blobs::fetch`] hashes and writes at once.
const FETCH_BYTES: usize = 1 << 20;

/// What a put has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// The blob's name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A blob that [`Blobs::list`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// The blob's name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was put last, by the clock of the store. A bucket may name the time at which the
    /// last step of a put began.
    pub written: SystemTime,
}

/// A store of blobs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    backend: Arc<Backend>,
    part_bytes: usize,
    copy_limit_bytes: u64,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blobs({})", self.backend)
    }
}

impl Blobs {
    /// Opens `file:///PATH`, a plain path (the folder is made if it is not there) or
    /// `s3://BUCKET[/PREFIX]`.
    ///
    /// Endpoint, region, keys and the like of S3 come from the `AWS_…` variables of this process,
    /// never from a caller. Nothing is asked of the bucket yet.
    ///
    /// # Errors
    /// `InvalidInput` for any other URL or unusable variables; `NotReady` if the folder cannot be
    /// made.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(
            url,
            std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok())),
        )
    }

    /// Opens a store with other `AWS_…` variables than those of this process, as tests need it.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    pub fn open_with(url: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let backend = Arc::new(Backend::open(url, environment)?);
        Ok(Self { backend, part_bytes: PART_BYTES, copy_limit_bytes: COPY_LIMIT_BYTES })
    }

    /// Stores what the stream yields and returns its name.
    ///
    /// Nothing is visible before the stream's end. If it fails, or this call is dropped, what was
    /// sent is removed, at once or by [`Blobs::sweep_uploads`].
    ///
    /// # Errors
    /// The stream's own error if it is of [`Error`], else `Cancelled`; `Full`; `NotReady` if the
    /// store does not answer; `TooLarge` for more than a bucket takes.
    pub async fn put<S, E>(&self, bytes: S) -> Result<BlobInfo>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut parts = Parts::new(bytes, self.part_bytes);
        let first = parts.next().await?;
        if first.len() < self.part_bytes {
            return self.put_bytes(first).await; // The stream has ended.
        }
        let staged = self.backend.new_upload();
        let info = self.upload(&staged, first, &mut parts).await?;
        self.publish(&staged, info).await?;
        Ok(info)
    }

    /// Stores bytes that are in memory already.
    ///
    /// # Errors
    /// As [`Blobs::put`].
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<BlobInfo> {
        let size = bytes.len() as u64;
        if bytes.len() > self.part_bytes {
            let pieces = (0..bytes.len()).step_by(self.part_bytes);
            let part_bytes = self.part_bytes;
            let piece = move |start| Ok::<_, Error>(bytes.slice(start..bytes.len().min(start + part_bytes)));
            return Box::pin(self.put(stream::iter(pieces.map(piece)))).await;
        }
        let digest = Hasher::default().update(bytes.clone()).await?.finish();
        self.backend.prepare(&digest).await?;
        let put = self.backend.store().put(&self.backend.blob(&digest), bytes.into()).await;
        put.map_err(|error| self.backend.failed(format_args!("write blob {digest}"), error))?;
        Ok(BlobInfo { digest, size })
    }

    /// Returns the blob's length and its bytes, or those of a range.
    ///
    /// A range that ends behind the blob is cut there. The whole blob is checked on the way: what
    /// does not fit its name ends in an error. A range is not checked.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a range that begins behind the blob; `NotReady` if the store
    /// does not answer. In the stream: `NotReady`, and `Engine` for other bytes than were put.
    pub async fn get(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes>>)> {
        let Some(range) = range else {
            let found = self.find(digest, GetOptions::default()).await?;
            let size = found.meta.size;
            let bytes = read::bytes(self.backend.clone(), *digest, found);
            return Ok((size, read::checked(bytes, BlobInfo { digest: *digest, size })));
        };
        let size = self.find(digest, GetOptions { head: true, ..GetOptions::default() }).await?.meta.size;
        if range.start > size || range.start > range.end {
            let (start, end) = (range.start, range.end);
            return Err(Error::invalid_input(format!(
                "blob {digest}: expected a range within 0..{size}, got {start}..{end}"
            )));
        }
        let range = range.start..range.end.min(size);
        if range.is_empty() {
            return Ok((size, stream::empty().boxed()));
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.find(digest, options).await?;
        Ok((size, read::bytes(self.backend.clone(), *digest, found)))
    }

    /// Copies a blob to a local file, hashing what is written.
    ///
    /// The file appears under its name only when it is complete, checked and on the disk. One that
    /// was there before is replaced.
    ///
    /// # Errors
    /// `NotFound`; `Engine` for other bytes than were put, naming the digest found and expected;
    /// `Full`; `NotReady` if the store does not answer or the file cannot be written.
    pub async fn fetch(&self, digest: &Digest, to: &Path) -> Result<()> {
        let found = self.find(digest, GetOptions::default()).await?;
        let expected = BlobInfo { digest: *digest, size: found.meta.size };
        let mut parts = Parts::new(read::bytes(self.backend.clone(), *digest, found), FETCH_BYTES);
        let mut copy = LocalCopy::create(to).await?;
        loop {
            let part = parts.next().await?;
            if part.is_empty() {
                return copy.finish(expected).await;
            }
            copy = copy.write(part).await?;
        }
    }

    /// Whether the store has the blob.
    ///
    /// # Errors
    /// `NotReady` if the store does not answer.
    pub async fn exists(&self, digest: &Digest) -> Result<bool> {
        match self.backend.store().head(&self.backend.blob(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.backend.failed(format_args!("look for blob {digest}"), error)),
        }
    }

    /// Returns every blob, in no order; what else lies there is passed over.
    pub fn list(&self) -> BoxStream<'static, Result<StoredBlob>> {
        let backend = self.backend.clone();
        let found = backend.store().list(Some(&backend.blobs()));
        let blob = move |meta: object_store::Result<ObjectMeta>| match meta {
            Ok(meta) => backend
                .digest_of(&meta.location)
                .map(|digest| Ok(StoredBlob { digest, size: meta.size, written: meta.last_modified.into() })),
            Err(error) => Some(Err(backend.failed("list the blobs", error))),
        };
        found.filter_map(move |meta| futures::future::ready(blob(meta))).boxed()
    }

    /// Deletes a blob, whoever needs it; one that is not there is no error.
    ///
    /// # Errors
    /// `NotReady` if the store does not answer: the blob may be gone or not.
    pub async fn delete(&self, digest: &Digest) -> Result<()> {
        match self.backend.store().delete(&self.backend.blob(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.backend.failed(format_args!("delete blob {digest}"), error)),
        }
    }

    /// Removes what broken uploads left behind, older than `age`, and returns how many bytes.
    ///
    /// `age` must exceed the longest upload: one that is still going on ends in an error. The parts
    /// of an upload that a bucket holds back are removed as well, but nobody knows their bytes.
    ///
    /// # Errors
    /// `NotReady` if the store does not answer.
    pub async fn sweep_uploads(&self, age: Duration) -> Result<u64> {
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        sweep::sweep(&self.backend, before).await
    }

    /// Sends `first` and what follows to `to`; nothing of it stays there if that fails.
    async fn upload<S, E>(&self, to: &Key, first: Bytes, rest: &mut Parts<S>) -> Result<BlobInfo>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut upload = Upload::begin(&self.backend, to).await?;
        match upload.send_all(first, rest).await {
            Ok(info) => upload.complete().await.map(|()| info),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Moves a complete upload to its blob's name.
    async fn publish(&self, staged: &Key, info: BlobInfo) -> Result<()> {
        self.backend.prepare(&info.digest).await?;
        let key = self.backend.blob(&info.digest);
        let store = self.backend.store();
        let explain = |error| self.backend.failed(format_args!("write blob {}", info.digest), error);
        let is_folder = self.backend.bucket().is_none();
        let moved = if is_folder {
            store.rename(staged, &key).await.map_err(explain)
        } else if info.size <= self.copy_limit_bytes {
            store.copy(staged, &key).await.map_err(explain)
        } else {
            self.rewrite(staged, &key, info).await
        };
        if !is_folder || moved.is_err() {
            // The sweep takes what stays here.
            let _ = store.delete(staged).await;
        }
        moved
    }

    /// S3 copies 5 GiB at most: more goes through this process once more.
    async fn rewrite(&self, staged: &Key, key: &Key, info: BlobInfo) -> Result<()> {
        let found = self.backend.store().get(staged).await;
        let found =
            found.map_err(|error| self.backend.failed(format_args!("read blob {} again", info.digest), error))?;
        let bytes = read::checked(read::bytes(self.backend.clone(), info.digest, found), info);
        let mut parts = Parts::new(bytes, self.part_bytes);
        let first = parts.next().await?;
        self.upload(key, first, &mut parts).await.map(drop)
    }

    async fn find(&self, digest: &Digest, options: GetOptions) -> Result<GetResult> {
        self.backend.store().get_opts(&self.backend.blob(digest), options).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => Error::not_found(format!("no blob {digest}")).with_source(error),
            error => self.backend.failed(format_args!("read blob {digest}"), error),
        })
    }
}

#[cfg(test)]
mod tests;
