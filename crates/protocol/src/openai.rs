//! OpenAI's embeddings and chat completions, and its list of models: what its clients and those of others ask.
//!
//! Texts in, vectors out. Tokens instead of texts are refused, because they are those of another
//! model's tokenizer. Fields that do not change an answer (`user`) are not looked at.
//! Source: OpenAI's API reference, "Embeddings" and "Models".

mod chat;
mod request;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use salver_core::{
    DataType, Dim, Error, ErrorKind, InferRequest, InferResponse, ModelInfo, Result, Tensor, TensorSpec,
};
use serde_json::{Value, json};

pub use self::chat::{decode_chat, encode_chat};
pub use self::request::decode_embeddings;
use crate::Reply;
use crate::json::styled::{self, Style};
use crate::json::write;
use crate::plain::cast;
use crate::task::{TEXT, TEXT_EMBEDDING};

/// The most texts of one request, as at OpenAI.
pub const MOST_TEXTS: usize = 2048;

/// The output with the vectors.
const EMBEDDING: &str = "embedding";
/// The task of models that take and give tensors.
const TENSOR: &str = "tensor";
/// The output with the number of tokens.
const TOKENS: &str = "tokens";

/// How the vectors of a reply are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// As base64 of their little-endian floats of 32 bits, else as lists of numbers.
    pub base64: bool,
    /// How many numbers the caller expects; none: as many as the model makes.
    pub dimensions: Option<usize>,
}

/// Checks that a model makes vectors of texts, as many numbers as the caller expects.
///
/// # Errors
/// `InvalidInput` saying what the model does instead.
pub fn check_model(info: &ModelInfo, options: Options) -> Result<()> {
    let output = info.signature.output(EMBEDDING);
    let Some(output) = output.filter(|output| makes_embeddings(info, output)) else {
        return Err(Error::invalid_input(format!(
            "'model': '{}' has the task {} and makes no embeddings of texts; choose a model with the task {TEXT_EMBEDDING}",
            info.name, info.task
        )));
    };
    match (output.shape.last(), options.dimensions) {
        (Some(Dim::Fixed(made)), Some(wanted)) if *made != wanted => Err(other_dimensions(info, *made, wanted)),
        _ => Ok(()),
    }
}

/// A model without a task, as those of other servers are, does the same where its tensors say so.
fn makes_embeddings(info: &ModelInfo, output: &TensorSpec) -> bool {
    let takes_texts = info.signature.input(TEXT).is_some_and(|input| input.dtype == DataType::Bytes);
    let gives_rows = output.dtype == DataType::Fp32 && output.shape.len() == 2;
    takes_texts && (info.task == TEXT_EMBEDDING || (info.task == TENSOR && gives_rows))
}

/// Gives the texts of a request the shape that the model wants: a list, or rows of one.
///
/// # Errors
/// As [`check_model`].
pub fn fit_embeddings(request: &mut InferRequest, info: &ModelInfo, options: Options) -> Result<()> {
    check_model(info, options)?;
    let rank = info.signature.input(TEXT).map_or(1, |spec| spec.shape.len());
    for input in &mut request.inputs {
        let shape = std::iter::once(input.rows()).chain(std::iter::repeat_n(1, rank.saturating_sub(1))).collect();
        *input = input.clone().reshape(shape)?;
    }
    Ok(())
}

fn other_dimensions(info: &ModelInfo, made: usize, wanted: usize) -> Error {
    Error::invalid_input(format!(
        "'dimensions': model '{}' makes embeddings of {made}, not of {wanted}; leave 'dimensions' out",
        info.name
    ))
}

