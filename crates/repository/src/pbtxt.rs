//! Triton's `config.pbtxt` to a [`ModelConfig`], with every check that needs no graph.
//!
//! What Salver does not do (decoupled answers of ONNX, other platforms) is refused by name. Fields that only
//! tune or label Triton itself are checked for spelling and then left alone.

mod batching;
pub(crate) mod ensemble;
mod instances;
mod parameters;
mod ragged;
mod review;
mod sequences;
mod tensors;
mod warmup;

use salver_core::{BatchRule, DynamicBatching, ModelConfig, OnMiss, Result, VersionPolicy};

pub(crate) use self::review::{outermost, review};

use crate::files;
use crate::json;
use crate::schema::triton::{self as proto, model_config::SchedulingChoice, model_version_policy::PolicyChoice};
use crate::text::{self, Checked, Fault};

/// The most rows of a request to a Triton model whose configuration says nothing of batches.
pub(crate) const DERIVED_BATCH_LIMIT: usize = 4;

/// Returns the configuration of a Triton model without `config.pbtxt`.
pub(crate) fn derived() -> ModelConfig {
    ModelConfig {
        batch: BatchRule::Derive { limit: Some(DERIVED_BATCH_LIMIT) },
        dynamic_batching: Some(DynamicBatching::default()),
        ..ModelConfig::default()
    }
}

/// Reads the text of the `config.pbtxt` of the model `name`.
///
/// # Errors
/// `InvalidInput` naming line and field, `Unsupported` naming the feature.
pub(crate) fn parse(text: &str, name: &str) -> Result<ModelConfig> {
    let (config, lines) = text::parse::<proto::ModelConfig>(text)?;
    check(config, name).map_err(|fault| fault.locate(&lines))
}

/// Reads the configuration of the model `name` from JSON of the same fields.
///
/// # Errors
/// As [`parse`], without a line.
pub(crate) fn parse_json(json: &str, name: &str) -> Result<ModelConfig> {
    check(json::parse(json)?, name).map_err(Fault::into_error)
}

fn check(config: proto::ModelConfig, name: &str) -> Checked<ModelConfig> {
    check_identity(&config, name)?;
    check_unsupported(&config)?;
    let batch = batch_rule(&config)?;
    let is_derived = matches!(batch, BatchRule::Derive { .. });
    let dynamic_batching = match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(batching)) => Some(batching::dynamic_batching(batching, batch)?),
        Some(SchedulingChoice::SequenceBatching(_)) => None,
        // As in Triton: completing the batch size completes this as well.
        _ => is_derived.then(DynamicBatching::default),
    };
    let sequence_batching = match &config.scheduling_choice {
        Some(SchedulingChoice::SequenceBatching(sequences)) => Some(sequences::sequence_batching(sequences, batch)?),
        _ => None,
    };
    let is_cached = config.response_cache.is_some_and(|cache| cache.enable);
    if is_cached && sequence_batching.is_some() {
        let message = "response_cache has to be left out: the answers of sequence_batching depend on earlier requests";
        return Err(Fault::invalid("response_cache", message));
    }
    let (inputs, outputs) = (tensors::inputs(&config.input)?, tensors::outputs(&config.output)?);
    ragged::check_inputs(&config)?;
    let ensemble = ensemble::block(&config).map(|block| ensemble::scheduling(block, &inputs, &outputs));
    Ok(ModelConfig {
        batch_inputs: ragged::batch_inputs(&config.batch_input, &inputs)?,
        batch_outputs: ragged::batch_outputs(&config.batch_output, &inputs, &outputs)?,
        inputs,
        outputs,
        version_policy: version_policy(config.version_policy.as_ref())?,
        instance_groups: instances::instance_groups(&config)?,
        batch,
        dynamic_batching,
        sequence_batching,
        ensemble_scheduling: ensemble.transpose()?,
        decoupled: false,
        default_model_filename: model_filename(config.default_model_filename)?,
        response_cache: is_cached,
        cache_ttl: None,
        on_miss: OnMiss::Compute,
        run_timeout: parameters::run_timeout(&config.parameters)?,
        warmup: warmup::requests(&config.model_warmup)?,
        parameters: config.parameters.into_iter().map(|(key, value)| (key, value.string_value)).collect(),
        platform: config.platform,
        backend: config.backend,
    })
}

