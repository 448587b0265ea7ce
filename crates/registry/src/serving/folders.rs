//! Copies of the files of versions, one folder each, named after the version's digest.
//!
//! A folder appears under its name only when all of its files are there and fit their digests. One
//! that is there already is read again before it is used: a disk may have lost a bit meanwhile.
//! Versions of the same files share a folder, which is fetched once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use salver_core::{Checksum, Error, ErrorKind, ModelName, ModelSpec, Result};
use salver_store::{Blobs, Digest};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::files::FileInfo;

/// Beginnings of folders that are not complete.
const UNFINISHED: &str = ".part-";
/// Held by the server that keeps its models here.
const LOCK: &str = ".lock";
/// Tells of what kind a model is; a few lines that may save fetching the rest.
const MANIFEST: &str = "MLmodel";

/// Where copies are kept.
pub(super) struct Folders {
    root: PathBuf,
    /// Who looks after a folder, one at a time, by digest.
    turns: Mutex<BTreeMap<String, Turn>>,
    _claim: Claim,
}

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Where the files of a version came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    /// They were here.
    Before,
    /// The store gave them.
    Now,
}

/// What keeps two servers from cleaning up after each other.
enum Claim {
    /// The folder is ours while the file is open.
    Lock { _file: File },
    /// Another server has the folder; this one goes when this server does.
    Private { _folder: TempDir },
}

impl Folders {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let refused = |error: io::Error| failed(&format!("keep models in {}", root.display()), error);
        fs::create_dir_all(root).map_err(refused)?;
        let file = File::options().create(true).truncate(false).write(true).open(root.join(LOCK)).map_err(refused)?;
        if file.try_lock().is_ok() {
            for entry in fs::read_dir(root).map_err(refused)?.flatten() {
                if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
            let claim = Claim::Lock { _file: file };
            return Ok(Self { root: root.to_owned(), turns: Mutex::default(), _claim: claim });
        }
        let parent = root.parent().unwrap_or(root);
        let folder = tempfile::Builder::new().prefix("models-").tempdir_in(parent).map_err(refused)?;
        let root = folder.path().to_owned();
        Ok(Self { root, turns: Mutex::default(), _claim: Claim::Private { _folder: folder } })
    }

    /// Brings a version's files here, if they are not yet, and reads what model they are.
    pub(super) async fn read(
        self: &Arc<Self>,
        blobs: &Blobs,
        digest: &str,
        files: &[FileInfo],
        name: &ModelName,
        version: u64,
    ) -> Result<ModelSpec> {
        salver_repository::check_names(files.iter().map(|file| file.path.as_str()))?;
        let wanted = Arc::new(Wanted::new(digest, files)?);
        self.bring(blobs, &wanted, name, version).await?;
        let folder = self.root.join(&wanted.digest);
        let name = name.clone();
        blocking(move || {
            let mut spec = salver_repository::read_version(&name, version, &folder)?;
            let checksum =
                |(path, digest): &(PathBuf, Digest)| Checksum { path: folder.join(path), sha256: *digest.as_bytes() };
            spec.checksums = wanted.files.iter().map(checksum).collect();
            Ok(spec)
        })
        .await?
    }

    fn turn(&self, digest: &str) -> Turn {
        self.turns.lock().entry(digest.to_owned()).or_default().clone()
    }

    /// Sees to it that the files are here.
    async fn bring(
        self: &Arc<Self>,
        blobs: &Blobs,
        wanted: &Arc<Wanted>,
        name: &ModelName,
        version: u64,
    ) -> Result<Brought> {
        let turn = self.turn(&wanted.digest);
        let _turn = turn.lock().await;
        let (looked, at) = (wanted.clone(), self.root.join(&wanted.digest));
        if blocking(move || looked.are_in(&at)).await? {
            return Ok(Brought::Before);
        }
        self.fetch(blobs, wanted, name, version).await?;
        Ok(Brought::Now)
    }

