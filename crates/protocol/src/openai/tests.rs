//! What OpenAI's clients send, and what they find in the reply.

use std::sync::Arc;

use salver_core::{InferRequest, Timings};

use super::*;
use crate::Limits;
use crate::samples::{columns, response, text_classes, text_vectors};

const FLOATS: Options = Options { base64: false, dimensions: None };

fn decode(body: &str) -> Result<(InferRequest, Options)> {
    decode_embeddings(body.as_bytes(), &Limits::default())
}

#[track_caller]
fn check(body: &str, texts: &[&str], options: Options) {
    let (request, read) = decode(body).unwrap();
    assert_eq!(read, options, "{body}");
    assert_eq!(request.model.to_string(), "m", "{body}");
    let found: Vec<&[u8]> = request.inputs[0].elements().unwrap().iter().collect();
    assert_eq!(found, texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>(), "{body}");
    text_vectors().signature.check("m", request.inputs).unwrap();
}

#[track_caller]
fn refused(body: &str, param: &str, expected: &str) {
    let error = decode(body).unwrap_err();
    let reply: Value = serde_json::from_slice(&encode_error(&error).body).unwrap();
    assert_eq!(reply["error"]["param"], param, "{body}: {reply}");
    assert_eq!(reply["error"]["type"], "invalid_request_error", "{body}");
    assert!(error.message().contains(expected), "{body}: {error}");
}

