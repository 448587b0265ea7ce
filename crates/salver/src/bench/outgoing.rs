//! What a caller sends: the same bytes each time, or a request with values of its own each time.
//!
//! Varied requests are made and encoded while the load runs, as any client would; that work shows
//! in the generator's share of the processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use salver_core::{DataType, Elements, InferRequest, Tensor};

use super::load::CallError;

/// The bytes of one request after the other.
#[derive(Clone)]
pub(crate) enum Outgoing {
    /// Always these.
    Same(Bytes),
    /// These in turn, over all connections.
    InTurn(Arc<Turns>),
    /// Made anew for each call.
    Varied(Arc<dyn Fn() -> Result<Bytes> + Send + Sync>),
}

impl Outgoing {
    /// Returns the next request.
    ///
    /// # Errors
    /// Where it cannot be encoded.
    pub(crate) fn next(&self) -> Result<Bytes, CallError> {
        match self {
            Self::Same(bytes) => Ok(bytes.clone()),
            Self::InTurn(turns) => Ok(turns.next()),
            Self::Varied(make) => make().map_err(|error| CallError::Refused(format!("make a request: {error:#}"))),
        }
    }
}

/// Requests of which one goes out after the other, again and again.
pub(crate) struct Turns {
    requests: Vec<Bytes>,
    next: AtomicU64,
}

impl Turns {
    /// Takes at least one request.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn new(requests: Vec<Bytes>) -> Result<Self> {
        if requests.is_empty() {
            bail!("the --input file holds no request");
        }
        Ok(Self { requests, next: AtomicU64::new(0) })
    }

    fn next(&self) -> Bytes {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.requests[(number % self.requests.len() as u64) as usize].clone()
    }
}

/// Requests that differ from each other in their first input.
pub(crate) struct Varied {
    template: InferRequest,
    next: AtomicU64,
}

/// Steps of a decimal between 1 and 8 that an FP32 tells apart.
const STEPS: u64 = 7_000_000;

/// Integers are varied as digits from 1 to 9, in as many elements.
const DIGITS: u32 = 8;

impl Varied {
    /// Varies `template`, beginning at a place that another run hardly begins at.
    ///
    /// # Errors
    /// Where the first input does not have enough different values.
    pub(crate) fn new(template: InferRequest) -> Result<Self> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = u64::try_from(since_epoch.as_micros()).unwrap_or(0);
        let varied = Self { template, next: AtomicU64::new(start) };
        varied.next()?;
        Ok(varied)
    }

    /// Returns the next request.
    ///
    /// # Errors
    /// As [`Varied::new`].
    pub(crate) fn next(&self) -> Result<InferRequest> {
        let mut request = self.template.clone();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match request.inputs.first_mut() {
            Some(first) => *first = vary(first, number)?,
            None => bail!("a model without inputs cannot be asked different things"),
        }
        Ok(request)
    }
}

/// Returns `tensor` with the start of its values replaced by `number`.
fn vary(tensor: &Tensor, number: u64) -> Result<Tensor> {
    let (name, dtype, shape) = (tensor.name().clone(), tensor.dtype(), tensor.shape().clone());
    if let Some(elements) = tensor.elements() {
        let text = format!("text {number}");
        let varied: Elements = std::iter::once(text.as_bytes()).chain(elements.iter().skip(1)).collect();
        return Ok(Tensor::from_elements(name, shape, varied)?);
    }
    let mut data = BytesMut::from(tensor.bytes().map_or(&[][..], |data| data));
    let size = dtype.size().unwrap_or(1);
    let is_decimal = matches!(dtype, DataType::Fp32 | DataType::Fp64);
    let n_needed = if is_decimal { 1 } else { DIGITS as usize };
    if dtype == DataType::Bool || tensor.element_count() < n_needed {
        bail!("input '{name}' ({dtype} {shape}) has too few different values to vary");
    }
    let n_values = if is_decimal { 2 } else { n_needed };
    let mut rest = number;
    for element in data.chunks_exact_mut(size).take(n_values) {
        let base = if is_decimal { STEPS } else { 9 };
        write(dtype, rest % base, element);
        rest /= base;
    }
    Ok(Tensor::new(name, dtype, shape, data.freeze())?)
}

/// Writes the value of `step`; each step has another one.
fn write(dtype: DataType, step: u64, element: &mut [u8]) {
    let decimal = 1.0 + step as f64 / 1e6;
    let digit = u8::try_from(step % 9 + 1).unwrap_or(1);
    match dtype {
        DataType::Fp32 => element.copy_from_slice(&(decimal as f32).to_le_bytes()),
        DataType::Fp64 => element.copy_from_slice(&decimal.to_le_bytes()),
        // The next few numbers after one.
        DataType::Fp16 => element.copy_from_slice(&(0x3c00 + u16::from(digit)).to_le_bytes()),
        DataType::Bf16 => element.copy_from_slice(&(0x3f80 + u16::from(digit)).to_le_bytes()),
        _ => {
            element.fill(0);
            element[0] = digit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salver_core::{Parameters, TensorSpec};
    use std::collections::HashSet;

    use crate::bench::request::{self, Size};

    fn first(dtype: DataType, shape: &[i64]) -> Tensor {
        let input = TensorSpec::new("x", dtype, shape);
        let batching = salver_core::Batching::Fixed;
        let signature = salver_core::Signature { inputs: vec![input], outputs: vec![], batching };
        request::tensors(&signature, Size { rows: 1, length: 16 }).unwrap().remove(0)
    }

    #[test]
    fn no_two_requests_are_alike() {
        for dtype in DataType::ALL.into_iter().filter(|dtype| *dtype != DataType::Bool) {
            let tensor = first(dtype, &[-1, -1]);
            let payload = |number| match vary(&tensor, number).unwrap() {
                varied if dtype == DataType::Bytes => varied.elements().unwrap().iter().flatten().copied().collect(),
                varied => varied.bytes().unwrap().to_vec(),
            };
            let seen: HashSet<Vec<u8>> = (0..20_000).map(|number| payload(number * 7)).collect();
            assert_eq!(seen.len(), 20_000, "{dtype}");
        }
    }

    #[test]
    fn requests_go_out_in_turn() {
        let turns = Turns::new(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).unwrap();
        assert_eq!([turns.next(), turns.next(), turns.next()], ["a", "b", "a"]);
        assert!(Turns::new(Vec::new()).is_err());
    }

    #[test]
    fn what_cannot_be_varied_is_refused_by_name() {
        for (dtype, shape) in [(DataType::Bool, &[-1, -1]), (DataType::Int64, &[-1, 7])] {
            let error = vary(&first(dtype, shape), 1).unwrap_err().to_string();
            assert!(error.contains("'x'"), "{error}");
        }
        let model = "m".parse().unwrap();
        let request = InferRequest { model, id: None, inputs: vec![], outputs: vec![], parameters: Parameters::new() };
        assert!(Varied::new(request).is_err());
    }
}
