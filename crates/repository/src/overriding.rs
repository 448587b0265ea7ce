//! Models of a PATH with a configuration that a client sent in place of their own.
//!
//! The configuration replaces a `config.pbtxt` as a whole. Models that have none (bare files, Salver
//! folders, those of TF Serving, of a registry) keep what JSON has no field for, and their task its
//! inputs and outputs.

use std::sync::Arc;

use salver_core::{Error, ModelConfig, ModelEntry, ModelName, ModelSpec, Result, TaskSpec, WarmupData, WarmupInput};

use crate::files::{self, Fingerprint};
use crate::pbtxt;

/// Returns the versions of `entry` that the configuration `json` selects, with it in place of theirs.
///
/// # Errors
/// `InvalidInput` naming the field at fault.
pub fn with_config(entry: ModelEntry, json: &str) -> Result<ModelEntry> {
    let config = read_config(&entry.name, json)?;
    let specs = entry.versions?;
    let numbers: Vec<u64> = specs.iter().map(|spec| spec.version).collect();
    let selected = config.version_policy.select(&numbers);
    if selected.is_empty() {
        return Err(Error::invalid_input(format!("config: version_policy selects none of the versions {numbers:?}")));
    }
    if let Some(request) = config.warmup.iter().find(|request| request.inputs.iter().any(is_file)) {
        return Err(Error::invalid_input(format!(
            "config: model_warmup '{}': input_data_file is read in folders of Triton's only",
            request.name.escape_debug()
        )));
    }
    if config.ensemble_scheduling.is_some() {
        return Err(Error::invalid_input("config: ensemble_scheduling has a place in folders of Triton's only"));
    }
    let wanted = specs.iter().filter(|spec| selected.contains(&spec.version));
    let versions = wanted.map(|spec| Arc::new(replaced(spec, &config, json))).collect();
    Ok(ModelEntry { versions: Ok(versions), ..entry })
}

/// Reads the configuration that was sent for the model `name`. What is not offered is what the client
/// sent, so it is at fault as well.
pub(crate) fn read_config(name: &ModelName, json: &str) -> Result<ModelConfig> {
    if json.len() as u64 > files::CONFIG_LIMIT {
        let message = format!("config is larger than {} bytes", files::CONFIG_LIMIT);
        return Err(Error::invalid_input(message));
    }
    pbtxt::parse_json(json, name).map_err(|error| at_fault(&error.context("config")))
}

/// Blames what was sent.
pub(crate) fn at_fault(error: &Error) -> Error {
    Error::invalid_input(error.message().to_owned())
}

fn is_file(input: &WarmupInput) -> bool {
    matches!(input.data, WarmupData::File { .. })
}

fn replaced(spec: &ModelSpec, config: &ModelConfig, json: &str) -> ModelSpec {
    let own = &spec.config;
    let mut config = config.clone();
    let padding = own.dynamic_batching.as_ref().and_then(|batching| batching.padding.clone());
    if let Some(batching) = &mut config.dynamic_batching {
        batching.padding = padding;
    }
    config.default_model_filename.clone_from(&own.default_model_filename);
    config.cache_ttl = own.cache_ttl;
    if !matches!(spec.task, TaskSpec::Tensor | TaskSpec::Rows) {
        config.inputs.clone_from(&own.inputs);
        config.outputs.clone_from(&own.outputs);
    }
    // The model's own labels stay: a file of them is in folders of Triton's only.
    config.outputs.iter_mut().for_each(|output| output.label_filename.clear());
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_text(&spec.fingerprint.to_string());
    fingerprint.add_text(json);
    ModelSpec { config, fingerprint: fingerprint.finish(), ..spec.clone() }
}
