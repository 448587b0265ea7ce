//! Reading model folders with care: bounded text files, version folders, names that stay inside
//! their folder, and fingerprints.
//!
//! Whatever a configuration *names* must lie inside the folder, also after symbolic links are
//! followed. Version folders and default files that are links themselves are the operator's choice.

mod tree;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use salver_core::{Error, Result};

/// The most bytes of a configuration file.
pub(crate) const CONFIG_LIMIT: u64 = 1 << 20;
/// The most bytes of a file of labels.
pub(crate) const LABELS_LIMIT: u64 = 8 << 20;

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String> {
    let shown = path.display();
    let bytes = read_bounded(path, limit).map_err(|error| io_error(path, error))?;
    let bytes = bytes.ok_or_else(|| Error::too_large(format!("{shown} is larger than {limit} bytes")))?;
    String::from_utf8(bytes).map_err(|_| Error::invalid_input(format!("{shown} is not UTF-8 text")))
}

/// Returns `None` for a file that is larger than `limit`.
fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Names the file in what the operating system said about it.
pub(crate) fn io_error(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("{} does not exist", path.display())),
        _ => Error::invalid_input(format!("read {}: {error}", path.display())).with_source(error),
    }
}

/// Reads labels, one a line.
pub(crate) fn read_labels(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, LABELS_LIMIT)?;
    Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
}

/// Joins `name` to `folder` where it is a plain path that stays inside, links followed.
pub(crate) fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let outside = || {
        Error::invalid_input(format!(
            "'{}' must be a path inside the folder {}, without '..' and without links that lead out of it",
            name.escape_debug(),
            folder.display()
        ))
    };
    if !is_plain(name) {
        return Err(outside());
    }
    let path = folder.join(name);
    let real = path.canonicalize().map_err(|error| io_error(&path, error))?;
    let root = folder.canonicalize().map_err(|error| io_error(folder, error))?;
    if real.starts_with(root) { Ok(path) } else { Err(outside()) }
}

/// Whether `name` is a relative path that only goes down.
pub(crate) fn is_plain(name: &str) -> bool {
    // A backslash or a drive letter means something to other systems.
    let down = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let names_something = Path::new(name).file_name().is_some();
    names_something && !name.contains(['\\', '\0', ':']) && Path::new(name).components().all(down)
}

/// Whether something of this name stands there, be it a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Checks that `path` is a file with something in it.
pub(crate) fn check_artifact(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| io_error(path, error))?;
    if !metadata.is_file() {
        return Err(Error::invalid_input(format!("{} is not a file", path.display())));
    }
    if metadata.len() == 0 {
        return Err(Error::invalid_input(format!("{} is empty; is it still being written?", path.display())));
    }
    Ok(())
}

/// How version folders are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Triton's: no leading zeros.
    Plain,
    /// TF Serving's: leading zeros allowed.
    Padded,
}

/// Reads the name of a version folder; version 0 does not count.
pub(crate) fn version_number(name: &str, numbering: Numbering) -> Option<u64> {
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (numbering == Numbering::Plain && name.starts_with('0')) {
        return None;
    }
    // Versions are signed on several wires.
    name.parse::<i64>().ok().and_then(|version| u64::try_from(version).ok()).filter(|&version| version > 0)
}

/// Lists version folders, ascending.
pub(crate) fn versions(folder: &Path, numbering: Numbering) -> Result<Vec<(u64, PathBuf)>> {
    let mut found: Vec<(u64, PathBuf)> = list(folder)?
        .into_iter()
        .filter_map(|entry| Some((version_number(&entry.name, numbering)?, entry)))
        .filter(|(_, entry)| entry.is_folder)
        .map(|(version, entry)| (version, entry.path))
        .collect();
    found.sort();
    match found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Error::invalid_input(format!(
            "{} and {} are the same version; remove one",
            pair[0].1.display(),
            pair[1].1.display()
        ))),
        None => Ok(found),
    }
}

/// What stands in a folder.
pub(crate) struct FolderEntry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) is_folder: bool,
}

/// Lists what is not hidden, by ascending name, links followed. Names that are not UTF-8 are left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<FolderEntry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io_error(folder, error))? {
        let path = entry.map_err(|error| io_error(folder, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else {
            continue;
        };
        found.push(FolderEntry { name: name.to_owned(), is_folder: path.is_dir(), path });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether a file name ends in `.onnx`.
pub(crate) fn is_onnx(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Sums up which files there are, how large, and when they were written. Not their content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fingerprint(DefaultHasher);

impl Fingerprint {
    /// Adds one file; one that is missing counts as such.
    pub(crate) fn add(&mut self, path: &Path) {
        path.hash(&mut self.0);
        let Ok(metadata) = fs::metadata(path) else {
            return;
        };
        metadata.len().hash(&mut self.0);
        let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        written.map(|since| since.as_nanos()).hash(&mut self.0);
    }

    /// Adds what is no file.
    pub(crate) fn add_text(&mut self, text: &str) {
        text.hash(&mut self.0);
    }

    /// Adds the artifact, and files beside it that are likely to hold external weights: names that
    /// go on after its own (`model.onnx.data`), and all of a folder of its own name.
    pub(crate) fn add_artifact(&mut self, artifact: &Path) {
        self.add(artifact);
        let (Some(folder), Some(name)) = (artifact.parent(), artifact.file_name().and_then(|name| name.to_str()))
        else {
            return;
        };
        let beside = list(folder).unwrap_or_default();
        let is_own_folder = folder.file_name().is_some_and(|folder| folder == name);
        for entry in beside.iter().filter(|entry| entry.name != name && (is_own_folder || entry.name.starts_with(name)))
        {
            self.add(&entry.path);
        }
    }

    /// Returns the sum.
    pub(crate) fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests;
