//! Models whose files a client sent: each in a new folder of this process's own.
//!
//! Nothing that was sent decides where a file lies: paths are taken apart and each part is checked,
//! the folder is new and only the server's user may enter it, so there is no link in it, and no file
//! is written twice. Sizes and counts are bounded. A folder goes with the last version that was
//! loaded from it; what a process left behind that ended early goes when the next one starts.

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use salver_core::{Error, ErrorKind, LoadOverride, ModelEntry, ModelName, ModelSpec, OverrideFile, Result};
use tempfile::TempDir;

use crate::overriding::{at_fault, read_config};
use crate::triton;

/// The most files of a model.
const MAX_FILES: usize = 256;
/// The most parts of a path: `1/model.onnx/weights.bin` has three.
const MAX_DEPTH: usize = 4;
/// The longest part of a path.
const MAX_NAME_BYTES: usize = 255;
/// The most models that are kept at a time.
const MAX_MODELS: usize = 256;
/// The most bytes that are kept at a time.
const MAX_BYTES: u64 = 4 << 30;
/// Held by the process that a folder belongs to.
const LOCK: &str = ".lock";

/// Where files of clients are kept.
pub struct Uploads {
    room: Arc<Room>,
    folder: TempDir,
    _claim: File,
}

impl Uploads {
    /// Makes a folder of this process's own below `root`, and removes those of processes that ended.
    ///
    /// # Errors
    /// `NotReady` where that is impossible, saying why.
    pub fn open(root: &Path) -> Result<Self> {
        let refused = |error| failed(&format!("keep models that clients send in {}", root.display()), error);
        let _turn = clear_locked(root).map_err(refused)?;
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("server-").permissions(private).tempdir_in(root);
        let folder = folder.map_err(refused)?;
        let claim = lock_file(&folder.path().join(LOCK)).map_err(refused)?;
        claim.lock().map_err(refused)?;
        Ok(Self { room: Arc::default(), folder, _claim: claim })
    }

    /// Removes what processes that ended have left below `root`, if it is there.
    ///
    /// # Errors
    /// `NotReady` where that is impossible, saying why.
    pub fn clear(root: &Path) -> Result<()> {
        if !root.exists() {
            return Ok(());
        }
        let cleared = clear_locked(root);
        cleared.map(drop).map_err(|error| failed(&format!("remove what is left in {}", root.display()), error))
    }

    /// Writes the files that were sent for the model `name` and reads them as its folder.
    ///
    /// # Errors
    /// `InvalidInput` for paths, counts and contents that cannot be, `Full` where there is no room.
    pub fn read(&self, name: &ModelName, sent: &LoadOverride) -> Result<ModelEntry> {
        let config = read_config(name, &sent.config)?;
        let paths = check_paths(&sent.files)?;
        let bytes = sent.files.iter().map(|file| file.data.len() as u64).sum();
        let claim = Claim::new(&self.room, bytes)?;
        let refused = |error| failed("keep the files that were sent", error);
        let private = fs::Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix("model-").permissions(private).tempdir_in(self.folder.path());
        let upload = Upload { folder: made.map_err(refused)?, _claim: claim };
        for (path, file) in paths.iter().zip(&sent.files) {
            write(upload.folder.path(), path, &file.data).map_err(refused)?;
        }
        let folder = upload.folder.path().to_owned();
        let specs = triton::read_with(name, &folder, config, &sent.config);
        let specs = specs.map_err(|error| at_fault(&without(&folder, &error)))?;
        let keeps: Arc<Upload> = Arc::new(upload);
        let keep = |spec: Arc<ModelSpec>| Arc::new(ModelSpec { keeps: Some(keeps.clone()), ..(*spec).clone() });
        let versions = specs.into_iter().map(keep).collect();
        Ok(ModelEntry { name: name.clone(), labels: Default::default(), versions: Ok(versions) })
    }
}

/// The files of one model; they go with this value.
struct Upload {
    folder: TempDir,
    _claim: Claim,
}

/// What is kept at a time: models and their bytes.
#[derive(Default)]
struct Room(Mutex<(usize, u64)>);

/// Room for one model.
struct Claim {
    room: Arc<Room>,
    bytes: u64,
}

impl Claim {
    fn new(room: &Arc<Room>, bytes: u64) -> Result<Self> {
        let mut taken = room.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (models, total) = (taken.0 + 1, taken.1.saturating_add(bytes));
        if models > MAX_MODELS || total > MAX_BYTES {
            return Err(Error::new(
                ErrorKind::Full,
                format!(
                    "at most {MAX_MODELS} models of {MAX_BYTES} bytes together are kept that clients sent; unload some"
                ),
            ));
        }
        *taken = (models, total);
        Ok(Self { room: room.clone(), bytes })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = (taken.0 - 1, taken.1 - self.bytes);
    }
}

/// Takes the paths apart; they come back as they will lie in the folder.
fn check_paths(files: &[OverrideFile]) -> Result<Vec<PathBuf>> {
    if files.len() > MAX_FILES {
        return Err(Error::invalid_input(format!("at most {MAX_FILES} files make a model, got {}", files.len())));
    }
    let mut paths = files.iter().map(|file| check_path(&file.path)).collect::<Result<Vec<_>>>()?;
    paths.sort();
    if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::invalid_input(format!("'file:{}' is given twice", pair[0].display())));
    }
    files.iter().map(|file| check_path(&file.path)).collect()
}

fn check_path(path: &str) -> Result<PathBuf> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_name = |part: &&str| {
        let is_plain = |c: char| !c.is_control() && !['\\', ':'].contains(&c);
        !part.is_empty() && !part.starts_with('.') && part.len() <= MAX_NAME_BYTES && part.chars().all(is_plain)
    };
    if parts.len() <= MAX_DEPTH && parts.iter().all(is_name) {
        return Ok(parts.iter().collect());
    }
    let shown: String = path.chars().take(128).flat_map(char::escape_debug).collect();
    Err(Error::invalid_input(format!(
        "'file:{shown}': expected a path inside the model's folder, such as file:1/model.onnx, of at most {MAX_DEPTH} \
         parts that do not begin with a dot"
    )))
}

/// Writes one file below `root`, which only this process writes to.
fn write(root: &Path, path: &Path, data: &[u8]) -> io::Result<()> {
    let to = root.join(path);
    if let Some(parent) = to.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    // Where a file is also the folder of another one, the second of them fails.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?;
    file.write_all(data)
}

/// Removes the folders of processes that ended, and returns the lock that keeps others from the same.
fn clear_locked(root: &Path) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let turn = lock_file(&root.join(LOCK))?;
    turn.lock()?;
    for entry in fs::read_dir(root)?.flatten() {
        // Not followed: a link is none of ours.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_held = || lock_file(&entry.path().join(LOCK)).is_ok_and(|file| file.try_lock().is_err());
        if is_folder && entry.file_name().to_string_lossy().starts_with("server-") && !is_held() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(turn)
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Tells an error about a file without where this server keeps it.
fn without(folder: &Path, error: &Error) -> Error {
    let shown = folder.display().to_string();
    let message = error.message().replace(&format!("{shown}/"), "").replace(&shown, "what was sent");
    Error::new(error.kind(), message)
}

fn failed(doing: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        // A file where a folder has to be: two paths of the client's contradict each other.
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
            ErrorKind::InvalidInput
        }
        _ => ErrorKind::NotReady,
    };
    Error::new(kind, format!("{doing}: {error}")).with_source(error)
}