#[test]
fn one_text_and_many_are_read() {
    check(r#"{"model": "m", "input": "hello"}"#, &["hello"], FLOATS);
    check(r#"{"input": ["a", "b"], "model": "m", "user": "u", "extra": [1]}"#, &["a", "b"], FLOATS);
    let format = r#"{"model": "m", "input": "", "encoding_format": "base64", "dimensions": 3}"#;
    check(format, &[""], Options { base64: true, dimensions: Some(3) });
    check(r#"{"model": "m", "input": "x", "encoding_format": null, "dimensions": null}"#, &["x"], FLOATS);
    let many = vec!["\"t\""; MOST_TEXTS].join(",");
    check(&format!(r#"{{"model": "m", "input": [{many}]}}"#), &["t"; MOST_TEXTS], FLOATS);
    refused(&format!(r#"{{"model": "m", "input": [{many},"t"]}}"#), "input", "more than 2048 texts");
    assert_eq!(decode(r#"{"model": "m@stable", "input": "x"}"#).unwrap().0.model.to_string(), "m@stable");
}

#[test]
fn what_is_wrong_is_named() {
    refused(r#"{"input": "x"}"#, "model", "'model' is missing");
    refused(r#"{"model": 1, "input": "x"}"#, "model", "must be a string");
    refused(r#"{"model": "a b/c", "input": "x"}"#, "model", "'model': ");
    refused(r#"{"model": "m"}"#, "input", "'input' is missing");
    refused(r#"{"model": "m", "input": []}"#, "input", "empty");
    refused(r#"{"model": "m", "input": [1, 2]}"#, "input", "tokens");
    refused(r#"{"model": "m", "input": [[1, 2]]}"#, "input", "tokens");
    refused(r#"{"model": "m", "input": ["a", null]}"#, "input", "entry 1");
    refused(r#"{"model": "m", "input": {"text": "a"}}"#, "input", "a string or a list of strings");
    refused(r#"{"model": "m", "input": "x", "encoding_format": "hex"}"#, "encoding_format", "got 'hex'");
    refused(r#"{"model": "m", "input": "x", "encoding_format": 1}"#, "encoding_format", "float or base64");
    for bad in ["0", "-1", "1.5", "\"3\"", "1e3", "99999999999999999999999999"] {
        refused(&format!(r#"{{"model": "m", "input": "x", "dimensions": {bad}}}"#), "dimensions", "whole number");
    }
    for body in ["", "{", "[]", "\"x\"", r#"{"model": "m", "input": "x"} 1"#, r#"{"input": "x", "input": "x"}"#] {
        let error = decode(body).unwrap_err();
        let reply: Value = serde_json::from_slice(&encode_error(&error).body).unwrap();
        assert_eq!((error.kind(), &reply["error"]["param"]), (ErrorKind::InvalidInput, &Value::Null), "{body}");
    }
}

#[test]
fn only_models_that_make_vectors_of_texts_are_taken() {
    check_model(&text_vectors(), Options { dimensions: Some(3), ..FLOATS }).unwrap();
    let other = check_model(&text_vectors(), Options { dimensions: Some(2), ..FLOATS }).unwrap_err();
    assert!(other.message().starts_with("'dimensions': model 'm' makes embeddings of 3, not of 2"), "{other}");
    for info in [text_classes(), columns()] {
        let error = check_model(&info, FLOATS).unwrap_err();
        assert!(error.message().contains(&format!("'m' does {}", info.task)), "{error}");
    }
    // A model whose width is only known afterwards.
    let mut free = text_vectors();
    free.signature.outputs[0].shape[1] = Dim::Free;
    let narrow = Options { dimensions: Some(2), ..FLOATS };
    check_model(&free, narrow).unwrap();
    assert_eq!(encode_embeddings(&response(free, outputs()), narrow).unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn outputs() -> Vec<Tensor> {
    vec![
        Tensor::from_slice("embedding", [2, 3], &[0.5f32, -1.0, 0.25, 0.0, 1e-8, 3.0]).unwrap(),
        Tensor::from_slice("tokens", [2], &[3i32, 4]).unwrap(),
        Tensor::from_slice("truncated", [2], &[false, true]).unwrap(),
    ]
}

#[test]
fn vectors_are_written_as_numbers_or_as_their_bytes() {
    let written = |options| {
        let reply = encode_embeddings(&response(text_vectors(), outputs()), options).unwrap();
        String::from_utf8(reply.body.to_vec()).unwrap()
    };
    let usage = r#""model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    assert_eq!(
        written(FLOATS),
        format!(
            r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":[0.5,-1.0,0.25]}},{{"object":"embedding","index":1,"embedding":[0.0,1e-8,3.0]}}],{usage}"#
        )
    );
    let coded = written(Options { base64: true, dimensions: Some(3) });
    let parsed: Value = serde_json::from_str(&coded).unwrap();
    let bytes = STANDARD.decode(parsed["data"][1]["embedding"].as_str().unwrap()).unwrap();
    assert_eq!(bytes, [0.0f32, 1e-8, 3.0].map(f32::to_le_bytes).concat());
    assert!(coded.ends_with(usage), "{coded}");
}

#[test]
fn doubles_become_singles_and_what_is_no_vector_is_the_models_fault() {
    let mut answer = response(text_vectors(), outputs());
    answer.outputs[0] = Tensor::from_slice("embedding", [1, 3], &[0.5f64, 1.0, 2.0]).unwrap();
    let reply = encode_embeddings(&answer, Options { base64: true, dimensions: None }).unwrap();
    let parsed: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(parsed["data"][0]["embedding"].as_str().map(str::len), Some(16));
    answer.outputs.remove(0);
    assert_eq!(encode_embeddings(&answer, FLOATS).unwrap_err().kind(), ErrorKind::Engine);
    let other = InferResponse { model: Arc::new(text_classes()), timings: Timings::default(), ..answer };
    assert_eq!(encode_embeddings(&other, FLOATS).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn errors_have_the_words_that_clients_look_at() {
    let of = |kind| {
        let reply = encode_error(&Error::new(kind, "why"));
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let field = |name: &str| body["error"][name].as_str().unwrap_or("null").to_owned();
        (reply.status, field("type"), field("param"), field("code"))
    };
    let expected = |status, kind: &str, param: &str, code: &str| (status, kind.into(), param.into(), code.into());
    assert_eq!(of(ErrorKind::NotFound), expected(404, "invalid_request_error", "model", "model_not_found"));
    assert_eq!(of(ErrorKind::InvalidInput), expected(400, "invalid_request_error", "null", "null"));
    assert_eq!(of(ErrorKind::Overloaded), expected(429, "rate_limit_error", "null", "rate_limit_exceeded"));
    assert_eq!(of(ErrorKind::Engine), expected(500, "server_error", "null", "null"));
}

#[test]
fn models_are_listed_for_clients_of_both_protocols() {
    assert_eq!(
        &model_list(&["a".to_owned()], 7).body[..],
        br#"{"object":"list","data":[{"id":"a","object":"model","created":7,"owned_by":"salver"}],"models":["a"]}"#
    );
}
