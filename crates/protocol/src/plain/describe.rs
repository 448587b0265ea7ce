//! What a model takes and gives, for people, with a body that it accepts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use salver_core::{DataType, Dim, ModelInfo, Tensor, TensorSpec};
use serde_json::{Map, Value, json};

use crate::json::styled::{self, Style};
use crate::task::Task;
use crate::{Reply, paths};

/// Writes the description of a model: inputs, outputs, columns, labels, metrics and an example.
pub fn describe(info: &ModelInfo, versions: &[u64]) -> Reply {
    Reply::json_value(200, &description(info, versions))
}

fn description(info: &ModelInfo, versions: &[u64]) -> Value {
    let (inputs, outputs) = (&info.signature.inputs, &info.signature.outputs);
    json!({
        "name": &*info.name,
        "version": info.version,
        "versions": versions,
        "engine": &*info.engine,
        "platform": &info.platform,
        "task": &info.task,
        "batched": info.signature.is_batched(),
        "inputs": tensors(inputs, "columns", &info.columns),
        "outputs": tensors(outputs, "labels", &info.labels),
        "metrics": info.metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>(),
        "predict": format!("/models/{}/predict", paths::segment(&info.name)),
        "example": example(info),
    })
}

/// `key` is shown with the names of a tensor where there are any.
fn tensors(specs: &[TensorSpec], key: &str, names: &[Vec<String>]) -> Vec<Value> {
    let one = |(idx, spec): (usize, &TensorSpec)| {
        let mut entry = json!({ "name": &*spec.name, "datatype": spec.dtype.as_str(), "shape": spec.wire_shape() });
        if spec.optional {
            entry["optional"] = Value::Bool(true);
        }
        if let Some(names) = names.get(idx).filter(|names| !names.is_empty()) {
            entry[key] = json!(names);
        }
        entry
    };
    specs.iter().enumerate().map(one).collect()
}

/// Returns a body that `/models/{name}/predict` accepts for this model, with one row.
///
/// A table's is a row object, one input's is its nested list, several inputs' an object by name; that
/// of texts, pictures and columns is what the task gives as one. `null` for inputs so large that
/// nobody would type them; those are better sent as files.
pub fn example(info: &ModelInfo) -> Value {
    match Task::of(info) {
        Task::Tensors => example_of_tensors(info),
        task if info.example.is_empty() => example_of_task(info, task),
        _ if info.example.iter().map(Tensor::payload_len).sum::<usize>() > MAX_EXAMPLE_BYTES => Value::Null,
        task => {
            Value::Object(info.example.iter().map(|tensor| (tensor.name().to_string(), cell(tensor, task))).collect())
        }
    }
}

/// Returns the kind of file that `/models/{name}/predict` takes as a body, as a name to put into a
/// command: a picture for a model of pictures.
pub fn sample_file(info: &ModelInfo) -> Option<&'static str> {
    (Task::of(info) == Task::Image).then_some("picture.jpg")
}

/// Returns the first row of a tensor; that of a picture as base64.
fn cell(tensor: &Tensor, task: Task) -> Value {
    let bytes = tensor.elements().and_then(|elements| elements.get(0));
    if let Some(bytes) = bytes.filter(|_| task == Task::Image) {
        return Value::String(STANDARD.encode(bytes));
    }
    let mut text = Vec::new();
    let written = if tensor.rows() == 0 { Ok(()) } else { styled::cell(&mut text, tensor, 0, Style::Nulls) };
    // A row of `[1]` is its value.
    let inner = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).filter(|_| tensor.shape().len() == 1);
    written.ok().and_then(|()| serde_json::from_slice(inner.unwrap_or(&text)).ok()).unwrap_or(Value::Null)
}

/// Makes up a body where the task has no example: none of a picture.
fn example_of_task(info: &ModelInfo, task: Task) -> Value {
    match task.raw_input() {
        Some(_) if task == Task::Image => Value::Null,
        Some(input) => json!({ input: "text" }),
        None => example_of_tensors(info),
    }
}

fn example_of_tensors(info: &ModelInfo) -> Value {
    let needed: Vec<(usize, &TensorSpec)> =
        info.signature.inputs.iter().enumerate().filter(|(_, spec)| !spec.optional).collect();
    let columns = |idx: usize| info.columns.get(idx).map(Vec::as_slice).unwrap_or_default();
    let has_table = needed.iter().any(|&(idx, _)| !columns(idx).is_empty());
    if needed.iter().any(|(_, spec)| element_count(spec).is_none()) {
        return Value::Null;
    }
    if let ([(_, spec)], false, 1) = (&needed[..], has_table, info.signature.inputs.len()) {
        return nested(spec.dtype, &extents(spec));
    }
    let mut object = Map::new();
    for (idx, spec) in needed {
        if !has_table {
            object.insert(spec.name.to_string(), nested(spec.dtype, &extents(spec)));
        } else if columns(idx).is_empty() {
            object.insert(spec.name.to_string(), nested(spec.dtype, extents(spec).get(1..).unwrap_or_default()));
        } else {
            object.extend(columns(idx).iter().map(|column| (column.clone(), element(spec.dtype))));
        }
    }
    Value::Object(object)
}

/// The most elements of an example.
const MAX_ELEMENTS: usize = 1024;

/// The most bytes of a task's example.
const MAX_EXAMPLE_BYTES: usize = 16 << 10;

fn extents(spec: &TensorSpec) -> Vec<usize> {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free => 1,
    };
    spec.shape.iter().map(extent).collect()
}

/// Returns the elements of an example, or none where they would be too many.
fn element_count(spec: &TensorSpec) -> Option<usize> {
    let product = extents(spec).into_iter().try_fold(1usize, |product, extent| product.checked_mul(extent.max(1)))?;
    (product <= MAX_ELEMENTS && spec.shape.len() <= 32).then_some(product)
}

fn nested(dtype: DataType, extents: &[usize]) -> Value {
    match extents.split_first() {
        None => element(dtype),
        Some((&extent, inner)) => Value::Array(vec![nested(dtype, inner); extent]),
    }
}

fn element(dtype: DataType) -> Value {
    match dtype {
        DataType::Bool => json!(true),
        DataType::Bytes => json!("text"),
        _ if dtype.is_float() => json!(1.0),
        _ => json!(1),
    }
}
