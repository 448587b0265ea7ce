//! NumPy's `.npy` files as tensors, and back.
//!
//! Format versions 1 to 3, every fixed-size number type, byte strings (`S`) and text (`U`).
//! Little-endian data in C order is shared, not copied. Pickled objects, structured and complex
//! types are refused: this reads numbers, it never runs anything.
//! Source of the format: NumPy's NEP 1 and `numpy.lib.format`.

mod header;

use bytes::Bytes;
use salver_core::{DataType, Element, Elements, ElementsBuilder, Error, ErrorKind, Result, Shape, Tensor};

use self::header::{Header, Kind};

/// How every `.npy` file begins.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Reads one array as a tensor called `name`.
///
/// # Errors
/// `InvalidInput` for a file that is not `.npy`, is cut short or has surplus bytes, or has a type
/// without a tensor form, such as Python objects.
pub fn decode(name: &str, bytes: Bytes) -> Result<Tensor> {
    read(name, bytes).map_err(|error| error.context(format!("input '{name}': .npy body")))
}

fn read(name: &str, bytes: Bytes) -> Result<Tensor> {
    let (header, data_start) = header::read(&bytes)?;
    let shape = Shape::from(header.shape.as_slice());
    let data = checked_data(&header, &shape, bytes.slice(data_start..))?;
    let item_len = header.item_len;
    let data = if header.fortran_order { to_c_order(&data, &shape, item_len) } else { data };
    match header.kind {
        Kind::Number(dtype) => {
            let data = if header.big_endian { swapped(&data, item_len) } else { data };
            let data = if dtype == DataType::Bool { normalized_bools(data) } else { data };
            Tensor::new(name, dtype, shape, data)
        }
        Kind::ByteString => Tensor::from_elements(name, shape, byte_strings(data, item_len)?),
        Kind::Text => Tensor::from_elements(name, shape, texts(&data, item_len, header.big_endian)?),
    }
}

/// Checks that exactly the promised bytes follow the header.
fn checked_data(header: &Header, shape: &Shape, data: Bytes) -> Result<Bytes> {
    if shape.len() > Shape::MAX_RANK {
        return Err(Error::invalid_input(format!(
            "{} dimensions, at most {} are allowed",
            shape.len(),
            Shape::MAX_RANK
        )));
    }
    let count = shape.element_count();
    // Elements of no bytes would let a few bytes claim any number of them.
    let expected =
        count.filter(|&count| count == 0 || header.item_len > 0).and_then(|n| n.checked_mul(header.item_len));
    match expected {
        Some(expected) if expected == data.len() => Ok(data),
        Some(expected) => Err(Error::invalid_input(format!(
            "shape {shape} of {} bytes each takes {expected} bytes, got {}",
            header.item_len,
            data.len()
        ))),
        None => Err(Error::invalid_input(format!("shape {shape} of {} bytes each has no size", header.item_len))),
    }
}

/// Copies column-major items into row-major order.
fn to_c_order(data: &Bytes, shape: &Shape, item_len: usize) -> Bytes {
    if shape.len() < 2 || data.is_empty() {
        return data.clone();
    }
    let mut out = Vec::with_capacity(data.len());
    let mut idx = vec![0usize; shape.len()];
    let strides = column_major_strides(shape);
    for _ in 0..data.len() / item_len {
        let item: usize = idx.iter().zip(&strides).map(|(idx, stride)| idx * stride).sum();
        out.extend_from_slice(&data[item * item_len..][..item_len]);
        step(&mut idx, shape);
    }
    out.into()
}

/// Strides in items. They cannot overflow: their product with the extents was checked.
fn column_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut stride = 1;
    let each = |&extent: &usize| {
        let current = stride;
        stride *= extent;
        current
    };
    shape.iter().map(each).collect()
}

/// Moves to the next index in row-major order.
fn step(idx: &mut [usize], shape: &[usize]) {
    for (position, &extent) in idx.iter_mut().zip(shape).rev() {
        *position += 1;
        if *position < extent {
            return;
        }
        *position = 0;
    }
}

fn swapped(data: &Bytes, item_len: usize) -> Bytes {
    let mut out = data.to_vec();
    out.chunks_exact_mut(item_len).for_each(<[u8]>::reverse);
    out.into()
}

/// A boolean is any byte in a file; tensors hold 0 and 1.
fn normalized_bools(data: Bytes) -> Bytes {
    if data.iter().all(|&byte| byte <= 1) {
        return data;
    }
    data.iter().map(|&byte| u8::from(byte != 0)).collect::<Vec<u8>>().into()
}

