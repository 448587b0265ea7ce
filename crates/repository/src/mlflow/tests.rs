use salver_core::ErrorKind;

use super::*;
use crate::signature::Side;

const ONNX: &str = include_str!("../../corpus/mlmodel/onnx.yaml");
const COLUMNS: &str = include_str!("../../corpus/mlmodel/columns.yaml");
const SKLEARN: &str = include_str!("../../corpus/mlmodel/sklearn.yaml");
const TABLE: &str = include_str!("../../corpus/mlmodel/table.yaml");
const ARRAY: &str = include_str!("../../corpus/mlmodel/array.yaml");
const OBJECTS: &str = include_str!("../../corpus/mlmodel/objects.yaml");
const BOMB: &str = include_str!("../../corpus/mlmodel/bomb.yaml");

#[track_caller]
fn check(text: &str, artifact: &str, columns: &[&str]) {
    let manifest = parse(text).unwrap_or_else(|error| panic!("{error}"));
    let columns = columns.iter().map(|&name| name.into()).collect();
    assert_eq!(manifest, Manifest::Onnx { artifact: artifact.to_owned(), columns });
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
fn a_model_without_a_graph_runs_in_python() {
    for text in [SKLEARN, TABLE, ARRAY, "{flavors: {python_function: {}}}"] {
        assert_eq!(parse(text).unwrap(), Manifest::Python, "{text}");
    }
    let both = "{flavors: {python_function: {}, onnx: {data: m.onnx}}}";
    check(both, "m.onnx", &[]);
}

#[test]
fn other_flavours_are_refused_with_what_helps() {
    refused(
        "{flavors: {sklearn: {}}}",
        ErrorKind::Unsupported,
        &["it is a sklearn model without the flavour python_function", "export it to ONNX (skl2onnx)"],
    );
    refused("{flavors: {\"a\\nb\": {data: {x: [1]}}}}", ErrorKind::Unsupported, &["a a\\nb model"]);
    refused("utc_time_created: now", ErrorKind::Unsupported, &["has no flavours; expected onnx or python_function"]);
}

/// Returns both sides of a signature, each tensor as `name TYPE[shape]`, `text` and `optional` behind it.
fn sides(text: &str) -> Result<[Vec<String>; 2]> {
    let line = |tensor: &salver_core::PythonTensor| {
        let spec = &tensor.spec;
        let text = if tensor.is_text { " text" } else { "" };
        let optional = if spec.optional { " optional" } else { "" };
        format!("{} {}{:?}{text}{optional}", spec.name, spec.dtype, spec.wire_shape())
    };
    let signature = declared(text)?.signature.unwrap_or_default();
    let inputs = tensors(Side::Input, &signature.inputs)?;
    let outputs = tensors(Side::Output, &signature.outputs)?;
    Ok([inputs.iter().map(line).collect(), outputs.iter().map(line).collect()])
}

/// `inputs` and `outputs` are JSON.
fn signed(inputs: &str, outputs: &str) -> String {
    format!("{{flavors: {{python_function: {{}}}}, signature: {{inputs: '{inputs}', outputs: '{outputs}'}}}}")
}

#[test]
fn each_column_is_an_input_of_one_value_a_row() {
    let [inputs, outputs] = sides(TABLE).unwrap();
    let expected = [
        "a FP32[-1]",
        "b c FP32[-1]",
        "d FP64[-1]",
        "e FP32[-1]",
        "s BYTES[-1] text",
        "t BYTES[-1] text",
        "i INT64[-1]",
        "n FP64[-1] optional",
        "bo BOOL[-1]",
        "by BYTES[-1]",
    ];
    assert_eq!(inputs, expected);
    assert_eq!(outputs, ["p INT64[-1]", "q FP64[-1]"]);
    let [inputs, _] = sides(&signed(r#"[{"type": "integer", "name": "a"}]"#, "null")).unwrap();
    assert_eq!(inputs, ["a INT32[-1]"]);
}

#[test]
fn tensors_keep_their_shapes_and_what_has_no_name_gets_one() {
    assert_eq!(sides(ARRAY).unwrap(), [["input FP32[-1, 4]"], ["predictions INT64[-1]"]]);
    let column = r#"[{"type": "double", "required": true}]"#;
    assert_eq!(sides(&signed(column, column)).unwrap(), [["input FP64[-1]"], ["predictions FP64[-1]"]]);
    let two = r#"[{"type": "double"}, {"type": "string"}]"#;
    assert_eq!(
        sides(&signed(two, two)).unwrap(),
        [["0 FP64[-1]", "1 BYTES[-1] text"], ["0 FP64[-1]", "1 BYTES[-1] text"]]
    );
    let named = |dtype: &str| {
        format!(r#"[{{"name": "a", "type": "tensor", "tensor-spec": {{"dtype": "{dtype}", "shape": [2]}}}}]"#)
    };
    for (dtype, expected) in [("str", "a BYTES[2] text"), ("bytes", "a BYTES[2]"), ("float16", "a FP16[2]")] {
        assert_eq!(sides(&signed(&named(dtype), "null")).unwrap()[0], [expected]);
    }
    assert_eq!(sides(SKLEARN).unwrap(), [[""; 0], [""; 0]]);
}

#[test]
fn a_type_without_a_tensor_names_its_column() {
    for (inputs, kind, part) in [
        (
            r#"[{"type": "array", "items": {"type": "string"}, "name": "a"}]"#,
            ErrorKind::Unsupported,
            "input 'a' is of type array(BYTES)",
        ),
        (
            r#"[{"type": "map", "values": {"type": "long"}, "name": "m"}]"#,
            ErrorKind::Unsupported,
            "'m' is of type map(INT64)",
        ),
        (r#"[{"type": "any", "name": "x"}]"#, ErrorKind::Unsupported, "'x' is of type any"),
        (
            r#"[{"type": "long", "name": "x"}, {"type": "long", "name": "x"}]"#,
            ErrorKind::InvalidInput,
            "input 'x' is given twice",
        ),
        (
            r#"[{"name": "a", "type": "tensor", "tensor-spec": {"dtype": "complex64", "shape": [2]}}]"#,
            ErrorKind::Unsupported,
            "'a' is of type complex64",
        ),
        (
            r#"[{"name": "a", "type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [-2]}}]"#,
            ErrorKind::InvalidInput,
            "'a' has the shape [-2]; expected extents of -1 or more",
        ),
    ] {
        let error = sides(&signed(inputs, "null")).unwrap_err();
        assert!(error.kind() == kind && error.message().contains(part), "{error}");
        let error = sides(&signed("null", inputs)).unwrap_err();
        assert!(error.message().contains("output '"), "{error}");
    }
    assert!(sides(OBJECTS).unwrap_err().message().contains("signature: the input 'a' is of type array(BYTES)"));
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
