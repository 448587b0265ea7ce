//! Between `TensorProto` and tensors.
//!
//! In: `tensor_content` if there is one, else the field of the type, whose last element stands for
//! all that are missing, as TensorFlow reads it; none at all is zeros. More elements than the shape
//! holds, and numbers that do not fit the type, are refused, where TensorFlow would cut them.
//! Out: the field of the type, as TF Serving answers; clients read `float_val` and the like directly.

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};
use salver_core::{DataType, Element, Elements, Error, Result, Shape, Tensor};

use super::tensor::{Strings, TensorProto, field};
use super::tensorflow::tensor_shape_proto::Dim;
use super::tensorflow::{self, TensorShapeProto};
use crate::json::read::clip;

/// The most bytes that one request may have filled in: they are memory that none of its own paid for.
pub(super) const MOST_FILLED: usize = 16 << 20;

/// Returns the element type's number in TensorFlow.
pub(super) const fn number_of(dtype: DataType) -> tensorflow::DataType {
    match dtype {
        DataType::Bool => tensorflow::DataType::DtBool,
        DataType::Int8 => tensorflow::DataType::DtInt8,
        DataType::Int16 => tensorflow::DataType::DtInt16,
        DataType::Int32 => tensorflow::DataType::DtInt32,
        DataType::Int64 => tensorflow::DataType::DtInt64,
        DataType::Uint8 => tensorflow::DataType::DtUint8,
        DataType::Uint16 => tensorflow::DataType::DtUint16,
        DataType::Uint32 => tensorflow::DataType::DtUint32,
        DataType::Uint64 => tensorflow::DataType::DtUint64,
        DataType::Fp16 => tensorflow::DataType::DtHalf,
        DataType::Bf16 => tensorflow::DataType::DtBfloat16,
        DataType::Fp32 => tensorflow::DataType::DtFloat,
        DataType::Fp64 => tensorflow::DataType::DtDouble,
        DataType::Bytes => tensorflow::DataType::DtString,
    }
}

fn type_of(number: i32) -> Result<DataType> {
    let known = tensorflow::DataType::try_from(number).ok();
    let dtype = match known {
        Some(tensorflow::DataType::DtBool) => DataType::Bool,
        Some(tensorflow::DataType::DtInt8) => DataType::Int8,
        Some(tensorflow::DataType::DtInt16) => DataType::Int16,
        Some(tensorflow::DataType::DtInt32) => DataType::Int32,
        Some(tensorflow::DataType::DtInt64) => DataType::Int64,
        Some(tensorflow::DataType::DtUint8) => DataType::Uint8,
        Some(tensorflow::DataType::DtUint16) => DataType::Uint16,
        Some(tensorflow::DataType::DtUint32) => DataType::Uint32,
        Some(tensorflow::DataType::DtUint64) => DataType::Uint64,
        Some(tensorflow::DataType::DtHalf) => DataType::Fp16,
        Some(tensorflow::DataType::DtBfloat16) => DataType::Bf16,
        Some(tensorflow::DataType::DtFloat) => DataType::Fp32,
        Some(tensorflow::DataType::DtDouble) => DataType::Fp64,
        Some(tensorflow::DataType::DtString) => DataType::Bytes,
        Some(tensorflow::DataType::DtInvalid) => return Err(Error::invalid_input("dtype is missing")),
        None => {
            let message = format!("dtype {number} is not offered; it must be one of DT_FLOAT, DT_INT64, …, DT_STRING");
            return Err(Error::invalid_input(message));
        }
    };
    Ok(dtype)
}

/// Makes a tensor called `name`; `filled` counts the bytes that the request had filled in so far.
///
/// # Errors
/// `InvalidInput` naming the input, what was expected and what came; `TooLarge` where more would be
/// filled in than [`MOST_FILLED`].
pub(super) fn tensor(name: &str, proto: TensorProto, filled: &mut usize) -> Result<Tensor> {
    read(name, proto, filled).map_err(|error| error.context(format!("input '{}'", clip(name))))
}

fn read(name: &str, proto: TensorProto, filled: &mut usize) -> Result<Tensor> {
    let dtype = type_of(proto.dtype)?;
    let shape = shape(proto.tensor_shape.as_ref())?;
    let whole = shape.byte_len(dtype)?;
    let count = shape.element_count().unwrap_or(usize::MAX);
    match whole {
        None => Tensor::from_elements(name, shape, strings(proto, count, filled)?),
        Some(_) if !proto.tensor_content.is_empty() => {
            crate::oip::tensor_from_binary(name, dtype, shape, proto.tensor_content)
        }
        Some(len) => {
            let data = numbers(&proto, dtype, count, len, filled)?;
            Tensor::new(name, dtype, shape, data)
        }
    }
}

