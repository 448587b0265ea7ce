//! The Open Inference Protocol v2 over gRPC: messages to core types and back.
//!
//! [`inference`] holds the generated messages, server trait and client. Packed data travel as
//! `Bytes` and are never copied on the way in. What the methods do is the server's business.

mod client;
mod describe;
mod request;
mod response;
mod settings;
mod shared_memory;

use std::collections::BTreeMap;

use bytes::Bytes;
use salver_core::{Error, InferResponse, ModelName, ModelRef, Parameter, Parameters, Result};

pub use client::{decode_response, encode_request};
pub use describe::{
    decode_load_request, decode_unload_request, model_config, model_metadata, repository_index, server_metadata,
    statistics,
};
pub use request::decode_infer;
pub use response::{encode_end, encode_infer, encode_piece, encode_stream, encode_stream_error, wants_final_response};
pub use settings::{decode_log_update, decode_trace_update, log_settings, trace_settings};
pub use shared_memory::{decode_register, region_status};

use crate::shared_memory::Shared;
use crate::{Limits, oip};
use inference::InferParameter;
use inference::infer_parameter::ParameterChoice;

/// Generated from `proto/inference.proto` and `proto/model_config.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The encoded descriptors of [`inference`], for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));

/// How the outputs of one request shall come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplyOptions {
    /// Outputs that shall come back as their best classes.
    classes: oip::Classes,
    /// What of the request lies in shared memory, or shall be put there.
    pub shared: Shared,
}

impl ReplyOptions {
    /// Returns what goes into shared memory: for each window of an output its bytes.
    ///
    /// # Errors
    /// As [`encode_infer`]; `InvalidInput` where a window is too small.
    pub fn shared_blobs(&self, response: &InferResponse) -> Result<Vec<Bytes>> {
        self.shared.blobs(&self.classes.apply(response)?)
    }
}

/// Renders an error as a gRPC status, under this protocol's code for its kind.
pub fn encode_error(error: &Error) -> tonic::Status {
    tonic::Status::new(tonic::Code::from_i32(oip::grpc_code(error.kind())), error.message())
}

/// Refers to a model as a message names it; an empty version is the highest.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for a name that no model can have, or a version that
/// is not a number of 63 bits.
pub fn model_ref(name: &str, version: &str) -> Result<ModelRef> {
    let selector = oip::selector(version)?;
    Ok(ModelRef { name: ModelName::new(name)?, selector })
}

/// Reads parameters; one without a value is refused. `what` owns them in messages.
fn parameters(from: BTreeMap<String, InferParameter>, what: &str, limits: &Limits) -> Result<Parameters> {
    let one = |(name, value): (String, InferParameter)| {
        oip::check_name("parameter", &name, limits)?;
        let value = match value.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Int(value),
            Some(ParameterChoice::Uint64Param(value)) => unsigned(value),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Float(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::Text(value),
            None => return Err(oip::wrong_parameter(what, &name, "a string, a number or a boolean")),
        };
        Ok((name, value))
    };
    from.into_iter().map(one).collect()
}

/// One number has one form, whichever field it came in.
fn unsigned(value: u64) -> Parameter {
    i64::try_from(value).map_or(Parameter::Uint(value), Parameter::Int)
}

fn parameter(value: &Parameter) -> InferParameter {
    let choice = match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(*value),
        Parameter::Int(value) => ParameterChoice::Int64Param(*value),
        Parameter::Uint(value) => ParameterChoice::Uint64Param(*value),
        Parameter::Float(value) => ParameterChoice::DoubleParam(*value),
        Parameter::Text(value) => ParameterChoice::StringParam(value.clone()),
    };
    InferParameter { parameter_choice: Some(choice) }
}

#[cfg(test)]
mod tests;
