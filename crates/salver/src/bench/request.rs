//! Makes a valid request of what a model says about its inputs.
//!
//! The values are arbitrary but always the same, and small: an integer input is often an index
//! into a table. Masks are ones, like every integer that is not a token of a text.

use anyhow::{Result, bail};
use salver_core::{
    DataType, Dim, Elements, InferRequest, ModelInfo, ModelRef, Parameters, Shape, Signature, Tensor, TensorSpec,
};

/// The most elements of one made-up input.
const MAX_ELEMENTS: usize = 64 << 20;

/// What free dimensions become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// The first one.
    pub rows: usize,
    /// The others.
    pub length: usize,
}

/// Makes a request of the size given.
///
/// # Errors
/// Where an input would be too large.
pub(crate) fn sample(info: &ModelInfo, model: ModelRef, size: Size) -> Result<InferRequest> {
    let inputs = tensors(&info.signature, size)?;
    Ok(InferRequest { model, id: None, inputs, outputs: Vec::new(), parameters: Parameters::new() })
}

/// Makes the inputs of such a request.
///
/// # Errors
/// Where an input would be too large.
pub(crate) fn tensors(signature: &Signature, size: Size) -> Result<Vec<Tensor>> {
    signature.inputs.iter().map(|spec| tensor(spec, size)).collect()
}

fn tensor(spec: &TensorSpec, size: Size) -> Result<Tensor> {
    let extent = |(idx, dim): (usize, &Dim)| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free if idx == 0 => size.rows,
        Dim::Free => size.length,
    };
    let shape: Shape = spec.shape.iter().enumerate().map(extent).collect();
    let Some(count) = shape.element_count().filter(|&count| count <= MAX_ELEMENTS) else {
        bail!("input '{}' would have shape {shape}; give a request with --input", spec.name);
    };
    let name = spec.name.clone();
    let values = (0..count).map(value);
    let tensor = match spec.dtype {
        DataType::Fp32 => {
            let values: Vec<f32> = values.map(|value| value as f32).collect();
            Tensor::from_slice(name, shape, &values)?
        }
        DataType::Fp64 => Tensor::from_slice(name, shape, &values.collect::<Vec<f64>>())?,
        DataType::Int64 if spec.name.ends_with("input_ids") => {
            let tokens: Vec<i64> = (0..count).map(token).collect();
            Tensor::from_slice(name, shape, &tokens)?
        }
        DataType::Int64 => Tensor::from_slice(name, shape, &vec![1i64; count])?,
        DataType::Int32 => Tensor::from_slice(name, shape, &vec![1i32; count])?,
        DataType::Bytes => {
            let elements: Elements = std::iter::repeat_n("text", count).collect();
            Tensor::from_elements(name, shape, elements)?
        }
        other => {
            let size = other.size().unwrap_or(1);
            let mut data = vec![0u8; count * size];
            data.chunks_exact_mut(size).for_each(|element| one(other, element));
            Tensor::new(name, other, shape, data.into())?
        }
    };
    Ok(tensor)
}

/// Decimals from 0.1 to 8.0, as measurements have them.
fn value(idx: usize) -> f64 {
    token(idx) as f64 / 10.0
}

/// Numbers from 1 to 80; every vocabulary is larger.
fn token(idx: usize) -> i64 {
    i64::try_from((idx * 37) % 80 + 1).unwrap_or(1)
}

/// Writes the number one.
fn one(dtype: DataType, element: &mut [u8]) {
    let little_endian: &[u8] = match dtype {
        DataType::Fp16 => &[0x00, 0x3c],
        DataType::Bf16 => &[0x80, 0x3f],
        _ => &[1],
    };
    element[..little_endian.len()].copy_from_slice(little_endian);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 2, length: 5 };

    #[test]
    fn tokens_differ_and_masks_are_ones() {
        let values = |name| tensor(&TensorSpec::new(name, DataType::Int64, &[-1, -1]), SIZE).unwrap().to_vec::<i64>();
        assert_eq!(values("attention_mask").unwrap(), [1; 10]);
        let tokens = values("input_ids").unwrap();
        assert!(tokens[0] != tokens[1] && tokens.iter().all(|token| (1..=80).contains(token)), "{tokens:?}");
    }

    #[test]
    fn every_type_can_be_made_up() {
        for dtype in DataType::ALL {
            let tensor = tensor(&TensorSpec::new("x", dtype, &[-1, 3, -1]), SIZE).unwrap();
            assert_eq!((tensor.dtype(), &tensor.shape()[..], tensor.element_count()), (dtype, &[2, 3, 5][..], 30));
        }
    }

    #[test]
    fn an_input_that_would_not_fit_is_refused_by_name() {
        let error = tensor(&TensorSpec::new("x", DataType::Fp32, &[-1, 1 << 40]), SIZE).unwrap_err();
        assert!(error.to_string().contains("'x'"), "{error}");
    }
}
