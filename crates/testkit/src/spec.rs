//! Specs for files of the repository, without reading a model folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use salver_core::{Backing, ModelConfig, ModelName, ModelSpec, Result, TaskSpec};

/// Makes the spec of version 1 of a bare file; its name is the file's stem, or its folder's where
/// that is `model`.
///
/// # Panics
/// If no model name can be made of the path.
pub fn spec_of(artifact: &Path) -> ModelSpec {
    let stem = artifact.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model");
    let parents = artifact.ancestors().skip(1).filter_map(|parent| parent.file_name()?.to_str());
    let mut named = parents.filter(|name| name.parse::<u64>().is_err());
    let name = if stem == "model" { named.next().unwrap_or(stem) } else { stem };
    spec(name, artifact)
}

/// Makes the spec of version 1 of a model called `name`.
///
/// # Panics
/// If `name` is not a model name.
pub fn spec(name: &str, artifact: &Path) -> ModelSpec {
    let checked: Result<ModelName> = ModelName::new(name);
    ModelSpec {
        name: checked.expect("a test's model name is valid"),
        version: 1,
        engine: None,
        artifact: artifact.to_owned(),
        fingerprint: 0,
        task: TaskSpec::Tensor,
        columns: BTreeMap::new(),
        labels: BTreeMap::new(),
        metrics: BTreeMap::new(),
        checksums: Vec::new(),
        backing: Backing::default(),
        python: None,
        keeps: None,
        config: ModelConfig::default(),
    }
}

/// Returns a path within the repository.
pub fn repository_path(within: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(within)
}
