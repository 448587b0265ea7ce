//! How requests of different lengths share a batch, checked against the model's signature.
//!
//! Pure. Lengths are sorted into buckets, so that a batch holds similar ones and little of it is
//! padding; a batch is as long as its longest request.

use half::{bf16, f16};
use salver_core::{DataType, Dim, Element, Error, Result, Signature, Tensor, TensorSpec};

/// What to pad, with what, and what to cut back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Padding {
    /// By name: one element of padding, as bytes.
    inputs: Vec<(String, Vec<u8>)>,
    outputs: Vec<String>,
    buckets: Vec<usize>,
}

impl Padding {
    /// Checks what a model declares.
    ///
    /// # Errors
    /// `InvalidInput` naming the input or output that cannot be padded.
    pub(crate) fn new(signature: &Signature, declared: &salver_core::Padding) -> Result<Self> {
        let invalid = |text: String| Error::invalid_input(format!("batching.padding: {text}"));
        if !signature.is_batched() {
            return Err(invalid("the model has no batch dimension".to_owned()));
        }
        if let Some(text) = signature.inputs.iter().find(|spec| spec.dtype == DataType::Bytes) {
            return Err(invalid(format!("input '{}' is BYTES; such a model's requests are not padded", text.name)));
        }
        let find = |side: &str, specs: &[TensorSpec], name: &str| {
            let spec = specs.iter().find(|spec| *spec.name == *name).cloned();
            let spec = spec.ok_or_else(|| invalid(format!("the model has no {side} '{name}'")))?;
            match spec.shape.get(1) {
                Some(Dim::Free) => Ok(spec),
                _ => Err(invalid(format!(
                    "{side} '{name}' has shape {:?}; its second dimension must be free",
                    spec.wire_shape()
                ))),
            }
        };
        let mut inputs = Vec::new();
        for (name, value) in &declared.inputs {
            let spec = find("input", &signature.inputs, name)?;
            inputs.push((name.clone(), element(spec.dtype, *value)));
        }
        for name in &declared.outputs {
            find("output", &signature.outputs, name)?;
        }
        let unpadded = |spec: &&TensorSpec| {
            !declared.inputs.contains_key(&*spec.name)
                && spec.shape.get(1..).is_some_and(|dims| dims.contains(&Dim::Free))
        };
        if let Some(spec) = signature.inputs.iter().find(unpadded) {
            tracing::debug!(input = &*spec.name, "requests share a batch only where this input has one shape");
        }
        Ok(Self { inputs, outputs: declared.outputs.clone(), buckets: declared.buckets.clone() })
    }

    /// Returns the element that `input` is padded with; none: it is not padded.
    pub(crate) fn of_input(&self, input: &str) -> Option<&[u8]> {
        self.inputs.iter().find(|(name, _)| name == input).map(|(_, element)| element.as_slice())
    }

    /// Whether `output` is as long as the padded inputs.
    pub(crate) fn cuts(&self, output: &str) -> bool {
        self.outputs.iter().any(|name| name == output)
    }

    /// Returns the length of a request's padded inputs.
    ///
    /// # Errors
    /// `InvalidInput` where two differ.
    pub(crate) fn length(&self, inputs: &[Tensor]) -> Result<usize> {
        let mut padded = inputs.iter().filter(|tensor| self.of_input(tensor.name()).is_some());
        let extent = |tensor: &Tensor| tensor.shape().get(1).copied().unwrap_or(0);
        let Some(first) = padded.next() else {
            return Ok(0);
        };
        match padded.find(|tensor| extent(tensor) != extent(first)) {
            None => Ok(extent(first)),
            Some(other) => Err(Error::invalid_input(format!(
                "inputs '{}' and '{}' must have the same length, got {} and {}",
                first.name(),
                other.name(),
                extent(first),
                extent(other)
            ))),
        }
    }

    /// Returns the bucket of a length: requests of one bucket share batches.
    pub(crate) fn bucket(&self, length: usize) -> usize {
        salver_core::bucket(&self.buckets, length)
    }

    /// The bounds of buckets that the model declares.
    pub(crate) fn buckets(&self) -> &[usize] {
        &self.buckets
    }
}

