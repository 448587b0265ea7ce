//! TensorFlow Serving's REST API, which is also KServe's version 1.
//!
//! `:predict` in row and column form, `:classify` and `:regress` over examples, status and metadata.
//! Types are never coerced, as in TF Serving. `:explain` is not offered.
//! Source: TensorFlow Serving, `util/json_tensor.cc` and `docs/api_rest.md`.

pub(crate) mod examples;
pub(crate) mod results;
mod status;

use std::sync::Arc;

use jiter::{Jiter, Peek};
use salver_core::{
    DataType, Error, InferRequest, InferResponse, ModelInfo, ModelRef, Result, Selector, Tensor, TensorSpec,
};

use crate::json::nested::{self, Cells, Leaves, Nested};
use crate::json::read::{self, OrNotJson as _};
use crate::json::styled::{self, Style};
use crate::json::write;
use crate::rows::{RowOptions, Rows, UnknownKeys, request};
use crate::{Limits, Reply};

pub(crate) use self::status::{code_and_message, state};
pub use self::status::{metadata, status};

/// The signature that every model has, and the only one.
pub(crate) const DEFAULT_SIGNATURE: &str = "serving_default";

/// How a predict request was laid out; the reply takes the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `instances` in, `predictions` out: one entry per row.
    Row,
    /// `inputs` in, `outputs` out: one entry per tensor.
    Column,
}

/// Reads the body of `:predict`.
///
/// # Errors
/// `InvalidInput` naming the input or row, what was expected and what came.
pub fn decode_predict(body: &[u8], model: ModelRef, info: &ModelInfo, limits: &Limits) -> Result<(InferRequest, Form)> {
    read::check_depth(body, limits.json_depth)?;
    let mut reader = read::reader(body);
    let mut found: Option<(Form, Vec<Tensor>)> = None;
    let mut has_signature = false;
    let mut key = reader.next_object().or_not_json()?;
    while let Some(name) = key {
        let form = match name {
            "instances" => Some(Form::Row),
            "inputs" => Some(Form::Column),
            "signature_name" if has_signature => return Err(read::duplicate(name, "the request")),
            "signature_name" => {
                has_signature = true;
                check_signature(&mut reader)?;
                None
            }
            _ => {
                read::skip(&mut reader, limits.json_depth)?;
                None
            }
        };
        if let Some(form) = form {
            if found.is_some() {
                return Err(Error::invalid_input(
                    "the request must have one of 'instances' and 'inputs', and only once",
                ));
            }
            let tensors = match form {
                Form::Row => instances(&mut reader, info, limits)?,
                Form::Column => inputs(&mut reader, info, limits)?,
            };
            found = Some((form, tensors));
        }
        key = reader.next_key().or_not_json()?;
    }
    reader.finish().or_not_json()?;
    let (form, tensors) =
        found.ok_or_else(|| Error::invalid_input("the request has neither 'instances' nor 'inputs'"))?;
    Ok((request(model, tensors), form))
}

fn check_signature(reader: &mut Jiter<'_>) -> Result<()> {
    if reader.peek().or_not_json()? != Peek::String {
        return Err(Error::invalid_input("'signature_name' must be a string"));
    }
    match reader.known_str().or_not_json()? {
        "" | DEFAULT_SIGNATURE => Ok(()),
        other => Err(unknown_signature(&read::clip(other))),
    }
}

/// Makes the error for a signature that no model has.
pub(crate) fn unknown_signature(name: &str) -> Error {
    Error::invalid_input(format!("Serving signature key \"{name}\" not found; there is only \"{DEFAULT_SIGNATURE}\""))
}

/// Reads the row form: a list of values for a single input, or of objects by input name.
fn instances(reader: &mut Jiter<'_>, info: &ModelInfo, limits: &Limits) -> Result<Vec<Tensor>> {
    if reader.peek().or_not_json()? != Peek::Array {
        return Err(Error::invalid_input("'instances' must be a list of rows"));
    }
    let mut next = reader.known_array().or_not_json()?;
    let Some(first) = next else {
        return Err(Error::invalid_input("'instances' must not be empty"));
    };
    if is_named(reader, first, info) {
        let options = RowOptions { leaves: Leaves::Base64Objects, unknown: UnknownKeys::Refused };
        let mut rows = Rows::of_inputs(info, options);
        rows.objects_from(reader, next, limits.json_depth).map_err(|error| error.context("'instances'"))?;
        return rows.finish();
    }
    let spec = single_input(info, "'instances' must be objects with one key per input")?;
    let mut rows = Nested::new(spec.dtype, Leaves::Base64Objects);
    while let Some(peek) = next {
        rows.row(reader, peek).map_err(|error| error.context(format!("input '{}'", spec.name)))?;
        next = reader.array_step().or_not_json()?;
    }
    Ok(vec![rows.finish(&spec.name)?])
}

/// Reads the column form: a value for a single input, or an object by input name.
fn inputs(reader: &mut Jiter<'_>, info: &ModelInfo, limits: &Limits) -> Result<Vec<Tensor>> {
    let peek = reader.peek().or_not_json()?;
    if !is_named(reader, peek, info) {
        let spec = single_input(info, "'inputs' must be an object with one key per input")?;
        return Ok(vec![value(reader, peek, spec)?]);
    }
    let mut tensors: Vec<Tensor> = Vec::with_capacity(info.signature.inputs.len());
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        match info.signature.input(name) {
            Some(spec) if tensors.iter().any(|tensor| *tensor.name() == spec.name) => {
                return Err(read::duplicate(name, "'inputs'"));
            }
            Some(spec) => {
                let peek = reader.peek().or_not_json()?;
                tensors.push(value(reader, peek, spec)?);
            }
            // Surplus names are ignored, as in TF Serving.
            None => {
                read::skip(reader, limits.json_depth)?;
            }
        }
        key = reader.next_key().or_not_json()?;
    }
    Ok(tensors)
}

