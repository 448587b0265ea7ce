//! A model's task as its files alone tell it: no engine is loaded.

use std::sync::Arc;

use salver_core::{BatchRule, Batching, ModelSpec, Result, Signature, Task, TaskMaker as _, TensorSpec};
use salver_repository::onnx::{OnnxDim, OnnxSummary, OnnxType, OnnxValue};
use salver_tasks::Tasks;

/// Returns what requests see of a graph that is served as it is.
pub(crate) fn signature(spec: &ModelSpec, summary: &OnnxSummary) -> Signature {
    let tensors = |values: &[OnnxValue]| values.iter().filter_map(tensor).collect::<Vec<_>>();
    let (mut inputs, outputs) = (tensors(&summary.inputs), tensors(&summary.outputs));
    let optional = tensors(&summary.optional_inputs).into_iter();
    let optional = optional.filter(|input| spec.config.inputs.iter().any(|io| *io.name == *input.name));
    inputs.extend(optional.map(|input| TensorSpec { optional: true, ..input }));
    let batching = match spec.config.batch {
        BatchRule::Never => Batching::Fixed,
        BatchRule::Derive { .. } => Batching::of(&inputs, &outputs),
        BatchRule::Max(_) => Batching::Rows { limit: None },
    };
    Signature { inputs, outputs, batching }
}

/// Makes the task of a model; none: it has none, or its file leaves shapes open that only an engine
/// finds out.
///
/// # Errors
/// Where the task does not fit the graph.
pub(crate) fn task(spec: &ModelSpec, summary: &OnnxSummary) -> Result<Option<Arc<dyn Task>>> {
    known_signature(spec, summary).map_or(Ok(None), |signature| Tasks.make(spec, &signature))
}

/// Returns the signature where the file tells every type and rank.
pub(crate) fn known_signature(spec: &ModelSpec, summary: &OnnxSummary) -> Option<Signature> {
    let is_known = summary.inputs.iter().chain(&summary.outputs).all(has_known_rank);
    is_known.then(|| signature(spec, summary))
}

/// Says tensors in a line: `text BYTES [-1], labels BYTES [-1, -1] (may be left out)`.
pub(crate) fn tensors(specs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| {
        let optional = if spec.optional { " (may be left out)" } else { "" };
        format!("{} {} {:?}{optional}", spec.name, spec.dtype, spec.wire_shape())
    };
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn has_known_rank(value: &OnnxValue) -> bool {
    matches!(value.kind, OnnxType::Tensor { dims: Some(_), dtype: Some(_), .. })
}

/// A value as a tensor that a request can carry, if it is one.
fn tensor(value: &OnnxValue) -> Option<TensorSpec> {
    let OnnxType::Tensor { dtype: Some(dtype), dims, .. } = &value.kind else {
        return None;
    };
    let extent = |dim: &OnnxDim| match dim {
        OnnxDim::Fixed(extent) => *extent,
        OnnxDim::Named(_) | OnnxDim::Unknown => -1,
    };
    let shape: Vec<i64> = dims.iter().flatten().map(extent).collect();
    Some(TensorSpec::new(value.name.as_str(), *dtype, &shape))
}
