//! The natural JSON for a model: our own way, for people.
//!
//! In: a row object, a list of rows, nested lists, or an `.npy` array; the batch dimension may be
//! left out. Models of texts and pictures also take those themselves, as the body or as the files of
//! a form. Out: named results per row, with class labels where the model has them. Strict JSON both
//! ways: `null` stands for what is not a finite number.

mod answer;
mod body;
pub(crate) mod cast;
mod describe;
mod labels;
mod multipart;

use bytes::Bytes;
use jiter::{Jiter, Peek};
use salver_core::{Error, ErrorKind, InferRequest, ModelInfo, ModelRef, Result, Tensor, TensorSpec};

use crate::json::nested::{self, Leaves};
use crate::json::read::{self, OrNotJson as _};
use crate::json::write;
use crate::rows::{Fit, RowOptions, Rows, UnknownKeys, fit, request};
use crate::task::Task;
use crate::{Limits, Reply, npy};

pub use self::answer::encode_predict;
use self::body::Body;
pub use self::describe::{describe, example, sample_file};

/// Reads the body of `/models/{name}/predict`.
///
/// A body is an `.npy` array if its type says so or its first bytes do, else JSON whatever its
/// type says: `curl -d` claims a form. What models of texts and pictures take beside that is told
/// in `body.rs`.
///
/// # Errors
/// `InvalidInput` naming the row, column or input, what was expected and what came; `TooLarge` for
/// more than a stated limit.
pub fn decode_predict(
    body: Bytes,
    content_type: Option<&str>,
    model: ModelRef,
    info: &ModelInfo,
    limits: &Limits,
) -> Result<InferRequest> {
    let task = Task::of(info);
    let tensors = match Body::of(task, content_type, &body)? {
        Body::Json => json(&body, info, limits)?,
        Body::Array => vec![array(body, info)?],
        Body::Raw(input) => vec![body::raw(input, &body)?],
        Body::Form(boundary) => body::form(&body, &boundary, task, info)?,
    };
    let fitted = tensors.into_iter().map(|tensor| match info.signature.input(tensor.name()) {
        Some(spec) => fit(tensor, spec, Fit::BatchToo),
        None => Ok(tensor),
    });
    let mut tensors = fitted.collect::<Result<Vec<Tensor>>>()?;
    if task == Task::ZeroShot {
        labels::spread(&mut tensors, limits)?;
    }
    Ok(request(model, tensors))
}

/// Reads an array for the only input, converted to its type where nothing but precision is lost.
fn array(body: Bytes, info: &ModelInfo) -> Result<Tensor> {
    let spec = single_input(info)?;
    cast::cast(npy::decode(&spec.name, body)?, spec.dtype)
}

fn single_input(info: &ModelInfo) -> Result<&TensorSpec> {
    match &info.signature.inputs[..] {
        [spec] => Ok(spec),
        // The labels may be the model's own.
        [spec, rest] if rest.optional && Task::of(info) == Task::ZeroShot => Ok(spec),
        _ => Err(Error::invalid_input(format!(
            "model '{}' takes an object with the keys {}",
            info.name,
            Rows::of_columns(info, OPTIONS).expected_keys()
        ))),
    }
}

const OPTIONS: RowOptions = RowOptions { leaves: Leaves::NullIsNan, unknown: UnknownKeys::Refused };

fn json(body: &[u8], info: &ModelInfo, limits: &Limits) -> Result<Vec<Tensor>> {
    read::check_depth(body, limits.json_depth)?;
    // Without the tokens for non-finite numbers, which JSON does not have.
    let mut reader = Jiter::new(body);
    let peek = reader.peek().or_not_json()?;
    let tensors = match peek {
        Peek::Object => wrapped(&mut reader, info, limits.json_depth)?,
        _ => value(&mut reader, peek, info, limits.json_depth)?,
    };
    reader.finish().or_not_json()?;
    Ok(tensors)
}

