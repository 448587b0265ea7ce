//! What people send, whichever way they write it; and what they get to read.

mod tasks;

use salver_core::{Batching, DataType, ModelInfo};
use serde_json::{Value, json};

use super::*;
use crate::samples::{iris, model, one_input, reference, response, two_inputs};

fn decode(info: &ModelInfo, body: &str) -> Result<Vec<Tensor>> {
    decode_predict(Bytes::copy_from_slice(body.as_bytes()), None, reference(), info, &Limits::default())
        .map(|request| request.inputs)
}

#[track_caller]
fn refused(info: &ModelInfo, body: &str, expected: &str) {
    let error = decode(info, body).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{body}");
    assert!(error.message().contains(expected), "{body}: {error:?}");
}

#[test]
fn a_table_takes_rows_in_every_natural_form() {
    let row = r#"{"sepal_length": 1, "petal_width": 4, "sepal_width": 2, "petal_length": 3}"#;
    for body in [
        row.to_owned(),
        format!("[{row}]"),
        format!(r#"{{"rows": [{row}]}}"#),
        format!(r#"{{"inputs": {row}}}"#),
        r#"{"X": [[1, 2, 3, 4]]}"#.to_owned(),
        r#"{"X": [1, 2, 3, 4]}"#.to_owned(),
        "[[1, 2, 3, 4]]".to_owned(),
        "[1, 2, 3, 4]".to_owned(),
        r#"{"rows": [[1, 2, 3, 4]]}"#.to_owned(),
    ] {
        let tensors = decode(&iris(), &body).unwrap();
        assert_eq!(**tensors[0].shape(), [1, 4], "{body}");
        assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0], "{body}");
    }
}

