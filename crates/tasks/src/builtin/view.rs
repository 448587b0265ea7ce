//! An input of a run, where it lies: in a request's body or in the instance's own buffer.

use std::ops::Range;
use std::sync::Arc;

use salver_core::{DataType, Element as _, Elements, Error, InputLayout, Result, Shape, Signature, Tensor};

/// A tensor that is read.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    name: &'a Arc<str>,
    dtype: DataType,
    shape: &'a Shape,
    data: Data<'a>,
}

#[derive(Clone, Copy)]
enum Data<'a> {
    Packed(&'a [u8]),
    Elements(&'a Elements),
}

impl<'a> From<&'a Tensor> for View<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        let data = match tensor.elements() {
            Some(elements) => Data::Elements(elements),
            None => Data::Packed(tensor.bytes().map(|bytes| &bytes[..]).unwrap_or_default()),
        };
        Self { name: tensor.name(), dtype: tensor.dtype(), shape: tensor.shape(), data }
    }
}

impl<'a> View<'a> {
    /// Finds an input in the buffer that holds the batch.
    ///
    /// # Errors
    /// `Engine` where it lies outside of it.
    pub(super) fn staged(input: &'a InputLayout, buffer: &'a [u8]) -> Result<Self> {
        let end = input.offset.checked_add(input.len);
        let data = end.and_then(|end| buffer.get(input.offset..end));
        let data = data.ok_or_else(|| Error::engine("the layout of a batch leaves its buffer"))?;
        Ok(Self { name: &input.name, dtype: input.dtype, shape: &input.shape, data: Data::Packed(data) })
    }

    /// Returns the element type.
    pub(crate) fn dtype(self) -> DataType {
        self.dtype
    }

    /// Returns the extents.
    pub(crate) fn shape(self) -> &'a Shape {
        self.shape
    }

    /// Returns the first extent.
    pub(crate) fn rows(self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Returns the elements of BYTES.
    ///
    /// # Errors
    /// `Engine` where it is of another type, which the signature does not allow.
    pub(crate) fn elements(self) -> Result<&'a Elements> {
        match self.data {
            Data::Elements(elements) => Ok(elements),
            Data::Packed(_) => Err(Error::engine(format!("input '{}' is {}, expected BYTES", self.name, self.dtype))),
        }
    }

    /// Returns the packed bytes of a fixed-size type.
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self.data {
            Data::Packed(data) => data,
            Data::Elements(_) => &[],
        }
    }

    /// Returns the FP32 values of `range`, counted from the first of the tensor.
    pub(crate) fn floats(self, range: Range<usize>) -> impl Iterator<Item = f32> + use<'a> {
        let own = self.bytes().get(range.start * 4..range.end * 4).unwrap_or_default();
        own.chunks_exact(4).map(f32::get)
    }
}

/// Checks inputs against the signature and puts them into its order.
///
/// # Errors
/// `InvalidInput` naming the input that is missing, unknown or does not fit.
pub(super) fn in_order<'a>(signature: &Signature, given: &[View<'a>]) -> Result<Vec<View<'a>>> {
    if let Some(odd) = given.iter().find(|view| signature.input(view.name).is_none()) {
        return Err(Error::invalid_input(format!("the model has no input '{}'", odd.name)));
    }
    let mut ordered: Vec<View<'a>> = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let Some(view) = given.iter().find(|view| *view.name == spec.name) else {
            return Err(Error::invalid_input(format!("input '{}' is missing", spec.name)));
        };
        if view.dtype != spec.dtype || !spec.accepts(view.shape) {
            return Err(Error::invalid_input(format!(
                "input '{}' is {} {}, expected {} {:?}",
                spec.name,
                view.dtype,
                view.shape,
                spec.dtype,
                spec.wire_shape()
            )));
        }
        if let Some(first) = ordered.first().filter(|first| first.rows() != view.rows()) {
            return Err(Error::invalid_input(format!(
                "input '{}' has {} rows, but input '{}' has {}",
                spec.name,
                view.rows(),
                first.name,
                first.rows()
            )));
        }
        ordered.push(*view);
    }
    Ok(ordered)
}
