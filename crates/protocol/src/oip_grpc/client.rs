//! The client's side: writes inference requests and reads the responses.

use salver_core::{Error, InferRequest, Result, Selector, Tensor};

use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::{ModelInferRequest, ModelInferResponse};
use super::{oip, parameter, request, response};
use crate::oip_rest::Decoded;

/// Writes a request with raw tensors.
///
/// # Errors
/// `Unsupported` for a version label, which this protocol has no field for; `TooLarge` for a BYTES
/// element beyond 4 GiB.
pub fn encode_request(request: &InferRequest) -> Result<ModelInferRequest> {
    let model_version = match &request.model.selector {
        Selector::Latest => String::new(),
        Selector::Version(version) => version.to_string(),
        Selector::Label(label) => {
            return Err(Error::unsupported(format!("label '{label}': this protocol names versions by number only")));
        }
    };
    let input = |tensor: &Tensor| InferInputTensor {
        name: tensor.name().to_string(),
        datatype: tensor.dtype().as_str().to_owned(),
        shape: response::wire_shape(tensor),
        ..InferInputTensor::default()
    };
    let output = |name: &std::sync::Arc<str>| InferRequestedOutputTensor {
        name: name.to_string(),
        ..InferRequestedOutputTensor::default()
    };
    Ok(ModelInferRequest {
        model_name: request.model.name.to_string(),
        model_version,
        id: request.id.clone().unwrap_or_default(),
        parameters: request.parameters.iter().map(|(name, value)| (name.clone(), parameter(value))).collect(),
        inputs: request.inputs.iter().map(input).collect(),
        outputs: request.outputs.iter().map(output).collect(),
        raw_input_contents: request.inputs.iter().map(oip::binary_blob).collect::<Result<_>>()?,
    })
}

/// Reads a response.
///
/// # Errors
/// `InvalidInput` where outputs and their raw data do not fit together.
pub fn decode_response(message: ModelInferResponse) -> Result<Decoded> {
    if message.outputs.len() != message.raw_output_contents.len() {
        return Err(Error::invalid_input(format!(
            "response has {} outputs, but raw data for {}",
            message.outputs.len(),
            message.raw_output_contents.len()
        )));
    }
    let mut outputs = Vec::with_capacity(message.outputs.len());
    for (output, data) in message.outputs.into_iter().zip(message.raw_output_contents) {
        let what = format!("output '{}'", output.name);
        let dtype = oip::datatype(&what, &output.datatype)?;
        let shape = request::shape(&what, &output.shape)?;
        outputs.push(oip::tensor_from_binary(&output.name, dtype, shape, data)?);
    }
    Ok(Decoded {
        id: (!message.id.is_empty()).then_some(message.id),
        model_name: message.model_name,
        model_version: message.model_version,
        outputs,
    })
}
