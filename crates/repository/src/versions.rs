//! Folders of numbered versions: which are served, and where the artifact of each lies.
//!
//! Triton's and TF Serving's folders differ in how versions are written, not in this.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use salver_core::{Backing, Error, ModelConfig, ModelName, ModelSpec, Result, TaskSpec};

use crate::files::{self, Numbering};

/// One version that is to be served.
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) artifact: PathBuf,
}

/// Picks versions of a model that has no artifacts by the policy of `config`. Without a version
/// folder, it is version 1: there is nothing that one would hold.
pub(crate) fn select_bare(folder: &Path, numbering: Numbering, config: &ModelConfig) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = files::versions(folder, numbering)?.into_iter().map(|(number, _)| number).collect();
    if numbers.is_empty() {
        numbers.push(1);
    }
    let selected = config.version_policy.select(&numbers);
    if selected.is_empty() {
        return Err(none_selected(folder, &numbers, config));
    }
    Ok(selected)
}

/// Picks versions by the policy of `config`.
///
/// A version whose artifact is missing stays in the list while another one is good: loading it
/// then fails on its own, with its reason, and the others serve.
pub(crate) fn select(folder: &Path, numbering: Numbering, config: &ModelConfig) -> Result<Vec<Version>> {
    let existing: BTreeMap<u64, PathBuf> = files::versions(folder, numbering)?.into_iter().collect();
    let numbers: Vec<u64> = existing.keys().copied().collect();
    if numbers.is_empty() {
        return Err(Error::not_found(format!(
            "{} holds no version folder; put the model at {}",
            folder.display(),
            folder.join("1").join(&config.default_model_filename).display()
        )));
    }
    let selected = config.version_policy.select(&numbers);
    let mut versions = Vec::new();
    for (number, folder) in existing.iter().filter(|(number, _)| selected.contains(number)) {
        versions.push(Version { number: *number, artifact: artifact(folder, &config.default_model_filename)? });
    }
    if versions.is_empty() {
        return Err(none_selected(folder, &numbers, config));
    }
    let mut first_error = None;
    for version in &versions {
        match files::check_artifact(&version.artifact) {
            Ok(()) => return Ok(versions),
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    first_error.map_or(Ok(versions), Err)
}

fn none_selected(folder: &Path, numbers: &[u64], config: &ModelConfig) -> Error {
    Error::not_found(format!(
        "the version policy {:?} selects none of the versions {numbers:?} in {}",
        config.version_policy,
        folder.display()
    ))
}

/// Finds the artifact in a version folder. As in Triton, it may be a folder of its own name, which
/// keeps external weights together.
fn artifact(folder: &Path, filename: &str) -> Result<PathBuf> {
    let path = folder.join(filename);
    // The default name is the layout's own; only another one could lead elsewhere.
    if filename != "model.onnx" && path.exists() {
        files::inside(folder, filename).map_err(|error| error.context("default_model_filename"))?;
    }
    Ok(if path.is_dir() { path.join("model.onnx") } else { path })
}

/// Makes a spec of which only the obvious is known.
pub(crate) fn spec(name: &ModelName, version: u64, artifact: PathBuf, config: ModelConfig) -> ModelSpec {
    ModelSpec {
        name: name.clone(),
        version,
        engine: None,
        artifact,
        fingerprint: 0,
        task: TaskSpec::Tensor,
        columns: BTreeMap::new(),
        labels: BTreeMap::new(),
        metrics: BTreeMap::new(),
        checksums: Vec::new(),
        backing: Backing::default(),
        python: None,
        keeps: None,
        config,
    }
}
