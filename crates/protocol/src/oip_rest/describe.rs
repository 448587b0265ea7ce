//! Writes what a server and its models are: health, metadata, configuration, statistics.

use salver_core::{
    BatchInput, BatchOutput, BatchRule, BatchStat, Dim, DurationStat, DynamicBatching, EnsembleScheduling, IoConfig,
    ModelConfig, ModelInfo, ModelStatistics, QueuePolicy, ScheduledStep, TensorSpec, VersionPolicy, WarmupData,
    WarmupInput, WarmupRequest,
};
use serde_json::{Map, Value, json};

mod sequences;

use super::oip;
use crate::Reply;

/// Says that the process runs. Triton's clients ignore the body; KServe's parse it.
pub fn live() -> Reply {
    Reply::json_value(200, &json!({"live": true}))
}

/// Says whether every model that should serve does; 400 where not, as in Triton. `degraded` names
/// what requests do without meanwhile, a field beyond the protocol that is left out where all is well.
pub fn ready(ready: bool, degraded: &[&str]) -> Reply {
    let mut body = json!({"ready": ready});
    if !degraded.is_empty() {
        body["degraded"] = json!(degraded);
    }
    Reply::json_value(if ready { 200 } else { 400 }, &body)
}

/// Says whether one model can answer; 400 where not, unknown models included.
pub fn model_ready(name: &str, ready: bool) -> Reply {
    if ready {
        return Reply::json_value(200, &json!({"name": name, "ready": true}));
    }
    Reply::json_value(400, &json!({"name": name, "ready": false, "error": "Model version not ready"}))
}

/// Names the server and the extensions that it offers; `engines` describes what runs its models, a
/// field beyond the protocol that its clients pass over.
pub fn server_metadata(name: &str, version: &str, extensions: &[&str], engines: &[String]) -> Reply {
    Reply::json_value(200, &json!({"name": name, "version": version, "extensions": extensions, "engines": engines}))
}

/// Lists models by name, as KServe's clients ask for in both versions.
pub fn model_list(names: &[String]) -> Reply {
    Reply::json_value(200, &json!({"models": names}))
}

/// Describes inputs and outputs of a model; `versions` are those that serve.
pub fn model_metadata(info: &ModelInfo, versions: &[u64]) -> Reply {
    let tensor =
        |spec: &TensorSpec| json!({"name": &*spec.name, "datatype": spec.dtype.as_str(), "shape": spec.wire_shape()});
    let versions: Vec<String> = versions.iter().map(u64::to_string).collect();
    let body = json!({
        "name": &*info.name,
        "versions": versions,
        "platform": info.platform,
        "inputs": info.signature.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": info.signature.outputs.iter().map(tensor).collect::<Vec<_>>(),
    });
    Reply::json_value(200, &body)
}

/// Writes counters, one entry per version.
pub fn statistics(all: &[ModelStatistics]) -> Reply {
    Reply::json_value(200, &json!({"model_stats": all.iter().map(model_statistics).collect::<Vec<_>>()}))
}

fn model_statistics(stats: &ModelStatistics) -> Value {
    json!({
        "name": stats.name,
        "version": stats.version.to_string(),
        "last_inference": stats.last_inference_ms,
        "inference_count": stats.inference_count,
        "execution_count": stats.execution_count,
        "inference_stats": {
            "success": duration(stats.success),
            "fail": duration(stats.fail),
            "queue": duration(stats.queue),
            "compute_input": duration(stats.compute_input),
            "compute_infer": duration(stats.compute_infer),
            "compute_output": duration(stats.compute_output),
            "cache_hit": duration(stats.cache_hit),
            "cache_miss": duration(stats.cache_miss),
        },
        "response_stats": {},
        "batch_stats": stats.batches.iter().map(batch).collect::<Vec<_>>(),
        "memory_usage": [],
    })
}

fn duration(stat: DurationStat) -> Value {
    json!({"count": stat.count, "ns": nanos(stat)})
}

pub(crate) fn nanos(stat: DurationStat) -> u64 {
    u64::try_from(stat.total.as_nanos()).unwrap_or(u64::MAX)
}