/// Items of a byte string are padded with NUL, which NumPy takes off as well.
fn byte_strings(data: Bytes, item_len: usize) -> Result<Elements> {
    let mut spans = Vec::with_capacity(data.len().checked_div(item_len).unwrap_or(0));
    let mut start = 0u32;
    for item in data.chunks_exact(item_len.max(1)) {
        let len = item.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let (Ok(len), Ok(item_len)) = (u32::try_from(len), u32::try_from(item_len)) else {
            return Err(Error::too_large("strings of more than 4 GiB"));
        };
        let (Some(end), Some(next)) = (start.checked_add(len), start.checked_add(item_len)) else {
            return Err(Error::too_large("strings of more than 4 GiB"));
        };
        spans.push((start, end));
        start = next;
    }
    Elements::new(data, spans)
}

/// Items of text are code points of four bytes each, padded with NUL.
fn texts(data: &[u8], item_len: usize, big_endian: bool) -> Result<Elements> {
    let mut builder = ElementsBuilder::default();
    let mut text = String::new();
    for (idx, item) in data.chunks_exact(item_len.max(1)).enumerate() {
        text.clear();
        for raw in item.chunks_exact(4) {
            let mut raw = [raw[0], raw[1], raw[2], raw[3]];
            if big_endian {
                raw.reverse();
            }
            let Some(character) = char::from_u32(u32::from_le_bytes(raw)) else {
                return Err(Error::invalid_input(format!("element {idx} is not Unicode text")));
            };
            text.push(character);
        }
        builder.push(text.trim_end_matches('\0').as_bytes());
    }
    Ok(builder.finish())
}

/// Writes a tensor as format version 1. BF16, which NumPy lacks, becomes FP32 without loss.
///
/// # Errors
/// `Unsupported` for BYTES elements that end in NUL: the format cannot tell them from padding.
pub fn encode(tensor: &Tensor) -> Result<Bytes> {
    let (descr, data) = match tensor.bytes() {
        Some(data) => (descr(tensor.dtype()).to_owned(), widened(tensor.dtype(), data)),
        None => padded(tensor)?,
    };
    let mut out = header::write(&descr, tensor.shape());
    out.extend_from_slice(&data);
    Ok(out.into())
}

const fn descr(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "|b1",
        DataType::Int8 => "|i1",
        DataType::Int16 => "<i2",
        DataType::Int32 => "<i4",
        DataType::Int64 => "<i8",
        DataType::Uint8 => "|u1",
        DataType::Uint16 => "<u2",
        DataType::Uint32 => "<u4",
        DataType::Uint64 => "<u8",
        DataType::Fp16 => "<f2",
        DataType::Bf16 | DataType::Fp32 => "<f4",
        DataType::Fp64 => "<f8",
        DataType::Bytes => "|S1",
    }
}

fn widened(dtype: DataType, data: &Bytes) -> Bytes {
    if dtype != DataType::Bf16 {
        return data.clone();
    }
    let wide = |raw: &[u8]| half::bf16::get(raw).to_f32().to_le_bytes();
    data.chunks_exact(2).flat_map(wide).collect::<Vec<u8>>().into()
}

fn padded(tensor: &Tensor) -> Result<(String, Bytes)> {
    let Some(elements) = tensor.elements() else {
        return Ok((descr(tensor.dtype()).to_owned(), Bytes::new()));
    };
    if let Some(idx) = elements.iter().position(|element| element.last() == Some(&0)) {
        return Err(Error::unsupported(format!(
            "output '{}': element {idx} ends in NUL, which .npy takes for padding",
            tensor.name()
        )));
    }
    let width = elements.iter().map(<[u8]>::len).max().unwrap_or(0).max(1);
    let total = width.checked_mul(elements.len()).filter(|&total| total <= MAX_PADDED_BYTES).ok_or_else(|| {
        Error::new(ErrorKind::TooLarge, format!("output '{}': padding to {width} bytes each", tensor.name()))
    })?;
    let mut data = vec![0; total];
    for (slot, element) in data.chunks_exact_mut(width).zip(elements.iter()) {
        slot[..element.len()].copy_from_slice(element);
    }
    Ok((format!("|S{width}"), data.into()))
}

/// One long string among many short ones would otherwise pad to any size.
const MAX_PADDED_BYTES: usize = 1 << 30;

#[cfg(test)]
mod tests;
