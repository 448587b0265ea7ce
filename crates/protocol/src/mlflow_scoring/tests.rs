//! Every form of `/invocations`, as MLflow's scoring server answers it.

use salver_core::{DataType, TensorSpec};

use super::*;
use crate::samples::{iris, model, one_input, reference, response, two_inputs};

fn decode(info: &ModelInfo, json: &str) -> Result<Vec<Tensor>> {
    decode_invocations(json.as_bytes(), ContentType::Json, reference(), info, &Limits::default())
        .map(|request| request.inputs)
}

fn decode_csv(info: &ModelInfo, text: &str) -> Result<Vec<Tensor>> {
    decode_invocations(text.as_bytes(), ContentType::Csv, reference(), info, &Limits::default())
        .map(|request| request.inputs)
}

#[track_caller]
fn refused(info: &ModelInfo, json: &str, expected: &str) {
    let error = decode(info, json).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{json}");
    assert!(error.message().contains(expected), "{json}: {error:?}");
}

/// `y = 2a + 3b`: two inputs of one value per row.
fn scalars(shape: &[i64]) -> ModelInfo {
    let inputs = vec![TensorSpec::new("a", DataType::Fp64, shape), TensorSpec::new("b", DataType::Fp64, shape)];
    model(inputs, vec![TensorSpec::new("y", DataType::Fp64, &[-1])])
}

fn doubles(tensors: &[Tensor]) -> Vec<Vec<f64>> {
    tensors.iter().map(|tensor| tensor.to_vec().unwrap()).collect()
}

#[test]
fn media_types_are_json_and_csv_in_utf_8() {
    assert_eq!(content_type(Some("application/json")).unwrap(), ContentType::Json);
    assert_eq!(content_type(Some("Application/JSON; charset=UTF-8")).unwrap(), ContentType::Json);
    assert_eq!(content_type(Some("text/csv;charset=utf-8")).unwrap(), ContentType::Csv);
    let wrong = ["text/plain", "application/json; charset=latin-1", "application/json; pandas=split", "", "*/*"];
    for header in wrong.map(Some).into_iter().chain([None]) {
        let reply = content_type(header).unwrap_err();
        assert_eq!((reply.status, reply.content_type), (415, "text/plain; charset=utf-8"), "{header:?}");
    }
}

#[test]
fn every_form_of_a_frame_gives_the_same_inputs() {
    for json in [
        r#"{"dataframe_split": {"columns": ["b", "x", "a"], "data": [[3, "?", 1], [4, null, 2]], "index": [7, 7]}}"#,
        r#"{"dataframe_split": {"data": [[3, "?", 1], [4, null, 2]], "columns": ["b", "x", "a"]}}"#,
        r#"{"dataframe_records": [{"b": 3, "a": 1}, {"a": 2, "x": [], "b": 4}]}"#,
        r#"{"instances": [{"b": 3, "a": 1}, {"a": 2, "b": 4}]}"#,
        r#"{"inputs": {"b": [3, 4], "a": [1, 2]}, "params": {"t": 1}}"#,
    ] {
        for (shape, expected) in [(&[-1][..], &[2][..]), (&[-1, 1], &[2, 1])] {
            let tensors = decode(&scalars(shape), json).unwrap();
            assert_eq!(doubles(&tensors), [[1.0, 2.0], [3.0, 4.0]], "{json}");
            assert_eq!(**tensors[0].shape(), *expected, "{json}");
        }
    }
    let tensors = decode_csv(&scalars(&[-1]), "b,a,x\r\n3,1,\"?,\"\r\n4.0,2e0,\r\n").unwrap();
    assert_eq!(doubles(&tensors), [[1.0, 2.0], [3.0, 4.0]]);
}