    async fn fetch(
        self: &Arc<Self>,
        blobs: &Blobs,
        wanted: &Arc<Wanted>,
        name: &ModelName,
        version: u64,
    ) -> Result<()> {
        let this = self.clone();
        let staged = blocking(move || {
            let staged = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&this.root);
            staged.map_err(|error| failed(&format!("make a folder in {}", this.root.display()), error))
        })
        .await??;
        for (path, digest) in &wanted.files {
            let to = staged.path().join(path);
            let parent = to.parent().unwrap_or(staged.path()).to_owned();
            blocking(move || fs::create_dir_all(&parent).map_err(|error| failed("make a folder", error))).await??;
            let fetched = blobs.fetch(digest, &to).await;
            fetched.map_err(|error| error.context(format_args!("file '{}'", path.display())))?;
            if path == Path::new(MANIFEST) {
                let (at, name) = (staged.path().to_owned(), name.clone());
                match blocking(move || salver_repository::read_version(&name, version, &at)).await? {
                    // It will not be served, whatever else there is.
                    Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        let (this, wanted) = (self.clone(), wanted.clone());
        blocking(move || this.publish(staged, &wanted)).await?
    }

    /// Gives a complete folder its name, in place of one that is damaged.
    fn publish(&self, staged: TempDir, wanted: &Wanted) -> Result<()> {
        let folder = self.root.join(&wanted.digest);
        let cleared = match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        let moved = cleared.and_then(|()| fs::rename(staged.path(), &folder));
        moved.map_err(|error| failed(&format!("write {}", folder.display()), error))?;
        // Nothing is left under the old name.
        let _ = staged.keep();
        Ok(())
    }

    /// Removes all copies but these.
    pub(super) async fn keep(self: &Arc<Self>, needed: BTreeSet<String>) {
        // Whoever waits for a turn holds it too.
        self.turns.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
        let this = self.clone();
        let removed = blocking(move || {
            let entries = fs::read_dir(&this.root).into_iter().flatten().flatten();
            for entry in entries {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.parse::<Digest>().is_ok() && !needed.contains(&name) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        });
        let _ = removed.await;
    }
}

/// The files of a version.
struct Wanted {
    digest: String,
    /// The manifest first.
    files: Vec<(PathBuf, Digest)>,
}

impl Wanted {
    fn new(digest: &str, files: &[FileInfo]) -> Result<Self> {
        let file = |file: &FileInfo| {
            let path = PathBuf::from(&file.path);
            // Checked when it was stored; a database that somebody changed must not write elsewhere.
            let goes_down = path.components().all(|part| matches!(part, Component::Normal(_)));
            if !goes_down || file.path.is_empty() {
                let shown = file.path.escape_debug();
                return Err(Error::invalid_input(format!("file '{shown}': expected a path within the version")));
            }
            Ok((path, file.digest.parse::<Digest>()?))
        };
        let mut files = files.iter().map(file).collect::<Result<Vec<_>>>()?;
        files.sort_by_key(|(path, _)| path != Path::new(MANIFEST));
        let digest = digest.parse::<Digest>()?.to_string();
        Ok(Self { digest, files })
    }

    /// Whether the folder holds these files, every bit of them. Blocking.
    fn are_in(&self, folder: &Path) -> bool {
        let fits =
            |(path, digest): &(PathBuf, Digest)| digest_of(&folder.join(path)).is_ok_and(|found| found == *digest);
        folder.is_dir() && self.files.iter().all(fits)
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hash, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest::from(<[u8; 32]>::from(hash.finalize()))),
            count => hash.update(&piece[..count]),
        }
    }
}

fn failed(doing: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        _ => ErrorKind::NotReady,
    };
    Error::new(kind, format!("{doing}: {error}")).with_source(error)
}

/// Runs what waits for the disk away from the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::engine(format!("reading files ended early: {error}")))
}

#[cfg(test)]
mod tests;
