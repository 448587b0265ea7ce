//! One large upload: part after part, then complete or gone.
//!
//! A bucket lists an upload's parts nowhere that this crate can ask, so a note beside it keeps what
//! is needed to abort it after a crash; [`super::sweep`] reads it.

use bytes::Bytes;
use futures::Stream;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore as _, ObjectStoreExt as _};
use salver_core::{Error, Result};

use super::BlobInfo;
use super::backend::Backend;
use super::digest::Hasher;
use super::parts::Parts;

/// The most parts that S3 takes.
const MAX_PARTS: usize = 10_000;

/// An upload that is going on.
pub(super) struct Upload<'a> {
    backend: &'a Backend,
    target: Target<'a>,
}

enum Target<'a> {
    /// Dropping it removes the file.
    File(Box<dyn MultipartUpload>),
    Object {
        store: &'a AmazonS3,
        key: Path,
        id: String,
        note: Path,
        parts: Vec<PartId>,
    },
}

impl<'a> Upload<'a> {
    /// Begins an upload to `key`, where nothing is seen before its end.
    pub(super) async fn begin(backend: &'a Backend, key: &Path) -> Result<Self> {
        let explain = |error| backend.failed("begin an upload", error);
        let Some(store) = backend.bucket() else {
            let file = backend.store().put_multipart(key).await.map_err(explain)?;
            return Ok(Self { backend, target: Target::File(file) });
        };
        let id = store.create_multipart(key).await.map_err(explain)?;
        let note = backend.new_note();
        let text = note_text(key, &id);
        let target = Target::Object { store, key: key.clone(), id, note: note.clone(), parts: Vec::new() };
        let upload = Self { backend, target };
        match store.put(&note, text.into()).await {
            Ok(_) => Ok(upload),
            Err(error) => {
                upload.abort().await;
                Err(explain(error))
            }
        }
    }

    /// Sends `part` and what follows, hashing on the way.
    ///
    /// While one part is sent, the next one is read. A failure waits for the other half, so that
    /// nothing is under way when the upload is aborted.
    pub(super) async fn send_all<S, E>(&mut self, mut part: Bytes, rest: &mut Parts<S>) -> Result<BlobInfo>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut hasher, mut size) = (Hasher::default(), 0);
        while !part.is_empty() {
            size += part.len() as u64;
            let (hashed, sent, next) = futures::join!(hasher.update(part.clone()), self.send(part), rest.next());
            sent?;
            (hasher, part) = (hashed?, next?);
        }
        Ok(BlobInfo { digest: hasher.finish(), size })
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        let sent = match &mut self.target {
            Target::File(file) => file.put_part(part.into()).await,
            Target::Object { parts, .. } if parts.len() == MAX_PARTS => {
                return Err(Error::too_large(format!("a blob in a bucket: expected at most {MAX_PARTS} parts")));
            }
            Target::Object { store, key, id, parts, .. } => {
                store.put_part(key, id, parts.len(), part.into()).await.map(|part| parts.push(part))
            }
        };
        sent.map_err(|error| self.backend.failed("send a part of an upload", error))
    }

    /// Makes it an object; if that fails, nothing stays.
    pub(super) async fn complete(mut self) -> Result<()> {
        let completed = match &mut self.target {
            Target::File(file) => file.complete().await.map(drop),
            Target::Object { store, key, id, note, parts } => {
                let completed = store.complete_multipart(key, id, std::mem::take(parts)).await.map(drop);
                if completed.is_ok() {
                    // The sweep takes a note that stays: aborting what is complete does nothing.
                    let _ = store.delete(note).await;
                }
                completed
            }
        };
        if let Err(error) = completed {
            let error = self.backend.failed("complete an upload", error);
            self.abort().await;
            return Err(error);
        }
        Ok(())
    }

    /// Removes what was sent. The sweep takes what stays because the store fails.
    pub(super) async fn abort(mut self) {
        match &mut self.target {
            Target::File(file) => drop(file.abort().await),
            Target::Object { store, key, id, note, .. } => {
                if store.abort_multipart(key, id).await.is_ok() {
                    let _ = store.delete(note).await;
                }
            }
        }
    }
}

fn note_text(key: &Path, id: &str) -> String {
    format!("{key}\n{id}")
}

/// Aborts the upload of a note.
pub(super) async fn abort_noted(store: &AmazonS3, note: &Path) -> object_store::Result<()> {
    let text = store.get_opts(note, Default::default()).await?.bytes().await?;
    let text = String::from_utf8_lossy(&text);
    let Some((key, id)) = text.split_once('\n') else { return Ok(()) };
    match store.abort_multipart(&Path::parse(key)?, &id.to_owned()).await {
        // Complete or aborted before.
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        aborted => aborted,
    }
}
