//! Fingerprints of what lies below a folder. Polling takes one of every model every few seconds,
//! so the walk is bounded; what lies deeper or comes later does not count.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use super::Fingerprint;

/// The most files that count.
const MAX_FILES: usize = 2_000;
/// The most names that are looked at.
const MAX_NAMES: usize = 20_000;
/// The deepest folder that counts, below the first.
const MAX_DEPTH: usize = 8;

/// What Python writes itself.
const CACHE: &str = "__pycache__";
/// What makes a folder a virtual environment.
const ENVIRONMENT: &str = "pyvenv.cfg";

impl Fingerprint {
    /// Adds the files below `folder` whose names are wanted, those of folders further up first.
    /// Hidden files and folders, what Python caches and virtual environments do not count; links to
    /// folders are not followed.
    pub(crate) fn add_tree(&mut self, folder: &Path, is_wanted: impl Fn(&str) -> bool) {
        let (mut n_files, mut n_names) = (0, 0);
        let mut left = VecDeque::from([(folder.to_owned(), 0)]);
        while let Some((folder, depth)) = left.pop_front() {
            let names = list(&folder, MAX_NAMES - n_names);
            n_names += names.len();
            if depth > 0 && names.iter().any(|name| name.name == ENVIRONMENT) {
                continue;
            }
            for name in names {
                if name.is_folder && depth < MAX_DEPTH && name.name != CACHE {
                    left.push_back((name.path, depth + 1));
                } else if !name.is_folder && n_files < MAX_FILES && is_wanted(&name.name) {
                    self.add(&name.path);
                    n_files += 1;
                }
            }
        }
    }
}

struct Name {
    name: String,
    path: PathBuf,
    is_folder: bool,
}

/// Lists at most `most` of what is not hidden, by ascending name, links not followed.
fn list(folder: &Path, most: usize) -> Vec<Name> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(most);
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        Some(Name { name, path: entry.path(), is_folder })
    };
    let mut names: Vec<Name> = entries.filter_map(name).collect();
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names
}
