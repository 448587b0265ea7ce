//! One model folder of a Triton repository: `config.pbtxt`, numbered versions, label files.
//!
//! A folder without a configuration gets Triton's derived one. Whether the configuration fits the
//! graph is checked when the model is loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use salver_core::{Backing, IoConfig, ModelConfig, ModelName, ModelSpec, Result, WarmupData};

use crate::files::{self, Fingerprint, Numbering};
use crate::model_toml::ENSEMBLE;
use crate::pbtxt;
use crate::versions::{self, Version};

/// The file that makes a folder a Triton model.
pub(crate) const CONFIG: &str = "config.pbtxt";
/// Where the data of warm-up requests lies.
const WARMUP: &str = "warmup";
/// Where the data of initial states lies.
const INITIAL_STATE: &str = "initial_state";

/// Whether `folder` looks like a Triton model.
pub(crate) fn is_model(folder: &Path) -> bool {
    files::is_there(&folder.join(CONFIG))
        || files::versions(folder, Numbering::Plain).is_ok_and(|found| !found.is_empty())
}

/// Reads the versions that the folder's policy selects.
pub(crate) fn read(name: &ModelName, folder: &Path) -> Result<Vec<Arc<ModelSpec>>> {
    let config_file = folder.join(CONFIG);
    let config = if files::is_there(&config_file) {
        let text = files::read_text(&config_file, files::CONFIG_LIMIT)?;
        pbtxt::parse(&text, name).map_err(|error| error.context(config_file.display()))?
    } else {
        pbtxt::derived()
    };
    let mut fingerprint = Fingerprint::default();
    fingerprint.add(&config_file);
    select(name, folder, config, fingerprint)
}

/// Reads the versions that `config` selects, which came as `text` from elsewhere than the folder.
pub(crate) fn read_with(
    name: &ModelName,
    folder: &Path,
    config: ModelConfig,
    text: &str,
) -> Result<Vec<Arc<ModelSpec>>> {
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_text(text);
    select(name, folder, config, fingerprint)
}

fn select(
    name: &ModelName,
    folder: &Path,
    mut config: ModelConfig,
    mut shared: Fingerprint,
) -> Result<Vec<Arc<ModelSpec>>> {
    let warmup_files = find_warmup_files(folder, &mut config)?;
    let state_files = find_state_files(folder, &mut config)?;
    // An ensemble is its configuration; its version folders are empty.
    let backing = config.ensemble_scheduling.as_deref().map(|steps| pbtxt::ensemble::spec(steps, &config.outputs));
    let backing = backing.map(|spec| Backing::Ensemble(Arc::new(spec)));
    let found = match &backing {
        None => versions::select(folder, Numbering::Plain, &config)?,
        Some(_) => {
            let bare = |number| Version { number, artifact: folder.join(CONFIG) };
            versions::select_bare(folder, Numbering::Plain, &config)?.into_iter().map(bare).collect()
        }
    };
    let label_files = label_files(folder, &config)?;
    let labels = read_labels(&label_files)?;
    label_files.values().chain(&warmup_files).chain(&state_files).for_each(|file| shared.add(file));
    let spec = |Version { number, artifact }: Version| {
        let mut fingerprint = shared.clone();
        fingerprint.add_artifact(&artifact);
        Arc::new(ModelSpec {
            labels: labels.clone(),
            fingerprint: fingerprint.finish(),
            engine: backing.is_some().then(|| ENSEMBLE.to_owned()),
            backing: backing.clone().unwrap_or_default(),
            ..versions::spec(name, number, artifact, config.clone())
        })
    };
    Ok(found.into_iter().map(spec).collect())
}

/// Finds the label files by output; they lie in the model's folder, above the versions.
fn label_files(folder: &Path, config: &ModelConfig) -> Result<BTreeMap<String, PathBuf>> {
    let labelled = config.outputs.iter().filter(|output| !output.label_filename.is_empty());
    let find = |output: &IoConfig| match files::inside(folder, &output.label_filename) {
        Ok(path) => Ok((output.name.clone(), path)),
        Err(error) => Err(error.context(format!("label_filename of output '{}'", output.name.escape_debug()))),
    };
    labelled.map(find).collect()
}

/// Finds the data of warm-up requests; it lies in the folder `warmup`, beside the versions.
fn find_warmup_files(folder: &Path, config: &mut ModelConfig) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for request in &mut config.warmup {
        for input in &mut request.inputs {
            let WarmupData::File { name, path } = &mut input.data else {
                continue;
            };
            *path = files::inside(&folder.join(WARMUP), name).map_err(|error| {
                error.context(format!("input_data_file of model_warmup '{}'", request.name.escape_debug()))
            })?;
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// Finds the data of initial states; it lies in the folder `initial_state`, beside the versions.
fn find_state_files(folder: &Path, config: &mut ModelConfig) -> Result<Vec<PathBuf>> {
    let Some(sequences) = config.sequence_batching.as_mut().map(Arc::make_mut) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for state in &mut sequences.states {
        let Some((name, path)) = state.initial.as_mut().and_then(|initial| initial.file.as_mut()) else {
            continue;
        };
        *path = files::inside(&folder.join(INITIAL_STATE), name)
            .map_err(|error| error.context(format!("data_file of state '{}'", state.input.escape_debug())))?;
        found.push(path.clone());
    }
    Ok(found)
}

fn read_labels(label_files: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, Vec<String>>> {
    label_files.iter().map(|(output, path)| Ok((output.clone(), files::read_labels(path)?))).collect()
}