fn batch(stat: &BatchStat) -> Value {
    json!({
        "batch_size": stat.batch_size,
        "compute_input": duration(stat.compute_input),
        "compute_infer": duration(stat.compute_infer),
        "compute_output": duration(stat.compute_output),
    })
}

/// Writes a model's effective configuration under the names of `config.pbtxt`, defaults spelled out.
pub fn model_config(name: &str, config: &ModelConfig) -> Reply {
    let mut body = json!({
        "name": name,
        "platform": config.platform,
        "backend": config.backend,
        "runtime": "",
        "version_policy": version_policy(&config.version_policy),
        "max_batch_size": max_batch_size(config.batch),
        "input": config.inputs.iter().map(input).collect::<Vec<_>>(),
        "output": config.outputs.iter().map(output).collect::<Vec<_>>(),
        "batch_input": config.batch_inputs.iter().map(batch_input).collect::<Vec<_>>(),
        "batch_output": config.batch_outputs.iter().map(batch_output).collect::<Vec<_>>(),
        "optimization": optimization(config),
        "instance_group": instance_groups(config),
        "default_model_filename": config.default_model_filename,
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": parameters(config),
        "model_warmup": config.warmup.iter().map(warmup).collect::<Vec<_>>(),
    });
    if let (Some(batching), Value::Object(body)) = (&config.dynamic_batching, &mut body) {
        body.insert("dynamic_batching".to_owned(), dynamic_batching(batching));
    }
    if let (Some(sequences), Value::Object(body)) = (&config.sequence_batching, &mut body) {
        body.insert("sequence_batching".to_owned(), sequences::sequence_batching(sequences));
    }
    if let (Some(ensemble), Value::Object(body)) = (&config.ensemble_scheduling, &mut body) {
        body.insert("ensemble_scheduling".to_owned(), ensemble_scheduling(ensemble));
    }
    if let (true, Value::Object(body)) = (config.decoupled, &mut body) {
        body.insert("model_transaction_policy".to_owned(), json!({"decoupled": true}));
    }
    if let (true, Value::Object(body)) = (config.response_cache, &mut body) {
        body.insert("response_cache".to_owned(), json!({"enable": true}));
    }
    Reply::json_value(200, &body)
}

fn ensemble_scheduling(ensemble: &EnsembleScheduling) -> Value {
    let step = |step: &ScheduledStep| {
        json!({
            "model_name": *step.model.name,
            "model_version": oip::scheduled_version(step),
            "input_map": step.input_map,
            "output_map": step.output_map,
            "model_namespace": "",
        })
    };
    json!({"step": ensemble.steps.iter().map(step).collect::<Vec<_>>()})
}

/// Returns Triton's number for a batch rule: 0 without a batch dimension. A model that takes any
/// number of rows shows the largest number that the field holds.
pub(crate) fn max_batch_size(rule: BatchRule) -> i32 {
    match rule {
        BatchRule::Never => 0,
        BatchRule::Max(limit) | BatchRule::Derive { limit: Some(limit) } => i32::try_from(limit).unwrap_or(i32::MAX),
        BatchRule::Derive { limit: None } => i32::MAX,
    }
}

fn version_policy(policy: &VersionPolicy) -> Value {
    match policy {
        VersionPolicy::Latest(count) => json!({"latest": {"num_versions": count}}),
        VersionPolicy::All => json!({"all": {}}),
        VersionPolicy::Specific(versions) => json!({"specific": {"versions": versions}}),
    }
}

fn optimization(config: &ModelConfig) -> Value {
    let accelerators = |on_gpu: bool| -> Vec<Value> {
        let names = oip::accelerators(config, on_gpu).into_iter();
        names.map(|name| json!({"name": name, "parameters": {}})).collect()
    };
    let (gpu, cpu) = (accelerators(true), accelerators(false));
    let mut members = json!({
        "priority": "PRIORITY_DEFAULT",
        "input_pinned_memory": {"enable": true},
        "output_pinned_memory": {"enable": true},
        "gather_kernel_buffer_threshold": 0,
        "eager_batching": false,
    });
    if !(gpu.is_empty() && cpu.is_empty()) {
        members["execution_accelerators"] = json!({"gpu_execution_accelerator": gpu, "cpu_execution_accelerator": cpu});
    }
    members
}

