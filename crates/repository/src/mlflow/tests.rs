use salver_core::ErrorKind;

use super::*;

const ONNX: &str = include_str!("../../corpus/mlmodel/onnx.yaml");
const COLUMNS: &str = include_str!("../../corpus/mlmodel/columns.yaml");
const SKLEARN: &str = include_str!("../../corpus/mlmodel/sklearn.yaml");
const BOMB: &str = include_str!("../../corpus/mlmodel/bomb.yaml");

#[track_caller]
fn check(text: &str, artifact: &str, columns: &[&str]) {
    let manifest = parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (manifest.artifact.as_str(), manifest.columns),
        (artifact, columns.iter().map(|&name| name.into()).collect())
    );
}

#[track_caller]
fn refused(text: &str, kind: ErrorKind, parts: &[&str]) {
    let error = parse(text).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.message().contains(part), "{error} lacks {part:?}");
    }
}

#[test]
fn the_onnx_flavour_names_the_file_and_tensors_name_no_columns() {
    check(ONNX, "model.onnx", &[]);
}

#[test]
fn columns_come_from_a_signature_of_columns() {
    check(COLUMNS, "model.onnx", &["sepal length", "sepal width"]);
    let nameless = r#"{flavors: {onnx: {data: m.onnx}}, signature: {inputs: '[{"type": "double"}]', outputs: null}}"#;
    check(nameless, "m.onnx", &[]);
    check("{flavors: {onnx: {data: m.onnx}}, signature: {inputs: null}}", "m.onnx", &[]);
    check("{flavors: {onnx: {data: m.onnx}}, signature: null}", "m.onnx", &[]);
}

#[test]
fn other_flavours_are_refused_with_what_helps() {
    refused(
        SKLEARN,
        ErrorKind::Unsupported,
        &["it is a sklearn model", "Python workers", "export it to ONNX (skl2onnx)"],
    );
    refused("{flavors: {python_function: {}}}", ErrorKind::Unsupported, &["a python_function model", "ONNX to serve"]);
    refused("{flavors: {\"a\\nb\": {data: {x: [1]}}}}", ErrorKind::Unsupported, &["a a\\nb model"]);
    refused("utc_time_created: now", ErrorKind::Unsupported, &["a python_function model"]);
}

#[test]
fn a_broken_file_says_where() {
    refused("flavors:\n  onnx: [", ErrorKind::InvalidInput, &["not an MLmodel", "line"]);
    refused("flavors: 3", ErrorKind::InvalidInput, &["not an MLmodel", "line 1"]);
    refused("{flavors: {onnx: {code: null}}}", ErrorKind::InvalidInput, &["flavors.onnx.data is missing"]);
    refused("{flavors: {onnx: {data: [1]}}}", ErrorKind::InvalidInput, &["flavors.onnx.data is missing"]);
    let signature = "{flavors: {onnx: {data: m.onnx}}, signature: {inputs: '[{]'}}";
    refused(signature, ErrorKind::InvalidInput, &["signature.inputs: not a signature"]);
    let twice = r#"{flavors: {onnx: {data: m}}, signature: {inputs: '[{"type":"long","name":"a"},{"type":"long","name":"a"}]'}}"#;
    refused(twice, ErrorKind::InvalidInput, &["two columns"]);
}

#[test]
fn what_unfolds_is_bounded() {
    refused(BOMB, ErrorKind::InvalidInput, &["not an MLmodel"]);
    refused(&format!("a: {}", "[".repeat(100_000)), ErrorKind::InvalidInput, &["not an MLmodel"]);
    let deep: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refused(&deep, ErrorKind::InvalidInput, &["not an MLmodel"]);
    refused(&format!("a: [{}]", "1,".repeat(MAX_NODES + 1)), ErrorKind::InvalidInput, &["not an MLmodel"]);
}
