//! What models are and how their versions are doing.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;
use salver_core::{Error, ModelInfo, ModelStatus, Result, TensorSpec};

use super::answered_by;
use super::convert::number_of;
use super::serving::model_version_status::State;
use super::serving::{
    GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusResponse, ModelSpec, ModelVersionStatus,
    ReloadConfigRequest, SignatureDefMap, StatusProto,
};
use super::tensorflow::tensor_shape_proto::Dim;
use super::tensorflow::{SignatureDef, TensorInfo, TensorShapeProto};
use crate::json::read::clip;
use crate::tfserving::{self, DEFAULT_SIGNATURE};

/// The only metadata there are.
const SIGNATURE_DEF: &str = "signature_def";

/// Checks which metadata are asked for.
///
/// # Errors
/// `InvalidInput` for none, and for others than `signature_def`.
pub fn check_metadata_fields(request: &GetModelMetadataRequest) -> Result<()> {
    if request.metadata_field.is_empty() {
        let message = "GetModelMetadataRequest must specify at least one metadata_field";
        return Err(Error::invalid_input(message));
    }
    match request.metadata_field.iter().find(|field| *field != SIGNATURE_DEF) {
        None => Ok(()),
        Some(other) => Err(Error::invalid_input(format!("Metadata field {} is not supported", clip(other)))),
    }
}

/// Writes the signature of a model.
pub fn metadata(info: &ModelInfo) -> GetModelMetadataResponse {
    let signature = SignatureDef {
        inputs: tensors(&info.signature.inputs),
        outputs: tensors(&info.signature.outputs),
        method_name: "tensorflow/serving/predict".to_owned(),
    };
    let map = SignatureDefMap { signature_def: [(DEFAULT_SIGNATURE.to_owned(), signature)].into() };
    let any = Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
        value: map.encode_to_vec(),
    };
    GetModelMetadataResponse {
        model_spec: Some(ModelSpec { signature_name: String::new(), ..answered_by(info) }),
        metadata: [(SIGNATURE_DEF.to_owned(), any)].into(),
    }
}

fn tensors(specs: &[TensorSpec]) -> BTreeMap<String, TensorInfo> {
    let dim = |size| Dim { size, name: String::new() };
    let tensor = |spec: &TensorSpec| TensorInfo {
        name: format!("{}:0", spec.name),
        dtype: number_of(spec.dtype).into(),
        tensor_shape: Some(TensorShapeProto {
            dim: spec.wire_shape().into_iter().map(dim).collect(),
            unknown_rank: false,
        }),
    };
    specs.iter().map(|spec| (spec.name.to_string(), tensor(spec))).collect()
}

/// Returns the list of models that a client wants served, encoded; empty where it sent none.
pub fn reload_config(request: &ReloadConfigRequest) -> Bytes {
    request.config.as_ref().map(|config| config.encode_to_vec().into()).unwrap_or_default()
}

/// Writes the status of versions, the highest first.
pub fn status(versions: &[ModelStatus]) -> GetModelStatusResponse {
    let mut known: Vec<(u64, &ModelStatus)> =
        versions.iter().filter_map(|status| Some((status.version?, status))).collect();
    known.sort_by_key(|&(version, _)| std::cmp::Reverse(version));
    let version = |(version, status): (u64, &ModelStatus)| {
        let (error_code, error_message) = tfserving::code_and_message(status);
        ModelVersionStatus {
            version: i64::try_from(version).unwrap_or(i64::MAX),
            state: State::from_str_name(tfserving::state(status)).unwrap_or(State::Unknown).into(),
            status: Some(StatusProto { error_code, error_message: error_message.to_owned() }),
        }
    };
    GetModelStatusResponse { model_version_status: known.into_iter().map(version).collect() }
}
