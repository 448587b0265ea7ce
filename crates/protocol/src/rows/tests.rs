//! Keys in any order land in the right column; rows that differ are refused by name.

use salver_core::{Batching, DataType, Signature};

use super::*;

const STRICT: RowOptions = RowOptions { leaves: Leaves::NullIsNan, unknown: UnknownKeys::Refused };
const SKIPPING: RowOptions = RowOptions { leaves: Leaves::NullIsNan, unknown: UnknownKeys::Skipped };

fn model(inputs: Vec<TensorSpec>, columns: &[&[&str]]) -> ModelInfo {
    let columns = inputs.iter().enumerate().map(|(idx, _)| {
        columns.get(idx).map(|names| names.iter().map(|&name| name.to_owned()).collect()).unwrap_or_default()
    });
    ModelInfo {
        name: "m".into(),
        version: 1,
        engine: "onnx".into(),
        platform: String::new(),
        columns: columns.collect(),
        signature: Signature { inputs, outputs: Vec::new(), batching: Batching::Rows { limit: None } },
        task: "tensor".to_owned(),
        labels: Vec::new(),
        metrics: Default::default(),
        example: Vec::new(),
        observer: None,
    }
}

fn table(dtype: DataType) -> ModelInfo {
    model(vec![TensorSpec::new("X", dtype, &[-1, 3])], &[&["a", "b", "c"]])
}

fn objects(info: &ModelInfo, options: RowOptions, json: &str) -> Result<Vec<Tensor>> {
    let mut rows = Rows::of_columns(info, options);
    rows.objects(&mut read::reader(json.as_bytes()), 100)?;
    rows.finish()
}

#[track_caller]
fn refused(info: &ModelInfo, json: &str, expected: &str) {
    let error = objects(info, STRICT, json).unwrap_err();
    assert!(error.message().contains(expected), "{json}: {error:?}");
}

