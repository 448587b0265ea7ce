//! Writes what a server and its models are: metadata, configuration, statistics, index.

use std::borrow::Cow;
use std::collections::BTreeMap;

use salver_core::{
    BatchInput, BatchOutput, DurationStat, DynamicBatching, EnsembleScheduling, InstanceGroup, IoConfig, LoadOverride,
    ModelConfig, ModelInfo, ModelStatistics, ModelStatus, OverrideFile, QueuePolicy, Result, ScheduledStep, TensorSpec,
    VersionPolicy, WarmupData, WarmupInput, WarmupRequest,
};

use super::inference::{self as wire, model_repository_parameter, model_warmup, repository_index_response};
use super::oip;
use crate::oip_rest::{OverrideDraft, OverrideKind, dims, max_batch_size, nanos};

mod sequences;

/// Names the server and the extensions that it offers.
pub fn server_metadata(name: &str, version: &str, extensions: &[&str]) -> wire::ServerMetadataResponse {
    wire::ServerMetadataResponse {
        name: name.to_owned(),
        version: version.to_owned(),
        extensions: extensions.iter().map(|&extension| extension.to_owned()).collect(),
    }
}

/// Describes inputs and outputs of a model; `versions` are those that serve.
pub fn model_metadata(info: &ModelInfo, versions: &[u64]) -> wire::ModelMetadataResponse {
    let tensor = |spec: &TensorSpec| wire::model_metadata_response::TensorMetadata {
        name: spec.name.to_string(),
        datatype: spec.dtype.as_str().to_owned(),
        shape: spec.wire_shape(),
    };
    wire::ModelMetadataResponse {
        name: info.name.to_string(),
        versions: versions.iter().map(u64::to_string).collect(),
        platform: info.platform.clone(),
        inputs: info.signature.inputs.iter().map(tensor).collect(),
        outputs: info.signature.outputs.iter().map(tensor).collect(),
    }
}

/// Writes counters, one entry per version.
pub fn statistics(all: &[ModelStatistics]) -> wire::ModelStatisticsResponse {
    wire::ModelStatisticsResponse { model_stats: all.iter().map(model_statistics).collect() }
}

fn model_statistics(stats: &ModelStatistics) -> wire::ModelStatistics {
    let batch = |stat: &salver_core::BatchStat| wire::InferBatchStatistics {
        batch_size: stat.batch_size as u64,
        compute_input: duration(stat.compute_input),
        compute_infer: duration(stat.compute_infer),
        compute_output: duration(stat.compute_output),
    };
    wire::ModelStatistics {
        name: stats.name.clone(),
        version: stats.version.to_string(),
        last_inference: stats.last_inference_ms,
        inference_count: stats.inference_count,
        execution_count: stats.execution_count,
        inference_stats: Some(wire::InferStatistics {
            success: duration(stats.success),
            fail: duration(stats.fail),
            queue: duration(stats.queue),
            compute_input: duration(stats.compute_input),
            compute_infer: duration(stats.compute_infer),
            compute_output: duration(stats.compute_output),
            cache_hit: duration(stats.cache_hit),
            cache_miss: duration(stats.cache_miss),
        }),
        batch_stats: stats.batches.iter().map(batch).collect(),
        ..wire::ModelStatistics::default()
    }
}

fn duration(stat: DurationStat) -> Option<wire::StatisticDuration> {
    Some(wire::StatisticDuration { count: stat.count, ns: nanos(stat) })
}

/// Writes the index; a model that was never loaded has only its name.
pub fn repository_index(all: &[ModelStatus]) -> wire::RepositoryIndexResponse {
    let entry = |status: &ModelStatus| repository_index_response::ModelIndex {
        name: status.name.clone(),
        version: status.version.map(|version| version.to_string()).unwrap_or_default(),
        state: oip::index_state(status.state).to_owned(),
        reason: status.reason.clone(),
    };
    wire::RepositoryIndexResponse { models: all.iter().map(entry).collect() }
}

/// Reads the parameters of a load request: what it brings along in place of the model's own, if
/// anything. Files are bytes here.
///
/// # Errors
/// `InvalidInput` for parameters of the wrong type, and files without a configuration.
pub fn decode_load_request(
    parameters: BTreeMap<String, wire::ModelRepositoryParameter>,
) -> Result<Option<LoadOverride>> {
    use model_repository_parameter::ParameterChoice;
    let mut draft = OverrideDraft::default();
    for (name, value) in parameters {
        let wrong = |expected| Err(oip::wrong_parameter("the request", &name, expected));
        match (OverrideKind::of(&name), value.parameter_choice) {
            (OverrideKind::Other, _) => {}
            (OverrideKind::Config, Some(ParameterChoice::StringParam(config))) => draft.config = Some(config),
            (OverrideKind::Config, _) => return wrong("a string that holds the configuration as JSON"),
            (OverrideKind::File(path), Some(ParameterChoice::BytesParam(data))) => {
                draft.files.push(OverrideFile { path: path.to_owned(), data });
            }
            (OverrideKind::File(_), _) => return wrong("bytes"),
        }
    }
    draft.finish()
}