fn instance_groups(config: &ModelConfig) -> Vec<Value> {
    let group = |group: &salver_core::InstanceGroup| {
        json!({
            "name": group.name,
            "kind": group.kind,
            "count": group.count,
            "gpus": group.gpus,
            "secondary_devices": [],
            "profile": [],
            "passive": false,
            "host_policy": "",
        })
    };
    config.instance_groups.iter().map(group).collect()
}

fn parameters(config: &ModelConfig) -> Map<String, Value> {
    let shown = oip::parameters(config).into_iter();
    shown.map(|(name, value)| (name.to_owned(), json!({"string_value": value}))).collect()
}

fn input(io: &IoConfig) -> Value {
    let format = if io.format.is_empty() { "FORMAT_NONE" } else { &io.format };
    let mut input = declared(io);
    input.insert("format".to_owned(), json!(format));
    input.insert("allow_ragged_batch".to_owned(), json!(io.allow_ragged_batch));
    input.insert("optional".to_owned(), json!(io.optional));
    Value::Object(input)
}

fn output(io: &IoConfig) -> Value {
    let mut output = declared(io);
    output.insert("label_filename".to_owned(), json!(io.label_filename));
    Value::Object(output)
}

fn batch_input(input: &BatchInput) -> Value {
    json!({
        "kind": input.kind.as_str(),
        "target_name": input.targets,
        "data_type": oip::config_type(input.numbers.dtype()),
        "source_input": [input.source],
    })
}

fn batch_output(output: &BatchOutput) -> Value {
    json!({"target_name": output.targets, "kind": BatchOutput::KIND, "source_input": [output.source]})
}

/// What inputs and outputs have in common.
fn declared(io: &IoConfig) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("name".to_owned(), json!(io.name));
    members.insert("data_type".to_owned(), json!(io.dtype.map_or("TYPE_INVALID", oip::config_type)));
    members.insert("dims".to_owned(), json!(dims(io.dims.as_deref().unwrap_or_default())));
    members.insert("is_shape_tensor".to_owned(), json!(io.is_shape_tensor));
    if let Some(reshape) = &io.reshape {
        members.insert("reshape".to_owned(), json!({"shape": dims(reshape)}));
    }
    members
}

pub(crate) fn dims(dims: &[Dim]) -> Vec<i64> {
    dims.iter().map(|dim| dim.to_wire()).collect()
}

fn dynamic_batching(batching: &DynamicBatching) -> Value {
    let mut members = json!({
        "preferred_batch_size": batching.preferred_batch_size,
        "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
        "preserve_ordering": batching.preserve_ordering,
        "priority_levels": batching.priority_levels,
        "default_priority_level": batching.default_priority_level,
    });
    let policies: Map<String, Value> = batching
        .priority_queue_policy
        .iter()
        .map(|(priority, policy)| (priority.to_string(), queue_policy(policy)))
        .collect();
    if let Value::Object(members) = &mut members {
        members.insert("priority_queue_policy".to_owned(), Value::Object(policies));
        if let Some(policy) = &batching.default_queue_policy {
            members.insert("default_queue_policy".to_owned(), queue_policy(policy));
        }
    }
    members
}

fn queue_policy(policy: &QueuePolicy) -> Value {
    json!({
        "timeout_action": if policy.delay_on_timeout { "DELAY" } else { "REJECT" },
        "default_timeout_microseconds": policy.default_timeout_microseconds,
        "allow_timeout_override": policy.allow_timeout_override,
        "max_queue_size": policy.max_queue_size,
    })
}

fn warmup(request: &WarmupRequest) -> Value {
    let input = |input: &WarmupInput| {
        let (kind, data) = match &input.data {
            WarmupData::Zeros => ("zero_data", json!(true)),
            WarmupData::Random => ("random_data", json!(true)),
            WarmupData::File { name, .. } => ("input_data_file", json!(name)),
        };
        let value = json!({"data_type": oip::config_type(input.dtype), "dims": input.dims, kind: data});
        (input.name.clone(), value)
    };
    json!({
        "name": request.name,
        "batch_size": request.batch_size,
        "inputs": request.inputs.iter().map(input).collect::<Map<_, _>>(),
        "count": request.count,
    })
}
