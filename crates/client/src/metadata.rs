//! What the Open Inference Protocol tells of a model, as a description.

use salver_core::{Batching, DataType, Error, ModelInfo, ModelRef, Result, Selector, Signature, TensorSpec};
use salver_protocol::oip_grpc::inference::ModelMetadataResponse;
use salver_protocol::oip_grpc::inference::model_metadata_response::TensorMetadata;
use salver_protocol::oip_rest::decode_tensor_specs;
use serde_json::Value;

/// Reads the metadata of `model` as REST writes it.
///
/// # Errors
/// `Engine` for anything else.
pub(crate) fn from_json(value: &Value, model: &ModelRef) -> Result<ModelInfo> {
    let odd = |what: &str| Error::engine(format!("the server's metadata of model '{model}' has no valid `{what}`"));
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let versions = value.get("versions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let inputs = value.get("inputs").and_then(decode_tensor_specs).ok_or_else(|| odd("inputs"))?;
    let outputs = value.get("outputs").and_then(decode_tensor_specs).ok_or_else(|| odd("outputs"))?;
    let name = text("name").ok_or_else(|| odd("name"))?;
    let platform = text("platform").unwrap_or_default().to_owned();
    Ok(assemble(name, version(model, versions), platform, inputs, outputs))
}

/// Reads the metadata of `model` as gRPC sends it.
///
/// # Errors
/// `Engine` for a type that is not known.
pub(crate) fn from_message(reply: ModelMetadataResponse, model: &ModelRef) -> Result<ModelInfo> {
    let read = |tensor: TensorMetadata| {
        let dtype = DataType::from_wire(&tensor.datatype).ok_or_else(|| {
            let unknown = &tensor.datatype;
            Error::engine(format!("the server's metadata of model '{model}' has the unknown type '{unknown}'"))
        })?;
        Ok(TensorSpec::new(tensor.name, dtype, &tensor.shape))
    };
    let inputs = reply.inputs.into_iter().map(read).collect::<Result<_>>()?;
    let outputs = reply.outputs.into_iter().map(read).collect::<Result<_>>()?;
    let version = version(model, reply.versions.iter().map(String::as_str));
    Ok(assemble(&reply.name, version, reply.platform, inputs, outputs))
}

/// Returns the version that was asked for, else the highest of those that serve.
fn version<'a>(model: &ModelRef, serving: impl Iterator<Item = &'a str>) -> u64 {
    match model.selector {
        Selector::Version(version) => version,
        Selector::Latest | Selector::Label(_) => serving.filter_map(|text| text.parse().ok()).max().unwrap_or(1),
    }
}

/// Makes a description of what metadata tells; a free first dimension everywhere means rows.
fn assemble(
    name: &str,
    version: u64,
    platform: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
) -> ModelInfo {
    ModelInfo {
        name: name.into(),
        version,
        engine: "remote".into(),
        platform,
        columns: vec![Vec::new(); inputs.len()],
        labels: vec![Vec::new(); outputs.len()],
        signature: Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs },
        task: "tensor".to_owned(),
        metrics: Default::default(),
        example: Vec::new(),
        observer: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_tells_types_shapes_and_the_highest_version() {
        let value = serde_json::json!({
            "name": "iris", "versions": ["2", "10"], "platform": "onnxruntime_onnx",
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "p", "datatype": "FP32", "shape": [-1, 3]}],
        });
        let info = from_json(&value, &"iris".parse().unwrap()).unwrap();
        assert_eq!((info.version, info.signature.is_batched()), (10, true));
        assert_eq!(info.signature.inputs, [TensorSpec::new("X", DataType::Fp32, &[-1, 4])]);
        let error = from_json(&serde_json::json!({"name": "iris"}), &"iris".parse().unwrap()).unwrap_err();
        assert!(error.message().contains("`inputs`"), "{error}");
    }
}