fn check_identity(config: &proto::ModelConfig, name: &str) -> Checked<()> {
    if !config.name.is_empty() && config.name != name {
        let found = config.name.escape_debug();
        let message = format!("name '{found}' must be the folder's name, '{name}'; it may also be left out");
        return Err(Fault::invalid("name", message));
    }
    let engine = |field: &str, value: &str, known: &str| {
        if value.is_empty() || value == known {
            return Ok(());
        }
        let message = format!("{field} '{}' is not offered; only '{known}' is", value.escape_debug());
        Err(Fault::unsupported(field, message))
    };
    if config.platform == ensemble::PLATFORM || ensemble::block(config).is_some() {
        return ensemble::check_identity(config);
    }
    engine("platform", &config.platform, "onnxruntime_onnx")?;
    engine("backend", &config.backend, "onnxruntime")
}

fn check_unsupported(config: &proto::ModelConfig) -> Checked<()> {
    let decoupled = config.model_transaction_policy.as_ref().is_some_and(|policy| policy.decoupled);
    if decoupled {
        let message = "model_transaction_policy.decoupled is not offered for ONNX, whose models give one answer; a \
                       model in Python gives several where its predict is a generator";
        return Err(Fault::unsupported("model_transaction_policy.decoupled", message));
    }
    Ok(())
}

/// What is not written is derived only where tensors are left to the graph as well.
fn batch_rule(config: &proto::ModelConfig) -> Checked<BatchRule> {
    match config.max_batch_size {
        None if config.input.is_empty() || config.output.is_empty() => {
            Ok(BatchRule::Derive { limit: Some(DERIVED_BATCH_LIMIT) })
        }
        None | Some(0) => Ok(BatchRule::Never),
        Some(rows) => usize::try_from(rows).map(BatchRule::Max).map_err(|_| {
            let message = format!("max_batch_size must be 0 (no batch dimension) or more, got {rows}");
            Fault::invalid("max_batch_size", message)
        }),
    }
}

fn version_policy(policy: Option<&proto::ModelVersionPolicy>) -> Checked<VersionPolicy> {
    match policy.and_then(|policy| policy.policy_choice.as_ref()) {
        None => Ok(VersionPolicy::default()),
        Some(PolicyChoice::Latest(latest)) => Ok(VersionPolicy::Latest(latest.num_versions.max(1))),
        Some(PolicyChoice::All(_)) => Ok(VersionPolicy::All),
        Some(PolicyChoice::Specific(specific)) => {
            let within = |fault: Fault| fault.within("version_policy.specific", "version_policy");
            specific_versions(&specific.versions).map_err(within)
        }
    }
}

/// Checks a list of version numbers, the field `versions`.
pub(crate) fn specific_versions(versions: &[i64]) -> Checked<VersionPolicy> {
    let check = |(idx, &version): (usize, &i64)| match u64::try_from(version) {
        Ok(version) if version > 0 => Ok(version),
        _ => Err(Fault::invalid(format!("versions[{idx}]"), format!("version {version} is not a positive number"))),
    };
    Ok(VersionPolicy::Specific(versions.iter().enumerate().map(check).collect::<Checked<_>>()?))
}

fn model_filename(name: String) -> Checked<String> {
    if name.is_empty() {
        return Ok("model.onnx".to_owned());
    }
    if !files::is_plain(&name) {
        let message =
            format!("default_model_filename '{}' must be a path inside the version folder", name.escape_debug());
        return Err(Fault::invalid("default_model_filename", message));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
