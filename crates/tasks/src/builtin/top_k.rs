//! `top-k`: the best of each row of scores, and where they stood.

use std::cmp::Ordering;

use salver_core::{Batching, DataType, ElementsBuilder, Error, Result, Shape, Signature, Tensor, TensorSpec, TopKSpec};

use super::{Function, View};

/// Picks the best.
#[derive(Debug)]
pub(super) struct TopK {
    signature: Signature,
    k: usize,
}

impl TopK {
    pub(super) fn new(spec: &TopKSpec) -> Self {
        let best = [-1, i64::try_from(spec.k).unwrap_or(i64::MAX)];
        let mut inputs = vec![TensorSpec::new("scores", DataType::Fp32, &[-1, -1])];
        let mut outputs = vec![
            TensorSpec::new("top_scores", DataType::Fp32, &best),
            TensorSpec::new("top_indices", DataType::Int64, &best),
        ];
        if let Some(dtype) = spec.ids {
            inputs.push(TensorSpec::new("ids", dtype, &[-1, -1]));
            outputs.push(TensorSpec::new("top_ids", dtype, &best));
        }
        Self { signature: Signature { inputs, outputs, batching: Batching::Rows { limit: None } }, k: spec.k }
    }

    /// Checks that there is something to choose from.
    fn check(&self, inputs: &[View<'_>]) -> Result<usize> {
        let width = inputs[0].shape()[1];
        if width < self.k {
            return Err(Error::invalid_input(format!(
                "input 'scores' has {width} values a row, but the model answers the best {} (`k` in its model.toml); \
                 send at least {}, or lower `k`",
                self.k, self.k
            )));
        }
        match inputs.get(1).map(|ids| ids.shape()[1]) {
            Some(ids) if ids != width => Err(Error::invalid_input(format!(
                "input 'ids' has {ids} values a row, but input 'scores' has {width}; send one for each score"
            ))),
            _ => Ok(width),
        }
    }
}

impl Function for TopK {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<Vec<Tensor>> {
        let width = self.check(inputs)?;
        let scores = inputs[0];
        let shape = || Shape::new(&[scores.rows(), self.k]);
        let (mut top_scores, mut top_indices) = (Vec::new(), Vec::new());
        let (mut row, mut places) = (Vec::new(), Vec::new());
        for row_idx in 0..scores.rows() {
            row.clear();
            row.extend(scores.floats(row_idx * width..(row_idx + 1) * width));
            best(&row, self.k, &mut places);
            top_scores.extend(places.iter().map(|&place| row[place]));
            top_indices.extend(places.iter().map(|&place| place as i64));
        }
        let mut outputs = vec![
            Tensor::from_slice("top_scores", shape(), &top_scores)?,
            Tensor::from_slice("top_indices", shape(), &top_indices)?,
        ];
        if let Some(ids) = inputs.get(1) {
            outputs.push(pick(*ids, width, self.k, &top_indices, shape())?);
        }
        Ok(outputs)
    }
}

/// Leaves in `places` where the `k` best values of a row stand, best first.
fn best(row: &[f32], k: usize, places: &mut Vec<usize>) {
    places.clear();
    places.extend(0..row.len());
    if k < row.len() {
        places.select_nth_unstable_by(k, |a, b| better(row, *a, *b));
        places.truncate(k);
    }
    places.sort_unstable_by(|a, b| better(row, *a, *b));
}

/// The greater value comes first, of equal ones the earlier; what is no number comes last.
fn better(row: &[f32], a: usize, b: usize) -> Ordering {
    let (left, right) = (row[a], row[b]);
    let by_value = right.partial_cmp(&left).unwrap_or(Ordering::Equal);
    left.is_nan().cmp(&right.is_nan()).then(by_value).then(a.cmp(&b))
}

/// Takes the ids that stand where the best scores do.
fn pick(ids: View<'_>, width: usize, k: usize, places: &[i64], shape: Shape) -> Result<Tensor> {
    // Places are of a row, and none is negative.
    let at = |(idx, place): (usize, &i64)| idx / k * width + usize::try_from(*place).unwrap_or(0);
    let all = places.iter().enumerate().map(at);
    let Some(size) = ids.dtype().size() else {
        let elements = ids.elements()?;
        let mut picked = ElementsBuilder::default();
        all.for_each(|at| picked.push(elements.get(at).unwrap_or_default()));
        return Tensor::from_elements("top_ids", shape, picked.finish());
    };
    let bytes = ids.bytes();
    let mut picked = Vec::with_capacity(places.len() * size);
    all.for_each(|at| picked.extend_from_slice(&bytes[at * size..][..size]));
    Tensor::new("top_ids", ids.dtype(), shape, picked.into())
}

#[cfg(test)]
mod tests;
