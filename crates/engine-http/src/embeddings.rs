//! OpenAI's embeddings: texts in, vectors out, as many texts in a call as the interface takes.
//!
//! Source: OpenAI's API reference, "Create embeddings".

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use salver_core::{AsyncCall, Batching, DataType, Error, Result, Signature, Tensor, TensorSpec};
use serde_json::{Value, json};

use crate::call::{Caller, Question, Reading, side_by_side};
use crate::chat::usage;

/// The most texts of one call.
const MOST_TEXTS: usize = 2048;

/// What every model of this interface takes and gives.
pub(crate) fn signature(dimensions: Option<usize>) -> Signature {
    let width = dimensions.and_then(|dimensions| i64::try_from(dimensions).ok()).unwrap_or(-1);
    Signature {
        inputs: vec![TensorSpec::new("text", DataType::Bytes, &[-1, 1])],
        outputs: vec![TensorSpec::new("embedding", DataType::Fp32, &[-1, width])],
        batching: Batching::Rows { limit: None },
    }
}

/// Vectors of one call, row after row.
struct Vectors {
    rows: usize,
    width: usize,
    values: Vec<u8>,
}

/// Answers a request.
pub(crate) async fn run(
    caller: &Caller,
    headers: &HeaderMap,
    dimensions: Option<usize>,
    call: AsyncCall<'_>,
) -> Result<Vec<Tensor>> {
    let elements = call.inputs.first().and_then(Tensor::elements);
    let elements = elements.ok_or_else(|| Error::invalid_input("expected input 'text' of type BYTES"))?;
    let texts = elements.iter().map(std::str::from_utf8).collect::<Result<Vec<&str>, _>>();
    let texts = texts.map_err(|_| Error::invalid_input("'text' must be UTF-8"))?;
    let calls = texts.chunks(MOST_TEXTS).map(|texts| {
        let body = json!({ "model": caller.remote.model, "input": texts, "encoding_format": "base64" });
        let body = Some(Bytes::from(body.to_string()));
        let question = Question { path: "/embeddings".into(), headers: Cow::Borrowed(headers), body };
        let (rows, ctx) = (texts.len(), call.ctx);
        async move { caller.ask(&question, ctx, move |_, body| read(&body, rows)).await }
    });
    let asked: Vec<Result<Vectors>> = side_by_side(calls.collect(), caller.options.max_concurrency).await;
    join(caller, dimensions, asked.into_iter().collect::<Result<_>>()?)
}

fn join(caller: &Caller, dimensions: Option<usize>, all: Vec<Vectors>) -> Result<Vec<Tensor>> {
    let width = all.first().map_or(dimensions.unwrap_or(0), |vectors| vectors.width);
    if let Some(odd) = all.iter().find(|vectors| vectors.width != dimensions.unwrap_or(width)) {
        let expected = dimensions.unwrap_or(width);
        let text = format!("vectors of {} numbers came, expected {expected} (dimensions)", odd.width);
        return Err(caller.remote.unusable(&text));
    }
    let rows = all.iter().map(|vectors| vectors.rows).sum();
    let values = all.iter().map(|vectors| vectors.values.as_slice()).collect::<Vec<_>>().concat();
    Ok(vec![Tensor::new("embedding", DataType::Fp32, [rows, width], values.into())?])
}

fn read(body: &[u8], rows: usize) -> Reading<Vectors> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Reading { usage: None, value: Err("it is not JSON".to_owned()) };
    };
    Reading { usage: usage(&answer), value: vectors(&answer, rows) }
}

/// Puts the vectors into the order of their texts.
fn vectors(answer: &Value, rows: usize) -> Result<Vectors, String> {
    let data = answer["data"].as_array().ok_or("it has no data")?;
    if data.len() != rows {
        return Err(format!("it has {} vectors for {rows} texts", data.len()));
    }
    let mut found: Vec<Option<Vec<u8>>> = vec![None; rows];
    for (place, entry) in data.iter().enumerate() {
        let idx = match entry.get("index") {
            None => Some(place),
            Some(idx) => idx.as_u64().and_then(|idx| usize::try_from(idx).ok()),
        };
        let slot = idx.and_then(|idx| found.get_mut(idx)).filter(|slot| slot.is_none());
        *slot.ok_or("its indexes are not those of the texts")? = Some(vector(&entry["embedding"])?);
    }
    let found: Vec<Vec<u8>> = found.into_iter().flatten().collect();
    let len = found.first().map_or(0, Vec::len);
    if len == 0 || found.iter().any(|vector| vector.len() != len) {
        return Err("its vectors are empty or differ in length".to_owned());
    }
    Ok(Vectors { rows, width: len / size_of::<f32>(), values: found.concat() })
}

/// Reads a vector as the bytes of its floats, which servers send as base64 or number by number.
fn vector(value: &Value) -> Result<Vec<u8>, String> {
    match value {
        Value::String(text) => {
            let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() % size_of::<f32>() == 0);
            bytes.ok_or_else(|| "a vector is not base64 of floats".to_owned())
        }
        Value::Array(numbers) => {
            let mut bytes = Vec::with_capacity(numbers.len() * size_of::<f32>());
            for number in numbers {
                #[expect(clippy::cast_possible_truncation, reason = "vectors are floats of 32 bits")]
                let number = number.as_f64().ok_or("a vector has something that is no number")? as f32;
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Ok(bytes)
        }
        _ => Err("it has an entry without a vector".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_in_both_forms_and_put_in_order() {
        let body = br#"{"data": [{"index": 1, "embedding": [1.5, -2]}, {"index": 0, "embedding": "AAAAPwAAgD8="}],
                        "usage": {"prompt_tokens": 4, "total_tokens": 4}}"#;
        let reading = read(body, 2);
        assert_eq!(reading.usage.map(|usage| usage.input), Some(4));
        let Ok(vectors) = reading.value else { panic!() };
        let expected: Vec<u8> = [0.5f32, 1.0, 1.5, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!((vectors.rows, vectors.width, vectors.values), (2, 2, expected));
    }

    #[test]
    fn what_does_not_fit_the_texts_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"data": []}"#,
            r#"{"data": [{"embedding": [1]}]}"#,
            r#"{"data": [{"embedding": [1]}, {"embedding": [1, 2]}]}"#,
            r#"{"data": [{"embedding": []}, {"embedding": []}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [1]}]}"#,
            r#"{"data": [{"embedding": "AAAA"}, {"embedding": "AAAA"}]}"#,
            r#"{"data": [{"embedding": ["x"]}, {"embedding": [1]}]}"#,
            r#"{"data": [1, 2]}"#,
        ] {
            assert!(read(body.as_bytes(), 2).value.is_err(), "{body}");
        }
    }
}