#[test]
fn a_table_says_which_column_is_wrong() {
    refused(&iris(), r#"{"sepal_length": 1}"#, "row 0 lacks 'sepal_width'; expected the keys 'sepal_length'");
    refused(&iris(), r#"{"sepal_lenght": 1}"#, "row 0 has the key 'sepal_lenght'");
    refused(&iris(), r#"[{"sepal_length": "long"}]"#, "row 0, 'sepal_length': expected FP32");
    refused(&iris(), r#"{"sepal_length": 1, "sepal_length": 2}"#, "'sepal_length' twice");
    refused(&iris(), r#"{"rows": [], "x": 1}"#, "nothing beside 'rows', got the key 'x'");
    let missing = r#"{"sepal_length": 1, "sepal_width": null, "petal_length": 3, "petal_width": 4}"#;
    assert!(decode(&iris(), missing).unwrap()[0].to_vec::<f32>().unwrap()[1].is_nan());
}

#[test]
fn several_inputs_are_named_with_or_without_the_batch() {
    for body in [
        r#"{"a": 0.5, "b": [1, 2]}"#,
        r#"{"b": [[1, 2]], "a": [0.5]}"#,
        r#"{"inputs": {"a": [0.5], "b": [[1, 2]]}}"#,
        r#"[{"b": [1, 2], "a": 0.5}]"#,
    ] {
        let tensors = decode(&two_inputs(), body).unwrap();
        let find = |name: &str| tensors.iter().find(|tensor| &**tensor.name() == name).unwrap();
        assert_eq!((**find("a").shape()).to_vec(), [1], "{body}");
        assert_eq!((**find("b").shape()).to_vec(), [1, 2], "{body}");
    }
    refused(&two_inputs(), r#"{"a": 1, "c": 1}"#, "no input 'c'; expected the keys 'a', 'b'");
    refused(&two_inputs(), r#"{"a": 1, "a": 1}"#, "'a' twice");
    refused(&two_inputs(), "[1, 2]", "takes an object with the keys 'a', 'b'");
}

#[test]
fn an_input_called_as_a_wrapper_is_still_an_input() {
    let mut info = one_input(DataType::Fp32, &[-1]);
    info.signature.inputs[0].name = "inputs".into();
    assert_eq!(decode(&info, r#"{"inputs": [1, 2]}"#).unwrap()[0].to_vec::<f32>().unwrap(), [1.0, 2.0]);
}

#[test]
fn columns_and_whole_inputs_mix_in_a_row() {
    let mut info = two_inputs();
    info.columns = vec![Vec::new(), vec!["p".to_owned(), "q".to_owned()]];
    let tensors = decode(&info, r#"{"a": 0.5, "q": 2, "p": 1}"#).unwrap();
    assert_eq!(tensors[0].to_vec::<f32>().unwrap(), [0.5]);
    assert_eq!(tensors[1].to_vec::<i64>().unwrap(), [1, 2]);
    assert_eq!(decode(&info, r#"{"a": [0.5], "b": [[1, 2]]}"#).unwrap().len(), 2);
}

#[test]
fn a_lone_value_is_a_row() {
    let texts = one_input(DataType::Bytes, &[-1]);
    assert_eq!(**decode(&texts, r#""hello""#).unwrap()[0].shape(), [1]);
    assert_eq!(**decode(&one_input(DataType::Fp32, &[-1, 1]), "7").unwrap()[0].shape(), [1, 1]);
}

#[test]
fn json_is_strict() {
    let info = one_input(DataType::Fp32, &[-1]);
    for body in ["[NaN]", "[Infinity]", "[1,]", "[1] 2", "", "{", "[01]", "[1e999]", "\u{feff}[1]"] {
        assert!(decode(&info, body).is_err(), "{body}");
    }
    refused(&info, &"[".repeat(100_000), "deeper than 100");
    refused(&info, &r#"{"x":"#.repeat(100_000), "deeper than 100");
    // An input that is missing is found by the check against the signature, as in every protocol.
    assert!(info.signature.check("m", decode(&info, "{}").unwrap()).is_err());
}

fn npy_of(tensor: &Tensor) -> Bytes {
    npy::encode(tensor).unwrap()
}

#[test]
fn arrays_are_found_by_type_or_content_and_converted() {
    let doubles = npy_of(&Tensor::from_slice("q", [4], &[5.1f64, 3.5, 1.4, 0.2]).unwrap());
    for content_type in [None, Some("application/octet-stream"), Some("Application/X-NPY; a=b"), Some("text/plain")] {
        let request = decode_predict(doubles.clone(), content_type, reference(), &iris(), &Limits::default()).unwrap();
        assert_eq!(**request.inputs[0].shape(), [1, 4]);
        assert_eq!(request.inputs[0].to_vec::<f32>().unwrap(), [5.1, 3.5, 1.4, 0.2]);
    }
    let json = Bytes::from_static(b"[1,2,3,4]");
    let error = decode_predict(json, Some("application/octet-stream"), reference(), &iris(), &Limits::default());
    assert!(error.unwrap_err().message().contains("magic"));
    let error = decode_predict(doubles, None, reference(), &two_inputs(), &Limits::default());
    assert!(error.unwrap_err().message().contains("takes an object"));
}

#[test]
fn whole_numbers_convert_where_they_fit_and_floats_stay_floats() {
    let cast = |tensor: Tensor, dtype| cast::cast(tensor, dtype);
    let ints = Tensor::from_slice("x", [2], &[1i64, 300]).unwrap();
    assert_eq!(cast(ints.clone(), DataType::Fp32).unwrap().to_vec::<f32>().unwrap(), [1.0, 300.0]);
    assert_eq!(cast(ints.clone(), DataType::Uint16).unwrap().to_vec::<u16>().unwrap(), [1, 300]);
    assert!(cast(ints, DataType::Int8).unwrap_err().message().contains("element 1 does not fit INT8"));
    let floats = Tensor::from_slice("x", [1], &[1.0f32]).unwrap();
    assert_eq!(cast(floats.clone(), DataType::Int32).unwrap().dtype(), DataType::Fp32);
    assert_eq!(cast(floats, DataType::Fp64).unwrap().to_vec::<f64>().unwrap(), [1.0]);
    let flags = Tensor::from_slice("x", [2], &[true, false]).unwrap();
    assert_eq!(cast(flags, DataType::Int64).unwrap().to_vec::<i64>().unwrap(), [1, 0]);
}

fn answer(info: ModelInfo, outputs: Vec<Tensor>) -> Value {
    let reply = encode_predict(&response(info, outputs)).unwrap();
    assert_eq!((reply.status, reply.content_type), (200, "application/json"));
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn rows_of_probabilities_get_their_labels() {
    let p = Tensor::from_slice("probabilities", [2, 3], &[0.5f32, 0.25, 0.25, 0.0, 0.125, 0.875]).unwrap();
    assert_eq!(
        answer(iris(), vec![p]),
        json!({"model": "iris", "version": 3, "predictions": [
            {"label": "setosa", "score": 0.5, "probabilities": {"setosa": 0.5, "versicolor": 0.25, "virginica": 0.25}},
            {"label": "virginica", "score": 0.875, "probabilities": {"setosa": 0.0, "versicolor": 0.125, "virginica": 0.875}},
        ]})
    );
}

#[test]
fn scores_that_are_no_probabilities_are_not_called_so() {
    let p = Tensor::from_slice("probabilities", [1, 3], &[-1.5f32, 3.0, f32::NAN]).unwrap();
    assert_eq!(
        answer(iris(), vec![p])["predictions"],
        json!([{"label": "versicolor", "score": 3.0, "scores": {"setosa": -1.5, "versicolor": 3.0, "virginica": null}}])
    );
    let all_nan = Tensor::from_slice("probabilities", [1, 3], &[f32::NAN; 3]).unwrap();
    let value = answer(iris(), vec![all_nan]);
    assert_eq!((&value["predictions"][0]["label"], &value["predictions"][0]["score"]), (&Value::Null, &Value::Null));
}

#[test]
fn labels_that_repeat_leave_the_scores_a_list() {
    let mut info = iris();
    info.labels[0][1] = "setosa".to_owned();
    let p = Tensor::from_slice("probabilities", [1, 3], &[0.0f32, 0.0, 1.0]).unwrap();
    assert_eq!(answer(info, vec![p])["predictions"][0]["probabilities"], json!([0.0, 0.0, 1.0]));
}

/// A classifier as sklearn's converter makes it: the class, and its probabilities.
fn classifier(dtype: DataType, class_labels: &[&str]) -> ModelInfo {
    let outputs =
        vec![TensorSpec::new("label", dtype, &[-1]), TensorSpec::new("probabilities", DataType::Fp32, &[-1, 2])];
    let mut info = model(vec![TensorSpec::new("x", DataType::Fp32, &[-1])], outputs);
    let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    info.labels = vec![texts(class_labels), texts(&["no", "yes"])];
    info
}

#[test]
fn the_models_own_label_wins_over_the_best_score() {
    let p = Tensor::from_slice("probabilities", [1, 2], &[0.75f32, 0.25]).unwrap();
    let class = Tensor::from_slice("label", [1], &[1i64]).unwrap();
    let expected = json!([{"label": "yes", "score": 0.25, "probabilities": {"no": 0.75, "yes": 0.25}}]);
    let value = answer(classifier(DataType::Int64, &["no", "yes"]), vec![class.clone(), p.clone()]);
    assert_eq!(value["predictions"], expected);
    // Without labels of its own, the class stays the number that the model said.
    let value = answer(classifier(DataType::Int64, &[]), vec![class, p.clone()]);
    let expected = json!([{"label": 1, "score": 0.75, "probabilities": {"no": 0.75, "yes": 0.25}}]);
    assert_eq!(value["predictions"], expected);
    let text = Tensor::from_elements("label", [1], [b"yes"].into_iter().collect()).unwrap();
    let value = answer(classifier(DataType::Bytes, &[]), vec![text, p]);
    assert_eq!(value["predictions"][0]["label"], "yes");
}

#[test]
fn classes_beyond_the_labels_have_none() {
    for class in [-1i64, 2, i64::MAX] {
        let class = Tensor::from_slice("label", [1], &[class]).unwrap();
        let value = answer(classifier(DataType::Int64, &["no", "yes"]), vec![class]);
        assert_eq!(value["predictions"], json!([{"label": null}]));
    }
}

#[test]
fn several_scores_are_kept_apart() {
    let outputs = vec![TensorSpec::new("p", DataType::Fp32, &[-1, 2]), TensorSpec::new("q", DataType::Fp32, &[-1, 2])];
    let mut info = model(Vec::new(), outputs);
    info.labels = vec![vec!["n".to_owned(), "y".to_owned()]; 2];
    let tensors = ["p", "q"].map(|name| Tensor::from_slice(name, [1, 2], &[0.25f32, 0.75]).unwrap());
    let one = json!({"label": "y", "score": 0.75, "probabilities": {"n": 0.25, "y": 0.75}});
    assert_eq!(answer(info, tensors.to_vec())["predictions"], json!([{"p": one, "q": one}]));
}

#[test]
fn outputs_without_labels_keep_their_names() {
    let sum = Tensor::from_slice("sum", [2, 1], &[1.5f32, f32::INFINITY]).unwrap();
    let diff = Tensor::from_slice("diff", [2, 2], &[1f32, 2.0, 3.0, 4.0]).unwrap();
    let value = answer(two_inputs(), vec![sum, diff]);
    assert_eq!(value["predictions"], json!([{"sum": 1.5, "diff": [1.0, 2.0]}, {"sum": null, "diff": [3.0, 4.0]}]));
}

#[test]
fn models_without_rows_answer_whole_outputs() {
    let y = Tensor::from_slice("y", [2], &[1i32, 2]).unwrap();
    let mut info = one_input(DataType::Fp32, &[2]);
    info.signature.batching = Batching::Fixed;
    assert_eq!(answer(info, vec![y.clone()])["outputs"], json!({"y": [1, 2]}));
    let scalar = Tensor::from_slice("z", [], &[true]).unwrap();
    assert_eq!(answer(two_inputs(), vec![y, scalar])["outputs"], json!({"y": [1, 2], "z": true}));
    let empty = Tensor::from_slice::<f32>("y", [1_000_000_000_000, 0], &[]).unwrap();
    assert_eq!(answer(two_inputs(), vec![empty])["predictions"], json!([]));
}

#[test]
fn the_example_is_accepted_by_its_model() {
    let mut mixed = two_inputs();
    mixed.columns = vec![Vec::new(), vec!["p".to_owned(), "q".to_owned()]];
    let mut fixed = one_input(DataType::Int8, &[2, 3]);
    fixed.signature.batching = Batching::Fixed;
    let mut optional = two_inputs();
    optional.signature.inputs[0].optional = true;
    let mut all = vec![iris(), two_inputs(), mixed, fixed, optional];
    all.extend(DataType::ALL.map(|dtype| one_input(dtype, &[-1, 3])));
    all.extend(DataType::ALL.map(|dtype| one_input(dtype, &[-1])));
    for info in all {
        let body = example(&info).to_string();
        let inputs = decode(&info, &body).unwrap();
        info.signature.check("m", inputs).unwrap_or_else(|error| panic!("{body}: {error:?}"));
    }
}

#[test]
fn nobody_has_to_read_a_huge_example() {
    assert_eq!(example(&one_input(DataType::Fp32, &[-1, 3, 224, 224])), Value::Null);
    assert_eq!(example(&one_input(DataType::Fp32, &[i64::MAX, i64::MAX])), Value::Null);
}

#[test]
fn the_description_shows_what_a_caller_needs() {
    let value: Value = serde_json::from_slice(&describe(&iris(), &[1, 3]).body).unwrap();
    let columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
    assert_eq!(
        value,
        json!({
            "name": "iris", "version": 3, "versions": [1, 3], "engine": "onnx", "platform": "onnxruntime_onnx",
            "task": "tabular", "batched": true,
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4], "columns": columns}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3],
                "labels": ["setosa", "versicolor", "virginica"]}],
            "metrics": {"accuracy": 0.9778},
            "predict": "/models/iris/predict",
            "example": {"sepal_length": 1.0, "sepal_width": 1.0, "petal_length": 1.0, "petal_width": 1.0},
        })
    );
    let mut umlaut = iris();
    umlaut.name = "grö+ße".into();
    let value: Value = serde_json::from_slice(&describe(&umlaut, &[]).body).unwrap();
    assert_eq!(value["predict"], "/models/gr%C3%B6%2B%C3%9Fe/predict");
}

#[test]
fn errors_name_their_kind() {
    let reply = encode_error(&Error::too_large("big"));
    assert_eq!((reply.status, &reply.body[..]), (413, &br#"{"error":{"kind":"too_large","message":"big"}}"#[..]));
}
