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

/// A reference to the model of these samples.
pub(crate) fn reference() -> ModelRef {
    ModelRef::latest(ModelName::new("m").expect("a letter is a model name"))
}

/// An answer of `info` with these outputs.
pub(crate) fn response(info: ModelInfo, outputs: Vec<Tensor>) -> InferResponse {
    InferResponse { model: Arc::new(info), id: None, outputs, timings: Timings::default(), cache: None }
}
