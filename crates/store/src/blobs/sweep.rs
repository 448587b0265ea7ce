//! Removes what uploads left behind whose process or connection ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures::TryStreamExt as _;
use object_store::aws::AmazonS3;
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use salver_core::Result;

use super::backend::{Backend, Place, is_note};
use super::errors::{elsewhere, local};
use super::upload::abort_noted;

/// Removes what was last written before `before`, and returns its bytes.
pub(super) async fn sweep(backend: &Backend, before: SystemTime) -> Result<u64> {
    match &backend.place {
        Place::Folder { root, .. } => {
            let root = root.clone();
            let swept = elsewhere(move || sweep_folder(&root, before)).await?;
            swept.map_err(|error| local("sweep the uploads", error))
        }
        Place::Bucket { store, .. } => {
            let swept = sweep_bucket(store, backend, before).await;
            swept.map_err(|error| backend.failed("sweep the uploads", error))
        }
    }
}

async fn sweep_bucket(store: &AmazonS3, backend: &Backend, before: SystemTime) -> object_store::Result<u64> {
    let mut found = store.list(Some(&backend.uploads()));
    let mut n_bytes = 0;
    while let Some(meta) = found.try_next().await? {
        if SystemTime::from(meta.last_modified) <= before {
            n_bytes += remove(store, meta).await?;
        }
    }
    Ok(n_bytes)
}

async fn remove(store: &AmazonS3, meta: ObjectMeta) -> object_store::Result<u64> {
    use object_store::Error::NotFound;
    if is_note(&meta.location) {
        match abort_noted(store, &meta.location).await {
            Ok(()) | Err(NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match store.delete(&meta.location).await {
        Ok(()) => Ok(meta.size),
        Err(NotFound { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Besides the uploads: what `object_store` began to write beside a blob, `…#1`.
fn sweep_folder(root: &Path, before: SystemTime) -> io::Result<u64> {
    let mut n_bytes = 0;
    for file in entries(&root.join("uploads"))? {
        n_bytes += remove_file(&file, before)?;
    }
    for shard in entries(&root.join("blobs/sha256"))? {
        let staged = |file: &PathBuf| file.file_name().is_some_and(|name| name.as_encoded_bytes().contains(&b'#'));
        for file in entries(&shard)?.into_iter().filter(staged) {
            n_bytes += remove_file(&file, before)?;
        }
    }
    Ok(n_bytes)
}

/// A folder that is not there, or is none, is empty.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(found) => found.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// An upload may end between two looks at it.
fn remove_file(path: &Path, before: SystemTime) -> io::Result<u64> {
    let removed = fs::metadata(path).and_then(|found| {
        if !found.is_file() || found.modified()? > before {
            return Ok(0);
        }
        fs::remove_file(path).map(|()| found.len())
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        removed => removed,
    }
}
