//! Triton's `config.pbtxt` to a [`ModelConfig`], with every check that needs no graph.
//!
//! What Salver does not do (sequences, ensembles, decoupled answers, batch inputs) is refused by
//! name. Fields that only tune or label Triton itself are checked for spelling and then left alone.

mod scheduling;
mod tensors;

use salver_core::{BatchRule, DynamicBatching, Error, ModelConfig, Result, VersionPolicy, WarmupInput, WarmupRequest};

pub(crate) use self::scheduling::COUNT_LIMIT;
use crate::schema::triton::{self as proto, model_config::SchedulingChoice, model_version_policy::PolicyChoice};
use crate::{files, text};

/// The most rows of a request to a Triton model whose configuration says nothing of batches.
pub(crate) const DERIVED_BATCH_LIMIT: usize = 4;

/// Returns the configuration of a Triton model without `config.pbtxt`.
pub(crate) fn derived() -> ModelConfig {
    ModelConfig { batch: BatchRule::Derive { limit: Some(DERIVED_BATCH_LIMIT) }, ..ModelConfig::default() }
}

/// Reads the text of the `config.pbtxt` of the model `name`.
///
/// # Errors
/// `InvalidInput` naming line or field, `Unsupported` naming the feature.
pub(crate) fn parse(text: &str, name: &str) -> Result<ModelConfig> {
    let config: proto::ModelConfig = text::parse(text)?;
    check_identity(&config, name)?;
    check_unsupported(&config)?;
    let batch = batch_rule(&config)?;
    let is_derived = matches!(batch, BatchRule::Derive { .. });
    let dynamic_batching = match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(batching)) => Some(scheduling::dynamic_batching(batching, batch)?),
        // As in Triton: completing the batch size completes this as well.
        _ => is_derived.then(DynamicBatching::default),
    };
    Ok(ModelConfig {
        inputs: tensors::inputs(&config.input)?,
        outputs: tensors::outputs(&config.output)?,
        version_policy: version_policy(config.version_policy.as_ref())?,
        instance_groups: scheduling::instance_groups(&config)?,
        batch,
        dynamic_batching,
        default_model_filename: model_filename(config.default_model_filename)?,
        response_cache: config.response_cache.is_some_and(|cache| cache.enable),
        cache_ttl: None,
        run_timeout: None,
        warmup: config.model_warmup.iter().map(warmup).collect::<Result<_>>()?,
        parameters: config.parameters.into_iter().map(|(key, value)| (key, value.string_value)).collect(),
        platform: config.platform,
        backend: config.backend,
    })
}

fn check_identity(config: &proto::ModelConfig, name: &str) -> Result<()> {
    if !config.name.is_empty() && config.name != name {
        return Err(Error::invalid_input(format!(
            "name '{}' must be the folder's name, '{name}'; it may also be left out",
            config.name.escape_debug()
        )));
    }
    let engine = |field: &str, value: &str, known: &str| {
        if value.is_empty() || value == known {
            return Ok(());
        }
        Err(Error::unsupported(format!("{field} '{}' is not offered; only '{known}' is", value.escape_debug())))
    };
    engine("platform", &config.platform, "onnxruntime_onnx")?;
    engine("backend", &config.backend, "onnxruntime")
}

fn check_unsupported(config: &proto::ModelConfig) -> Result<()> {
    let decoupled = config.model_transaction_policy.as_ref().is_some_and(|policy| policy.decoupled);
    let features = [
        ("sequence_batching", matches!(config.scheduling_choice, Some(SchedulingChoice::SequenceBatching(_)))),
        ("ensemble_scheduling", matches!(config.scheduling_choice, Some(SchedulingChoice::EnsembleScheduling(_)))),
        ("model_transaction_policy.decoupled", decoupled),
        ("batch_input", !config.batch_input.is_empty()),
        ("batch_output", !config.batch_output.is_empty()),
    ];
    match features.into_iter().find(|(_, used)| *used) {
        Some((feature, _)) => Err(Error::unsupported(format!("{feature} is not offered"))),
        None => Ok(()),
    }
}

/// What is not written is derived only where tensors are left to the graph as well.
fn batch_rule(config: &proto::ModelConfig) -> Result<BatchRule> {
    match config.max_batch_size {
        None if config.input.is_empty() || config.output.is_empty() => {
            Ok(BatchRule::Derive { limit: Some(DERIVED_BATCH_LIMIT) })
        }
        None | Some(0) => Ok(BatchRule::Never),
        Some(rows) => usize::try_from(rows).map(BatchRule::Max).map_err(|_| {
            Error::invalid_input(format!("max_batch_size must be 0 (no batch dimension) or more, got {rows}"))
        }),
    }
}

fn version_policy(policy: Option<&proto::ModelVersionPolicy>) -> Result<VersionPolicy> {
    match policy.and_then(|policy| policy.policy_choice.as_ref()) {
        None => Ok(VersionPolicy::default()),
        Some(PolicyChoice::Latest(latest)) => Ok(VersionPolicy::Latest(latest.num_versions.max(1))),
        Some(PolicyChoice::All(_)) => Ok(VersionPolicy::All),
        Some(PolicyChoice::Specific(specific)) => {
            specific_versions(&specific.versions).map_err(|error| error.context("version_policy"))
        }
    }
}

/// Checks a list of version numbers.
pub(crate) fn specific_versions(versions: &[i64]) -> Result<VersionPolicy> {
    let check = |&version: &i64| match u64::try_from(version) {
        Ok(version) if version > 0 => Ok(version),
        _ => Err(Error::invalid_input(format!("version {version} is not a positive number"))),
    };
    Ok(VersionPolicy::Specific(versions.iter().map(check).collect::<Result<_>>()?))
}

fn model_filename(name: String) -> Result<String> {
    if name.is_empty() {
        return Ok("model.onnx".to_owned());
    }
    if !files::is_plain(&name) {
        return Err(Error::invalid_input(format!(
            "default_model_filename '{}' must be a path inside the version folder",
            name.escape_debug()
        )));
    }
    Ok(name)
}

/// Data from files is replaced by zeros: a warm-up has no effect on answers.
fn warmup(request: &proto::ModelWarmup) -> Result<WarmupRequest> {
    let place = || format!("model_warmup '{}'", request.name.escape_debug());
    let inputs = request.inputs.iter().map(|(name, input)| {
        warmup_input(name, input)
            .map_err(|error| error.context(format!("{}, input '{}'", place(), name.escape_debug())))
    });
    Ok(WarmupRequest {
        name: request.name.clone(),
        batch_size: usize::try_from(request.batch_size).unwrap_or(usize::MAX),
        count: usize::try_from(request.count.max(1)).unwrap_or(usize::MAX),
        inputs: inputs.collect::<Result<_>>()?,
    })
}

fn warmup_input(name: &str, input: &proto::model_warmup::Input) -> Result<WarmupInput> {
    let Some(dtype) = tensors::data_type(input.data_type()) else {
        return Err(Error::invalid_input("data_type is missing"));
    };
    let dim = |&dim: &i64| {
        let extent = usize::try_from(dim).ok().filter(|&extent| extent > 0);
        extent.ok_or_else(|| Error::invalid_input(format!("dims must be 1 or more, got {dim}")))
    };
    let random = matches!(input.input_data_type, Some(proto::model_warmup::input::InputDataType::RandomData(true)));
    Ok(WarmupInput { name: name.to_owned(), dtype, dims: input.dims.iter().map(dim).collect::<Result<_>>()?, random })
}

#[cfg(test)]
mod tests;