#[test]
fn columns_land_in_the_models_order_whatever_the_order_of_keys() {
    let json = r#"[{"a":1,"b":2,"c":3},{"c":6,"a":4,"b":5},{"b":8,"c":9,"a":7}]"#;
    let tensors = objects(&table(DataType::Int32), STRICT, json).unwrap();
    assert_eq!(**tensors[0].shape(), [3, 3]);
    assert_eq!(tensors[0].to_vec::<i32>().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn text_columns_are_put_in_order_too() {
    let json = r#"[{"c":"z","a":"x","b":""}]"#;
    let tensors = objects(&table(DataType::Bytes), STRICT, json).unwrap();
    let elements: Vec<&[u8]> = tensors[0].elements().unwrap().iter().collect();
    assert_eq!(elements, [&b"x"[..], b"", b"z"]);
}

#[test]
fn wide_tables_are_found_through_the_map() {
    let names: Vec<String> = (0..40).map(|i| format!("c{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let info = model(vec![TensorSpec::new("X", DataType::Int32, &[-1, 40])], &[&names]);
    let members: Vec<String> = (0..40).rev().map(|i| format!("\"c{i}\":{i}")).collect();
    let tensors = objects(&info, STRICT, &format!("[{{{}}}]", members.join(","))).unwrap();
    assert_eq!(tensors[0].to_vec::<i32>().unwrap(), (0..40).collect::<Vec<i32>>());
}

#[test]
fn rows_that_differ_are_refused_by_name() {
    let info = table(DataType::Int32);
    refused(&info, r#"[{"a":1,"b":2}]"#, "row 0 lacks 'c'");
    refused(&info, r#"[{"a":1,"b":2,"c":3},{"a":1,"c":3}]"#, "row 1 lacks 'b'");
    refused(&info, r#"[{"a":1,"b":2,"c":3,"d":4}]"#, "row 0 has the key 'd'");
    refused(&info, r#"[{"a":1,"a":2,"b":2,"c":3}]"#, "row 0 has the key 'a' twice");
    refused(&info, r#"[{"a":1,"b":true,"c":3}]"#, "row 0, 'b': expected INT32");
    refused(&info, r#"[{"a":1,"b":[2],"c":3}]"#, "row 0, 'b': expected INT32");
    refused(&info, "[[1,2,3]]", "row 0 is no object");
}

#[test]
fn unknown_keys_can_be_skipped() {
    let json = r#"[{"x":[{}],"a":1,"b":2,"y":"\u00e4","c":3}]"#;
    assert_eq!(objects(&table(DataType::Int32), SKIPPING, json).unwrap()[0].to_vec::<i32>().unwrap(), [1, 2, 3]);
}

#[test]
fn inputs_without_columns_are_keys_themselves() {
    let inputs = vec![TensorSpec::new("a", DataType::Fp32, &[-1]), TensorSpec::new("b", DataType::Int64, &[-1, 2])];
    let tensors = objects(&model(inputs.clone(), &[]), STRICT, r#"[{"b":[1,2],"a":0.5},{"a":1,"b":[3,4]}]"#).unwrap();
    assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [0.5, 1.0]);
    assert_eq!(tensors[1].to_vec::<i64>().unwrap(), [1, 2, 3, 4]);
    assert_eq!(**tensors[1].shape(), [2, 2]);
    refused(&model(inputs, &[]), r#"[{"a":1,"b":[1,2]},{"a":1,"b":[1]}]"#, "row 1, 'b': lists are ragged");
}

#[test]
fn optional_inputs_are_given_in_all_rows_or_none() {
    let mut optional = TensorSpec::new("b", DataType::Fp32, &[-1]);
    optional.optional = true;
    let info = model(vec![TensorSpec::new("a", DataType::Fp32, &[-1]), optional], &[]);
    assert_eq!(objects(&info, STRICT, r#"[{"a":1},{"a":2}]"#).unwrap().len(), 1);
    assert_eq!(objects(&info, STRICT, r#"[{"a":1,"b":1},{"a":2,"b":2}]"#).unwrap().len(), 2);
    refused(&info, r#"[{"a":1},{"a":2,"b":2}]"#, "input 'b' is given in 1 of 2 rows");
}

#[test]
fn no_rows_keep_the_shape_of_a_row() {
    let tensors = objects(&table(DataType::Fp32), STRICT, "[]").unwrap();
    assert_eq!(**tensors[0].shape(), [0, 3]);
    let info = model(vec![TensorSpec::new("x", DataType::Bytes, &[-1, 2])], &[]);
    assert_eq!(**objects(&info, STRICT, "[]").unwrap()[0].shape(), [0, 2]);
}

#[test]
fn positions_are_mapped_by_the_header() {
    let info = table(DataType::Fp32);
    let mut rows = Rows::of_columns(&info, SKIPPING);
    let order = rows.order(&["c", "extra", "a", "b"]).unwrap();
    rows.texts(["3", "?", "1", "2"].into_iter(), &order).unwrap();
    let json = b"[6, null, 4, 5]";
    rows.list(&mut read::reader(json), Peek::Array, &order, 100).unwrap();
    assert_eq!(rows.finish().unwrap()[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let mut rows = Rows::of_columns(&info, SKIPPING);
    assert!(rows.texts(["3"].into_iter(), &order).unwrap_err().message().contains("fewer"));
    assert!(rows.order(&["a", "b"]).unwrap_err().message().contains("column 'c'"));
    assert!(rows.order(&["a", "b", "c", "a"]).unwrap_err().message().contains("given twice"));
}

#[test]
fn lists_of_another_width_are_refused() {
    let info = table(DataType::Fp32);
    for (json, expected) in [("[1,2]", "fewer"), ("[1,2,3,4]", "more"), ("{}", "is not a list")] {
        let mut rows = Rows::of_columns(&info, SKIPPING);
        let mut reader = read::reader(json.as_bytes());
        let peek = reader.peek().unwrap();
        let error = rows.list(&mut reader, peek, &[Some(0), Some(1), Some(2)], 100).unwrap_err();
        assert!(error.message().contains(expected), "{error:?}");
    }
}

#[track_caller]
fn check_fit(shape: &[usize], spec: &[i64], ways: Fit, expected: &[usize]) {
    let tensor = Tensor::from_slice("x", shape, &vec![0u8; shape.iter().product()]).unwrap();
    let fitted = fit(tensor, &TensorSpec::new("x", DataType::Uint8, spec), ways).unwrap();
    assert_eq!(**fitted.shape(), *expected);
}

#[test]
fn missing_dimensions_are_added_where_they_can_be_meant() {
    check_fit(&[3], &[-1, 1], Fit::UnitOnly, &[3, 1]);
    check_fit(&[3], &[-1, 3], Fit::UnitOnly, &[3]);
    check_fit(&[3], &[-1, 3], Fit::BatchToo, &[1, 3]);
    check_fit(&[3], &[-1, 1], Fit::BatchToo, &[3, 1]);
    check_fit(&[], &[-1, 1], Fit::BatchToo, &[1, 1]);
    check_fit(&[], &[-1], Fit::BatchToo, &[1]);
    check_fit(&[28, 28], &[-1, 28, 28], Fit::BatchToo, &[1, 28, 28]);
    check_fit(&[1, 3], &[3], Fit::BatchToo, &[3]);
    check_fit(&[2, 5], &[-1, 4], Fit::BatchToo, &[2, 5]);
    check_fit(&[3], &[-1], Fit::BatchToo, &[3]);
}

#[test]
fn keys_are_columns_or_inputs_or_those_of_the_frame() {
    let info = table(DataType::Fp32);
    assert!(Rows::of_inputs(&info, STRICT).knows("X"));
    assert!(!Rows::of_inputs(&info, STRICT).knows("a"));
    assert!(Rows::of_frame(&info, STRICT, &["q".to_owned()]).knows("q"));
}