fn value(reader: &mut Jiter<'_>, peek: Peek, spec: &TensorSpec) -> Result<Tensor> {
    nested::input(reader, peek, spec, Leaves::Base64Objects, Cells::Plain)
}

/// Whether an object with input names stands there, and no byte string for a single input.
fn is_named(reader: &Jiter<'_>, peek: Peek, info: &ModelInfo) -> bool {
    let takes_bytes = matches!(&info.signature.inputs[..], [spec] if spec.dtype == DataType::Bytes);
    peek == Peek::Object && !(takes_bytes && nested::is_base64(reader))
}

fn single_input<'a>(info: &'a ModelInfo, expected: &str) -> Result<&'a TensorSpec> {
    match &info.signature.inputs[..] {
        [spec] => Ok(spec),
        all => Err(Error::invalid_input(format!("{expected}: model '{}' has {} inputs", info.name, all.len()))),
    }
}

/// Writes the reply to `:predict`.
///
/// # Errors
/// `InvalidInput` in the row form if outputs have no rows, or differ in their number.
pub fn encode_predict(response: &InferResponse, form: Form) -> Result<Reply> {
    let mut out = Vec::with_capacity(64);
    match form {
        Form::Row => {
            out.extend_from_slice(b"{\"predictions\":");
            predictions(&mut out, &response.outputs)?;
        }
        Form::Column => {
            out.extend_from_slice(b"{\"outputs\":");
            outputs(&mut out, &response.outputs)?;
        }
    }
    out.push(b'}');
    Ok(Reply::json(200, out))
}

fn predictions(out: &mut Vec<u8>, outputs: &[Tensor]) -> Result<()> {
    let rows = outputs.first().map_or(0, Tensor::rows);
    if let Some(odd) = outputs.iter().find(|tensor| tensor.shape().is_empty() || tensor.rows() != rows) {
        return Err(Error::invalid_input(format!(
            "output '{}' has shape {}, which is not one entry for each of {rows} rows; \
             ask with 'inputs' instead of 'instances'",
            odd.name(),
            odd.shape()
        )));
    }
    if let [single] = outputs {
        return styled::whole(out, single, style(single));
    }
    write::try_list(out, 0..rows, |out, row| {
        styled::object(out, outputs, |out, tensor| styled::row(out, tensor, row, style(tensor)))
    })
}

fn outputs(out: &mut Vec<u8>, outputs: &[Tensor]) -> Result<()> {
    match outputs {
        [single] => styled::whole(out, single, style(single)),
        all => styled::object(out, all, |out, tensor| styled::whole(out, tensor, style(tensor))),
    }
}

/// A name that ends in `_bytes` asks for base64.
fn style(tensor: &Tensor) -> Style {
    if tensor.name().ends_with("_bytes") { Style::Base64 } else { Style::Tokens }
}

/// Reads the body of `:classify` or `:regress`.
///
/// # Errors
/// `InvalidInput` naming the example and the feature, or saying why the model cannot do it.
pub fn decode_examples(
    body: &[u8],
    method: Method,
    model: ModelRef,
    info: &ModelInfo,
    limits: &Limits,
) -> Result<InferRequest> {
    let outputs = method.outputs(info)?;
    let inputs = examples::from_json(body, info, limits.json_depth)?;
    Ok(InferRequest { outputs, ..request(model, inputs) })
}

/// Writes the reply to `:classify` or `:regress` of a request of `n_examples`.
///
/// # Errors
/// `InvalidInput` where the outputs have another shape than the method needs.
pub fn encode_results(response: &InferResponse, method: Method, n_examples: usize) -> Result<Reply> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"{\"results\":");
    match method {
        Method::Classify => {
            let classes = results::classes(response, n_examples)?;
            write::try_list(&mut out, 0..n_examples, |out, example| {
                write::try_list(out, classes.of(example), |out, class| {
                    let (label, score) = class?;
                    out.push(b'[');
                    write::string(out, &label);
                    out.push(b',');
                    write::f32(out, score);
                    out.push(b']');
                    Ok(())
                })
            })?;
        }
        Method::Regress => styled::whole(&mut out, &results::regressions(response, n_examples)?, Style::Tokens)?,
    }
    out.push(b'}');
    Ok(Reply::json(200, out))
}

/// What is made of examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Classes with their scores.
    Classify,
    /// One number.
    Regress,
}

impl Method {
    /// Returns the outputs that it needs.
    pub(crate) fn outputs(self, info: &ModelInfo) -> Result<Vec<Arc<str>>> {
        match self {
            Self::Classify => results::classify_outputs(info),
            Self::Regress => results::regress_output(info).map(|name| vec![name]),
        }
    }
}

/// Writes an error in this protocol's form.
pub fn encode_error(error: &Error) -> Reply {
    Reply::error(error.kind().http_status(), error.message())
}

/// Answers a method or path that the API does not have.
pub fn malformed(method: &str, path: &str) -> Reply {
    Reply::error(400, &format!("Malformed request: {} {}", read::clip(method), read::clip(path)))
}

/// Makes the error for a model that is not served, in TF Serving's words. A label that stands for
/// nothing is an invalid argument there.
pub fn servable_not_found(model: &ModelRef) -> Error {
    let servable = match &model.selector {
        Selector::Latest => format!("Latest({})", model.name),
        Selector::Version(version) => format!("Specific({}, {version})", model.name),
        Selector::Label(label) => {
            return Error::invalid_input(format!("Unrecognized servable version label: {}", read::clip(label)));
        }
    };
    Error::not_found(format!("Servable not found for request: {servable}"))
}

#[cfg(test)]
mod tests;
