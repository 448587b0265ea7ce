//! A blob on its way into a local file.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use salver_core::Result;
use uuid::Uuid;

use super::BlobInfo;
use super::digest::Hasher;
use super::errors::{damaged, elsewhere, local};

/// A file beside its later name; removed when this is dropped before its end.
pub(super) struct LocalCopy {
    file: File,
    unfinished: Unfinished,
    to: PathBuf,
    hasher: Hasher,
    size: u64,
}

impl LocalCopy {
    pub(super) async fn create(to: &Path) -> Result<Self> {
        let to = to.to_owned();
        elsewhere(move || {
            let mut name = to.file_name().unwrap_or_default().to_owned();
            name.push(format!(".part-{}", Uuid::now_v7()));
            let path = to.with_file_name(name);
            let file =
                File::create_new(&path).map_err(|error| local(format_args!("create {}", to.display()), error))?;
            Ok(Self { file, unfinished: Unfinished(Some(path)), to, hasher: Hasher::default(), size: 0 })
        })
        .await?
    }

    pub(super) async fn write(mut self, part: Bytes) -> Result<Self> {
        elsewhere(move || {
            self.hasher.update_here(&part);
            self.size += part.len() as u64;
            self.file.write_all(&part).map_err(|error| local(format_args!("write {}", self.to.display()), error))?;
            Ok(self)
        })
        .await?
    }

    /// Gives the file its name if it holds what was expected.
    pub(super) async fn finish(self, expected: BlobInfo) -> Result<()> {
        elsewhere(move || {
            let Self { file, mut unfinished, to, hasher, size } = self;
            let digest = hasher.finish();
            if (BlobInfo { digest, size }) != expected {
                return Err(damaged(expected, digest, size));
            }
            let synced = file.sync_all().and_then(|()| unfinished.rename(&to));
            synced.map_err(|error| local(format_args!("write {}", to.display()), error))
        })
        .await?
    }
}

/// Removes a file on drop unless it got another name.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn rename(&mut self, to: &Path) -> std::io::Result<()> {
        if let Some(path) = &self.0 {
            fs::rename(path, to)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nobody reads it under this name.
            let _ = fs::remove_file(path);
        }
    }
}
