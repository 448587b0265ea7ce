//! What TF Serving and KServe version 1 say about models: status and metadata.

use salver_core::{DataType, ModelInfo, ModelState, ModelStatus, TensorSpec};
use serde_json::{Map, Value, json};

use crate::{Reply, openai};

/// Writes the status of a model: the union of what TF Serving's, KServe's and OpenAI's clients read.
/// `created` is in seconds since the epoch.
///
/// Not ready answers 503 for KServe's sake; TF Serving's clients poll until 200 anyway.
pub fn status(name: &str, versions: &[ModelStatus], ready: bool, created: u64) -> Reply {
    let mut known: Vec<(u64, &ModelStatus)> =
        versions.iter().filter_map(|status| Some((status.version?, status))).collect();
    known.sort_by_key(|&(version, _)| std::cmp::Reverse(version));
    let listed: Vec<Value> = known.into_iter().map(|(version, status)| version_status(version, status)).collect();
    let mut body = json!({ "name": name, "ready": ready, "model_version_status": listed });
    if let (Value::Object(body), Value::Object(model)) = (&mut body, openai::model(name, created)) {
        body.extend(model);
    }
    Reply::json_value(if ready { 200 } else { 503 }, &body)
}

fn version_status(version: u64, status: &ModelStatus) -> Value {
    let (code, message) = code_and_message(status);
    json!({
        "version": version.to_string(),
        "state": state(status),
        "status": { "error_code": if code == 0 { "OK" } else { "UNKNOWN" }, "error_message": message },
    })
}

/// Returns the state's name in TF Serving.
pub(crate) fn state(status: &ModelStatus) -> &'static str {
    match status.state {
        None | Some(ModelState::Pending) => "START",
        Some(ModelState::Loading | ModelState::Warming) => "LOADING",
        Some(ModelState::Ready) => "AVAILABLE",
        Some(ModelState::Draining) => "UNLOADING",
        Some(ModelState::Gone | ModelState::Failed) => "END",
    }
}

/// Returns how a version is: 0, or the code UNKNOWN and why it failed.
pub(crate) fn code_and_message(status: &ModelStatus) -> (i32, &str) {
    if status.state == Some(ModelState::Failed) { (2, status.reason.as_str()) } else { (0, "") }
}

/// Writes the signature of a model as TF Serving's `/metadata` does.
pub fn metadata(info: &ModelInfo) -> Reply {
    let signature = json!({
        "inputs": tensors(&info.signature.inputs),
        "outputs": tensors(&info.signature.outputs),
        "method_name": "tensorflow/serving/predict",
    });
    // `signature_def` really is nested twice: a protobuf map inside a message of that name.
    Reply::json_value(
        200,
        &json!({
            "model_spec": { "name": &*info.name, "signature_name": "", "version": info.version.to_string() },
            "metadata": { "signature_def": { "signature_def": { "serving_default": signature } } },
        }),
    )
}

fn tensors(specs: &[TensorSpec]) -> Value {
    let entry = |spec: &TensorSpec| (spec.name.to_string(), tensor(spec));
    Value::Object(specs.iter().map(entry).collect::<Map<String, Value>>())
}

fn tensor(spec: &TensorSpec) -> Value {
    let dim = |size: i64| json!({ "size": size.to_string(), "name": "" });
    json!({
        "dtype": tensorflow_name(spec.dtype),
        "tensor_shape": {
            "dim": spec.wire_shape().into_iter().map(dim).collect::<Vec<Value>>(),
            "unknown_rank": false,
        },
        "name": format!("{}:0", spec.name),
    })
}

const fn tensorflow_name(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "DT_BOOL",
        DataType::Int8 => "DT_INT8",
        DataType::Int16 => "DT_INT16",
        DataType::Int32 => "DT_INT32",
        DataType::Int64 => "DT_INT64",
        DataType::Uint8 => "DT_UINT8",
        DataType::Uint16 => "DT_UINT16",
        DataType::Uint32 => "DT_UINT32",
        DataType::Uint64 => "DT_UINT64",
        DataType::Fp16 => "DT_HALF",
        DataType::Bf16 => "DT_BFLOAT16",
        DataType::Fp32 => "DT_FLOAT",
        DataType::Fp64 => "DT_DOUBLE",
        DataType::Bytes => "DT_STRING",
    }
}
