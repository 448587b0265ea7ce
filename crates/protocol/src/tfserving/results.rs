//! What `:classify` and `:regress` make of a model's outputs.
//!
//! In TensorFlow a signature says which output is which. Here classes are the strings of an output
//! called `classes`, or the labels of the scores; scores are the floats of one called `scores`, or of
//! the only output of floats with one value for each class; a regression is the output called
//! `outputs`, or the only one of numbers. Classes come in the model's order, as in TF Serving.

use std::borrow::Cow;

use salver_core::{DataType, Error, InferResponse, ModelInfo, Result, Shape, Tensor, TensorSpec};

/// The names of the outputs that a classification needs.
pub(crate) fn classify_outputs(info: &ModelInfo) -> Result<Vec<std::sync::Arc<str>>> {
    let found = [classes_of(info), scores_of(info)];
    let names: Vec<_> = found.into_iter().flatten().map(|spec| spec.name.clone()).collect();
    if names.is_empty() {
        return Err(Error::invalid_input(format!(
            "model '{}' cannot classify: it has no output 'classes' of strings, no output 'scores' of floats, and not \
             one other output of floats by class; use 'predict'",
            info.name
        )));
    }
    Ok(names)
}

fn classes_of(info: &ModelInfo) -> Option<&TensorSpec> {
    info.signature.output("classes").filter(|spec| spec.dtype == DataType::Bytes)
}

fn scores_of(info: &ModelInfo) -> Option<&TensorSpec> {
    let is_float = |spec: &TensorSpec| matches!(spec.dtype, DataType::Fp32 | DataType::Fp64);
    if let Some(named) = info.signature.output("scores") {
        return is_float(named).then_some(named);
    }
    let mut by_class = info.signature.outputs.iter().filter(|spec| is_float(spec) && spec.shape.len() == 2);
    by_class.next().filter(|_| by_class.next().is_none())
}

/// The name of the output that is a regression.
pub(crate) fn regress_output(info: &ModelInfo) -> Result<std::sync::Arc<str>> {
    let is_number = |spec: &TensorSpec| !matches!(spec.dtype, DataType::Bytes | DataType::Bool);
    let named = info.signature.output("outputs").filter(|spec| is_number(spec));
    let mut numeric = info.signature.outputs.iter().filter(|spec| is_number(spec));
    let only = numeric.next().filter(|_| numeric.next().is_none());
    named.or(only).map(|spec| spec.name.clone()).ok_or_else(|| {
        Error::invalid_input(format!(
            "model '{}' cannot regress: it needs an output 'outputs', or exactly one output, of numbers; use 'predict'",
            info.name
        ))
    })
}

/// The classes of all examples.
pub(crate) struct Classes<'a> {
    labels: Option<&'a Tensor>,
    scores: Option<Vec<f64>>,
    names: &'a [String],
    n_classes: usize,
}

/// Finds the classes of `n_examples` examples in a response.
///
/// # Errors
/// `InvalidInput` where the outputs are not `[examples, classes]`.
pub(crate) fn classes(response: &InferResponse, n_examples: usize) -> Result<Classes<'_>> {
    let info = &response.model;
    let output = |spec: Option<&TensorSpec>| {
        spec.and_then(|spec| response.outputs.iter().find(|tensor| *tensor.name() == spec.name))
    };
    let (labels, scores) = (output(classes_of(info)), output(scores_of(info)));
    let mut widths = Vec::with_capacity(2);
    for tensor in [labels, scores].into_iter().flatten() {
        widths.push(width(tensor, n_examples)?);
    }
    if widths.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(Error::invalid_input(format!(
            "the outputs of classes and of scores have {} and {} values for each example",
            widths[0], widths[1]
        )));
    }
    let place = scores.and_then(|scores| info.signature.outputs.iter().position(|spec| spec.name == *scores.name()));
    let names = place.and_then(|place| info.labels.get(place)).map(Vec::as_slice).unwrap_or_default();
    let n_classes = widths.first().copied().unwrap_or(0);
    Ok(Classes { labels, scores: scores.and_then(numbers), names, n_classes })
}