/// Reads the parameters of an unload request.
///
/// # Errors
/// `InvalidInput` for parameters of the wrong type.
pub fn decode_unload_request(parameters: &BTreeMap<String, wire::ModelRepositoryParameter>) -> Result<()> {
    use model_repository_parameter::ParameterChoice;
    match parameters.get("unload_dependents").map(|value| &value.parameter_choice) {
        None | Some(Some(ParameterChoice::BoolParam(_))) => Ok(()),
        Some(_) => Err(oip::wrong_parameter("the request", "unload_dependents", "a boolean")),
    }
}

/// Writes a model's effective configuration.
pub fn model_config(name: &str, config: &ModelConfig) -> wire::ModelConfigResponse {
    use wire::model_config::SchedulingChoice;
    let parameter =
        |(name, value): (&str, Cow<'_, str>)| (name.to_owned(), wire::ModelParameter { string_value: value.into() });
    let config = wire::ModelConfig {
        name: name.to_owned(),
        platform: config.platform.clone(),
        backend: config.backend.clone(),
        version_policy: Some(version_policy(&config.version_policy)),
        max_batch_size: Some(max_batch_size(config.batch)),
        input: config.inputs.iter().map(input).collect(),
        output: config.outputs.iter().map(output).collect(),
        batch_input: config.batch_inputs.iter().map(batch_input).collect(),
        batch_output: config.batch_outputs.iter().map(batch_output).collect(),
        optimization: optimization(config),
        instance_group: config.instance_groups.iter().map(instance_group).collect(),
        default_model_filename: config.default_model_filename.clone(),
        parameters: oip::parameters(config).into_iter().map(parameter).collect(),
        model_warmup: config.warmup.iter().map(warmup).collect(),
        model_transaction_policy: config.decoupled.then_some(wire::ModelTransactionPolicy { decoupled: true }),
        response_cache: config.response_cache.then_some(wire::ModelResponseCache { enable: true }),
        scheduling_choice: match (&config.sequence_batching, &config.dynamic_batching) {
            _ if config.ensemble_scheduling.is_some() => config.ensemble_scheduling.as_deref().map(ensemble_scheduling),
            (Some(sequences), _) => Some(SchedulingChoice::SequenceBatching(sequences::sequence_batching(sequences))),
            (None, Some(batching)) => Some(SchedulingChoice::DynamicBatching(dynamic_batching(batching))),
            (None, None) => None,
        },
        ..wire::ModelConfig::default()
    };
    wire::ModelConfigResponse { config: Some(config) }
}

fn ensemble_scheduling(ensemble: &EnsembleScheduling) -> wire::model_config::SchedulingChoice {
    let step = |step: &ScheduledStep| wire::model_ensembling::Step {
        model_name: step.model.name.to_string(),
        model_version: oip::scheduled_version(step),
        input_map: step.input_map.clone(),
        output_map: step.output_map.clone(),
        model_namespace: String::new(),
    };
    let step = ensemble.steps.iter().map(step).collect();
    wire::model_config::SchedulingChoice::EnsembleScheduling(wire::ModelEnsembling { step, max_inflight_requests: 0 })
}

fn version_policy(policy: &VersionPolicy) -> wire::ModelVersionPolicy {
    use wire::model_version_policy::{All, Latest, PolicyChoice, Specific};
    let choice = match policy {
        VersionPolicy::Latest(count) => PolicyChoice::Latest(Latest { num_versions: *count }),
        VersionPolicy::All => PolicyChoice::All(All {}),
        VersionPolicy::Specific(versions) => PolicyChoice::Specific(Specific {
            versions: versions.iter().map(|&version| i64::try_from(version).unwrap_or(i64::MAX)).collect(),
        }),
    };
    wire::ModelVersionPolicy { policy_choice: Some(choice) }
}

pub(super) fn data_type(dtype: Option<salver_core::DataType>) -> i32 {
    let named = dtype.and_then(|dtype| wire::DataType::from_str_name(oip::config_type(dtype)));
    named.unwrap_or(wire::DataType::TypeInvalid) as i32
}

fn input(io: &IoConfig) -> wire::ModelInput {
    wire::ModelInput {
        name: io.name.clone(),
        data_type: data_type(io.dtype),
        format: wire::model_input::Format::from_str_name(&io.format).unwrap_or_default() as i32,
        dims: dims(io.dims.as_deref().unwrap_or_default()),
        reshape: reshape(io),
        is_shape_tensor: io.is_shape_tensor,
        allow_ragged_batch: io.allow_ragged_batch,
        optional: io.optional,
        ..wire::ModelInput::default()
    }
}

fn output(io: &IoConfig) -> wire::ModelOutput {
    wire::ModelOutput {
        name: io.name.clone(),
        data_type: data_type(io.dtype),
        dims: dims(io.dims.as_deref().unwrap_or_default()),
        reshape: reshape(io),
        label_filename: io.label_filename.clone(),
        is_shape_tensor: io.is_shape_tensor,
        ..wire::ModelOutput::default()
    }
}

fn batch_input(input: &BatchInput) -> wire::BatchInput {
    wire::BatchInput {
        kind: wire::batch_input::Kind::from_str_name(input.kind.as_str()).unwrap_or_default() as i32,
        target_name: input.targets.clone(),
        data_type: data_type(Some(input.numbers.dtype())),
        source_input: vec![input.source.clone()],
    }
}

fn batch_output(output: &BatchOutput) -> wire::BatchOutput {
    wire::BatchOutput {
        target_name: output.targets.clone(),
        kind: wire::batch_output::Kind::BatchScatterWithInputShape as i32,
        source_input: vec![output.source.clone()],
    }
}

fn reshape(io: &IoConfig) -> Option<wire::ModelTensorReshape> {
    io.reshape.as_deref().map(|shape| wire::ModelTensorReshape { shape: dims(shape) })
}

fn optimization(config: &ModelConfig) -> Option<wire::ModelOptimizationPolicy> {
    use wire::model_optimization_policy::{ExecutionAccelerators, execution_accelerators::Accelerator};
    let accelerators = |on_gpu: bool| -> Vec<Accelerator> {
        let names = oip::accelerators(config, on_gpu).into_iter();
        names.map(|name| Accelerator { name: name.to_owned(), ..Accelerator::default() }).collect()
    };
    let all = ExecutionAccelerators {
        gpu_execution_accelerator: accelerators(true),
        cpu_execution_accelerator: accelerators(false),
    };
    let says_something = !(all.gpu_execution_accelerator.is_empty() && all.cpu_execution_accelerator.is_empty());
    says_something.then(|| wire::ModelOptimizationPolicy {
        execution_accelerators: Some(all),
        ..wire::ModelOptimizationPolicy::default()
    })
}

fn instance_group(group: &InstanceGroup) -> wire::ModelInstanceGroup {
    wire::ModelInstanceGroup {
        name: group.name.clone(),
        kind: wire::model_instance_group::Kind::from_str_name(&group.kind).unwrap_or_default() as i32,
        count: i32::try_from(group.count).unwrap_or(i32::MAX),
        gpus: group.gpus.clone(),
        ..wire::ModelInstanceGroup::default()
    }
}

fn dynamic_batching(batching: &DynamicBatching) -> wire::ModelDynamicBatching {
    let size = |&size: &usize| i32::try_from(size).unwrap_or(i32::MAX);
    wire::ModelDynamicBatching {
        preferred_batch_size: batching.preferred_batch_size.iter().map(size).collect(),
        max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        preserve_ordering: batching.preserve_ordering,
        priority_levels: batching.priority_levels.into(),
        default_priority_level: batching.default_priority_level.into(),
        default_queue_policy: batching.default_queue_policy.as_ref().map(queue_policy),
        priority_queue_policy: batching
            .priority_queue_policy
            .iter()
            .map(|(&priority, policy)| (priority.into(), queue_policy(policy)))
            .collect(),
    }
}

fn queue_policy(policy: &QueuePolicy) -> wire::ModelQueuePolicy {
    use wire::model_queue_policy::TimeoutAction;
    let action = if policy.delay_on_timeout { TimeoutAction::Delay } else { TimeoutAction::Reject };
    wire::ModelQueuePolicy {
        timeout_action: action as i32,
        default_timeout_microseconds: policy.default_timeout_microseconds,
        allow_timeout_override: policy.allow_timeout_override,
        max_queue_size: policy.max_queue_size,
    }
}

fn warmup(request: &WarmupRequest) -> wire::ModelWarmup {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    wire::ModelWarmup {
        name: request.name.clone(),
        batch_size: number(request.batch_size),
        inputs: request.inputs.iter().map(|input| (input.name.clone(), warmup_input(input))).collect(),
        count: number(request.count),
    }
}

fn warmup_input(input: &WarmupInput) -> model_warmup::Input {
    use model_warmup::input::InputDataType;
    model_warmup::Input {
        data_type: data_type(Some(input.dtype)),
        dims: input.dims.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
        input_data_type: Some(match &input.data {
            WarmupData::Zeros => InputDataType::ZeroData(true),
            WarmupData::Random => InputDataType::RandomData(true),
            WarmupData::File { name, .. } => InputDataType::InputDataFile(name.clone()),
        }),
    }
}
