//! Models that the tests and the fuzz entry points of this crate decode for.

use std::collections::BTreeMap;
use std::sync::Arc;

use salver_core::{
    Batching, DataType, InferResponse, ModelInfo, ModelName, ModelRef, Signature, Tensor, TensorSpec, Timings,
};

/// Makes a batched model of these inputs and outputs.
pub(crate) fn model(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> ModelInfo {
    ModelInfo {
        name: "m".into(),
        version: 3,
        engine: "onnx".into(),
        platform: "onnxruntime_onnx".to_owned(),
        columns: vec![Vec::new(); inputs.len()],
        labels: vec![Vec::new(); outputs.len()],
        signature: Signature { inputs, outputs, batching: Batching::Rows { limit: None } },
        task: "tensor".to_owned(),
        metrics: BTreeMap::new(),
        example: Vec::new(),
        observer: None,
    }
}

/// A model of one input of this type and shape, and one FP32 output of one value per row.
pub(crate) fn one_input(dtype: DataType, shape: &[i64]) -> ModelInfo {
    model(vec![TensorSpec::new("x", dtype, shape)], vec![TensorSpec::new("y", DataType::Fp32, &[-1])])
}

/// A model of two inputs: a number, and two numbers, per row.
pub(crate) fn two_inputs() -> ModelInfo {
    let inputs = vec![TensorSpec::new("a", DataType::Fp32, &[-1]), TensorSpec::new("b", DataType::Int64, &[-1, 2])];
    let outputs =
        vec![TensorSpec::new("sum", DataType::Fp32, &[-1]), TensorSpec::new("diff", DataType::Fp32, &[-1, 2])];
    model(inputs, outputs)
}

/// The table model of the demo.
pub(crate) fn iris() -> ModelInfo {
    let mut info = model(
        vec![TensorSpec::new("X", DataType::Fp32, &[-1, 4])],
        vec![TensorSpec::new("probabilities", DataType::Fp32, &[-1, 3])],
    );
    let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    info.name = "iris".into();
    info.task = "tabular".to_owned();
    info.columns = vec![texts(&["sepal_length", "sepal_width", "petal_length", "petal_width"])];
    info.labels = vec![texts(&["setosa", "versicolor", "virginica"])];
    info.metrics.insert("accuracy".to_owned(), 0.9778);
    info
}

/// A model of a task, with an example that it accepts.
fn task(name: &str, inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>, example: Vec<Tensor>) -> ModelInfo {
    ModelInfo { task: name.to_owned(), example, ..model(inputs, outputs) }
}

fn bytes(name: &str, value: &[u8]) -> Tensor {
    Tensor::from_elements(name, [1], [value].into_iter().collect()).expect("one element is a row of one")
}

fn text_outputs(first: Vec<TensorSpec>) -> Vec<TensorSpec> {
    let about =
        [TensorSpec::new("tokens", DataType::Int32, &[-1]), TensorSpec::new("truncated", DataType::Bool, &[-1])];
    first.into_iter().chain(about).collect()
}

fn texts(name: &str, first: Vec<TensorSpec>) -> ModelInfo {
    let input = TensorSpec::new("text", DataType::Bytes, &[-1]);
    task(name, vec![input], text_outputs(first), vec![bytes("text", b"a text")])
}

fn classes(width: i64) -> Vec<TensorSpec> {
    vec![
        TensorSpec::new("label", DataType::Bytes, &[-1, width]),
        TensorSpec::new("score", DataType::Fp32, &[-1, width]),
    ]
}

/// A model that says which class a text has.
pub(crate) fn text_classes() -> ModelInfo {
    texts("text-classification", classes(2))
}

/// A model that makes vectors of three numbers.
pub(crate) fn text_vectors() -> ModelInfo {
    texts("text-embedding", vec![TensorSpec::new("embedding", DataType::Fp32, &[-1, 3])])
}

/// A model that finds names.
pub(crate) fn text_entities() -> ModelInfo {
    texts("token-classification", vec![TensorSpec::new("entities", DataType::Bytes, &[-1])])
}

/// A model that says which of any labels a text has.
pub(crate) fn zero_shot() -> ModelInfo {
    let mut info = texts("zero-shot", classes(-1));
    let labels = TensorSpec { optional: true, ..TensorSpec::new("labels", DataType::Bytes, &[-1, -1]) };
    info.signature.inputs.push(labels);
    info.columns.push(Vec::new());
    info
}

/// The first bytes of every PNG.
pub(crate) const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A model that says what a picture shows.
pub(crate) fn pictures() -> ModelInfo {
    let input = TensorSpec::new("image", DataType::Bytes, &[-1]);
    task("image-classification", vec![input], classes(5), vec![bytes("image", PICTURE)])
}

/// A model of a table whose columns are inputs: `age` and `town` may be missing, `visits` and `paid` not.
pub(crate) fn columns() -> ModelInfo {
    let may_miss = |spec| TensorSpec { optional: true, ..spec };
    let inputs = vec![
        may_miss(TensorSpec::new("age", DataType::Fp64, &[-1])),
        TensorSpec::new("visits", DataType::Int64, &[-1]),
        TensorSpec::new("paid", DataType::Fp64, &[-1]),
        may_miss(TensorSpec::new("town", DataType::Bytes, &[-1])),
    ];
    let example = vec![
        Tensor::from_slice("age", [1], &[38.5f64]).expect("one element is a row of one"),
        Tensor::from_slice("visits", [1], &[1i64]).expect("one element is a row of one"),
        Tensor::from_slice("paid", [1], &[0.0f64]).expect("one element is a row of one"),
        bytes("town", b"Rome"),
    ];
    task("tabular", inputs, vec![TensorSpec::new("y", DataType::Fp32, &[-1])], example)
}

/// A reference to the model of these samples.
pub(crate) fn reference() -> ModelRef {
    ModelRef::latest(ModelName::new("m").expect("a letter is a model name"))
}

/// An answer of `info` with these outputs.
pub(crate) fn response(info: ModelInfo, outputs: Vec<Tensor>) -> InferResponse {
    InferResponse { model: Arc::new(info), id: None, outputs, timings: Timings::default(), cache: None, cost: None }
}
