//! Triton's generate extension: inputs and outputs by name in one flat JSON object.
//!
//! What names an input becomes its tensor; everything else is a parameter. A bare value is one
//! element, a list is as many as it has, laid into the input's shape from the innermost extent.

use jiter::{Jiter, Peek};
use salver_core::{DataType, Dim, Error, InferRequest, InferResponse, ModelInfo, ModelRef, Parameters, Result, Shape};
use salver_core::{Tensor, TensorSpec};

use super::{oip, tensors};
use crate::json::nested::{self, Cells, Leaves};
use crate::json::read::{self, OrNotJson as _, clip};
use crate::json::write;
use crate::{Limits, Reply};

/// The media type of a stream of events.
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// Reads the body of a generate request to a model, after decompression.
///
/// # Errors
/// `InvalidInput` naming the input, parameter or place; `TooLarge` beyond `limits`.
pub fn decode_generate(body: &[u8], model: ModelRef, info: &ModelInfo, limits: &Limits) -> Result<InferRequest> {
    let mut parts = Parts { info, limits, id: None, inputs: Vec::new(), parameters: Parameters::new() };
    let mut reader = read::reader(body);
    parts.members(&mut reader, Level::Top)?;
    reader.finish().or_not_json().map_err(|error| error.context("request"))?;
    oip::check_reserved(&parts.parameters)?;
    // The only form of a reply is JSON.
    parts.parameters.remove("binary_data_output");
    let Parts { id, inputs, parameters, .. } = parts;
    Ok(InferRequest { model, id, inputs, outputs: Vec::new(), parameters })
}

/// What a request said so far.
struct Parts<'m> {
    info: &'m ModelInfo,
    limits: &'m Limits,
    id: Option<String>,
    inputs: Vec<Tensor>,
    parameters: Parameters,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Parameters,
}

impl Parts<'_> {
    fn members(&mut self, reader: &mut Jiter<'_>, level: Level) -> Result<()> {
        let what = if level == Level::Top { "request" } else { "'parameters'" };
        let context = |error: Error| error.context(what);
        let mut has_parameters = false;
        let mut next = reader.next_object().or_not_json().map_err(context)?.map(str::to_owned);
        while let Some(key) = next {
            match (self.info.signature.input(&key), level, key.as_str()) {
                (Some(spec), _, _) => self.input(reader, spec)?,
                (None, Level::Top, "id") if self.id.is_some() => return Err(read::duplicate(&key, what)),
                (None, Level::Top, "id") => self.id = Some(read::string(reader, "id")?),
                (None, Level::Top, "parameters") if has_parameters => return Err(read::duplicate(&key, what)),
                (None, Level::Top, "parameters") => {
                    has_parameters = true;
                    self.members(reader, Level::Parameters)?;
                }
                _ => self.parameter(reader, key)?,
            }
            next = reader.next_key().or_not_json().map_err(context)?.map(str::to_owned);
        }
        Ok(())
    }

    fn input(&mut self, reader: &mut Jiter<'_>, spec: &TensorSpec) -> Result<()> {
        if self.inputs.iter().any(|known| *known.name() == spec.name) {
            return Err(read::duplicate(&spec.name, "request"));
        }
        if matches!(spec.dtype, DataType::Fp16 | DataType::Bf16) {
            return Err(tensors::no_json_form(spec.dtype).context(format!("input '{}'", spec.name)));
        }
        let peek = reader.peek().or_not_json()?;
        let plain = peek != Peek::Object || nested::is_base64(reader);
        let read = match plain {
            true => nested::input(reader, peek, spec, Leaves::Base64Objects, Cells::Plain)?,
            false => return Err(Error::invalid_input(format!("input '{}' must be a value or a list", spec.name))),
        };
        self.inputs.push(self.shaped(read, spec)?);
        Ok(())
    }

    /// Gives a value or a flat list the shape of its input; a nested list has its own.
    fn shaped(&self, tensor: Tensor, spec: &TensorSpec) -> Result<Tensor> {
        if tensor.shape().len() > 1 || spec.accepts(tensor.shape()) {
            return Ok(tensor);
        }
        let count = tensor.element_count();
        let shape = fill(&spec.shape, count).ok_or_else(|| {
            let wire = spec.wire_shape();
            let elements = if count == 1 { "element does" } else { "elements do" };
            Error::invalid_input(format!(
                "input '{}' of model '{}': {count} {elements} not fill its shape {wire:?}",
                spec.name, self.info.name
            ))
        })?;
        tensor.reshape(shape)
    }

    fn parameter(&mut self, reader: &mut Jiter<'_>, key: String) -> Result<()> {
        oip::check_name("parameter", &key, self.limits)?;
        if matches!(reader.peek().or_not_json()?, Peek::Array | Peek::Object | Peek::Null) {
            return Err(self.no_input(&key));
        }
        let value = tensors::scalar(reader, "the request", &key)?;
        if self.parameters.contains_key(&key) {
            return Err(read::duplicate(&key, "request"));
        }
        self.parameters.insert(key, value);
        Ok(())
    }

    /// Says that a key names no input, and that its value suits no parameter.
    fn no_input(&self, key: &str) -> Error {
        let names: Vec<String> = self.info.signature.inputs.iter().map(|spec| format!("'{}'", spec.name)).collect();
        Error::invalid_input(format!(
            "'{}' is no input of model '{}', whose inputs are {}; a parameter must be a string, a number or a boolean",
            clip(key),
            self.info.name,
            names.join(", ")
        ))
    }
}

