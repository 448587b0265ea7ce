//! Section by section what TF Serving's REST page promises, and what it refuses.

use salver_core::{ModelState, ModelStatus, TensorSpec};

use super::*;
use crate::samples::{model, one_input, reference, response, two_inputs};

fn decode(info: &ModelInfo, json: &str) -> Result<(InferRequest, Form)> {
    decode_predict(json.as_bytes(), reference(), info, &Limits::default())
}

#[track_caller]
fn refused(info: &ModelInfo, json: &str, expected: &str) {
    let error = decode(info, json).unwrap_err();
    assert_eq!(error.kind(), salver_core::ErrorKind::InvalidInput, "{json}");
    assert!(error.message().contains(expected), "{json}: {error:?}");
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().unwrap()
}

fn numbers() -> ModelInfo {
    one_input(DataType::Fp32, &[-1])
}

#[test]
fn a_row_of_a_single_input_is_a_value() {
    let (request, form) = decode(&numbers(), r#"{"instances": [1.0, 2, -5e-1]}"#).unwrap();
    assert_eq!(form, Form::Row);
    assert_eq!(floats(&request.inputs[0]), [1.0, 2.0, -0.5]);
    assert_eq!(**request.inputs[0].shape(), [3]);
    let (request, _) = decode(&numbers(), r#"{"instances": [[1,2],[3,4]]}"#).unwrap();
    assert_eq!(**request.inputs[0].shape(), [2, 2]);
}

#[test]
fn a_row_of_a_single_input_may_name_it() {
    let (request, _) = decode(&numbers(), r#"{"instances": [{"x": 1.0}, {"x": 2.0}]}"#).unwrap();
    assert_eq!(floats(&request.inputs[0]), [1.0, 2.0]);
}

#[test]
fn rows_of_several_inputs_are_objects_with_exactly_their_keys() {
    let info = two_inputs();
    let (request, _) = decode(&info, r#"{"instances": [{"b":[1,2],"a":0.5},{"a":1,"b":[3,4]}]}"#).unwrap();
    assert_eq!(floats(&request.inputs[0]), [0.5, 1.0]);
    assert_eq!(request.inputs[1].to_vec::<i64>().unwrap(), [1, 2, 3, 4]);
    refused(&info, r#"{"instances": [{"a": 1}]}"#, "row 0 lacks 'b'");
    refused(&info, r#"{"instances": [{"a": 1, "b": [1,2], "c": 1}]}"#, "the key 'c'");
    refused(&info, r#"{"instances": [{"a": 1, "b": [1,2]}, [1]]}"#, "row 1 is no object");
    refused(&info, r#"{"instances": [1, 2]}"#, "model 'm' has 2 inputs");
}

#[test]
fn objects_and_values_do_not_mix() {
    refused(&numbers(), r#"{"instances": [1, {"x": 1}]}"#, "got an object");
    refused(&numbers(), r#"{"instances": [{"x": 1}, 1]}"#, "row 1 is no object");
}

#[test]
fn columns_are_a_value_or_an_object() {
    let (request, form) = decode(&numbers(), r#"{"inputs": [1, 2]}"#).unwrap();
    assert_eq!((form, floats(&request.inputs[0])), (Form::Column, vec![1.0, 2.0]));
    let (request, _) = decode(&numbers(), r#"{"inputs": {"x": [1, 2]}}"#).unwrap();
    assert_eq!(floats(&request.inputs[0]), [1.0, 2.0]);
    let (request, _) = decode(&numbers(), r#"{"inputs": 7}"#).unwrap();
    assert!(request.inputs[0].shape().is_empty());
    let both = r#"{"inputs": {"surplus": [[1], 2], "b": [[1,2]], "a": [1]}}"#;
    assert_eq!(decode(&two_inputs(), both).unwrap().0.inputs.len(), 2);
    refused(&two_inputs(), r#"{"inputs": [1]}"#, "model 'm' has 2 inputs");
    refused(&two_inputs(), r#"{"inputs": {"a": [1], "a": [2]}}"#, "'a' twice");
    // A missing name is found by the check against the signature, as in every protocol.
    let (request, _) = decode(&two_inputs(), r#"{"inputs": {"a": [1]}}"#).unwrap();
    assert!(two_inputs().signature.check("m", request.inputs).is_err());
}

#[test]
fn exactly_one_form_is_given() {
    refused(&numbers(), "{}", "neither 'instances' nor 'inputs'");
    refused(&numbers(), r#"{"instances": [1], "inputs": [1]}"#, "one of");
    refused(&numbers(), r#"{"instances": [1], "instances": [1]}"#, "only once");
    refused(&numbers(), r#"{"instances": []}"#, "must not be empty");
    refused(&numbers(), r#"{"instances": {"x": 1}}"#, "must be a list");
    refused(&numbers(), r#"{"instances": 1}"#, "must be a list");
    refused(&numbers(), "[1]", "JSON is not as expected");
    refused(&numbers(), "", "JSON is not as expected");
    refused(&numbers(), r#"{"instances": [1]} x"#, "trailing");
    assert!(decode(&numbers(), r#"{"parameters": {"a": [1]}, "instances": [1]}"#).is_ok());
}

#[test]
fn the_signature_is_the_default_one() {
    for name in ["serving_default", ""] {
        assert!(decode(&numbers(), &format!(r#"{{"signature_name": "{name}", "instances": [1]}}"#)).is_ok());
    }
    refused(&numbers(), r#"{"instances": [1], "signature_name": "other"}"#, "\"other\" not found");
    refused(&numbers(), r#"{"instances": [1], "signature_name": 1}"#, "must be a string");
    refused(&numbers(), r#"{"signature_name": "", "instances": [1], "signature_name": ""}"#, "twice");
}

#[test]
fn types_are_not_coerced() {
    for json in ["true", "\"1\"", "null"] {
        refused(&numbers(), &format!(r#"{{"instances": [{json}]}}"#), "expected FP32");
    }
    let ints = one_input(DataType::Int32, &[-1]);
    for json in ["1.0", "1e2", "2147483648", "true", "null", "NaN"] {
        refused(&ints, &format!(r#"{{"instances": [{json}]}}"#), "expected INT32");
    }
    let flags = one_input(DataType::Bool, &[-1]);
    assert!(decode(&flags, r#"{"instances": [true, false]}"#).is_ok());
    refused(&flags, r#"{"instances": [1]}"#, "expected BOOL");
    let texts = one_input(DataType::Bytes, &[-1]);
    refused(&texts, r#"{"instances": [1]}"#, "expected BYTES");
}

#[test]
fn non_finite_tokens_are_floats() {
    let (request, _) = decode(&numbers(), r#"{"instances": [NaN, Infinity, -Infinity]}"#).unwrap();
    let values = floats(&request.inputs[0]);
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f32::INFINITY, f32::NEG_INFINITY]);
}

#[test]
fn ragged_rows_are_refused() {
    refused(&numbers(), r#"{"instances": [[1,2],[3]]}"#, "ragged");
    refused(&numbers(), r#"{"instances": [1,[2]]}"#, "ragged");
    refused(&numbers(), r#"{"inputs": [[1],[[2]]]}"#, "ragged");
}

#[test]
fn byte_strings_come_as_text_or_base64() {
    let texts = one_input(DataType::Bytes, &[-1]);
    let (request, _) = decode(&texts, r#"{"instances": [{"b64": "/w=="}, "a", {"b64": ""}]}"#).unwrap();
    let elements: Vec<&[u8]> = request.inputs[0].elements().unwrap().iter().collect();
    assert_eq!(elements, [&b"\xff"[..], b"a", b""]);
    let (request, _) = decode(&texts, r#"{"instances": [{"x": {"b64": "/w=="}}]}"#).unwrap();
    assert_eq!(request.inputs[0].elements().unwrap().get(0), Some(&b"\xff"[..]));
    let (request, _) = decode(&texts, r#"{"inputs": {"b64": "/w=="}}"#).unwrap();
    assert!(request.inputs[0].shape().is_empty());
    refused(&texts, r#"{"instances": [{"b64": "???"}]}"#, "not base64");
    refused(&numbers(), r#"{"instances": [{"b64": "/w=="}]}"#, "the key 'b64'");
}

#[test]
fn hostile_bodies_are_refused() {
    refused(&numbers(), &format!(r#"{{"instances": {}"#, "[".repeat(100_000)), "deeper than 100");
    refused(&numbers(), &format!(r#"{{"x": {}"#, "[".repeat(100_000)), "deeper than 100");
    let body = br#"{"instances": ["\xff"]}"#.map(|byte| byte);
    assert!(decode_predict(&body, reference(), &one_input(DataType::Bytes, &[-1]), &Limits::default()).is_err());
    refused(&one_input(DataType::Bytes, &[-1]), r#"{"instances": ["\ud800"]}"#, "JSON is not as expected");
}

#[track_caller]
fn check_reply(outputs: Vec<Tensor>, form: Form, expected: &str) {
    let reply = encode_predict(&response(two_inputs(), outputs), form).unwrap();
    assert_eq!((reply.status, reply.content_type), (200, "application/json"));
    assert_eq!(std::str::from_utf8(&reply.body).unwrap(), expected);
}

#[test]
fn one_output_is_bare_and_several_are_named() {
    let y = Tensor::from_slice("y", [2], &[2.5f32, 502.0]).unwrap();
    let z = Tensor::from_slice("z", [2, 1], &[1i64, 2]).unwrap();
    check_reply(vec![y.clone()], Form::Row, r#"{"predictions":[2.5,502.0]}"#);
    check_reply(vec![y.clone()], Form::Column, r#"{"outputs":[2.5,502.0]}"#);
    check_reply(vec![y.clone(), z.clone()], Form::Row, r#"{"predictions":[{"y":2.5,"z":[1]},{"y":502.0,"z":[2]}]}"#);
    check_reply(vec![y, z], Form::Column, r#"{"outputs":{"y":[2.5,502.0],"z":[[1],[2]]}}"#);
}

#[test]
fn outputs_named_bytes_are_base64() {
    let texts = |name: &str| Tensor::from_elements(name, [1], [&b"hi"[..]].into_iter().collect()).unwrap();
    check_reply(vec![texts("y_bytes")], Form::Row, r#"{"predictions":[{"b64":"aGk="}]}"#);
    check_reply(vec![texts("y")], Form::Row, r#"{"predictions":["hi"]}"#);
}

#[test]
fn rows_that_outputs_do_not_have_are_an_error() {
    let y = Tensor::from_slice("y", [2], &[1f32, 2.0]).unwrap();
    let z = Tensor::from_slice("z", [1], &[1f32]).unwrap();
    let scalar = Tensor::from_slice("s", [], &[1f32]).unwrap();
    for outputs in [vec![y, z], vec![scalar]] {
        assert!(encode_predict(&response(two_inputs(), outputs.clone()), Form::Row).is_err());
        assert!(encode_predict(&response(two_inputs(), outputs), Form::Column).is_ok());
    }
}

#[test]
fn errors_are_objects_whatever_their_text() {
    let reply = encode_error(&Error::not_found("no \"m\"\n"));
    assert_eq!((reply.status, &reply.body[..]), (404, &br#"{"error":"no \"m\"\n"}"#[..]));
    let reply = malformed("PUT", "/v1/models/m\u{7}");
    assert_eq!(reply.status, 400);
    assert_eq!(&reply.body[..], br#"{"error":"Malformed request: PUT /v1/models/m\\u{7}"}"#);
    let specific = ModelRef::version(reference().name, 7);
    assert_eq!(servable_not_found(&specific).message(), "Servable not found for request: Specific(m, 7)");
}

#[test]
fn the_status_serves_all_kinds_of_clients() {
    let of = |version: Option<u64>, state, reason: &str| ModelStatus {
        name: "m".to_owned(),
        version,
        state,
        reason: reason.to_owned(),
    };
    let versions = [
        of(Some(1), Some(ModelState::Failed), "no such operator"),
        of(Some(2), Some(ModelState::Ready), ""),
        of(None, None, ""),
    ];
    let reply = status("m", &versions, true, 7);
    let value: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"name": "m", "ready": true, "model_version_status": [
            {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
            {"version": "1", "state": "END", "status": {"error_code": "UNKNOWN", "error_message": "no such operator"}},
        ], "id": "m", "object": "model", "created": 7, "owned_by": "salver"})
    );
    assert_eq!(status("m", &versions[..1], false, 7).status, 503);
}

#[test]
fn metadata_nests_the_signature_twice() {
    let info =
        model(vec![TensorSpec::new("x", DataType::Fp32, &[-1, 2])], vec![TensorSpec::new("y", DataType::Bytes, &[-1])]);
    let value: serde_json::Value = serde_json::from_slice(&metadata(&info).body).unwrap();
    let signature = &value["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(value["model_spec"], serde_json::json!({"name": "m", "signature_name": "", "version": "3"}));
    assert_eq!(
        signature["inputs"]["x"],
        serde_json::json!({"dtype": "DT_FLOAT", "name": "x:0",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": false}})
    );
    assert_eq!(signature["outputs"]["y"]["dtype"], "DT_STRING");
    assert_eq!(signature["method_name"], "tensorflow/serving/predict");
}
