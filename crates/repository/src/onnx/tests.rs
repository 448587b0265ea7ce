//! What a summary says of real files, and what is refused.

use std::path::PathBuf;

use salver_core::ErrorKind;

use super::messages::{AttributeProto, OperatorSetIdProto, StringStringEntryProto};
use super::*;

fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: "ai.onnx".to_owned(), version: 17 }],
        ..ModelProto::default()
    }
}

fn summary_of(model: &ModelProto) -> Result<OnnxSummary> {
    summarize_bytes(model.encode_to_vec().into())
}

fn node(name: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { op_type: name.to_owned(), attribute, ..NodeProto::default() }
}

fn external(location: &str) -> TensorProto {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
    let external_data = vec![entry("offset", "0"), entry("location", location)];
    TensorProto { name: "w".to_owned(), dims: vec![2, 3], data_type: 1, external_data }
}

#[test]
fn real_files_are_described() {
    let summary = summarize(&repository_file("tests/models/triton/add_sub_int32/1/model.onnx")).unwrap();
    let inputs: Vec<String> = summary.inputs.iter().map(|input| format!("{} {}", input.name, input.kind)).collect();
    assert_eq!(inputs.len(), 2);
    assert!(inputs[0].starts_with("INPUT0 INT32[") && inputs[0].ends_with(",16]"), "{inputs:?}");
    assert_eq!(summary.operators.values().sum::<usize>(), 2);
    assert!(summary.operators.contains_key(&(String::new(), "Add".to_owned())));
    assert!(summary.ir_version > 0 && summary.opsets[""] > 0 && summary.file_bytes > 100);
}

#[test]
fn outputs_that_are_no_tensors_are_told_in_words() {
    let summary = summarize(&repository_file("tests/models/sklearn/iris_zipmap.onnx")).unwrap();
    let kinds: Vec<String> = summary.outputs.iter().map(|output| output.kind.to_string()).collect();
    assert!(kinds.contains(&"sequence(map(INT64, FLOAT))".to_owned()), "{kinds:?}");
    assert!(summary.operators.keys().any(|(domain, _)| domain == "ai.onnx.ml"));
}

#[test]
fn parameters_are_counted_where_a_model_has_them() {
    let summary = summarize(&repository_file("examples/demo/digits/model.onnx")).unwrap();
    assert!(summary.parameter_count > 1000, "{summary:?}");
    assert!(summary.parameter_bytes < summary.file_bytes);
}

#[test]
fn graphs_within_graphs_are_counted() {
    let inner = GraphProto {
        node: vec![node("Mul", vec![])],
        initializer: vec![TensorProto { dims: vec![7], data_type: 22, ..TensorProto::default() }],
        ..GraphProto::default()
    };
    let branch = AttributeProto { g: Some(inner), ..AttributeProto::default() };
    let outer = GraphProto { node: vec![node("If", vec![branch.clone(), branch])], ..GraphProto::default() };
    let summary = summary_of(&model(outer)).unwrap();
    let count = |name: &str| summary.operators[&(String::new(), name.to_owned())];
    assert_eq!((count("If"), count("Mul")), (1, 2));
    assert_eq!((summary.parameter_count, summary.parameter_bytes), (14, 8), "four bits each, whole bytes per tensor");
    assert_eq!(summary.opsets, [(String::new(), 17)].into());
}

#[test]
fn external_data_stays_inside_the_folder() {
    let graph = |location: &str| GraphProto { initializer: vec![external(location)], ..GraphProto::default() };
    let summary = summary_of(&model(graph("weights/a.bin"))).unwrap();
    assert_eq!(summary.external_files, ["weights/a.bin".to_owned()].into());
    assert_eq!((summary.parameter_count, summary.parameter_bytes), (6, 24));
    for location in ["../a.bin", "/etc/passwd", "a/../../b", "", "C:\\x"] {
        let error = summary_of(&model(graph(location))).expect_err(location);
        assert!(error.message().starts_with("tensor 'w' keeps its data in '"), "{error}");
    }
    let constant = AttributeProto { t: Some(external("../a.bin")), ..AttributeProto::default() };
    let hidden = GraphProto { node: vec![node("Constant", vec![constant])], ..GraphProto::default() };
    assert!(summary_of(&model(hidden)).is_err(), "also in an attribute");
}

#[test]
fn initializers_are_no_inputs_and_dimensions_keep_their_names() {
    let dimension = |value| messages::DimensionProto { value };
    let shape = TensorShapeProto {
        dim: vec![
            dimension(Some(DimensionValue::Param("batch".to_owned()))),
            dimension(Some(DimensionValue::Value(4))),
            dimension(None),
            dimension(Some(DimensionValue::Value(-1))),
        ],
    };
    let info = |name: &str, shape: Option<TensorShapeProto>| ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(TypeValue::Tensor(messages::TensorType { elem_type: 1, shape })) }),
    };
    let graph = GraphProto {
        input: vec![info("x", Some(shape)), info("w", None), info("z", None), ValueInfoProto::default()],
        initializer: vec![TensorProto { name: "w".to_owned(), dims: vec![-5], ..TensorProto::default() }],
        ..GraphProto::default()
    };
    let summary = summary_of(&model(graph)).unwrap();
    let inputs: Vec<String> = summary.inputs.iter().map(|input| format!("{} {}", input.name, input.kind)).collect();
    assert_eq!(inputs, ["x FLOAT[batch,4,?,?]", "z FLOAT[...]", " unknown"]);
    assert_eq!(summary.parameter_count, 0, "a negative extent counts nothing");
}

#[test]
fn what_is_no_onnx_file_is_refused_with_a_hint() {
    let check = |bytes: &'static [u8], expected: &str| {
        let error = summarize_bytes(Bytes::from_static(bytes)).expect_err(expected);
        assert!(error.message().contains(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    };
    check(b"", "it holds no graph");
    check(b"version https://git-lfs.github.com/spec/v1\noid", "`git lfs pull`");
    check(b"PK\x03\x04....", "a zip archive");
    check(b"<html>", "a web page");
    check(b"\x08\x08", "it holds no graph");
    check(b"\x3a\x00", "it names no version");
    for name in ["truncated.onnx", "not_onnx.onnx", "empty.onnx"] {
        let error = summarize(&repository_file("tests/models/broken").join(name)).expect_err(name);
        assert!(error.message().contains(name), "{error}");
    }
    assert_eq!(summarize(Path::new("/no/such/file.onnx")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn nesting_without_end_is_refused() {
    let mut graph = GraphProto::default();
    for _ in 0..60 {
        let attribute = AttributeProto { g: Some(graph), ..AttributeProto::default() };
        graph = GraphProto { node: vec![node("If", vec![attribute])], ..GraphProto::default() };
    }
    assert!(summary_of(&model(graph)).is_err());
}
