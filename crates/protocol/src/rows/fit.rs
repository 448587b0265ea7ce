//! Shapes as people write them, made those that a model declares.

use salver_core::{Result, Shape, Tensor, TensorSpec};

/// Which dimensions may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// A last one of 1: a column of values for an input of one value per row.
    UnitOnly,
    /// The first one too.
    BatchToo,
}

/// Adds or drops what people leave out: the batch dimension, and a last one of 1.
///
/// A tensor that fits none of these ways is returned as it is, for the model's check to refuse.
pub(crate) fn fit(tensor: Tensor, spec: &TensorSpec, ways: Fit) -> Result<Tensor> {
    if spec.accepts(tensor.shape()) || tensor.shape().len() > spec.shape.len() + 1 {
        return Ok(tensor);
    }
    let same: Vec<usize> = tensor.shape().to_vec();
    let (batch, unit, both) =
        ([&[1], &same[..]].concat(), [&same[..], &[1]].concat(), [&[1], &same[..], &[1]].concat());
    let mut candidates = vec![unit];
    if ways == Fit::BatchToo {
        candidates.splice(0..0, [batch]);
        candidates.push(both);
        if let [1, rest @ ..] = &same[..] {
            candidates.push(rest.to_vec());
        }
    }
    match candidates.into_iter().map(Shape::from_iter).find(|shape| spec.accepts(shape)) {
        Some(shape) => tensor.reshape(shape),
        None => Ok(tensor),
    }
}
