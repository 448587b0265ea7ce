use salver_core::{ErrorKind, Overlong};
use salver_testkit::text;

use super::super::tests::{File, definition, file};
use super::*;
use crate::builtin::tests::run;

fn spec(file: &File) -> TokenizeSpec {
    TokenizeSpec {
        tokenizer: file.path.clone(),
        max_length: Some(5),
        overlong: Overlong::Cut,
        pad: TokenPadding::Max,
        token_types: false,
    }
}

fn ask(encoder: &Encoder, texts: &[&str]) -> Result<Vec<Tensor>> {
    let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    run(encoder, &[text("text", &[texts.len()], &texts)])
}

fn numbers(tensor: &Tensor) -> Vec<Vec<i64>> {
    let length = tensor.shape()[1];
    tensor.to_vec::<i64>().unwrap().chunks(length).map(<[i64]>::to_vec).collect()
}

#[test]
fn every_text_is_as_long_as_the_longest_that_is_taken() {
    let file = file(&definition());
    let encoder = Encoder::new(&TokenizeSpec { token_types: true, ..spec(&file) }).unwrap();
    let names: Vec<&str> = encoder.signature.outputs.iter().map(|spec| &*spec.name).collect();
    assert_eq!(names, ["input_ids", "attention_mask", "token_type_ids"]);
    let outputs = ask(&encoder, &["a", "a b c d"]).unwrap();
    assert_eq!(numbers(&outputs[0]), [[2, 4, 3, 0, 0], [2, 4, 5, 6, 3]]);
    assert_eq!(numbers(&outputs[1]), [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]);
    assert_eq!(numbers(&outputs[2]), [[0; 5]; 2]);
    assert_eq!(&**ask(&encoder, &[]).unwrap()[0].shape(), [0, 5]);
}

#[test]
fn a_request_may_be_as_long_as_its_own_longest_text() {
    let file = file(&definition());
    let encoder = Encoder::new(&TokenizeSpec { pad: TokenPadding::Longest, ..spec(&file) }).unwrap();
    assert_eq!(encoder.signature.outputs[0].wire_shape(), [-1, -1]);
    let outputs = ask(&encoder, &["a", "", "a b"]).unwrap();
    assert_eq!(numbers(&outputs[0]), [[2, 4, 3, 0], [2, 3, 0, 0], [2, 4, 5, 3]]);
    assert_eq!(numbers(&outputs[1]), [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]);
}

#[test]
fn without_a_length_it_is_the_tokenizers() {
    let mut definition = definition();
    let encoder = |definition: &serde_json::Value| {
        let file = file(definition);
        Encoder::new(&TokenizeSpec { max_length: None, ..spec(&file) }).unwrap()
    };
    assert_eq!(encoder(&definition).signature.outputs[0].wire_shape(), [-1, 512]);
    definition["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 7, "strategy": "LongestFirst", "stride": 0});
    assert_eq!(encoder(&definition).signature.outputs[0].wire_shape(), [-1, 7]);
}

#[test]
fn what_cannot_be_read_names_its_row() {
    let file = file(&definition());
    let encoder = Encoder::new(&TokenizeSpec { overlong: Overlong::Refuse, ..spec(&file) }).unwrap();
    let error = ask(&encoder, &["a", "a b c d e f"]).unwrap_err();
    assert!(error.message().starts_with("input 'text', row 1: the text has more than 5 tokens"), "{error}");
    let error = run(&encoder, &[text("text", &[1], &[b"\xff"])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let long = Encoder::new(&TokenizeSpec { max_length: Some(1 << 24), ..spec(&file) }).unwrap();
    let error = ask(&long, &["a"; 3]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().ends_with("send 2 at a time"), "{error}");
}
