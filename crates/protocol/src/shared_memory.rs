//! Tensors in memory that a client shares with the server: Triton's system shared memory extension.
//!
//! Says which windows of which regions hold the inputs of a request and take its outputs. Regions are
//! names here; who knows the memory behind them reads and writes it.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use salver_core::{DataType, Error, Parameter, Parameters, Result, Shape, Tensor};

use crate::json::read::clip;
use crate::{Limits, oip};

/// A region as a client registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// What requests call it.
    pub name: String,
    /// The name of the shared memory object.
    pub key: String,
    /// Where in the object it begins.
    pub offset: u64,
    /// Its length.
    pub byte_size: u64,
}

/// A piece of a region. Its end fits 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    region: Arc<str>,
    offset: u64,
    byte_size: u64,
}

impl Window {
    /// Reads the parameters of a tensor, which is `what` in messages; `None` if it lies elsewhere.
    pub(crate) fn read(what: impl Display, parameters: &Parameters, limits: &Limits) -> Result<Option<Self>> {
        let Some(region) = parameters.get("shared_memory_region") else {
            return Ok(None);
        };
        let Parameter::Text(region) = region else {
            return Err(oip::wrong_parameter(&what.to_string(), "shared_memory_region", "a string"));
        };
        check_region_name(region, limits)?;
        let size = whole(&what, parameters, "shared_memory_byte_size")?.ok_or_else(|| {
            Error::invalid_input(format!(
                "{what} has 'shared_memory_region', but the parameter 'shared_memory_byte_size' is missing"
            ))
        })?;
        let offset = whole(&what, parameters, "shared_memory_offset")?.unwrap_or(0);
        Self::new(region, offset, size).map(Some).map_err(|error| error.context(what))
    }

    /// Makes a window.
    ///
    /// # Errors
    /// `InvalidInput` where its end does not fit 64 bits.
    pub fn new(region: &str, offset: u64, byte_size: u64) -> Result<Self> {
        if offset.checked_add(byte_size).is_none() {
            return Err(Error::invalid_input(format!(
                "Integer overflow detected: byte_size ({byte_size}) + offset ({offset}) exceeds 64 bits for shared \
                 memory region '{}'",
                clip(region)
            )));
        }
        Ok(Self { region: region.into(), offset, byte_size })
    }

    /// Returns the region's name.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns where in the region it begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns its length.
    pub fn byte_size(&self) -> u64 {
        self.byte_size
    }

    /// Returns where in the object of `region` the window begins.
    ///
    /// # Errors
    /// `InvalidInput` where it is not within the region.
    pub fn place_in(&self, region: &Region) -> Result<u64> {
        let end = self.offset.checked_add(self.byte_size);
        let place = region.offset.checked_add(self.offset);
        if let (Some(end), Some(place)) = (end, place)
            && end <= region.byte_size
        {
            return Ok(place);
        }
        let what = if self.offset >= region.byte_size { "offset" } else { "offset + byte size" };
        Err(Error::invalid_input(format!(
            "Invalid {what} for shared memory region: '{}' has {} bytes, {} from {} on were asked for",
            clip(&self.region),
            region.byte_size,
            self.byte_size,
            self.offset
        )))
    }
}

/// Checks what a region shall be called.
///
/// # Errors
/// `InvalidInput` for nothing, and for names longer than `limits` allow.
pub(crate) fn check_region_name(name: &str, limits: &Limits) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid_input("the name of a shared memory region is empty"));
    }
    oip::check_name("shared memory region", name, limits)
}

fn whole(what: impl Display, parameters: &Parameters, name: &str) -> Result<Option<u64>> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Parameter::Uint(value)) => Ok(Some(*value)),
        Some(Parameter::Int(value @ 0..)) => Ok(Some(value.unsigned_abs())),
        Some(_) => Err(oip::wrong_parameter(&what.to_string(), name, "a whole number from 0")),
    }
}

/// An input that is all known but for its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedInput {
    name: Arc<str>,
    dtype: DataType,
    shape: Shape,
    window: Window,
    len: usize,
}

