//! The flat form of requests and replies, and its events.

use salver_core::{ErrorKind, Parameter};

use super::*;
use crate::samples;

fn decode(info: &ModelInfo, body: &str) -> Result<InferRequest> {
    decode_generate(body.as_bytes(), samples::reference(), info, &Limits::default())
}

fn model(inputs: Vec<TensorSpec>) -> ModelInfo {
    samples::model(inputs, vec![TensorSpec::new("y", DataType::Fp32, &[-1])])
}

#[track_caller]
fn refused(info: &ModelInfo, body: &str, fragment: &str) {
    let error = decode(info, body).expect_err("the request is refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.message().contains(fragment), "{fragment:?} is not in {error}");
}

#[track_caller]
fn shape_of(declared: &[i64], value: &str) -> Option<Vec<usize>> {
    let info = model(vec![TensorSpec::new("x", DataType::Fp32, declared)]);
    let request = decode(&info, &format!(r#"{{"x":{value}}}"#)).ok()?;
    Some(request.inputs[0].shape().to_vec())
}

#[test]
fn keys_that_name_inputs_are_tensors_and_others_parameters() {
    let info = model(vec![
        TensorSpec::new("text", DataType::Bytes, &[-1, 1]),
        TensorSpec::new("n", DataType::Int32, &[-1, 1]),
        TensorSpec::new("stream", DataType::Bool, &[-1, 1]),
    ]);
    let body = r#"{"id":"7","text":"a\nb","n":3,"top_k":5,"parameters":{"stream":true,"id":"p","temperature":0.5}}"#;
    let request = decode(&info, body).unwrap();
    assert_eq!(request.id.as_deref(), Some("7"));
    assert_eq!(request.inputs.iter().map(|input| &**input.name()).collect::<Vec<_>>(), ["text", "n", "stream"]);
    assert_eq!(request.inputs[0].elements().unwrap().get(0), Some(&b"a\nb"[..]));
    assert_eq!(request.inputs[1].to_vec(), Some(vec![3i32]));
    assert_eq!(request.inputs[2].to_vec(), Some(vec![true]));
    let expected = [
        ("id".to_owned(), Parameter::Text("p".to_owned())),
        ("temperature".to_owned(), Parameter::Float(0.5)),
        ("top_k".to_owned(), Parameter::Int(5)),
    ];
    assert_eq!(request.parameters, Parameters::from(expected));
}

#[test]
fn values_are_laid_into_the_shape_from_its_inner_end() {
    let some = |shape: &[usize]| Some(shape.to_vec());
    assert_eq!(shape_of(&[-1], "1"), some(&[1]));
    assert_eq!(shape_of(&[-1], "[1,2]"), some(&[2]));
    assert_eq!(shape_of(&[-1, 1], "[1,2]"), some(&[2, 1]));
    assert_eq!(shape_of(&[-1, 4], "[1,2,3,4]"), some(&[1, 4]));
    assert_eq!(shape_of(&[-1, 4], "[1,2,3,4,5,6,7,8]"), some(&[2, 4]));
    assert_eq!(shape_of(&[-1, -1], "[1,2,3]"), some(&[1, 3]));
    assert_eq!(shape_of(&[-1, -1, 2], "[1,2,3,4]"), some(&[1, 2, 2]));
    assert_eq!(shape_of(&[], "1"), some(&[]));
    assert_eq!(shape_of(&[-1, 4], "[]"), some(&[0, 4]));
    assert_eq!(shape_of(&[-1, -1], "[[1,2],[3,4]]"), some(&[2, 2]), "a nested list has its own shape");
    for (declared, value) in [(&[-1, 4][..], "1"), (&[2], "[1,2,3]"), (&[], "[1,2]"), (&[-1, 0], "[1]"), (&[4], "[]")] {
        assert_eq!(shape_of(declared, value), None, "{declared:?} {value}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let info = model(vec![TensorSpec::new("x", DataType::Fp32, &[-1, 2])]);
    refused(&info, r#"{"x":[1,2,3]}"#, "input 'x' of model 'm': 3 elements do not fill its shape [-1, 2]");
    refused(&info, r#"{"x":"1"}"#, "input 'x'");
    refused(&info, r#"{"x":null}"#, "input 'x'");
    refused(&info, r#"{"x":{"a":1}}"#, "input 'x' must be a value or a list");
    refused(&info, r#"{"x":[1,2],"x":[1,2]}"#, "'x' twice");
    refused(&info, r#"{"x":[1,2],"parameters":{"x":[1,2]}}"#, "'x' twice");
    refused(&info, r#"{"id":"1","id":"2"}"#, "'id' twice");
    refused(&info, r#"{"id":1}"#, "'id'");
    refused(&info, r#"{"parameters":{},"parameters":{}}"#, "'parameters' twice");
    refused(&info, r#"{"parameters":3}"#, "'parameters'");
    refused(&info, r#"{"a":1,"parameters":{"a":1}}"#, "'a' twice");
    refused(&info, r#"{"X":[1,2]}"#, "'X' is no input of model 'm', whose inputs are 'x'");
    refused(&info, r#"{"a":null}"#, "'a' is no input");
    refused(&info, r#"{"priority":-1}"#, "parameter 'priority'");
    refused(&info, r#"{"triton_x":1}"#, "reserved");
    refused(&info, r#"{"x":[[1,2],[3]]}"#, "ragged");
    refused(&info, "[]", "request");
    refused(&info, r#"{"x":[1,2]} x"#, "request");
    refused(&model(vec![TensorSpec::new("x", DataType::Fp16, &[-1])]), r#"{"x":1}"#, "FP16 has no JSON form");
    let long = format!(r#"{{"{}":1}}"#, "p".repeat(129));
    refused(&info, &long, "longer than 128 bytes");
}

#[test]
fn one_element_is_a_bare_value_and_several_are_a_list() {
    let outputs = || {
        vec![
            Tensor::from_slice("one", [1, 1], &[0.5f32]).unwrap(),
            Tensor::from_slice("two", [1, 2], &[1i64, 2]).unwrap(),
            Tensor::from_slice("none", [0], &[0i8; 0]).unwrap(),
            Tensor::from_elements("text", [1], ["a\nb"].into_iter().collect()).unwrap(),
        ]
    };
    let values = r#""model_name":"m","model_version":"3","one":0.5,"two":[1,2],"none":[],"text":"a\nb"}"#;
    let response = samples::response(samples::two_inputs(), outputs());
    let with_id = InferResponse { id: Some("7".to_owned()), ..response.clone() };
    let without = InferResponse { id: None, ..response };
    assert_eq!(encode_generate(&without).unwrap().body, format!("{{{values}"));
    assert_eq!(encode_generate(&with_id).unwrap().body, format!(r#"{{"id":"7",{values}"#));
    let event = encode_event(&without).unwrap();
    assert_eq!((event.content_type, event.body), (EVENTS, format!("data: {{{values}\n\n").into()));
    let failed = encode_error_event(&Error::invalid_input("line\nbreak"));
    assert_eq!(failed.body, "data: {\"error\":\"line\\nbreak\"}\n\n");
}

#[test]
fn an_output_hides_what_has_its_name() {
    let output = Tensor::from_slice("model_name", [1], &[true]).unwrap();
    let response = InferResponse { id: None, ..samples::response(samples::two_inputs(), vec![output]) };
    assert_eq!(encode_generate(&response).unwrap().body, r#"{"model_version":"3","model_name":true}"#);
}

#[test]
fn outputs_without_a_json_form_are_refused() {
    for output in [
        Tensor::new("y", DataType::Bf16, [1], vec![0, 0].into()).unwrap(),
        Tensor::from_elements("y", [1], [b"\xff"].into_iter().collect()).unwrap(),
    ] {
        let error = encode_generate(&samples::response(samples::two_inputs(), vec![output])).unwrap_err();
        assert!(error.message().contains("'y'"), "{error}");
    }
}