fn element(dtype: DataType, value: f64) -> Vec<u8> {
    let mut bytes = Vec::new();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a padding value is what fits the type; `as` saturates"
    )]
    match dtype {
        DataType::Bool => (value != 0.0).put(&mut bytes),
        DataType::Int8 => (value as i8).put(&mut bytes),
        DataType::Int16 => (value as i16).put(&mut bytes),
        DataType::Int32 => (value as i32).put(&mut bytes),
        DataType::Int64 => (value as i64).put(&mut bytes),
        DataType::Uint8 => (value as u8).put(&mut bytes),
        DataType::Uint16 => (value as u16).put(&mut bytes),
        DataType::Uint32 => (value as u32).put(&mut bytes),
        DataType::Uint64 => (value as u64).put(&mut bytes),
        DataType::Fp16 => f16::from_f64(value).put(&mut bytes),
        DataType::Bf16 => bf16::from_f64(value).put(&mut bytes),
        DataType::Fp32 => (value as f32).put(&mut bytes),
        DataType::Fp64 => value.put(&mut bytes),
        DataType::Bytes => {}
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use salver_core::{Batching, quarter_steps};

    use super::*;

    fn signature() -> Signature {
        Signature {
            inputs: vec![
                TensorSpec::new("ids", DataType::Int64, &[-1, -1]),
                TensorSpec::new("mask", DataType::Int64, &[-1, -1]),
                TensorSpec::new("user", DataType::Fp32, &[-1, 4]),
            ],
            outputs: vec![
                TensorSpec::new("hidden", DataType::Fp32, &[-1, -1, 8]),
                TensorSpec::new("pooled", DataType::Fp32, &[-1, 8]),
            ],
            batching: Batching::Rows { limit: None },
        }
    }

    fn declared(inputs: &[(&str, f64)], outputs: &[&str]) -> salver_core::Padding {
        salver_core::Padding {
            inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<BTreeMap<_, _>>(),
            outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
            buckets: Vec::new(),
        }
    }

    #[track_caller]
    fn refused(declared: &salver_core::Padding, expected: &str) {
        let error = Padding::new(&signature(), declared).unwrap_err();
        assert_eq!(error.message(), format!("batching.padding: {expected}"));
    }

    #[test]
    fn only_free_second_dimensions_are_padded() {
        refused(&declared(&[("idz", 0.0)], &[]), "the model has no input 'idz'");
        refused(&declared(&[("user", 0.0)], &[]), "input 'user' has shape [-1, 4]; its second dimension must be free");
        refused(
            &declared(&[("ids", 0.0)], &["pooled"]),
            "output 'pooled' has shape [-1, 8]; its second dimension must be free",
        );
    }

    #[test]
    fn all_padded_inputs_of_a_request_have_one_length() {
        let padding = Padding::new(&signature(), &declared(&[("ids", 0.0), ("mask", 0.0)], &["hidden"])).unwrap();
        let tensor = |name, length| Tensor::from_slice(name, [1, length], &vec![1i64; length]).unwrap();
        assert_eq!(padding.length(&[tensor("ids", 5), tensor("mask", 5)]).unwrap(), 5);
        let error = padding.length(&[tensor("ids", 5), tensor("mask", 4)]).unwrap_err();
        assert_eq!(error.message(), "inputs 'ids' and 'mask' must have the same length, got 5 and 4");
        assert_eq!(padding.of_input("ids"), Some([0u8; 8].as_slice()));
        assert!(padding.cuts("hidden") && !padding.cuts("pooled"));
    }

    #[test]
    fn declared_buckets_are_kept() {
        let mut declared = declared(&[("ids", 0.0)], &[]);
        declared.buckets = vec![16, 64];
        let padding = Padding::new(&signature(), &declared).unwrap();
        assert_eq!([1, 16, 17, 64, 65].map(|length| padding.bucket(length)), [16, 16, 64, 64, 65]);
    }

    proptest! {
        #[test]
        fn a_bucket_is_no_more_than_a_quarter_longer(length in 8usize..100_000) {
            let bucket = quarter_steps(length);
            prop_assert!(bucket >= length && bucket - length <= length / 4, "{length} {bucket}");
            prop_assert!(quarter_steps(bucket) == bucket);
        }
    }
}