impl SharedInput {
    /// Checks that the window is of the tensor's size.
    pub(crate) fn new(name: Arc<str>, dtype: DataType, shape: Shape, window: Window) -> Result<Self> {
        let context = |error: Error| error.context(format!("input '{}'", clip(&name)));
        // What does not fit is too large for any request.
        let len = usize::try_from(window.byte_size).unwrap_or(usize::MAX);
        match shape.byte_len(dtype).map_err(context)? {
            Some(expected) if expected != len => Err(Error::invalid_input(format!(
                "input byte size mismatch for input '{}': {dtype} of shape {shape} takes {expected} bytes, \
                 'shared_memory_byte_size' is {len}",
                clip(&name)
            ))),
            _ => Ok(Self { name, dtype, shape, window, len }),
        }
    }

    /// Returns where its bytes are.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Returns how many there are.
    pub fn byte_len(&self) -> usize {
        self.len
    }

    /// Makes the tensor of its bytes, which nobody may change any more.
    ///
    /// # Errors
    /// `InvalidInput` for BYTES elements that do not fit the window or the shape.
    pub fn into_tensor(self, data: Bytes) -> Result<Tensor> {
        oip::tensor_from_binary(&self.name, self.dtype, self.shape, data)
    }
}

/// What of one request lies in shared memory, or shall be put there. Most requests have none of it
/// and carry a null pointer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared(Option<Box<Parts>>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
    inputs: Vec<SharedInput>,
    outputs: Vec<(Arc<str>, Window)>,
}

impl Shared {
    /// Whether the request uses no shared memory.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.inputs.is_empty() && parts.outputs.is_empty())
    }

    /// Takes the inputs out: the request is not whole without them.
    pub fn take_inputs(&mut self) -> Vec<SharedInput> {
        self.0.as_mut().map(|parts| std::mem::take(&mut parts.inputs)).unwrap_or_default()
    }

    /// Returns the windows of outputs, in the order of the request.
    pub fn output_windows(&self) -> impl Iterator<Item = &Window> {
        self.outputs().iter().map(|(_, window)| window)
    }

    /// Whether the output called `name` goes into shared memory.
    pub fn takes_output(&self, name: &str) -> bool {
        self.outputs().iter().any(|(known, _)| **known == *name)
    }

    /// Returns what to write: for each window of [`Shared::output_windows`] the bytes of its output.
    ///
    /// # Errors
    /// `InvalidInput` where a window is too small, with the size that is needed.
    pub(crate) fn blobs(&self, outputs: &[Tensor]) -> Result<Vec<Bytes>> {
        let blob = |(name, window): &(Arc<str>, Window)| {
            let Some(output) = outputs.iter().find(|output| output.name() == name) else {
                return Ok(Bytes::new());
            };
            let needed = oip::binary_len(output);
            if needed as u64 > window.byte_size {
                return Err(Error::invalid_input(format!(
                    "shared memory size specified with the request for output '{}' ({} bytes) should be at least \
                     {needed} bytes to hold the results",
                    clip(name),
                    window.byte_size
                )));
            }
            oip::binary_blob(output)
        };
        self.outputs().iter().map(blob).collect()
    }

    /// Adds an input; all of them together are bounded as a body is.
    pub(crate) fn add_input(&mut self, input: SharedInput, limits: &Limits) -> Result<()> {
        let inputs = &mut self.0.get_or_insert_default().inputs;
        let total = inputs.iter().try_fold(input.len, |total, input| total.checked_add(input.len));
        if total.is_none_or(|total| total > limits.max_body_bytes) {
            return Err(Error::too_large(format!(
                "input '{}': the inputs in shared memory take more than {} bytes together, which is the most that a \
                 request may have",
                clip(&input.name),
                limits.max_body_bytes
            )));
        }
        inputs.push(input);
        Ok(())
    }

    /// Adds an output; one that is named again counts once.
    pub(crate) fn add_output(&mut self, name: Arc<str>, window: Window) {
        if !self.takes_output(&name) {
            self.0.get_or_insert_default().outputs.push((name, window));
        }
    }

    fn outputs(&self) -> &[(Arc<str>, Window)] {
        self.0.as_ref().map_or(&[], |parts| &parts.outputs)
    }
}

#[cfg(test)]
mod tests;