/// Reads `{"row": …}`, `{"rows": …}` or `{"inputs": …}`, or the object itself where it is neither.
fn wrapped(reader: &mut Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    let mut inside = reader.clone();
    let wrapper = match inside.known_object().or_not_json()? {
        Some(key @ ("row" | "rows" | "inputs")) if !Rows::of_columns(info, OPTIONS).knows(key) => key.to_owned(),
        _ => return value(reader, Peek::Object, info, depth),
    };
    *reader = inside;
    let peek = reader.peek().or_not_json()?;
    let tensors = value(reader, peek, info, depth).map_err(|error| error.context(format!("'{wrapper}'")))?;
    match reader.next_key().or_not_json()? {
        None => Ok(tensors),
        Some(other) => Err(Error::invalid_input(format!(
            "expected nothing beside '{wrapper}', got the key '{}'",
            read::clip(other)
        ))),
    }
}

/// Reads rows, tensors by name, or the one tensor of a model with one input.
fn value(reader: &mut Jiter<'_>, peek: Peek, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    match peek {
        Peek::Object if is_row(reader, info, depth)? => {
            let mut rows = Rows::of_columns(info, OPTIONS);
            rows.object(reader, peek, depth)?;
            rows.finish()
        }
        Peek::Object => by_name(reader, info),
        Peek::Array if matches!(reader.clone().known_array(), Ok(Some(Peek::Object))) => {
            let mut rows = Rows::of_columns(info, OPTIONS);
            rows.objects(reader, depth)?;
            rows.finish()
        }
        _ => {
            let spec = single_input(info)?;
            Ok(vec![nested::input(reader, peek, spec, OPTIONS.leaves, Task::of(info).cells(spec))?])
        }
    }
}

/// Whether the object that `reader` stands before is a row of a table.
fn is_row(reader: &Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<bool> {
    if Task::of(info) != Task::Columns {
        return has_column(reader.clone(), info, depth);
    }
    // Of columns that are inputs, values make a row and lists make many.
    let mut inside = reader.clone();
    let first = inside.known_object().or_not_json()?.is_some();
    Ok(!first || inside.peek().or_not_json()? != Peek::Array)
}

/// Whether a key of the object that `reader` stands before is a column of a table.
fn has_column(mut reader: Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<bool> {
    let is_column = |key: &str| info.columns.iter().flatten().any(|column| column == key);
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        if is_column(name) {
            return Ok(true);
        }
        if info.signature.input(name).is_none() {
            // An unknown key: for a table it is a misspelt column, so let the row complain.
            return Ok(info.columns.iter().any(|columns| !columns.is_empty()));
        }
        read::skip(&mut reader, depth)?;
        key = reader.next_key().or_not_json()?;
    }
    Ok(false)
}

fn by_name(reader: &mut Jiter<'_>, info: &ModelInfo) -> Result<Vec<Tensor>> {
    let mut tensors: Vec<Tensor> = Vec::with_capacity(info.signature.inputs.len());
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        let Some(spec) = info.signature.input(name) else {
            return Err(Error::invalid_input(format!(
                "model '{}' has no input '{}'; expected the keys {}",
                info.name,
                read::clip(name),
                Rows::of_columns(info, OPTIONS).expected_keys()
            )));
        };
        if tensors.iter().any(|tensor| *tensor.name() == spec.name) {
            return Err(read::duplicate(name, "the body"));
        }
        let peek = reader.peek().or_not_json()?;
        tensors.push(nested::input(reader, peek, spec, OPTIONS.leaves, Task::of(info).cells(spec))?);
        key = reader.next_key().or_not_json()?;
    }
    Ok(tensors)
}

/// Writes an error as `{"error": {"kind": …, "message": …}}`.
pub fn encode_error(error: &Error) -> Reply {
    let mut out = b"{\"error\":{\"kind\":".to_vec();
    write::string(&mut out, kind_name(error.kind()));
    out.extend_from_slice(b",\"message\":");
    write::string(&mut out, error.message());
    out.extend_from_slice(b"}}");
    Reply::json(error.kind().http_status(), out)
}

/// Returns the name of a kind as errors of our own routes spell it.
const fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Forbidden => "forbidden",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::NotReady => "not_ready",
        ErrorKind::Deadline => "deadline",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Engine => "engine",
        ErrorKind::Gone => "gone",
        ErrorKind::Full => "full",
    }
}

#[cfg(test)]
mod tests;