#[test]
fn declared_columns_fill_one_table_in_every_form() {
    for json in [
        r#"{"dataframe_split": {"columns": ["petal_width", "sepal_length", "petal_length", "sepal_width"], "data": [[4, 1, 3, 2]]}}"#,
        r#"{"dataframe_records": [{"petal_width": 4, "sepal_length": 1, "petal_length": 3, "sepal_width": 2}]}"#,
        r#"{"inputs": {"petal_width": [4], "sepal_length": [1], "petal_length": [3], "sepal_width": [2]}}"#,
        r#"{"inputs": {"X": [[1, 2, 3, 4]]}}"#,
        r#"{"inputs": [[1, 2, 3, 4]]}"#,
        r#"{"instances": [[1, 2, 3, 4]]}"#,
    ] {
        let tensors = decode(&iris(), json).unwrap();
        assert_eq!(**tensors[0].shape(), [1, 4], "{json}");
        assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0], "{json}");
    }
    refused(&iris(), r#"{"dataframe_records": [{"sepal_length": 1}]}"#, "lacks 'sepal_width'");
    refused(&iris(), r#"{"inputs": {"sepal_length": [1]}}"#, "column 'sepal_width' is missing");
    let uneven = r#"{"inputs": {"petal_width": [4], "sepal_length": [1, 2], "petal_length": [3], "sepal_width": [2]}}"#;
    refused(&iris(), uneven, "has shape [1], expected [2]");
}

#[test]
fn a_single_input_without_columns_takes_the_frame_as_it_is() {
    let info = one_input(DataType::Fp32, &[-1, 2]);
    for json in [
        r#"{"dataframe_split": {"columns": [0, 1], "data": [[1, 2], [3, 4]]}}"#,
        r#"{"dataframe_records": [{"q": 1, "p": 2}, {"p": 4, "q": 3}]}"#,
        r#"{"inputs": {"q": [1, 3], "p": [2, 4]}}"#,
        r#"{"inputs": {"x": [[1, 2], [3, 4]]}}"#,
        r#"{"dataframe_records": [{"x": [1, 2]}, {"x": [3, 4]}]}"#,
        r#"{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}"#,
    ] {
        let tensors = decode(&info, json).unwrap();
        assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0], "{json}");
        assert_eq!(**tensors[0].shape(), [2, 2], "{json}");
    }
    assert_eq!(**decode_csv(&info, "p,q\n1,2\n").unwrap()[0].shape(), [1, 2]);
    refused(&info, r#"{"inputs": {"q": [1], "q": [2]}}"#, "'q' twice");
}

