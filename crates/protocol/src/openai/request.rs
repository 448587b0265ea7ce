//! The body of `/v1/embeddings`.

use jiter::{Jiter, Peek};
use salver_core::{DataType, Error, InferRequest, ModelRef, Result};

use super::{MOST_TEXTS, Options};
use crate::Limits;
use crate::json::packed::Packed;
use crate::json::read::{self, OrNotJson as _};
use crate::rows::request;
use crate::task::TEXT;

const KNOWN: &[&str] = &["model", "input", "encoding_format", "dimensions"];

/// Reads the body of `/v1/embeddings`: which model, which texts, and how the reply is written.
///
/// # Errors
/// `InvalidInput` that begins with the name of the field at fault.
pub fn decode_embeddings(body: &[u8], limits: &Limits) -> Result<(InferRequest, Options)> {
    read::check_depth(body, limits.json_depth)?;
    let mut reader = Jiter::new(body);
    let (mut model, mut texts) = (None, None);
    let mut options = Options { base64: false, dimensions: None };
    read::members(&mut reader, "the request", KNOWN, limits.json_depth, |reader, key| {
        match key {
            "model" => model = Some(model_ref(reader)?),
            "input" => texts = Some(input(reader)?),
            "encoding_format" => options.base64 = is_base64(reader)?,
            _ => options.dimensions = dimensions(reader)?,
        }
        Ok(())
    })?;
    reader.finish().or_not_json()?;
    let model =
        model.ok_or_else(|| Error::invalid_input("'model' is missing; GET /v1/models lists those there are"))?;
    let texts = texts.ok_or_else(|| Error::invalid_input("'input' is missing; expected a text or a list of texts"))?;
    let rows = texts.len();
    Ok((request(model, vec![texts.finish(TEXT, [rows])?]), options))
}

fn model_ref(reader: &mut Jiter<'_>) -> Result<ModelRef> {
    match reader.peek().or_not_json()? {
        Peek::String => {
            let name = reader.known_str().or_not_json()?;
            name.parse().map_err(|error: Error| error.context("'model'"))
        }
        _ => Err(Error::invalid_input("'model' must be a string: the name of a model, or NAME@LABEL, or NAME/VERSION")),
    }
}

/// Reads one text or a list of them.
fn input(reader: &mut Jiter<'_>) -> Result<Packed> {
    let mut texts = Packed::new(DataType::Bytes, 0);
    match reader.peek().or_not_json()? {
        Peek::String => push(reader, &mut texts)?,
        Peek::Array => {
            let mut next = reader.known_array().or_not_json()?;
            while let Some(peek) = next {
                match peek {
                    Peek::String => push(reader, &mut texts)?,
                    _ => return Err(no_text(peek, texts.len())),
                }
                if texts.len() > MOST_TEXTS {
                    return Err(Error::invalid_input(format!(
                        "'input' has more than {MOST_TEXTS} texts; send them in several requests"
                    )));
                }
                next = reader.array_step().or_not_json()?;
            }
        }
        _ => return Err(Error::invalid_input("'input' must be a string or a list of strings")),
    }
    if texts.is_empty() {
        return Err(Error::invalid_input("'input' must not be an empty list"));
    }
    Ok(texts)
}

fn push(reader: &mut Jiter<'_>, texts: &mut Packed) -> Result<()> {
    let row = texts.len();
    let text = reader.known_str().or_not_json().map_err(|error| error.context(format!("'input', text {row}")))?;
    texts.push_bytes(text.as_bytes())
}

/// Clients that split long texts themselves send the tokens of OpenAI's models.
fn no_text(peek: Peek, row: usize) -> Error {
    Error::invalid_input(match peek.is_num() || peek == Peek::Array {
        true => "'input' holds tokens; this model has a tokenizer of its own, so send texts (in LangChain: \
                 check_embedding_ctx_length=False)"
            .to_owned(),
        false => format!("'input' must be a string or a list of strings; entry {row} is none"),
    })
}

fn is_base64(reader: &mut Jiter<'_>) -> Result<bool> {
    match reader.peek().or_not_json()? {
        Peek::Null => reader.known_null().or_not_json().map(|()| false),
        Peek::String => match reader.known_str().or_not_json()? {
            "float" => Ok(false),
            "base64" => Ok(true),
            other => Err(Error::invalid_input(format!(
                "'encoding_format' must be float or base64, got '{}'",
                read::clip(other)
            ))),
        },
        _ => Err(Error::invalid_input("'encoding_format' must be the string float or base64")),
    }
}

fn dimensions(reader: &mut Jiter<'_>) -> Result<Option<usize>> {
    let refuse = || Error::invalid_input("'dimensions' must be a whole number from 1 on");
    match reader.peek().or_not_json()? {
        Peek::Null => reader.known_null().or_not_json().map(|()| None),
        peek if peek.is_num() => {
            let number = reader.known_int(peek).map_err(|_| refuse())?;
            let number = crate::json::element::whole(number).and_then(|number| usize::try_from(number).ok());
            number.filter(|&number| number > 0).map(Some).ok_or_else(refuse)
        }
        _ => Err(refuse()),
    }
}
