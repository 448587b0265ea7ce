//! TF Serving's services over gRPC: messages to core types and back.
//!
//! [`serving`] and [`tensorflow`] hold the generated messages and server traits. `TensorProto` and
//! `PredictRequest` are written by hand, so that tensors are not copied on the way in. What the
//! methods do is the server's business.

mod convert;
mod describe;
mod examples;
mod predict;
mod tensor;

use salver_core::{Error, ErrorKind, ModelInfo, ModelName, ModelRef, Result, Selector};

pub use self::describe::{check_metadata_fields, metadata, reload_config, status};
pub use self::examples::{
    Method, classification, decode_examples, decode_tasks, examples_len, multi_inference, regression, tasks_outputs,
};
pub use self::predict::{PredictRequest, decode_predict, encode_predict, encode_request};
pub use self::tensor::TensorProto;

use self::serving::ModelSpec;
use self::serving::model_spec::VersionChoice;
use crate::json::read::clip;
use crate::tfserving::DEFAULT_SIGNATURE;

/// Generated from `proto/tensorflow.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
pub mod tensorflow {
    tonic::include_proto!("tensorflow");

    /// Generated from `proto/tensorflow_serving.proto` and `proto/model_server_config.proto`.
    pub mod serving {
        tonic::include_proto!("tensorflow.serving");
    }
}

pub use tensorflow::serving;

/// The encoded descriptors of [`serving`] and [`tensorflow`], for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tensorflow_serving.bin"));

/// Renders an error as a gRPC status, under the table's code for its kind.
pub fn encode_error(error: &Error) -> tonic::Status {
    tonic::Status::new(tonic::Code::from_i32(error.kind().grpc_code()), error.message())
}

/// Refers to a model as a message names it.
///
/// # Errors
/// `InvalidInput` for no name, or one that no model can have; `NotFound` for a version below zero.
pub fn model_ref(spec: Option<&ModelSpec>) -> Result<ModelRef> {
    let spec = spec.ok_or_else(|| Error::invalid_input("Missing ModelSpec"))?;
    if spec.name.is_empty() {
        return Err(Error::invalid_input("ModelSpec has no name specified."));
    }
    let name = ModelName::new(&spec.name)?;
    let selector = match &spec.version_choice {
        None => Selector::Latest,
        Some(VersionChoice::Version(number)) => Selector::Version(
            u64::try_from(*number)
                .map_err(|_| Error::not_found(format!("Servable not found for request: Specific({name}, {number})")))?,
        ),
        Some(VersionChoice::VersionLabel(label)) => Selector::Label(label.clone()),
    };
    Ok(ModelRef { name, selector })
}

/// Refuses any signature but the one that each model has.
///
/// # Errors
/// `InvalidInput` naming the signature.
pub fn check_signature(spec: Option<&ModelSpec>) -> Result<()> {
    match spec.map_or("", |spec| &spec.signature_name) {
        "" | DEFAULT_SIGNATURE => Ok(()),
        other => Err(crate::tfserving::unknown_signature(&clip(other))),
    }
}

/// Names the version that answered.
fn answered_by(info: &ModelInfo) -> ModelSpec {
    ModelSpec {
        name: info.name.to_string(),
        version_choice: Some(VersionChoice::Version(i64::try_from(info.version).unwrap_or(i64::MAX))),
        signature_name: DEFAULT_SIGNATURE.to_owned(),
    }
}

/// Says in TF Serving's words that a model has no status.
pub fn unknown_status(model: &ModelRef, error: Error) -> Error {
    match &model.selector {
        _ if error.kind() != ErrorKind::NotFound => error,
        Selector::Version(version) => {
            Error::not_found(format!("Could not find version {version} of model {}", model.name))
        }
        Selector::Latest | Selector::Label(_) => {
            Error::not_found(format!("Could not find any versions of model {}", model.name))
        }
    }
}

#[cfg(test)]
mod tests;