#[test]
fn exactly_one_form_is_given() {
    let info = scalars(&[-1]);
    refused(&info, "{}", "none of the keys");
    refused(&info, r#"{"params": {}}"#, "none of the keys");
    refused(&info, r#"[{"a": 1, "b": 2}]"#, "must be an object");
    refused(&info, r#"{"inputs": {"a": [1], "b": [1]}, "instances": []}"#, "exactly one");
    refused(&info, r#"{"inputs": {"a": [1], "b": [1]}, "inputs": {"a": [1], "b": [1]}}"#, "exactly one");
    refused(&info, r#"{"inputs": {"a": [1], "b": [1]}, "params": 1}"#, "'params' must be an object");
    refused(&info, r#"{"inputs": [1]}"#, "model 'm' has 2 inputs");
    refused(&info, r#"{"instances": {"a": 1}}"#, "must be a list");
    refused(&info, r#"{"dataframe_records": {"a": 1}}"#, "must be a list");
    refused(&info, r#"{"dataframe_split": [1]}"#, "must be an object");
    refused(&info, "", "EOF");
}

#[test]
fn frames_that_do_not_hold_together_are_refused() {
    let info = scalars(&[-1]);
    let split = |inner: &str| format!(r#"{{"dataframe_split": {{{inner}}}}}"#);
    refused(&info, &split(r#""columns": ["a", "b"], "data": [[1, 2, 3]]"#), "more values than the 2 columns");
    refused(&info, &split(r#""columns": ["a", "b"], "data": [[1, 2], [1]]"#), "row 1 has fewer values");
    refused(&info, &split(r#""columns": ["a"], "data": [[1]]"#), "column 'b' of model 'm' is missing");
    refused(&info, &split(r#""columns": ["a", "b", "a"], "data": []"#), "'a' is given twice");
    refused(&info, &split(r#""columns": ["a", "b"]"#), "lacks 'data'");
    refused(&info, &split(r#""data": []"#), "lacks 'columns'");
    refused(&info, &split(r#""columns": "ab", "data": []"#), "list of names");
    refused(&info, &split(r#""columns": ["a", null], "data": []"#), "list of names");
    refused(&info, &split(r#""columns": ["a", "b"], "data": {}"#), "'data' must be a list");
    refused(&info, &split(r#""columns": ["a", "b"], "data": [1]"#), "row 0 is not a list");
    refused(&info, &split(r#""columns": ["a", "b"], "data": [], "dtype": 1"#), "the key 'dtype'");
    refused(&info, &split(r#""columns": ["a", "b"], "data": [], "data": []"#), "'data' twice");
    refused(&info, &split(r#""data": [], "data": [], "columns": ["a", "b"]"#), "'data' twice");
    refused(&info, r#"{"dataframe_records": [{"a": 1, "b": 2}, 3]}"#, "row 1 is no object");
    refused(&info, r#"{"dataframe_records": [{"a": 1, "a": 1, "b": 2}]}"#, "'a' twice");
}

#[test]
fn values_are_converted_where_nothing_is_lost() {
    let info = scalars(&[-1]);
    let tensors = decode(&info, r#"{"dataframe_records": [{"a": null, "b": 7}, {"a": NaN, "b": "1.5"}]}"#).unwrap();
    let values = doubles(&tensors);
    assert!(values[0].iter().all(|value| value.is_nan()));
    assert_eq!(values[1], [7.0, 1.5]);
    refused(&info, r#"{"dataframe_records": [{"a": "one", "b": 1}]}"#, "'one' is not FP64");
    let ints = one_input(DataType::Int64, &[-1]);
    refused(&ints, r#"{"dataframe_records": [{"x": 1.5}]}"#, "expected INT64");
    refused(&ints, r#"{"dataframe_records": [{"x": null}]}"#, "expected INT64");
    let exact = decode(&ints, r#"{"dataframe_records": [{"x": 9007199254740993}]}"#).unwrap();
    assert_eq!(exact[0].to_vec::<i64>().unwrap(), [9_007_199_254_740_993]);
}

#[test]
fn no_rows_are_a_request_of_no_rows() {
    let info = scalars(&[-1, 1]);
    let split = r#"{"dataframe_split": {"columns": ["a", "b"], "data": []}}"#;
    for json in [split, r#"{"dataframe_records": []}"#] {
        assert_eq!(**decode(&info, json).unwrap()[0].shape(), [0, 1], "{json}");
    }
    assert_eq!(
        **decode_csv(&iris(), "petal_width,petal_length,sepal_width,sepal_length\n").unwrap()[0].shape(),
        [0, 4]
    );
}

#[test]
fn csv_is_read_strictly() {
    let info = one_input(DataType::Bytes, &[-1]);
    let tensors = decode_csv(&info, "\u{feff}x\n\"a,\"\"b\"\"\nc\"\n plain \n").unwrap();
    let elements: Vec<&[u8]> = tensors[0].elements().unwrap().iter().collect();
    assert_eq!(elements, [&b"a,\"b\"\nc"[..], b" plain "]);
    for (text, expected) in [
        ("", "is empty"),
        ("x\n\"open", "line 2"),
        ("x\n\"a\"b\n", "line 2"),
        ("x\na,b\n", "more values than the 1 columns"),
        ("y\na\n", "column 'x' of model 'm' is missing"),
        ("x,x\na,b\n", "given twice"),
        (&",".repeat(70_000), "at most 65536 columns"),
    ] {
        let error = decode_csv(&info, text).unwrap_err();
        assert!(error.message().contains(expected), "{text:.20}: {error:?}");
    }
    let latin1 = decode_invocations(b"x\n\xe4\n", ContentType::Csv, reference(), &info, &Limits::default());
    assert!(latin1.unwrap_err().message().contains("byte 2"));
}

#[test]
fn csv_fields_spell_their_type() {
    let floats = decode_csv(&one_input(DataType::Fp32, &[-1, 2]), "p,q\n.5,\n-inf,1e3\nnan,NA\n").unwrap();
    let values = floats[0].to_vec::<f32>().unwrap();
    assert_eq!([values[0], values[2], values[3]], [0.5, f32::NEG_INFINITY, 1000.0]);
    assert!([values[1], values[4], values[5]].iter().all(|value| value.is_nan()));
    let flags = decode_csv(&one_input(DataType::Bool, &[-1]), "x\nTrue\nfalse\n").unwrap();
    assert_eq!(flags[0].to_vec::<bool>().unwrap(), [true, false]);
    for (dtype, field) in
        [(DataType::Int8, "128"), (DataType::Int32, "1.0"), (DataType::Fp32, "1e999"), (DataType::Bool, "1")]
    {
        assert!(decode_csv(&one_input(dtype, &[-1]), &format!("x\n{field}\n")).is_err(), "{dtype} {field}");
    }
}

#[test]
fn hostile_bodies_are_refused() {
    let info = scalars(&[-1]);
    refused(&info, &format!(r#"{{"inputs": {}"#, "[".repeat(100_000)), "deeper than 100");
    refused(&info, &format!(r#"{{"x": {}"#, "[".repeat(100_000)), "deeper than 100");
    let many: Vec<String> = (0..70_000).map(|i| i.to_string()).collect();
    let wide = one_input(DataType::Fp32, &[-1, -1]);
    let columns = format!(r#"{{"dataframe_split": {{"columns": [{}], "data": []}}}}"#, many.join(","));
    refused(&wide, &columns, "at most 65536 columns");
}

#[track_caller]
fn check_reply(outputs: Vec<Tensor>, expected: &str) {
    let reply = encode_invocations(&response(two_inputs(), outputs)).unwrap();
    assert_eq!((reply.status, reply.content_type), (200, "application/json"));
    assert_eq!(std::str::from_utf8(&reply.body).unwrap(), expected);
}

#[test]
fn answers_are_records_with_bare_values() {
    let y = Tensor::from_slice("y", [2], &[14.0f64, f64::NAN]).unwrap();
    let z = Tensor::from_slice("z", [2, 1], &[1i64, 2]).unwrap();
    let p = Tensor::from_slice("p", [2, 2], &[1f32, 2.0, 3.0, 4.0]).unwrap();
    check_reply(vec![y.clone()], r#"{"predictions":[{"y":14.0},{"y":NaN}]}"#);
    check_reply(vec![z, p], r#"{"predictions":[{"z":1,"p":[1.0,2.0]},{"z":2,"p":[3.0,4.0]}]}"#);
    check_reply(vec![Tensor::from_slice::<f32>("y", [0], &[]).unwrap()], r#"{"predictions":[]}"#);
    let whole = Tensor::from_slice("s", [], &[1i32]).unwrap();
    let unnamed =
        |shape: &[usize]| Tensor::from_slice("predictions", shape, &vec![1i32; shape.iter().product()]).unwrap();
    check_reply(vec![unnamed(&[2])], r#"{"predictions":[1,1]}"#);
    check_reply(vec![unnamed(&[1, 2])], r#"{"predictions":[[1,1]]}"#);
    check_reply(vec![unnamed(&[1_000_000_000_000, 0])], r#"{"predictions":[]}"#);
    check_reply(vec![whole, y], r#"{"predictions":{"s":1,"y":[14.0,NaN]}}"#);
    check_reply(vec![Tensor::from_slice::<f32>("y", [1_000_000_000_000, 0], &[]).unwrap()], r#"{"predictions":[]}"#);
}

#[test]
fn errors_carry_a_code() {
    let reply = encode_error(&Error::invalid_input("bad \"x\""));
    assert_eq!((reply.status, &reply.body[..]), (400, &br#"{"error_code":"BAD_REQUEST","message":"bad \"x\""}"#[..]));
    let reply = encode_error(&Error::not_ready("loading"));
    assert_eq!(
        (reply.status, &reply.body[..]),
        (503, &br#"{"error_code":"TEMPORARILY_UNAVAILABLE","message":"loading"}"#[..])
    );
}
