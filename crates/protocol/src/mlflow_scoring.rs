//! The scoring server of MLflow: `/invocations` in every form, and its answers.
//!
//! Frames match the model's inputs by column name: order is free, extra columns are dropped. A
//! single input without declared columns takes the whole frame, as NumPy models do in MLflow.
//! Unlike MLflow, short rows are refused instead of padded with NaN.
//! Source: MLflow, `mlflow/pyfunc/scoring_server/__init__.py`, and its observed answers.

mod frame;

use jiter::{Jiter, Peek};
use salver_core::{Error, ErrorKind, InferRequest, InferResponse, ModelInfo, ModelRef, Result, Tensor};

use crate::json::nested::{self, Leaves};
use crate::json::read::{self, OrNotJson as _};
use crate::json::styled::{self, Style};
use crate::json::write;
use crate::rows::{Fit, fit, request};
use crate::task::Task;
use crate::{Limits, Reply};

/// The forms of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `text/csv`
    Csv,
}

/// Reads a `Content-Type`; only the parameter `charset=utf-8` may come with it.
///
/// # Errors
/// The finished reply: 415, in plain text as MLflow sends it.
pub fn content_type(header: Option<&str>) -> Result<ContentType, Reply> {
    let header = header.unwrap_or_default();
    let mut parts = header.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let kind = if media.eq_ignore_ascii_case("application/json") {
        ContentType::Json
    } else if media.eq_ignore_ascii_case("text/csv") {
        ContentType::Csv
    } else {
        return Err(unsupported_media(&format!(
            "This predictor only supports the following content types: Types: ['application/json', 'text/csv']. \
             Got '{}'.",
            read::clip(header)
        )));
    };
    for parameter in parts.filter(|part| !part.is_empty()) {
        if !parameter.eq_ignore_ascii_case("charset=utf-8") {
            return Err(unsupported_media(&format!(
                "The content type allows the parameter charset=utf-8 only. Got '{}'.",
                read::clip(parameter)
            )));
        }
    }
    Ok(kind)
}

fn unsupported_media(text: &str) -> Reply {
    Reply::text(415, text.to_owned())
}

/// Reads the body of `/invocations`.
///
/// # Errors
/// `InvalidInput` naming the row and column, what was expected and what came.
pub fn decode_invocations(
    body: &[u8],
    kind: ContentType,
    model: ModelRef,
    info: &ModelInfo,
    limits: &Limits,
) -> Result<InferRequest> {
    let tensors = match kind {
        ContentType::Json => json(body, info, limits)?,
        ContentType::Csv => frame::csv(body, info)?,
    };
    let fitted = tensors.into_iter().map(|tensor| match info.signature.input(tensor.name()) {
        Some(spec) => fit(tensor, spec, Fit::UnitOnly),
        None => Ok(tensor),
    });
    Ok(request(model, fitted.collect::<Result<Vec<Tensor>>>()?))
}

fn json(body: &[u8], info: &ModelInfo, limits: &Limits) -> Result<Vec<Tensor>> {
    read::check_depth(body, limits.json_depth)?;
    let depth = limits.json_depth;
    let mut reader = read::reader(body);
    let mut found: Option<Vec<Tensor>> = None;
    if reader.peek().or_not_json()? != Peek::Object {
        return Err(Error::invalid_input(format!("the body must be an object with one of the keys {KEYS}")));
    }
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        let form = Form::of(name);
        let is_params = name == "params";
        if form.is_some() && found.is_some() {
            return Err(Error::invalid_input(format!("the body must have exactly one of the keys {KEYS}")));
        }
        match form {
            Some(form) => found = Some(form.read(&mut reader, info, depth)?),
            None => {
                let value = read::skip(&mut reader, depth)?;
                if is_params && !value.starts_with(b"{") {
                    return Err(Error::invalid_input("'params' must be an object"));
                }
            }
        }
        key = reader.next_key().or_not_json()?;
    }
    reader.finish().or_not_json()?;
    found.ok_or_else(|| Error::invalid_input(format!("the body has none of the keys {KEYS}")))
}

const KEYS: &str = "'dataframe_split', 'dataframe_records', 'instances', 'inputs'";

#[derive(Clone, Copy)]
enum Form {
    Split,
    Records,
    Instances,
    Inputs,
}

impl Form {
    fn of(key: &str) -> Option<Self> {
        match key {
            "dataframe_split" => Some(Self::Split),
            "dataframe_records" => Some(Self::Records),
            "instances" => Some(Self::Instances),
            "inputs" => Some(Self::Inputs),
            _ => None,
        }
    }

