//! The client's side: writes inference requests and reads the responses.

use bytes::Bytes;
use salver_core::{DataType, Error, InferRequest, Parameter, Result, Tensor, TensorSpec};
use serde_json::Value;

use super::{oip, tensors};
use crate::Limits;
use crate::json::read::{self, OrNotJson as _};
use crate::json::write;

/// How tensors travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON, in and out.
    Json,
    /// As binary data, in and out.
    Binary,
}

/// The body of a request, and the value of its `Inference-Header-Content-Length`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRequest {
    /// The body.
    pub body: Bytes,
    /// The number of JSON bytes, where binary tensors follow them.
    pub header_len: Option<usize>,
}

/// What a response said.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The id of the request.
    pub id: Option<String>,
    /// The model that answered.
    pub model_name: String,
    /// Its version.
    pub model_version: String,
    /// The outputs.
    pub outputs: Vec<Tensor>,
}

/// Writes a request; the model it names goes into the path, which is the caller's.
///
/// # Errors
/// `InvalidInput` for inputs that have no JSON form.
pub fn encode_request(request: &InferRequest, form: Form) -> Result<EncodedRequest> {
    let binary = form == Form::Binary;
    let blob_len: usize = if binary { request.inputs.iter().map(oip::binary_len).sum() } else { 0 };
    let mut body = Vec::with_capacity(256 + 96 * request.inputs.len() + blob_len);
    body.push(b'{');
    if let Some(id) = &request.id {
        write::key(&mut body, "id");
        write::string(&mut body, id);
        body.push(b',');
    }
    let place = if binary { tensors::Place::Blob } else { tensors::Place::Json };
    let flag = ("binary_data_output".to_owned(), Parameter::Bool(true));
    let flag = (binary && request.outputs.is_empty()).then_some((&flag.0, &flag.1));
    write::key(&mut body, "parameters");
    tensors::put_parameters(&mut body, request.parameters.iter().chain(flag));
    body.push(b',');
    write::key(&mut body, "inputs");
    write::try_list(&mut body, &request.inputs, |body, input| tensors::put(body, input, place))?;
    body.push(b',');
    write::key(&mut body, "outputs");
    write::list(&mut body, &request.outputs, |body, name| {
        body.extend_from_slice(b"{\"name\":");
        write::string(body, name);
        body.extend_from_slice(b",\"parameters\":{\"binary_data\":");
        write::bool(body, binary);
        body.extend_from_slice(b"}}");
    });
    body.push(b'}');
    let header_len = binary.then_some(body.len());
    if binary {
        request.inputs.iter().try_for_each(|input| oip::put_binary(input, &mut body))?;
    }
    Ok(EncodedRequest { body: body.into(), header_len })
}

/// Reads a response; `header_len` is the value of its `Inference-Header-Content-Length`.
///
/// # Errors
/// `InvalidInput` for a body that is no inference response.
pub fn decode_response(body: Bytes, header_len: Option<usize>) -> Result<Decoded> {
    let limits = Limits { max_name_bytes: usize::MAX, max_outputs: usize::MAX, ..Limits::default() };
    let (json, blobs) = tensors::split(&body, header_len)?;
    let (mut id, mut model_name, mut model_version, mut outputs) = (None, None, None, None);
    let mut reader = read::reader(&json);
    let keys = &["id", "model_name", "model_version", "outputs"];
    read::members(&mut reader, "response", keys, limits.json_depth, |reader, key| {
        match key {
            "id" => id = Some(read::string(reader, key)?),
            "model_name" => model_name = Some(read::string(reader, key)?),
            "model_version" => model_version = Some(read::string(reader, key)?),
            _ => outputs = Some(tensors::drafts(reader, "output", &limits, limits.max_outputs)?),
        }
        Ok(())
    })?;
    reader.finish().or_not_json().map_err(|error| error.context("response"))?;
    let missing = |key: &str| Error::invalid_input(format!("response has no '{key}'"));
    Ok(Decoded {
        id,
        model_name: model_name.ok_or_else(|| missing("model_name"))?,
        model_version: model_version.unwrap_or_default(),
        outputs: tensors::finish(outputs.ok_or_else(|| missing("outputs"))?, blobs)?,
    })
}

/// Reads `inputs` or `outputs` of a model's metadata; none: they are not what the protocol says.
pub fn decode_tensor_specs(value: &Value) -> Option<Vec<TensorSpec>> {
    let read = |tensor: &Value| {
        let name = tensor.get("name")?.as_str()?;
        let dtype = DataType::from_wire(tensor.get("datatype")?.as_str()?)?;
        let shape: Option<Vec<i64>> = tensor.get("shape")?.as_array()?.iter().map(Value::as_i64).collect();
        Some(TensorSpec::new(name, dtype, &shape?))
    };
    value.as_array()?.iter().map(read).collect()
}
