//! Takes the outputs of a run out of a worker: copied once, then checked.
//!
//! What a worker says of an output, and the bytes themselves, may be anything; and they may change
//! until they are copied. So sizes are checked before, contents after.

use bytes::Bytes;
use salver_core::{DataType, Elements, Error, Result, Tensor, TensorSpec};

use crate::memory::{Region, read_process};
use crate::wire::Located;

/// The most bytes of one output.
const MAX_OUTPUT: u64 = 2 << 30;

/// Where the outputs of a run are.
pub(crate) enum Source<'a> {
    /// In the memory of the process.
    Process(u32),
    /// In memory that it shares with the server.
    Region(&'a Region),
}

impl Source<'_> {
    /// Copies bytes.
    ///
    /// # Errors
    /// `NotReady` where the worker has no such bytes, or not any more.
    fn copy(&self, address: u64, len: usize) -> Result<Vec<u8>> {
        match self {
            Self::Process(pid) => read_process(*pid, address, len),
            Self::Region(region) => {
                region.copy_out(address, len).ok_or_else(|| Error::not_ready("it lies outside the memory for answers"))
            }
        }
    }
}

/// Takes all outputs, in the signature's order.
///
/// # Errors
/// `Engine`, naming the output, where one is not as `specs` say; `NotReady` where it is not where
/// the worker said.
pub(crate) fn take(specs: &[TensorSpec], outputs: Vec<Located>, source: &Source<'_>) -> Result<Vec<Tensor>> {
    if outputs.len() != specs.len() {
        return Err(Error::engine(format!("expected {} outputs, got {}", specs.len(), outputs.len())));
    }
    let take = |(spec, output): (&TensorSpec, Located)| {
        tensor(spec, output, source).map_err(|error| error.context(format!("output '{}'", spec.name)))
    };
    specs.iter().zip(outputs).map(take).collect()
}

fn tensor(spec: &TensorSpec, output: Located, source: &Source<'_>) -> Result<Tensor> {
    let Located { dtype, shape, address, len } = output;
    if dtype != spec.dtype || !spec.accepts(&shape) {
        let expected = spec.wire_shape();
        return Err(Error::engine(format!("expected {} {expected:?}, got {dtype} {shape}", spec.dtype)));
    }
    let of_shape = shape.byte_len(dtype).map_err(as_engine)?;
    let fits = len <= MAX_OUTPUT && of_shape.is_none_or(|expected| expected as u64 == len);
    let Some(len) = usize::try_from(len).ok().filter(|_| fits) else {
        return Err(Error::engine(format!("{dtype} {shape} does not take {len} bytes")));
    };
    let mut copy = source.copy(address, len)?;
    if dtype == DataType::Bytes {
        let count = shape.element_count().unwrap_or(usize::MAX);
        return Tensor::from_elements(spec.name.clone(), shape, elements(copy, count)?).map_err(as_engine);
    }
    if dtype == DataType::Bool {
        copy.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
    }
    Tensor::new(spec.name.clone(), dtype, shape, Bytes::from(copy)).map_err(as_engine)
}

/// Reads `count` elements, each behind its length in four bytes.
fn elements(packed: Vec<u8>, count: usize) -> Result<Elements> {
    let wrong = || Error::engine(format!("its {count} elements do not fill their bytes"));
    // Each takes at least its length.
    if count > packed.len() / 4 {
        return Err(wrong());
    }
    let mut spans = Vec::with_capacity(count);
    let mut at = 0_usize;
    for _ in 0..count {
        let len = packed.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or_else(wrong)?;
        let start = at + 4;
        let end = start.checked_add(u32::from_le_bytes(*len) as usize).filter(|end| *end <= packed.len());
        at = end.ok_or_else(wrong)?;
        // Both are below the length, which is at most 2 GiB.
        spans.push((start as u32, at as u32));
    }
    if at != packed.len() {
        return Err(wrong());
    }
    Elements::new(packed.into(), spans).map_err(as_engine)
}

/// What the worker did is not the request's fault.
fn as_engine(error: Error) -> Error {
    Error::engine(error.message().to_owned())
}

#[cfg(test)]
mod tests;