    fn read(self, reader: &mut Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
        match self {
            Self::Split => frame::split(reader, info, depth).map_err(|error| error.context("'dataframe_split'")),
            Self::Records => frame::records(reader, info, depth).map_err(|error| error.context("'dataframe_records'")),
            Self::Instances => instances(reader, info, depth).map_err(|error| error.context("'instances'")),
            Self::Inputs => inputs(reader, info, depth).map_err(|error| error.context("'inputs'")),
        }
    }
}

/// Reads rows: objects by column, or the values of a single input.
fn instances(reader: &mut Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    let peek = reader.peek().or_not_json()?;
    if peek != Peek::Array {
        return Err(Error::invalid_input("must be a list of rows"));
    }
    match reader.clone().known_array() {
        Ok(Some(Peek::Object) | None) => frame::records(reader, info, depth),
        _ => whole(reader, peek, info),
    }
}

/// Reads columns by name, or the value of a single input.
fn inputs(reader: &mut Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    match reader.peek().or_not_json()? {
        Peek::Object => frame::columns(reader, info, depth),
        // No rows, whatever they would have been.
        Peek::Array if matches!(reader.clone().known_array(), Ok(None)) => frame::records(reader, info, depth),
        peek => whole(reader, peek, info),
    }
}

fn whole(reader: &mut Jiter<'_>, peek: Peek, info: &ModelInfo) -> Result<Vec<Tensor>> {
    let [spec] = &info.signature.inputs[..] else {
        return Err(Error::invalid_input(format!(
            "model '{}' has {} inputs; give them by name",
            info.name,
            info.signature.inputs.len()
        )));
    };
    Ok(vec![nested::input(reader, peek, spec, Leaves::Convertible, Task::of(info).cells(spec))?])
}

/// What the only output of a model is called that has no name in MLflow: its values are the answer,
/// as MLflow's server writes an array.
const UNNAMED: &str = "predictions";

/// Writes the answer of `/invocations`: one record per row, or whole outputs where they have no
/// rows in common; the values alone of an output without a name.
///
/// # Errors
/// None that the data can cause; the result is that of the writer beneath.
pub fn encode_invocations(response: &InferResponse) -> Result<Reply> {
    let outputs = &response.outputs;
    let mut out = b"{\"predictions\":".to_vec();
    let rows = outputs.first().map_or(0, Tensor::rows);
    if let [only] = outputs.as_slice()
        && **only.name() == *UNNAMED
        && only.element_count() > 0
    {
        styled::whole(&mut out, only, Style::Tokens)?;
    } else if outputs.iter().all(|tensor| !tensor.shape().is_empty() && tensor.rows() == rows) {
        // `[10^12, 0]` takes no memory as a tensor and must not as text either.
        let is_empty = outputs.iter().all(|tensor| tensor.element_count() == 0);
        let rows = if is_empty { 0 } else { rows };
        write::try_list(&mut out, 0..rows, |out, row| {
            styled::object(out, outputs, |out, tensor| styled::cell(out, tensor, row, Style::Tokens))
        })?;
    } else {
        styled::object(&mut out, outputs, |out, tensor| styled::whole(out, tensor, Style::Tokens))?;
    }
    out.push(b'}');
    Ok(Reply::json(200, out))
}

/// Writes an error in MLflow's form.
pub fn encode_error(error: &Error) -> Reply {
    let mut out = b"{\"error_code\":".to_vec();
    write::string(&mut out, error_code(error.kind()));
    out.extend_from_slice(b",\"message\":");
    write::string(&mut out, error.message());
    out.push(b'}');
    Reply::json(error.kind().http_status(), out)
}

/// The names are those of MLflow's and Databricks' error codes.
const fn error_code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::TooLarge => "BAD_REQUEST",
        ErrorKind::Unauthenticated => "UNAUTHENTICATED",
        ErrorKind::Forbidden => "PERMISSION_DENIED",
        ErrorKind::NotFound | ErrorKind::Gone => "RESOURCE_DOES_NOT_EXIST",
        ErrorKind::Conflict => "RESOURCE_CONFLICT",
        ErrorKind::Overloaded => "REQUEST_LIMIT_EXCEEDED",
        ErrorKind::NotReady => "TEMPORARILY_UNAVAILABLE",
        ErrorKind::Deadline => "DEADLINE_EXCEEDED",
        ErrorKind::Cancelled => "CANCELLED",
        ErrorKind::Unsupported => "NOT_IMPLEMENTED",
        ErrorKind::Full => "RESOURCE_EXHAUSTED",
        ErrorKind::Engine => "INTERNAL_ERROR",
    }
}

#[cfg(test)]
mod tests;