fn shape(proto: Option<&TensorShapeProto>) -> Result<Shape> {
    let Some(proto) = proto else {
        return Ok(Shape::default());
    };
    if proto.unknown_rank {
        return Err(Error::invalid_input("tensor_shape must be known, but has unknown_rank"));
    }
    if proto.dim.len() > Shape::MAX_RANK {
        return Err(Error::invalid_input(format!("tensor_shape has more than {} dimensions", Shape::MAX_RANK)));
    }
    let dims: Option<Shape> = proto.dim.iter().map(|dim| usize::try_from(dim.size).ok()).collect();
    dims.ok_or_else(|| Error::invalid_input("tensor_shape must consist of whole numbers from 0"))
}

/// Reads the packed field of a type of fixed size: `count` elements in `len` bytes.
fn numbers(proto: &TensorProto, dtype: DataType, count: usize, len: usize, filled: &mut usize) -> Result<Bytes> {
    let given = |number| proto.field(number);
    let data = match dtype {
        // What lies in these fields is what a tensor holds.
        DataType::Fp32 => whole(given(field::FLOAT), 4)?,
        DataType::Fp64 => whole(given(field::DOUBLE), 8)?,
        DataType::Bool => varints(&given(field::BOOL), |bits| Some(bits != 0))?,
        DataType::Int8 => varints(&given(field::INT), |bits| i8::try_from(low_half(bits)).ok())?,
        DataType::Int16 => varints(&given(field::INT), |bits| i16::try_from(low_half(bits)).ok())?,
        DataType::Int32 => varints(&given(field::INT), |bits| Some(low_half(bits)))?,
        DataType::Uint8 => varints(&given(field::INT), |bits| u8::try_from(low_half(bits)).ok())?,
        DataType::Uint16 => varints(&given(field::INT), |bits| u16::try_from(low_half(bits)).ok())?,
        DataType::Int64 => varints(&given(field::INT64), |bits| Some(bits.cast_signed()))?,
        DataType::Uint32 => varints(&given(field::UINT32), |bits| Some(low_half(bits).cast_unsigned()))?,
        DataType::Uint64 => varints(&given(field::UINT64), Some)?,
        DataType::Fp16 | DataType::Bf16 => varints(&given(field::HALF), |bits| u16::try_from(bits).ok())?,
        DataType::Bytes => return Err(Error::engine("strings are no numbers")),
    };
    if data.len() > len {
        let size = dtype.size().unwrap_or(1);
        return Err(Error::invalid_input(format!("it has {} elements, its shape holds {count}", data.len() / size)));
    }
    let missing = len - data.len();
    if missing == 0 {
        return Ok(data);
    }
    fill(missing, filled)?;
    let mut all = Vec::with_capacity(len);
    all.extend_from_slice(&data);
    match dtype.size().and_then(|size| data.len().checked_sub(size)) {
        Some(last) => data[last..].iter().cycle().take(missing).for_each(|&byte| all.push(byte)),
        None => all.resize(len, 0),
    }
    Ok(all.into())
}

/// An `int32` on the wire is a varint of 64 bits, of which the lower half counts.
fn low_half(bits: u64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the wire format says so")]
    let low = bits as u32;
    low.cast_signed()
}

fn whole(data: Bytes, size: usize) -> Result<Bytes> {
    if data.len().is_multiple_of(size) {
        return Ok(data);
    }
    Err(Error::invalid_input(format!("{} bytes of elements are no multiple of {size}", data.len())))
}

fn varints<T: Element>(data: &[u8], narrow: impl Fn(u64) -> Option<T>) -> Result<Bytes> {
    // Each varint ends with a byte below 0x80, so this is how many there are.
    let count = data.iter().filter(|&&byte| byte < 0x80).count();
    let mut out = Vec::with_capacity(count.saturating_mul(size_of::<T>()));
    let mut left = data;
    while !left.is_empty() {
        let bits = decode_varint(&mut left).map_err(|_| Error::invalid_input("its elements are cut off"))?;
        let value = narrow(bits).ok_or_else(|| {
            let idx = out.len() / size_of::<T>();
            Error::invalid_input(format!("element {idx} does not fit the type"))
        })?;
        value.put(&mut out);
    }
    Ok(out.into())
}

fn fill(bytes: usize, filled: &mut usize) -> Result<()> {
    *filled = filled.saturating_add(bytes);
    if *filled <= MOST_FILLED {
        return Ok(());
    }
    Err(Error::too_large(format!(
        "its shape asks for far more elements than came, and a request may have {} MiB filled in; send all elements",
        MOST_FILLED >> 20
    )))
}

