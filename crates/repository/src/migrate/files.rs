//! The files of a model, version by version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use salver_core::{Backing, ModelSpec};

use super::{Note, Status, hints, shown};
use crate::files::{self, FolderEntry, Numbering};
use crate::onnx;

/// Notes what lies in the version folders of `folder`; `specs` are the versions that are served.
pub(super) fn of_versions(root: &Path, folder: &Path, numbering: Numbering, specs: &[Arc<ModelSpec>]) -> Vec<Note> {
    let versions = files::versions(folder, numbering).unwrap_or_default();
    let mut notes = Vec::new();
    for (number, version) in versions {
        match specs.iter().find(|spec| spec.version == number) {
            Some(spec) if matches!(spec.backing, Backing::Ensemble(_)) => notes.extend(of_ensemble(root, &version)),
            Some(spec) => notes.extend(of_served(root, &version, spec)),
            None => notes.extend(of_other(root, &version, !specs.is_empty())),
        }
    }
    notes
}

/// Notes what lies in the version folders of an ensemble: nothing that it needs.
fn of_ensemble(root: &Path, version: &Path) -> Vec<Note> {
    let why = "an ensemble is its configuration alone";
    let unread = |entry: &FolderEntry| Note::new(&shown(root, &entry.path), Status::Ignored, "file", why);
    files::list(version).unwrap_or_default().iter().map(unread).collect()
}

/// Notes the graph, the files with its weights, and that the others are passed over.
fn of_served(root: &Path, version: &Path, spec: &ModelSpec) -> Vec<Note> {
    let artifact = shown(root, &spec.artifact);
    let summary = match onnx::summarize(&spec.artifact) {
        Ok(summary) => summary,
        Err(error) => {
            let message = error.message().replace(&format!("{}: ", spec.artifact.display()), "");
            return vec![Note::new(&artifact, Status::Refused, "graph", message)];
        }
    };
    let mut notes = vec![Note::new(&artifact, Status::Serves, "graph", "")];
    let beside = spec.artifact.parent().unwrap_or(version);
    let weights: BTreeSet<PathBuf> = summary.external_files.iter().map(|name| beside.join(name)).collect();
    for path in &weights {
        let file = shown(root, path);
        notes.push(match path.is_file() {
            true => Note::new(&file, Status::Serves, "weights", ""),
            false => {
                Note::new(&file, Status::Refused, "weights", "the graph keeps its weights there, and it is missing")
            }
        });
    }
    for entry in files::list(version).unwrap_or_default() {
        let is_known = |path: &Path| entry.path == path || path.starts_with(&entry.path);
        if !is_known(&spec.artifact) && !weights.iter().any(|path| is_known(path)) {
            let why = "the graph does not refer to it";
            notes.push(Note::new(&shown(root, &entry.path), Status::Ignored, "file", why));
        }
    }
    notes
}

/// Notes a version that is not served: left out on purpose, or of another kind.
fn of_other(root: &Path, version: &Path, others_serve: bool) -> Vec<Note> {
    if others_serve {
        let why = "the version policy leaves it out";
        return vec![Note::new(&shown(root, version), Status::Ignored, "version", why)];
    }
    let entries = files::list(version).unwrap_or_default();
    let foreign = |entry: &FolderEntry| {
        let (what, todo) = hints::of_artifact(&entry.name)?;
        let why = "only graphs in ONNX are served from here";
        Some(Note::new(&shown(root, &entry.path), Status::Refused, what, why).todo(todo))
    };
    entries.iter().filter_map(foreign).collect()
}
