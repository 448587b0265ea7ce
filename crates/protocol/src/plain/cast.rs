//! Numbers of one type as another: NumPy makes doubles where models want singles.
//!
//! Wider, narrower and whole numbers become floats of any width; whole numbers become other whole
//! numbers where they fit. Floats never become whole numbers.

use half::{bf16, f16};
use salver_core::{DataType, Element, Error, Result, Tensor};

/// Converts `tensor` to `wanted`; what has no conversion is returned as it is, for the model's
/// check to refuse.
///
/// # Errors
/// `InvalidInput` naming the element that does not fit.
pub(crate) fn cast(tensor: Tensor, wanted: DataType) -> Result<Tensor> {
    let (found, size) = (tensor.dtype(), tensor.dtype().size());
    let is_number = |dtype: DataType| dtype.is_float() || dtype.is_integer();
    let possible = found != wanted && is_number(wanted) && (wanted.is_float() || !found.is_float());
    let (Some(data), Some(size), true) = (tensor.bytes(), size, possible) else {
        return Ok(tensor);
    };
    let mut out = Vec::with_capacity(tensor.element_count() * wanted.size().unwrap_or(1));
    for (idx, raw) in data.chunks_exact(size).enumerate() {
        put(number(found, raw), wanted, &mut out).ok_or_else(|| {
            Error::invalid_input(format!("input '{}': element {idx} does not fit {wanted}", tensor.name()))
        })?;
    }
    Tensor::new(tensor.name().clone(), wanted, tensor.shape().clone(), out.into())
}

#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

fn number(dtype: DataType, raw: &[u8]) -> Number {
    match dtype {
        DataType::Bool => Number::Int(i128::from(bool::get(raw))),
        DataType::Int8 => Number::Int(i8::get(raw).into()),
        DataType::Int16 => Number::Int(i16::get(raw).into()),
        DataType::Int32 => Number::Int(i32::get(raw).into()),
        DataType::Int64 => Number::Int(i64::get(raw).into()),
        DataType::Uint8 => Number::Int(u8::get(raw).into()),
        DataType::Uint16 => Number::Int(u16::get(raw).into()),
        DataType::Uint32 => Number::Int(u32::get(raw).into()),
        DataType::Uint64 => Number::Int(u64::get(raw).into()),
        DataType::Fp16 => Number::Float(f16::get(raw).to_f64()),
        DataType::Bf16 => Number::Float(bf16::get(raw).to_f64()),
        DataType::Fp32 => Number::Float(f32::get(raw).into()),
        DataType::Fp64 => Number::Float(f64::get(raw)),
        DataType::Bytes => Number::Int(0),
    }
}

fn put(number: Number, dtype: DataType, out: &mut Vec<u8>) -> Option<()> {
    match number {
        Number::Int(value) if dtype.is_integer() => put_int(value, dtype, out),
        Number::Int(value) => {
            put_float(value as f64, dtype, out);
            Some(())
        }
        Number::Float(value) => {
            put_float(value, dtype, out);
            Some(())
        }
    }
}

fn put_int(value: i128, dtype: DataType, out: &mut Vec<u8>) -> Option<()> {
    match dtype {
        DataType::Int8 => i8::try_from(value).ok()?.put(out),
        DataType::Int16 => i16::try_from(value).ok()?.put(out),
        DataType::Int32 => i32::try_from(value).ok()?.put(out),
        DataType::Int64 => i64::try_from(value).ok()?.put(out),
        DataType::Uint8 => u8::try_from(value).ok()?.put(out),
        DataType::Uint16 => u16::try_from(value).ok()?.put(out),
        DataType::Uint32 => u32::try_from(value).ok()?.put(out),
        DataType::Uint64 => u64::try_from(value).ok()?.put(out),
        DataType::Bool | DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 | DataType::Bytes => {
            return None;
        }
    }
    Some(())
}

fn put_float(value: f64, dtype: DataType, out: &mut Vec<u8>) {
    match dtype {
        DataType::Fp16 => f16::from_f64(value).put(out),
        DataType::Bf16 => bf16::from_f64(value).put(out),
        DataType::Fp32 => (value as f32).put(out),
        _ => value.put(out),
    }
}

/// Returns the values of a float tensor.
pub(super) fn floats(tensor: &Tensor) -> Vec<f64> {
    let (Some(data), Some(size)) = (tensor.bytes(), tensor.dtype().size()) else {
        return Vec::new();
    };
    let value = |raw| match number(tensor.dtype(), raw) {
        Number::Int(value) => value as f64,
        Number::Float(value) => value,
    };
    data.chunks_exact(size).map(value).collect()
}

/// Returns the value of element `idx` of an integer tensor as a position, if it can be one.
pub(super) fn position(tensor: &Tensor, idx: usize) -> Option<usize> {
    let size = tensor.dtype().size()?;
    let raw = tensor.bytes()?.get(idx.checked_mul(size)?..)?.get(..size)?;
    match number(tensor.dtype(), raw) {
        Number::Int(value) => usize::try_from(value).ok(),
        Number::Float(_) => None,
    }
}
