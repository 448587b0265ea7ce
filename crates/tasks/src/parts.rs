//! Rows of a request cut into parts, and brought back into their order.

use salver_core::{Error, PartLimits, Result, Tensor};

/// Cuts rows into parts of similar length, none with more rows than the limits allow. Returns the
/// rows of each part; each row is in exactly one.
pub(crate) fn by_length(lengths: &[usize], limits: PartLimits<'_>) -> Vec<Vec<usize>> {
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    rows.sort_by_key(|&row| lengths[row]);
    let alike = |a: &usize, b: &usize| limits.bucket(lengths[*a]) == limits.bucket(lengths[*b]);
    let chunks = rows.chunk_by(alike).flat_map(|bucket| bucket.chunks(limits.max_rows.max(1)));
    chunks.map(<[usize]>::to_vec).collect()
}

/// Cuts `rows` rows into parts of consecutive ones, none with more than the limits allow.
pub(crate) fn in_order(rows: usize, limits: PartLimits<'_>) -> Vec<std::ops::Range<usize>> {
    let step = limits.max_rows.max(1);
    (0..rows).step_by(step).map(|start| start..rows.min(start + step)).collect()
}

/// Returns one of a part's outputs.
///
/// # Errors
/// `Engine` where there are fewer.
pub(crate) fn output(outputs: &[Tensor], idx: usize) -> Result<&Tensor> {
    let missing = || Error::engine(format!("the model gave {} outputs, expected one more than {idx}", outputs.len()));
    outputs.get(idx).ok_or_else(missing)
}

/// Rows of numbers that come part by part, brought back into their order.
#[derive(Debug)]
pub(crate) struct Gathered {
    values: Vec<f32>,
    rows: usize,
    /// How many numbers a row has, once that is known.
    width: Option<usize>,
}

impl Gathered {
    pub(crate) fn new(rows: usize) -> Self {
        Self { values: Vec::new(), rows, width: None }
    }

    /// Puts the values of a part, `width` for each of `rows`, in their places.
    ///
    /// # Errors
    /// `Engine` where rows of another part were longer or shorter.
    pub(crate) fn put(&mut self, rows: &[usize], values: &[f32], width: usize) -> Result<()> {
        if *self.width.get_or_insert(width) != width || values.len() != rows.len() * width {
            return Err(Error::engine(format!(
                "the model gave {} values for {} rows, other parts of the request have {width} for each",
                values.len(),
                rows.len()
            )));
        }
        self.values.resize(self.rows * width, 0.0);
        for (&row, own) in rows.iter().zip(values.chunks_exact(width.max(1))) {
            self.values[row * width..][..width].copy_from_slice(own);
        }
        Ok(())
    }

    /// Returns all rows, and how long each is; 0 where there was no part.
    pub(crate) fn finish(self) -> (Vec<f32>, usize) {
        (self.values, self.width.unwrap_or(0))
    }
}

/// Returns the rows of an output as numbers, with how many there are to each row.
///
/// # Errors
/// `Engine` where the output has another type, or another number of rows than `rows`.
pub(crate) fn floats(output: &Tensor, rows: usize) -> Result<(Vec<f32>, usize)> {
    let values: Option<Vec<f32>> = match output.dtype() {
        salver_core::DataType::Fp32 => output.to_vec(),
        salver_core::DataType::Fp64 => {
            #[expect(clippy::cast_possible_truncation, reason = "answers have single precision")]
            let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
            output.to_vec::<f64>().map(narrow)
        }
        salver_core::DataType::Fp16 => {
            output.to_vec::<half::f16>().map(|values| values.into_iter().map(half::f16::to_f32).collect())
        }
        _ => None,
    };
    let values = values.ok_or_else(|| {
        Error::engine(format!("output '{}' is {}, expected numbers of floating point", output.name(), output.dtype()))
    })?;
    if output.rows() != rows || (rows > 0 && values.len() % rows != 0) {
        return Err(Error::engine(format!(
            "output '{}' has shape {}, expected {rows} rows",
            output.name(),
            output.shape()
        )));
    }
    let width = values.len().checked_div(rows).unwrap_or(0);
    Ok((values, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_bucket_make_a_part() {
        let limits = PartLimits { max_rows: 2, buckets: &[] };
        // Buckets of 8, 8, 64, 8, 64 tokens.
        assert_eq!(by_length(&[3, 8, 60, 1, 64], limits), [vec![3, 0], vec![1], vec![2, 4]]);
        assert!(by_length(&[], limits).is_empty());
    }

    #[test]
    fn consecutive_rows_make_a_part() {
        let limits = PartLimits { max_rows: 2, buckets: &[] };
        assert_eq!(in_order(5, limits), [0..2, 2..4, 4..5]);
        assert!(in_order(0, limits).is_empty());
    }
}