/// Returns how many values each example has.
fn width(tensor: &Tensor, n_examples: usize) -> Result<usize> {
    match **tensor.shape() {
        [rows] if rows == n_examples => Ok(1),
        [rows, width] if rows == n_examples => Ok(width),
        _ => Err(Error::invalid_input(format!(
            "Expected Tensor shape: [batch_size num_classes] but output '{}' has {} for {n_examples} examples",
            tensor.name(),
            tensor.shape()
        ))),
    }
}

impl<'a> Classes<'a> {
    /// Returns label and score of each class of one example.
    ///
    /// # Errors
    /// `InvalidInput` for a label that is no text.
    pub(crate) fn of(&self, example: usize) -> impl Iterator<Item = Result<(Cow<'a, str>, f32)>> + '_ {
        let start = example * self.n_classes;
        (start..start + self.n_classes).map(move |place| {
            let score = self.scores.as_ref().and_then(|scores| scores.get(place)).copied().unwrap_or_default();
            let label = match self.labels.and_then(Tensor::elements).and_then(|all| all.get(place)) {
                Some(bytes) => std::str::from_utf8(bytes)
                    .map(Cow::Borrowed)
                    .map_err(|_| Error::invalid_input("a class is no UTF-8 text; use 'predict'"))?,
                None => Cow::Borrowed(self.names.get(place - start).map_or("", String::as_str)),
            };
            Ok((label, narrowed(score)))
        })
    }
}

/// The protocol has floats of 32 bits.
pub(crate) fn narrowed(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the protocol's floats have 32 bits")]
    let narrow = value as f32;
    narrow
}

/// Finds the regression of `n_examples` examples: one number each, as a tensor `[examples]`.
///
/// # Errors
/// `InvalidInput` where an example has more or fewer numbers than one.
pub(crate) fn regressions(response: &InferResponse, n_examples: usize) -> Result<Tensor> {
    let name = regress_output(&response.model)?;
    let tensor = response.outputs.iter().find(|tensor| *tensor.name() == name);
    let tensor = tensor.ok_or_else(|| Error::engine(format!("the model left out its output '{name}'")))?;
    match **tensor.shape() {
        [rows] | [rows, 1] if rows == n_examples => tensor.clone().reshape(Shape::new(&[n_examples])),
        _ => Err(Error::invalid_input(format!(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but output '{name}' has {} for \
             {n_examples} examples",
            tensor.shape()
        ))),
    }
}

/// Returns the elements of a tensor of numbers.
#[expect(clippy::cast_precision_loss, reason = "the protocol's numbers are floats")]
pub(crate) fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    let floats = |values: Option<Vec<f32>>| values.map(|all| all.into_iter().map(f64::from).collect());
    match tensor.dtype() {
        DataType::Fp32 => floats(tensor.to_vec()),
        DataType::Fp64 => tensor.to_vec(),
        DataType::Fp16 => Some(tensor.to_vec::<half::f16>()?.into_iter().map(f64::from).collect()),
        DataType::Bf16 => Some(tensor.to_vec::<half::bf16>()?.into_iter().map(f64::from).collect()),
        DataType::Int8 => Some(tensor.to_vec::<i8>()?.into_iter().map(f64::from).collect()),
        DataType::Int16 => Some(tensor.to_vec::<i16>()?.into_iter().map(f64::from).collect()),
        DataType::Int32 => Some(tensor.to_vec::<i32>()?.into_iter().map(f64::from).collect()),
        DataType::Int64 => Some(tensor.to_vec::<i64>()?.into_iter().map(|value| value as f64).collect()),
        DataType::Uint8 => Some(tensor.to_vec::<u8>()?.into_iter().map(f64::from).collect()),
        DataType::Uint16 => Some(tensor.to_vec::<u16>()?.into_iter().map(f64::from).collect()),
        DataType::Uint32 => Some(tensor.to_vec::<u32>()?.into_iter().map(f64::from).collect()),
        DataType::Uint64 => Some(tensor.to_vec::<u64>()?.into_iter().map(|value| value as f64).collect()),
        DataType::Bool | DataType::Bytes => None,
    }
}
