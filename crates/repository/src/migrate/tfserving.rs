//! Folders of TF Serving's, and its `models.config`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use salver_core::{Error, ModelName, ModelSpec, Result, VersionPolicy};

use super::{ModelReport, Note, Report, Status, files as of_files, hints, is_refused, located, shown};
use crate::files::{self, Numbering};
use crate::kind::folder_name;
use crate::tfserving::{self, ListedModel};

/// What a `models.config` is called where a folder is given.
const CONFIG: &str = "models.config";
/// The graph that TF Serving reads.
const SAVED_MODEL: &str = "saved_model.pb";

/// Settings of TF Serving's that lie beside models, and what does the same here.
const SETTINGS: [(&str, &str); 3] = [
    ("batching_parameters.txt", "batches are merged by themselves; docs/scheduling.md tells how to tune that"),
    ("monitoring.config", "metrics are on /metrics without being asked for"),
    ("ssl_config.txt", "put a proxy in front that speaks TLS"),
];

/// Reports on `path`: a `models.config`, the folder of a model, or a folder of those.
pub(super) fn report(path: &Path) -> Result<Report> {
    if path.is_file() {
        return listed(path);
    }
    if !path.is_dir() {
        return Err(Error::not_found(format!(
            "{} does not exist; give a models.config, the folder of a model, or a folder of those",
            path.display()
        )));
    }
    if is_base(path) {
        let root = path.parent().unwrap_or(path);
        let models = vec![of_folder(root, &folder_name(path), path, &VersionPolicy::default(), &BTreeMap::new())];
        return Ok(Report { notes: Vec::new(), models, paths: vec![path.to_owned()] });
    }
    if path.join(CONFIG).is_file() {
        return listed(&path.join(CONFIG));
    }
    folder(path)
}

/// Whether `path` is what TF Serving calls a base path.
fn is_base(path: &Path) -> bool {
    files::versions(path, Numbering::Padded).map_or(true, |found| !found.is_empty())
}

fn folder(path: &Path) -> Result<Report> {
    let mut report = Report { notes: Vec::new(), models: Vec::new(), paths: Vec::new() };
    for entry in files::list(path)? {
        if entry.is_folder && is_base(&entry.path) {
            let policy = VersionPolicy::default();
            report.models.push(of_folder(path, &entry.name, &entry.path, &policy, &BTreeMap::new()));
            // Each by itself: together they would be read as a Triton repository, whose models take
            // at most four rows unless they say more.
            report.paths.push(entry.path);
        } else {
            let known = SETTINGS.iter().find(|(name, _)| *name == entry.name);
            let why = known.map_or("it has no numbered versions", |(_, why)| why);
            let what = if entry.is_folder { "folder" } else { "file" };
            report.notes.push(Note::new(&shown(path, &entry.path), Status::Ignored, what, why));
        }
    }
    match report.models.is_empty() {
        false => Ok(report),
        true => Err(Error::invalid_input(format!(
            "{} holds no model of TF Serving's: expected folders of numbered versions (NAME/1/…) or a {CONFIG}",
            path.display()
        ))),
    }
}

fn listed(path: &Path) -> Result<Report> {
    let root = path.parent().unwrap_or(path);
    let file = shown(root, path);
    let text = files::read_text(path, files::CONFIG_LIMIT)?;
    let mut report = Report { notes: Vec::new(), models: Vec::new(), paths: vec![path.to_owned()] };
    let entries = match tfserving::review(&text) {
        Ok(entries) => entries,
        Err(error) => {
            let (line, what) = located(&error);
            report.notes.push(Note { line, ..Note::new(&file, Status::Refused, "text", what) });
            return Ok(report);
        }
    };
    for entry in entries {
        let written = Note::new(&file, Status::Serves, "config", "").at(entry.line);
        let mut notes: Vec<Note> = entry.logging_line.map(|line| logging(&file, line)).into_iter().collect();
        report.models.push(match entry.model {
            Ok(ListedModel { name, base_path, version_policy, labels }) => {
                let mut model = of_folder(root, &name, &root.join(base_path), &version_policy, &labels);
                notes.insert(0, written);
                model.notes.splice(0..0, notes);
                model
            }
            Err(error) => {
                let (line, what) = located(&error);
                let why = format!("{what}; while it stands there the server does not start");
                let note = Note::new(&file, Status::Refused, "config", why).todo(hint(what));
                notes.push(Note { line, ..note });
                ModelReport { name: entry.name, path: PathBuf::from(&entry.base_path), specs: Vec::new(), notes }
            }
        });
    }
    Ok(report)
}

fn logging(file: &str, line: usize) -> Note {
    Note::new(file, Status::Ignored, "logging_config", "requests are not recorded").at(line)
}

fn hint(what: &str) -> &'static str {
    let is_of_tensorflow = what.contains("model_platform") || what.contains("model_type");
    hints::of_artifact(SAVED_MODEL).filter(|_| is_of_tensorflow).map_or("", |(_, todo)| todo)
}

fn of_folder(
    root: &Path,
    name: &str,
    folder: &Path,
    policy: &VersionPolicy,
    labels: &BTreeMap<String, u64>,
) -> ModelReport {
    let read = ModelName::new(name).and_then(|name| tfserving::read(&name, folder, policy, labels));
    let (specs, error): (Vec<Arc<ModelSpec>>, _) = match read {
        Ok(specs) => (specs, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let mut notes = of_files::of_versions(root, folder, Numbering::Padded, &specs);
    for entry in files::list(folder).unwrap_or_default() {
        let is_version = entry.is_folder && files::version_number(&entry.name, Numbering::Padded).is_some();
        if !is_version {
            let what = if entry.is_folder { "folder" } else { "file" };
            notes.push(Note::new(&shown(root, &entry.path), Status::Ignored, what, "it is no version"));
        }
    }
    if let Some(error) = error.filter(|_| !is_refused(&notes)) {
        notes.push(Note::new(&shown(root, folder), Status::Refused, "model", error.message()));
    }
    ModelReport { name: name.to_owned(), path: folder.to_owned(), specs, notes }
}
