//! Rows of a request cut into parts, and brought back into their order.

use std::ops::Range;

use half::{bf16, f16};
use salver_core::{DataType, Element as _, Error, PartLimits, Result, Tensor};

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
pub(crate) fn in_order(rows: usize, limits: PartLimits<'_>) -> Vec<Range<usize>> {
    let step = limits.max_rows.max(1);
    (0..rows).step_by(step).map(|start| start..rows.min(start + step)).collect()
}

/// The most bytes of tensors that one request may become: small files and short texts become as much
/// as large ones.
pub(crate) const MAX_TENSOR_BYTES: usize = 512 << 20;

/// Checks what would be made of an input before it is.
///
/// # Errors
/// `TooLarge` beyond [`MAX_TENSOR_BYTES`].
pub(crate) fn check_bytes(input: &str, rows: usize, row_bytes: usize) -> Result<()> {
    if row_bytes.saturating_mul(rows) <= MAX_TENSOR_BYTES {
        return Ok(());
    }
    Err(Error::too_large(format!(
        "input '{input}' has {rows} rows, each of which becomes {row_bytes} bytes of tensor; at most {} MiB are made for a \
         request, send {} at a time",
        MAX_TENSOR_BYTES >> 20,
        MAX_TENSOR_BYTES / row_bytes.max(1)
    )))
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
    let numbers = Numbers::new(output, rows)?;
    let mut values = Vec::new();
    numbers.append(0..rows * numbers.each, &mut values)?;
    Ok((values, numbers.each))
}

/// An output of floating point, of which parts are read.
pub(crate) struct Numbers<'a> {
    output: &'a Tensor,
    data: &'a [u8],
    size: usize,
    /// How many numbers a row has.
    pub(crate) each: usize,
}

impl<'a> Numbers<'a> {
    /// # Errors
    /// As [`floats`].
    pub(crate) fn new(output: &'a Tensor, rows: usize) -> Result<Self> {
        let dtype = output.dtype();
        let (Some(data), Some(size), true) = (output.bytes(), dtype.size(), dtype.is_float()) else {
            return Err(Error::engine(format!(
                "output '{}' is {dtype}, expected numbers of floating point",
                output.name()
            )));
        };
        let count = output.element_count();
        if output.rows() != rows || (rows > 0 && !count.is_multiple_of(rows)) {
            return Err(Error::engine(format!(
                "output '{}' has shape {}, expected {rows} rows",
                output.name(),
                output.shape()
            )));
        }
        Ok(Self { output, data, size, each: count.checked_div(rows).unwrap_or(0) })
    }

    /// Appends the numbers of `range`, counted from the first of the output.
    ///
    /// # Errors
    /// `Engine` where there are fewer.
    pub(crate) fn append(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        let own = self.data.get(range.start * self.size..range.end * self.size).ok_or_else(|| {
            let (name, shape) = (self.output.name(), self.output.shape());
            Error::engine(format!("output '{name}' has shape {shape}, expected {} values or more", range.end))
        })?;
        let each = own.chunks_exact(self.size);
        #[expect(clippy::cast_possible_truncation, reason = "answers have single precision")]
        match self.output.dtype() {
            DataType::Fp64 => values.extend(each.map(|bytes| f64::get(bytes) as f32)),
            DataType::Fp16 => values.extend(each.map(|bytes| f16::get(bytes).to_f32())),
            DataType::Bf16 => values.extend(each.map(|bytes| bf16::get(bytes).to_f32())),
            _ => values.extend(each.map(f32::get)),
        }
        Ok(())
    }
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

    #[test]
    fn numbers_of_any_precision_are_read() {
        let whole = Tensor::from_slice("x", [2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let halves = Tensor::from_slice("x", [2, 2], &[1.0, 2.0, 3.0, 4.0].map(f16::from_f32)).unwrap();
        let doubles = Tensor::from_slice("x", [2, 2], &[1.0f64, 2.0, 3.0, 4.0]).unwrap();
        for output in [whole, halves, doubles] {
            assert_eq!(floats(&output, 2).unwrap(), (vec![1.0, 2.0, 3.0, 4.0], 2));
            assert_eq!(floats(&output, 3).unwrap_err().message(), "output 'x' has shape [2,2], expected 3 rows");
        }
        let words = Tensor::from_slice("x", [2], &[1i64, 2]).unwrap();
        assert!(floats(&words, 2).unwrap_err().message().contains("is INT64, expected numbers of floating point"));
    }

    #[test]
    fn rows_of_all_parts_have_one_width() {
        let mut gathered = Gathered::new(3);
        gathered.put(&[2, 0], &[5.0, 6.0, 1.0, 2.0], 2).unwrap();
        assert!(gathered.put(&[1], &[3.0, 4.0, 5.0], 3).is_err());
        gathered.put(&[1], &[3.0, 4.0], 2).unwrap();
        assert_eq!(gathered.finish(), (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2));
    }
}