/// Lays `count` elements into a shape: fixed extents take theirs, the innermost free one takes the
/// rest and all others are 1. None where that does not come out even.
fn fill(dims: &[Dim], count: usize) -> Option<Shape> {
    let mut rest = count;
    for dim in dims.iter().rev() {
        if let Dim::Fixed(extent) = *dim {
            rest = rest.checked_div(extent).filter(|_| rest % extent == 0)?;
        }
    }
    let mut shape = vec![1; dims.len()];
    for (place, dim) in shape.iter_mut().zip(dims).rev() {
        *place = match *dim {
            Dim::Fixed(extent) => extent,
            Dim::Free => std::mem::replace(&mut rest, 1),
        };
    }
    (rest == 1).then(|| Shape::new(&shape))
}

/// Writes a response: each output under its name, one element as a bare value.
///
/// # Errors
/// `InvalidInput` for outputs that have no JSON form: FP16, BF16, BYTES that are not UTF-8.
pub fn encode_generate(response: &InferResponse) -> Result<Reply> {
    let mut body = Vec::new();
    put_response(&mut body, response)?;
    Ok(Reply::json(200, body))
}

/// Writes a response as one event of a stream.
///
/// # Errors
/// As [`encode_generate`].
pub fn encode_event(response: &InferResponse) -> Result<Reply> {
    let mut body = b"data: ".to_vec();
    put_response(&mut body, response)?;
    Ok(event(body))
}

/// Writes the failure of a stream that has begun as its last event.
pub fn encode_error_event(error: &Error) -> Reply {
    let mut body = b"data: ".to_vec();
    body.extend_from_slice(&Reply::error(200, error.message()).body);
    event(body)
}

// No JSON that is written here has a line break outside its escapes.
fn event(mut body: Vec<u8>) -> Reply {
    body.extend_from_slice(b"\n\n");
    Reply { content_type: EVENTS, ..Reply::json(200, body) }
}

fn put_response(out: &mut Vec<u8>, response: &InferResponse) -> Result<()> {
    out.push(b'{');
    let version = response.model.version.to_string();
    let about = [("id", response.id.as_deref()), ("model_name", Some(&*response.model.name))];
    for (key, value) in about.into_iter().chain([("model_version", Some(&*version))]) {
        // An output of that name is what was asked for.
        let is_output = response.outputs.iter().any(|output| **output.name() == *key);
        if let Some(value) = value.filter(|_| !is_output) {
            put_key(out, key);
            write::string(out, value);
        }
    }
    for output in &response.outputs {
        put_key(out, output.name());
        if matches!(output.dtype(), DataType::Fp16 | DataType::Bf16) {
            let error = Error::invalid_input(format!("{} has no JSON form; ask for it with infer", output.dtype()));
            return Err(error.context(format!("output '{}'", output.name())));
        }
        match output.element_count() {
            1 => write::elements(out, output, 0, 1)?,
            _ => write::tensor_flat(out, output)?,
        }
    }
    out.push(b'}');
    Ok(())
}

fn put_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write::key(out, key);
}

#[cfg(test)]
mod tests;
