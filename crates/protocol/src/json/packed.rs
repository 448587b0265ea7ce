//! The elements of a tensor while they are read: little-endian bytes, or byte strings.

use std::sync::Arc;

use salver_core::{DataType, ElementsBuilder, Error, Result, Shape, Tensor};

/// A growing tensor: packed bytes, or the elements of a BYTES tensor.
pub(crate) enum Packed {
    /// Little-endian elements of a fixed-size type.
    Fixed(DataType, Vec<u8>),
    /// Byte strings.
    Bytes(ElementsBuilder, usize),
}

impl Packed {
    /// Starts a tensor of `dtype`, with room for `elements` of them.
    pub(crate) fn new(dtype: DataType, elements: usize) -> Self {
        match dtype.size() {
            Some(size) => Self::Fixed(dtype, Vec::with_capacity(elements.saturating_mul(size))),
            None => Self::Bytes(ElementsBuilder::default(), 0),
        }
    }

    /// Returns the element type.
    pub(crate) fn dtype(&self) -> DataType {
        match self {
            Self::Fixed(dtype, _) => *dtype,
            Self::Bytes(..) => DataType::Bytes,
        }
    }

    /// Returns the number of elements so far.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Fixed(dtype, data) => data.len() / dtype.size().unwrap_or(1),
            Self::Bytes(builder, _) => builder.len(),
        }
    }

    /// Whether there is no element yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends an element to a BYTES tensor.
    ///
    /// # Errors
    /// [`salver_core::ErrorKind::InvalidInput`] if this is no BYTES tensor,
    /// [`salver_core::ErrorKind::TooLarge`] beyond 4 GiB.
    pub(crate) fn push_bytes(&mut self, element: &[u8]) -> Result<()> {
        let Self::Bytes(builder, total) = self else {
            return Err(Error::invalid_input(format!("expected a value of type {}, got text", self.dtype())));
        };
        let sum = total.checked_add(element.len()).filter(|&sum| u32::try_from(sum).is_ok());
        let Some(sum) = sum else {
            return Err(Error::too_large("the elements of a BYTES tensor exceed 4 GiB together"));
        };
        builder.push(element);
        *total = sum;
        Ok(())
    }

    /// Ends the growing and makes the tensor.
    ///
    /// # Errors
    /// [`salver_core::ErrorKind::InvalidInput`] if the number of elements is not what `shape` says.
    pub(crate) fn finish(self, name: impl Into<Arc<str>>, shape: impl Into<Shape>) -> Result<Tensor> {
        match self {
            Self::Fixed(dtype, data) => Tensor::new(name, dtype, shape, data.into()),
            Self::Bytes(builder, _) => Tensor::from_elements(name, shape, builder.finish()),
        }
    }
}
