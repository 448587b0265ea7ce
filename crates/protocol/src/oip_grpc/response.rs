//! Writes inference responses, for calls and for streams. Outputs are always raw, as Triton's are.

use bytes::Bytes;
use salver_core::{Error, InferResponse, ModelInfo, Parameter, Parameters, Result};

use super::inference::model_infer_response::InferOutputTensor;
use super::inference::{ModelInferResponse, ModelStreamInferResponse};
use super::{ReplyOptions, oip, parameter};

/// Writes a response as the request asked for it; what goes into shared memory has an empty blob.
///
/// # Errors
/// `InvalidInput` for classes of an output that holds no numbers, `TooLarge` for a BYTES element
/// beyond 4 GiB.
pub fn encode_infer(response: &InferResponse, options: &ReplyOptions) -> Result<ModelInferResponse> {
    let outputs = options.classes.apply(response)?;
    let blob = |tensor: &salver_core::Tensor| match options.shared.takes_output(tensor.name()) {
        true => Ok(Bytes::new()),
        false => oip::binary_blob(tensor),
    };
    let output = |tensor: &salver_core::Tensor| InferOutputTensor {
        name: tensor.name().to_string(),
        datatype: tensor.dtype().as_str().to_owned(),
        shape: wire_shape(tensor),
        ..InferOutputTensor::default()
    };
    Ok(ModelInferResponse {
        model_name: response.model.name.to_string(),
        model_version: response.model.version.to_string(),
        id: response.id.clone().unwrap_or_default(),
        outputs: outputs.iter().map(output).collect(),
        raw_output_contents: outputs.iter().map(blob).collect::<Result<_>>()?,
        ..ModelInferResponse::default()
    })
}

pub(super) fn wire_shape(tensor: &salver_core::Tensor) -> Vec<i64> {
    tensor.shape().iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect()
}

/// Whether a stream's request wants its last response marked.
pub fn wants_final_response(parameters: &Parameters) -> bool {
    parameters.get("triton_enable_empty_final_response") == Some(&Parameter::Bool(true))
}

/// Writes one response of a stream, marked as the last one of its request if `mark_final`.
///
/// # Errors
/// As [`encode_infer`].
pub fn encode_stream(
    response: &InferResponse,
    options: &ReplyOptions,
    mark_final: bool,
) -> Result<ModelStreamInferResponse> {
    encode_piece(response, options, mark_final.then_some(true))
}

/// Writes one response of a stream, marked as the last of its request or as another one where
/// `is_final` says.
///
/// # Errors
/// As [`encode_infer`].
pub fn encode_piece(
    response: &InferResponse,
    options: &ReplyOptions,
    is_final: Option<bool>,
) -> Result<ModelStreamInferResponse> {
    let mut message = encode_infer(response, options)?;
    mark(&mut message, is_final);
    Ok(ModelStreamInferResponse { error_message: String::new(), infer_response: Some(message) })
}

/// Writes the response without outputs that ends the answers of a request to the model `info`.
pub fn encode_end(info: &ModelInfo, id: &str) -> ModelStreamInferResponse {
    let mut message = ModelInferResponse {
        model_name: info.name.to_string(),
        model_version: info.version.to_string(),
        id: id.to_owned(),
        ..ModelInferResponse::default()
    };
    mark(&mut message, Some(true));
    ModelStreamInferResponse { error_message: String::new(), infer_response: Some(message) }
}

fn mark(message: &mut ModelInferResponse, is_final: Option<bool>) {
    if let Some(is_final) = is_final {
        message.parameters.insert("triton_final_response".to_owned(), parameter(&Parameter::Bool(is_final)));
    }
}

/// Writes the failure of one request of a stream, which lives on; `id` is the request's.
pub fn encode_stream_error(error: &Error, id: &str) -> ModelStreamInferResponse {
    ModelStreamInferResponse {
        error_message: error.message().to_owned(),
        infer_response: Some(ModelInferResponse { id: id.to_owned(), ..ModelInferResponse::default() }),
    }
}
