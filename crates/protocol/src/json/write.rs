//! Appends JSON to a byte vector: scalars, and the elements of tensors as flat lists.
//!
//! Floats get the shortest text that reads back to the same value of the same width, always with
//! a point or an exponent; `NaN`, `Infinity` and `-Infinity` are written as the bare tokens that
//! Python's `json` reads. The output is always valid UTF-8.

use salver_core::{DataType, Element, Error, Result, Tensor};

/// Appends a quoted, escaped string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (idx, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[start..idx]);
        start = idx + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// Appends an object key, its colon included.
pub(crate) fn key(out: &mut Vec<u8>, name: &str) {
    string(out, name);
    out.push(b':');
}

/// Appends the shortest text of a single-precision number.
pub(crate) fn f32(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        non_finite(out, value.is_nan(), value.is_sign_negative());
    }
}

/// Appends the shortest text of a double-precision number.
pub(crate) fn f64(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        non_finite(out, value.is_nan(), value.is_sign_negative());
    }
}

/// Appends a whole number.
pub(crate) fn int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `true` or `false`.
pub(crate) fn bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends a list of whole numbers.
pub(crate) fn ints<I: itoa::Integer>(out: &mut Vec<u8>, values: impl IntoIterator<Item = I>) {
    list(out, values, |out, value| int(out, value));
}

/// Appends a list, each item by `write`.
pub(crate) fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (idx, item) in items.into_iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Appends a list, each item by `write`, which may fail.
///
/// # Errors
/// Those of `write`.
pub(crate) fn try_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T) -> Result<()>,
) -> Result<()> {
    out.push(b'[');
    for (idx, item) in items.into_iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write(out, item)?;
    }
    out.push(b']');
    Ok(())
}

fn non_finite(out: &mut Vec<u8>, is_nan: bool, is_negative: bool) {
    out.extend_from_slice(match (is_nan, is_negative) {
        (true, _) => b"NaN",
        (false, false) => b"Infinity",
        (false, true) => b"-Infinity",
    });
}

/// Appends every element of `tensor` as one flat list, row-major.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for BYTES elements that are not UTF-8.
pub(crate) fn tensor_flat(out: &mut Vec<u8>, tensor: &Tensor) -> Result<()> {
    out.reserve(text_len_guess(tensor));
    out.push(b'[');
    elements(out, tensor, 0, tensor.element_count())?;
    out.push(b']');
    Ok(())
}

/// Appends elements `start..start + count` of `tensor`, comma-separated, without brackets.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for BYTES elements that are not UTF-8, or if the range
/// leaves the tensor.
pub(crate) fn elements(out: &mut Vec<u8>, tensor: &Tensor, start: usize, count: usize) -> Result<()> {
    let range = || start.checked_add(count).filter(|&end| end <= tensor.element_count()).map(|end| start..end);
    let Some(range) = range() else {
        return Err(Error::invalid_input(format!("tensor '{}' has no elements {start}..+{count}", tensor.name())));
    };
    let (Some(data), Some(size)) = (tensor.bytes(), tensor.dtype().size()) else {
        return texts(out, tensor, range);
    };
    let data = &data[range.start * size..range.end * size];
    match tensor.dtype() {
        DataType::Bool => separated(out, data, 1, |out, raw| bool(out, <bool as Element>::get(raw))),
        DataType::Int8 => separated(out, data, size, |out, raw| int(out, i8::get(raw))),
        DataType::Int16 => separated(out, data, size, |out, raw| int(out, i16::get(raw))),
        DataType::Int32 => separated(out, data, size, |out, raw| int(out, i32::get(raw))),
        DataType::Int64 => separated(out, data, size, |out, raw| int(out, i64::get(raw))),
        DataType::Uint8 => separated(out, data, size, |out, raw| int(out, u8::get(raw))),
        DataType::Uint16 => separated(out, data, size, |out, raw| int(out, u16::get(raw))),
        DataType::Uint32 => separated(out, data, size, |out, raw| int(out, u32::get(raw))),
        DataType::Uint64 => separated(out, data, size, |out, raw| int(out, u64::get(raw))),
        DataType::Fp16 => separated(out, data, size, |out, raw| f32(out, half::f16::get(raw).to_f32())),
        DataType::Bf16 => separated(out, data, size, |out, raw| f32(out, half::bf16::get(raw).to_f32())),
        DataType::Fp32 => separated(out, data, size, |out, raw| f32(out, <f32 as Element>::get(raw))),
        DataType::Fp64 => separated(out, data, size, |out, raw| f64(out, <f64 as Element>::get(raw))),
        DataType::Bytes => {}
    }
    Ok(())
}

/// Inlined into each arm above, so that every data type gets a loop of its own.
#[inline(always)]
fn separated(out: &mut Vec<u8>, data: &[u8], size: usize, write: impl Fn(&mut Vec<u8>, &[u8])) {
    for (idx, raw) in data.chunks_exact(size).enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write(out, raw);
    }
}

fn texts(out: &mut Vec<u8>, tensor: &Tensor, range: std::ops::Range<usize>) -> Result<()> {
    let Some(all) = tensor.elements() else {
        return Ok(());
    };
    let first = range.start;
    for idx in range {
        if idx > first {
            out.push(b',');
        }
        let text = std::str::from_utf8(all.get(idx).unwrap_or_default()).map_err(|_| {
            Error::invalid_input(format!(
                "output '{}': element {idx} is not UTF-8 and has no JSON form; ask for binary data",
                tensor.name()
            ))
        })?;
        string(out, text);
    }
    Ok(())
}

/// Guesses the text's length, so that the vector grows once.
fn text_len_guess(tensor: &Tensor) -> usize {
    let per_element = match tensor.dtype() {
        DataType::Bool => 6,
        DataType::Int8 | DataType::Uint8 => 4,
        DataType::Int16 | DataType::Uint16 => 6,
        DataType::Int32 | DataType::Uint32 => 8,
        DataType::Fp16 | DataType::Bf16 | DataType::Int64 | DataType::Uint64 => 10,
        DataType::Fp32 => 12,
        DataType::Fp64 => 19,
        DataType::Bytes => return tensor.payload_len() + 4 * tensor.element_count() + 2,
    };
    tensor.element_count().saturating_mul(per_element).saturating_add(2)
}

#[cfg(test)]
mod tests;
