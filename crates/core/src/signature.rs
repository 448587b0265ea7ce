//! What a model takes and gives, and the check of a request against it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::{DataType, Error, Result, Shape, Tensor};

/// One extent of a declared shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Exactly this extent.
    Fixed(usize),
    /// Any extent, `-1` on the wire.
    Free,
}

impl Dim {
    /// Reads `-1` as free and any other number from 0 as fixed.
    pub fn from_wire(value: i64) -> Option<Self> {
        match value {
            -1 => Some(Self::Free),
            other => usize::try_from(other).ok().map(Self::Fixed),
        }
    }

    /// Returns the number on the wire, `-1` for free.
    pub fn to_wire(self) -> i64 {
        match self {
            Self::Fixed(extent) => i64::try_from(extent).unwrap_or(i64::MAX),
            Self::Free => -1,
        }
    }

    /// Returns the extent, if it is fixed.
    pub fn extent(self) -> Option<usize> {
        match self {
            Self::Fixed(extent) => Some(extent),
            Self::Free => None,
        }
    }

    fn accepts(self, extent: usize) -> bool {
        match self {
            Self::Fixed(expected) => expected == extent,
            Self::Free => true,
        }
    }
}

/// The name, type and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the model.
    pub name: Arc<str>,
    /// The element type.
    pub dtype: DataType,
    /// The full shape, the batch dimension included where there is one.
    pub shape: Vec<Dim>,
    /// Whether a request may leave this input out.
    pub optional: bool,
}

impl TensorSpec {
    /// Makes a spec of a required tensor; `-1` is a free extent.
    pub fn new(name: impl Into<Arc<str>>, dtype: DataType, shape: &[i64]) -> Self {
        let shape = shape.iter().map(|&dim| Dim::from_wire(dim).unwrap_or(Dim::Free)).collect();
        Self { name: name.into(), dtype, shape, optional: false }
    }

    /// Returns the shape with `-1` for free extents.
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape.iter().map(|dim| dim.to_wire()).collect()
    }

    /// Whether `shape` fits.
    pub fn accepts(&self, shape: &Shape) -> bool {
        shape.len() == self.shape.len() && self.shape.iter().zip(shape.iter()).all(|(dim, &extent)| dim.accepts(extent))
    }
}

/// Writes `[-1,4]`.
pub(crate) struct WireShape<'a>(pub(crate) &'a [Dim]);

impl fmt::Display for WireShape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (idx, dim) in self.0.iter().enumerate() {
            let comma = if idx == 0 { "" } else { "," };
            write!(f, "{comma}{}", dim.to_wire())?;
        }
        f.write_str("]")
    }
}

/// What the first dimension of every tensor means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// Nothing special: shapes are full shapes and requests are never merged.
    Fixed,
    /// Rows. A request may have up to `limit` of them (none: any number).
    Rows {
        /// The most rows of one request.
        limit: Option<NonZeroUsize>,
    },
}

impl Batching {
    /// Says what a graph's first dimensions mean: rows, where that of *every* input and output is
    /// free.
    pub fn of(inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Self {
        let is_free = |spec: &TensorSpec| spec.shape.first() == Some(&Dim::Free);
        if !inputs.is_empty() && inputs.iter().chain(outputs).all(is_free) {
            Self::Rows { limit: None }
        } else {
            Self::Fixed
        }
    }
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The inputs, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// The outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
    /// What the first dimension means.
    pub batching: Batching,
}

impl Signature {
    /// Returns the input called `name`.
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| &*spec.name == name)
    }

    /// Returns the output called `name`.
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| &*spec.name == name)
    }

    /// Whether the first dimension is a batch dimension.
    pub fn is_batched(&self) -> bool {
        matches!(self.batching, Batching::Rows { .. })
    }

    /// Checks `inputs` and puts them into the model's order; `model` is named in messages.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] naming the input, what was expected and what came. The
    /// wording follows Triton's, whose clients look for it.
    pub fn check(&self, model: &str, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        // Most requests name every input in the model's order: nothing to move then.
        let is_in_order = inputs.len() == self.inputs.len()
            && self.inputs.iter().zip(&inputs).all(|(spec, tensor)| spec.name == *tensor.name());
        if is_in_order {
            for (spec, tensor) in self.inputs.iter().zip(&inputs) {
                self.check_one(model, spec, tensor)?;
            }
            self.check_rows(model, &inputs)?;
            return Ok(inputs);
        }
        let mut slots: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        for tensor in inputs {
            let Some(idx) = self.inputs.iter().position(|spec| spec.name == *tensor.name()) else {
                return Err(Error::invalid_input(format!(
                    "unexpected inference input '{}' for model '{model}'; its inputs are {}",
                    clip(tensor.name()),
                    self.input_names()
                )));
            };
            if slots[idx].is_some() {
                return Err(Error::invalid_input(format!(
                    "input '{}' for model '{model}' is given twice",
                    tensor.name()
                )));
            }
            self.check_one(model, &self.inputs[idx], &tensor)?;
            slots[idx] = Some(tensor);
        }
        let missing = self.inputs.iter().zip(&slots).find(|(spec, slot)| slot.is_none() && !spec.optional);
        if let Some((spec, _)) = missing {
            return Err(Error::invalid_input(format!(
                "expected input '{}' ({} {}) for model '{model}', it is missing",
                spec.name,
                spec.dtype,
                WireShape(&spec.shape)
            )));
        }
        let checked: Vec<Tensor> = slots.into_iter().flatten().collect();
        self.check_rows(model, &checked)?;
        Ok(checked)
    }

    fn check_one(&self, model: &str, spec: &TensorSpec, tensor: &Tensor) -> Result<()> {
        if tensor.dtype() != spec.dtype {
            return Err(Error::invalid_input(format!(
                "inference input '{}' data-type is '{}', but model '{model}' expects '{}'",
                spec.name,
                tensor.dtype(),
                spec.dtype
            )));
        }
        if !spec.accepts(tensor.shape()) {
            return Err(Error::invalid_input(format!(
                "unexpected shape for input '{}' for model '{model}'. Expected {}, got {}",
                spec.name,
                WireShape(&spec.shape),
                tensor.shape()
            )));
        }
        Ok(())
    }

    fn check_rows(&self, model: &str, inputs: &[Tensor]) -> Result<()> {
        let Batching::Rows { limit } = self.batching else {
            return Ok(());
        };
        let rows = inputs.first().map_or(1, Tensor::rows);
        if let Some(odd) = inputs.iter().find(|tensor| tensor.rows() != rows) {
            return Err(Error::invalid_input(format!(
                "input '{}' for model '{model}' has batch size {}, but input '{}' has {rows}",
                odd.name(),
                odd.rows(),
                inputs[0].name()
            )));
        }
        match limit {
            Some(limit) if rows == 0 || rows > limit.get() => Err(Error::invalid_input(format!(
                "inference request batch-size must be <= {limit} for '{model}' and at least 1, got {rows}"
            ))),
            _ => Ok(()),
        }
    }

    fn input_names(&self) -> String {
        let names: Vec<String> = self.inputs.iter().map(|spec| format!("'{}'", spec.name)).collect();
        names.join(", ")
    }
}

/// Bounds what of a request is echoed in an error.
fn clip(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
