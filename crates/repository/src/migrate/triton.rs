//! A Triton model repository.

use std::path::Path;
use std::sync::Arc;

use salver_core::{Error, ModelConfig, ModelEntry, ModelSource as _, ModelSpec, Result, SequenceState};

use super::{ModelReport, Note, Report, Status, config, files as of_files, is_refused, located, shown};
use crate::files::{self, FolderEntry, Numbering};
use crate::kind::{folder_name, kind_of};
use crate::{Kind, Repository, triton};

/// Reports on the repository at `folder`, or on the one model that it is.
pub(super) fn report(folder: &Path) -> Result<Report> {
    if !folder.is_dir() {
        let shown = folder.display();
        return Err(Error::not_found(format!("{shown} is not a folder; give that of the model repository")));
    }
    // One without a model that can be served is still worth a report.
    let entries = Repository::open(&[folder.to_owned()]).map(|repository| repository.scan()).unwrap_or_default();
    let mut report = Report { notes: Vec::new(), models: Vec::new(), paths: vec![folder.to_owned()] };
    if files::is_there(&folder.join(triton::CONFIG)) || kind_of(folder).is_ok_and(|kind| kind == Kind::TfServingModel) {
        let root = folder.parent().unwrap_or(folder);
        report.models.push(model(root, folder, &entries));
        return Ok(report);
    }
    for entry in files::list(folder)? {
        let file = shown(folder, &entry.path);
        if is_model(&entry) {
            report.models.push(model(folder, &entry.path, &entries));
        } else if entry.is_folder {
            let why = "it has neither config.pbtxt nor numbered versions";
            report.notes.push(Note::new(&file, Status::Ignored, "folder", why));
        } else if !files::is_onnx(&entry.name) {
            report.notes.push(Note::new(&file, Status::Ignored, "file", "it belongs to no model"));
        }
    }
    match report.models.is_empty() {
        false => Ok(report),
        true => Err(Error::invalid_input(format!(
            "{} holds no model of Triton's: expected folders with config.pbtxt or numbered versions (NAME/1/model.onnx)",
            folder.display()
        ))),
    }
}

fn is_model(entry: &FolderEntry) -> bool {
    entry.is_folder && triton::is_model(&entry.path)
}

fn model(root: &Path, folder: &Path, entries: &[ModelEntry]) -> ModelReport {
    let name = folder_name(folder);
    let entry = entries.iter().find(|entry| *entry.name == *name);
    let (specs, error) = match entry.map(|entry| &entry.versions) {
        Some(Ok(specs)) => (specs.clone(), None),
        Some(Err(error)) => (Vec::new(), Some(error.clone())),
        None => (Vec::new(), Some(Error::invalid_input(format!("'{name}' is no name that a model can have")))),
    };
    let mut notes = of_config(root, folder, &name);
    notes.extend(of_files::of_versions(root, folder, Numbering::Plain, &specs));
    notes.extend(of_others(root, folder, &specs));
    if let Some(error) = error.filter(|_| !is_refused(&notes)) {
        // Nothing of the above said why.
        let (line, what) = located(&error);
        notes.push(Note { line, ..Note::new(&shown(root, folder), Status::Refused, "model", what) });
    }
    ModelReport { name, path: folder.to_owned(), specs, notes }
}

fn of_config(root: &Path, folder: &Path, name: &str) -> Vec<Note> {
    let path = folder.join(triton::CONFIG);
    let file = shown(root, &path);
    if !files::is_there(&path) {
        return Vec::new();
    }
    match files::read_text(&path, files::CONFIG_LIMIT) {
        Ok(text) => config::notes(&file, &text, name),
        Err(error) => vec![Note::new(&file, Status::Refused, "text", error.message())],
    }
}

/// Notes what lies beside configuration and versions.
fn of_others(root: &Path, folder: &Path, specs: &[Arc<ModelSpec>]) -> Vec<Note> {
    let labels = |name: &str| specs.iter().flat_map(|spec| &spec.config.outputs).any(|io| io.label_filename == name);
    let has_warmup = specs.iter().any(|spec| !spec.config.warmup.is_empty());
    let has_state_files = specs.iter().any(|spec| has_state_files(&spec.config));
    let mut notes = Vec::new();
    for entry in files::list(folder).unwrap_or_default() {
        let is_version = entry.is_folder && files::version_number(&entry.name, Numbering::Plain).is_some();
        if is_version || entry.name == triton::CONFIG {
            continue;
        }
        let (status, what, why) = match entry.name.as_str() {
            name if labels(name) => (Status::Serves, "labels", ""),
            "warmup" if has_warmup => (Status::Serves, "warm-up data", ""),
            "initial_state" if has_state_files => (Status::Serves, "initial states", ""),
            "configs" => {
                let why = "other configurations are chosen by a load with a configuration (docs/protocols.md)";
                (Status::Ignored, "folder", why)
            }
            _ if entry.is_folder => (Status::Ignored, "folder", "it is no version: versions are 1, 2, 3, …"),
            _ => (Status::Ignored, "file", "nothing refers to it"),
        };
        notes.push(Note::new(&shown(root, &entry.path), status, what, why));
    }
    notes
}

fn has_state_files(config: &ModelConfig) -> bool {
    let has_file = |state: &SequenceState| state.initial.as_ref().is_some_and(|initial| initial.file.is_some());
    config.sequence_batching.as_ref().is_some_and(|sequences| sequences.states.iter().any(has_file))
}
