//! Folders that exist for one test, and short ways to look at what was found in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use salver_core::{Error, ModelEntry, ModelSource, ModelSpec};
use salver_repository::Repository;
use tempfile::TempDir;

/// A temporary folder with files in it.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// Writes each `(path, content)`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, content) in files {
            tree.write(path, content);
        }
        tree
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn open(&self, path: &str) -> Repository {
        open(&[self.path(path)])
    }
}

/// A file or folder of this project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[track_caller]
pub(crate) fn open(paths: &[PathBuf]) -> Repository {
    Repository::open(paths).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns `name: versions` or `name: !` for each model, joined by `; `.
pub(crate) fn outline(repository: &Repository) -> String {
    let line = |entry: &ModelEntry| match &entry.versions {
        Ok(specs) => {
            let versions: Vec<String> = specs.iter().map(|spec| spec.version.to_string()).collect();
            format!("{}: {}", entry.name, versions.join(" "))
        }
        Err(_) => format!("{}: !", entry.name),
    };
    repository.scan().iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Returns the versions of the model `name`.
#[track_caller]
pub(crate) fn specs(repository: &Repository, name: &str) -> Vec<Arc<ModelSpec>> {
    let entry = repository.find(name).unwrap_or_else(|| panic!("no model {name}"));
    entry.versions.unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the only version of the model `name`.
#[track_caller]
pub(crate) fn spec(repository: &Repository, name: &str) -> Arc<ModelSpec> {
    let mut specs = specs(repository, name);
    assert_eq!(specs.len(), 1, "versions of {name}");
    specs.remove(0)
}

/// Returns what is wrong with the model `name`.
#[track_caller]
pub(crate) fn error(repository: &Repository, name: &str) -> Error {
    let entry = repository.find(name).unwrap_or_else(|| panic!("no model {name}"));
    entry.versions.expect_err(name)
}
