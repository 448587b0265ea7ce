//! The extents of a tensor, with arithmetic that cannot wrap.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::{DataType, Error, Result};

/// The extent of each dimension, outermost first; empty for a scalar.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 4]>);

impl Shape {
    /// The most dimensions that a tensor may have.
    pub const MAX_RANK: usize = 64;

    /// Copies the extents.
    pub fn new(dims: &[usize]) -> Self {
        Self(SmallVec::from_slice(dims))
    }

    /// Returns the product of the extents (1 for a scalar), or `None` where it overflows.
    pub fn element_count(&self) -> Option<usize> {
        // A zero extent makes the product zero whatever else stands there, but a shape such as
        // [0, 2^63, 4] is still refused: later steps multiply parts of it.
        let product = self.0.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)))?;
        Some(if self.0.contains(&0) { 0 } else { product })
    }

    /// Returns the bytes that elements of `dtype` take, or `None` for BYTES.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] where the product overflows.
    pub fn byte_len(&self, dtype: DataType) -> Result<Option<usize>> {
        let overflow = || Error::invalid_input(format!("shape {self} has more elements than can be addressed"));
        let count = self.element_count().ok_or_else(overflow)?;
        match dtype.size() {
            Some(size) => count.checked_mul(size).map(Some).ok_or_else(overflow),
            None => Ok(None),
        }
    }

    /// Returns this shape with the first extent replaced.
    #[must_use]
    pub fn with_rows(&self, rows: usize) -> Self {
        let mut shape = self.clone();
        if let Some(first) = shape.0.first_mut() {
            *first = rows;
        }
        shape
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self::new(&dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self::new(dims)
    }
}

/// Writes `[1,3]`: the form that Triton's clients look for in error texts.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (idx, dim) in self.0.iter().enumerate() {
            let comma = if idx == 0 { "" } else { "," };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
