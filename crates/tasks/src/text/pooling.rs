//! From a graph's output to one vector for each text.

use std::ops::Range;

use salver_core::{Dim, Pooling, PoolingMode, Result, Signature, Tensor};

use super::outputs;
use crate::parts::{self, Numbers};

/// Makes vectors.
#[derive(Debug)]
pub(super) struct Embedder {
    /// The place of the graph's output.
    output: usize,
    /// Whether it has a vector for each token.
    by_token: bool,
    /// How long vectors are, where the graph says.
    width: Dim,
    pooling: Pooling,
}

impl Embedder {
    /// Finds the output: one vector for each text if the graph makes them, else one for each token.
    ///
    /// # Errors
    /// `InvalidInput` where none or several could be meant.
    pub(super) fn new(signature: &Signature, pooling: Pooling) -> Result<Self> {
        let output = outputs::vectors(signature)?;
        let spec = &signature.outputs[output];
        let width = spec.shape.last().copied().unwrap_or(Dim::Free);
        Ok(Self { output, by_token: spec.shape.len() == 3, width, pooling })
    }

    pub(super) fn width(&self) -> Dim {
        self.width
    }

    /// Returns the vectors of a part's rows, one after the other, and how long each is. `places`
    /// returns where a row's tokens stand, given how many the output has.
    ///
    /// # Errors
    /// `Engine` where the output is not what the signature says.
    pub(super) fn embed(
        &self,
        outputs: &[Tensor],
        rows: usize,
        places: impl Fn(usize, usize) -> Range<usize>,
    ) -> Result<(Vec<f32>, usize)> {
        let output = parts::output(outputs, self.output)?;
        let (mut vectors, width) =
            if self.by_token { self.pooled(output, rows, places)? } else { parts::floats(output, rows)? };
        if self.pooling.normalize {
            vectors.chunks_exact_mut(width.max(1)).for_each(normalize);
        }
        Ok((vectors, width))
    }

    fn pooled(
        &self,
        output: &Tensor,
        rows: usize,
        places: impl Fn(usize, usize) -> Range<usize>,
    ) -> Result<(Vec<f32>, usize)> {
        let numbers = Numbers::new(output, rows)?;
        let length = output.shape().get(1).copied().unwrap_or(0);
        let width = numbers.each.checked_div(length).unwrap_or(0);
        let mut vectors = Vec::with_capacity(rows * width);
        let mut tokens = Vec::new();
        for row in 0..rows {
            let place = places(row, length);
            if place.end > length {
                return Err(outputs::too_short(output, &place));
            }
            let start = row * numbers.each;
            tokens.clear();
            numbers.append(start + place.start * width..start + place.end * width, &mut tokens)?;
            pool(&tokens, width, self.pooling.mode, &mut vectors);
        }
        Ok((vectors, width))
    }
}

/// Appends the one vector that `tokens` become.
fn pool(tokens: &[f32], width: usize, mode: PoolingMode, vectors: &mut Vec<f32>) {
    let start = vectors.len();
    let mut each = tokens.chunks_exact(width.max(1));
    let first = match mode {
        PoolingMode::Last => each.next_back(),
        PoolingMode::Cls | PoolingMode::Mean | PoolingMode::Max => each.next(),
    };
    vectors.extend_from_slice(first.unwrap_or_default());
    let vector = &mut vectors[start..];
    let merge = |vector: &mut [f32], token: &[f32], with: fn(f32, f32) -> f32| {
        vector.iter_mut().zip(token).for_each(|(sum, value)| *sum = with(*sum, *value));
    };
    match mode {
        PoolingMode::Mean => {
            #[expect(clippy::cast_precision_loss, reason = "a text has fewer than 2^24 tokens")]
            let count = (each.len() + 1) as f32;
            each.for_each(|token| merge(vector, token, |a, b| a + b));
            vector.iter_mut().for_each(|sum| *sum /= count);
        }
        PoolingMode::Max => each.for_each(|token| merge(vector, token, f32::max)),
        PoolingMode::Cls | PoolingMode::Last => {}
    }
}

/// Scales a vector to length one; zeros stay zeros.
pub(super) fn normalize(vector: &mut [f32]) {
    /// As in PyTorch's `normalize`.
    const LEAST: f32 = 1e-12;
    let length = dot(vector, vector).sqrt().max(LEAST);
    vector.iter_mut().for_each(|value| *value /= length);
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