/// Writes the answer of `/v1/embeddings`.
///
/// # Errors
/// As [`check_model`]; `Engine` where the outputs are not what the task promises.
pub fn encode_embeddings(response: &InferResponse, options: Options) -> Result<Reply> {
    let info = &response.model;
    check_model(info, options)?;
    let find = |name: &str| response.outputs.iter().find(|tensor| &**tensor.name() == name);
    let vectors = find(EMBEDDING).filter(|tensor| tensor.shape().len() == 2);
    let vectors = vectors.ok_or_else(|| Error::engine(format!("model '{}' gave no list of embeddings", info.name)))?;
    let (rows, width) = (vectors.rows(), vectors.shape().last().copied().unwrap_or(0));
    if let Some(wanted) = options.dimensions.filter(|&wanted| wanted != width) {
        return Err(other_dimensions(info, width, wanted));
    }
    let singles = cast::cast(vectors.clone(), DataType::Fp32)?;
    let per_row = if options.base64 { width * 16 / 3 } else { width * 12 };
    let mut out = Vec::with_capacity(rows.saturating_mul(per_row + 64).saturating_add(128));
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":");
    write::try_list(&mut out, 0..rows, |out, row| {
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        write::int(out, row);
        out.extend_from_slice(b",\"embedding\":");
        if options.base64 {
            base64_row(out, &singles, row, width)
        } else {
            styled::row(out, &singles, row, Style::Nulls)?
        };
        out.push(b'}');
        Ok(())
    })?;
    out.extend_from_slice(b",\"model\":");
    write::string(&mut out, &info.name);
    let tokens = find(TOKENS).map_or(0, sum);
    out.extend_from_slice(b",\"usage\":{\"prompt_tokens\":");
    write::int(&mut out, tokens);
    out.extend_from_slice(b",\"total_tokens\":");
    write::int(&mut out, tokens);
    out.extend_from_slice(b"}}");
    Ok(Reply::json(200, out))
}

/// Appends a row of a tensor of singles as its bytes stand in memory.
fn base64_row(out: &mut Vec<u8>, vectors: &Tensor, row: usize, width: usize) {
    let size = width * size_of::<f32>();
    let bytes = vectors.bytes().and_then(|bytes| bytes.get(row * size..(row + 1) * size)).unwrap_or_default();
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

fn sum(tokens: &Tensor) -> u64 {
    let counts = tokens.to_vec::<i32>().unwrap_or_default();
    counts.into_iter().map(|count| u64::try_from(count).unwrap_or(0)).sum()
}

/// Lists models as OpenAI does and, under `models`, as KServe does. `created` is in seconds since
/// the epoch.
pub fn model_list(names: &[String], created: u64) -> Reply {
    let data: Vec<Value> = names.iter().map(|name| model(name, created)).collect();
    Reply::json_value(200, &json!({ "object": "list", "data": data, "models": names }))
}

/// Returns a model as OpenAI's clients read it.
pub(crate) fn model(name: &str, created: u64) -> Value {
    json!({ "id": name, "object": "model", "created": created, "owned_by": "salver" })
}

/// The fields of a request, which messages about them begin with.
const FIELDS: [&str; 19] = [
    "model",
    "input",
    "encoding_format",
    "dimensions",
    "user",
    "messages",
    "stream",
    "n",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "tools",
    "response_format",
    "logprobs",
];

/// Writes an error as `{"error": {"message", "type", "param", "code"}}`.
pub fn encode_error(error: &Error) -> Reply {
    let kind = error.kind();
    let named = error.message().strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(name, _)| name);
    let param = match kind {
        ErrorKind::NotFound => Some("model"),
        _ => FIELDS.into_iter().find(|field| Some(*field) == named),
    };
    let body = json!({ "error": {
        "message": error.message(),
        "type": type_of(kind),
        "param": param,
        "code": code_of(kind),
    } });
    Reply::json_value(kind.http_status(), &body)
}

/// Returns what OpenAI calls this sort of error.
const fn type_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput
        | ErrorKind::TooLarge
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Gone
        | ErrorKind::Unsupported => "invalid_request_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::Overloaded => "rate_limit_error",
        ErrorKind::NotReady | ErrorKind::Deadline | ErrorKind::Cancelled | ErrorKind::Engine | ErrorKind::Full => {
            "server_error"
        }
    }
}

/// Returns the word that programs look at.
const fn code_of(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotFound => Some("model_not_found"),
        ErrorKind::Overloaded => Some("rate_limit_exceeded"),
        ErrorKind::NotReady => Some("model_not_ready"),
        ErrorKind::TooLarge => Some("request_too_large"),
        ErrorKind::Deadline => Some("timeout"),
        ErrorKind::InvalidInput
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::Conflict
        | ErrorKind::Cancelled
        | ErrorKind::Unsupported
        | ErrorKind::Engine
        | ErrorKind::Gone
        | ErrorKind::Full => None,
    }
}

#[cfg(test)]
mod tests;