fn strings(proto: TensorProto, count: usize, filled: &mut usize) -> Result<Elements> {
    if !proto.tensor_content.is_empty() {
        return packed_strings(proto.tensor_content, count);
    }
    let Strings { buffer, mut spans } = proto.strings;
    let missing = count
        .checked_sub(spans.len())
        .ok_or_else(|| Error::invalid_input(format!("it has {} elements, its shape holds {count}", spans.len())))?;
    if missing > 0 {
        let last = spans.last().copied().unwrap_or_default();
        let each = ((last.1 - last.0) as usize).max(size_of_val(&last));
        fill(missing.saturating_mul(each), filled)?;
        spans.resize(count, last);
    }
    Elements::new(buffer.into(), spans)
}

/// Strings in `tensor_content`: all lengths as varints, then the strings one after the other.
fn packed_strings(data: Bytes, count: usize) -> Result<Elements> {
    let cut_off = || Error::invalid_input(format!("tensor_content does not hold {count} strings"));
    // Each length takes at least a byte.
    if count > data.len() || u32::try_from(data.len()).is_err() {
        return Err(cut_off());
    }
    let mut left = &data[..];
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        let len = decode_varint(&mut left).map_err(|_| cut_off())?;
        lengths.push(u32::try_from(len).map_err(|_| cut_off())?);
    }
    let mut at = u32::try_from(data.len() - left.len()).map_err(|_| cut_off())?;
    let mut spans = Vec::with_capacity(count);
    for len in lengths {
        let end = at.checked_add(len).ok_or_else(cut_off)?;
        spans.push((at, end));
        at = end;
    }
    if at as usize != data.len() {
        return Err(cut_off());
    }
    Elements::new(data, spans)
}

/// Writes a tensor into the field of its type.
pub(super) fn proto(tensor: &Tensor) -> TensorProto {
    let mut proto = described(tensor);
    if let Some(elements) = tensor.elements() {
        for text in elements.iter() {
            // All fit: `Elements` ends at 4 GiB too.
            let _ = proto.strings.push(text);
        }
        return proto;
    }
    let data = tensor.bytes().cloned().unwrap_or_default();
    match tensor.dtype() {
        DataType::Fp32 => proto.set_packed(field::FLOAT, data),
        DataType::Fp64 => proto.set_packed(field::DOUBLE, data),
        DataType::Bool if data.iter().all(|&byte| byte < 2) => proto.set_packed(field::BOOL, data),
        DataType::Bool => proto.set_packed(field::BOOL, wires(&data, |value: u8| u64::from(value != 0))),
        DataType::Int8 => proto.set_packed(field::INT, wires(&data, |value: i8| i64::from(value).cast_unsigned())),
        DataType::Int16 => proto.set_packed(field::INT, wires(&data, |value: i16| i64::from(value).cast_unsigned())),
        DataType::Int32 => proto.set_packed(field::INT, wires(&data, |value: i32| i64::from(value).cast_unsigned())),
        DataType::Uint8 => proto.set_packed(field::INT, wires(&data, |value: u8| u64::from(value))),
        DataType::Uint16 => proto.set_packed(field::INT, wires(&data, |value: u16| u64::from(value))),
        DataType::Int64 => proto.set_packed(field::INT64, wires(&data, i64::cast_unsigned)),
        DataType::Uint32 => proto.set_packed(field::UINT32, wires(&data, |value: u32| u64::from(value))),
        DataType::Uint64 => proto.set_packed(field::UINT64, wires(&data, |value: u64| value)),
        DataType::Fp16 | DataType::Bf16 => {
            proto.set_packed(field::HALF, wires(&data, |value: u16| u64::from(value)));
        }
        DataType::Bytes => {}
    }
    proto
}

/// Writes a tensor's elements into `tensor_content`, as clients do; strings into their field.
pub(super) fn packed_proto(tensor: &Tensor) -> TensorProto {
    match tensor.bytes() {
        Some(data) => TensorProto { tensor_content: data.clone(), ..described(tensor) },
        None => proto(tensor),
    }
}

fn described(tensor: &Tensor) -> TensorProto {
    let sizes = tensor.shape().iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX));
    let dim = |size| Dim { size, name: String::new() };
    TensorProto {
        dtype: number_of(tensor.dtype()).into(),
        tensor_shape: Some(TensorShapeProto { dim: sizes.map(dim).collect(), unknown_rank: false }),
        ..TensorProto::default()
    }
}

fn wires<T: Element>(data: &[u8], widen: impl Fn(T) -> u64) -> Bytes {
    let mut out = Vec::with_capacity(data.len());
    for element in data.chunks_exact(size_of::<T>()) {
        encode_varint(widen(T::get(element)), &mut out);
    }
    out.into()
}
