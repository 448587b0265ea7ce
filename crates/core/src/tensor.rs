//! A named, typed, shaped piece of data that shares its bytes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::{DataType, Element, Elements, Error, Result, Shape};

/// A contiguous, row-major, little-endian tensor.
///
/// Cloning and slicing share the bytes. `Debug` prints name, type and shape, never the content:
/// people's data stays out of logs and panics.
#[derive(Clone)]
pub struct Tensor {
    name: Arc<str>,
    dtype: DataType,
    shape: Shape,
    payload: Payload,
}

#[derive(Clone)]
enum Payload {
    Fixed(Bytes),
    Elements(Elements),
}

impl Tensor {
    /// Makes a tensor of a fixed-size type from its bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if `data` is not exactly as long as `shape` and `dtype`
    /// say, if the shape overflows, or if `dtype` is BYTES.
    pub fn new(name: impl Into<Arc<str>>, dtype: DataType, shape: impl Into<Shape>, data: Bytes) -> Result<Self> {
        let (name, shape) = (name.into(), shape.into());
        check_rank(&name, &shape)?;
        let Some(expected) = shape.byte_len(dtype).map_err(|error| error.context(format!("tensor '{name}'")))? else {
            return Err(Error::invalid_input(format!("tensor '{name}': BYTES needs elements, not packed data")));
        };
        if data.len() != expected {
            return Err(Error::invalid_input(format!(
                "tensor '{name}': {dtype} {shape} takes {expected} bytes, got {}",
                data.len()
            )));
        }
        Ok(Self { name, dtype, shape, payload: Payload::Fixed(data) })
    }

    /// Makes a BYTES tensor.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if the number of elements is not the product of `shape`.
    pub fn from_elements(name: impl Into<Arc<str>>, shape: impl Into<Shape>, elements: Elements) -> Result<Self> {
        let (name, shape) = (name.into(), shape.into());
        check_rank(&name, &shape)?;
        if shape.element_count() != Some(elements.len()) {
            return Err(Error::invalid_input(format!(
                "tensor '{name}': shape {shape} does not hold {} elements",
                elements.len()
            )));
        }
        Ok(Self { name, dtype: DataType::Bytes, shape, payload: Payload::Elements(elements) })
    }

    /// Makes a tensor by copying Rust values.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_slice<T: Element>(name: impl Into<Arc<str>>, shape: impl Into<Shape>, values: &[T]) -> Result<Self> {
        let mut data = Vec::with_capacity(size_of_val(values));
        for &value in values {
            value.put(&mut data);
        }
        Self::new(name, T::DTYPE, shape, data.into())
    }

    /// Returns the name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Returns the extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the packed bytes, or `None` for BYTES.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.payload {
            Payload::Fixed(data) => Some(data),
            Payload::Elements(_) => None,
        }
    }

    /// Returns the elements of a BYTES tensor, else `None`.
    pub fn elements(&self) -> Option<&Elements> {
        match &self.payload {
            Payload::Fixed(_) => None,
            Payload::Elements(elements) => Some(elements),
        }
    }

    /// Returns the number of elements.
    pub fn element_count(&self) -> usize {
        match &self.payload {
            Payload::Fixed(data) => data.len() / self.dtype.size().unwrap_or(1),
            Payload::Elements(elements) => elements.len(),
        }
    }

    /// Returns the payload's size in memory, in bytes.
    pub fn payload_len(&self) -> usize {
        match &self.payload {
            Payload::Fixed(data) => data.len(),
            Payload::Elements(elements) => elements.total_len(),
        }
    }

    /// Returns the first extent; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Copies the values out, or `None` if `T` is not the element type.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        let data = self.bytes().filter(|_| T::DTYPE == self.dtype)?;
        let size = self.dtype.size()?;
        Some(data.chunks_exact(size).map(T::get).collect())
    }

    /// Returns rows `range` of the first dimension, sharing the bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a scalar, or if `range` leaves the rows.
    pub fn slice_rows(&self, range: Range<usize>) -> Result<Self> {
        let rows = self.shape.first().copied().unwrap_or(0);
        if range.start > range.end || range.end > rows {
            return Err(Error::invalid_input(format!(
                "tensor '{}': rows {}..{} of {}",
                self.name, range.start, range.end, self.shape
            )));
        }
        let row = self.element_count().checked_div(rows).unwrap_or(0);
        let elements = range.start * row..range.end * row;
        let payload = match &self.payload {
            Payload::Fixed(data) => {
                let size = self.dtype.size().unwrap_or(1);
                Payload::Fixed(data.slice(elements.start * size..elements.end * size))
            }
            Payload::Elements(all) => Payload::Elements(all.slice(elements)),
        };
        Ok(Self { name: self.name.clone(), dtype: self.dtype, shape: self.shape.with_rows(range.len()), payload })
    }

    /// Returns the same data under another shape of as many elements.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if the number of elements differs.
    pub fn reshape(mut self, shape: Shape) -> Result<Self> {
        check_rank(&self.name, &shape)?;
        if shape.element_count() != Some(self.element_count()) {
            return Err(Error::invalid_input(format!(
                "tensor '{}': {} does not reshape to {shape}",
                self.name, self.shape
            )));
        }
        self.shape = shape;
        Ok(self)
    }

    /// Returns the same tensor under another name.
    #[must_use]
    pub fn rename(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }
}

fn check_rank(name: &str, shape: &Shape) -> Result<()> {
    if shape.len() > Shape::MAX_RANK {
        return Err(Error::invalid_input(format!(
            "tensor '{name}': {} dimensions, at most {} are allowed",
            shape.len(),
            Shape::MAX_RANK
        )));
    }
    Ok(())
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} {})", self.name, self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests;
