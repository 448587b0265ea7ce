//! `tensorflow.TensorProto` on the wire.
//!
//! Written by hand, because a generated message would copy each packed field number by number into
//! a list of its own, and what a client sends and gets is mostly that. Here a packed field stays the
//! bytes that came, and elements are read once their type is known (`convert.rs`). Nothing is
//! allocated beyond what came in.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use super::tensorflow::TensorShapeProto;

/// The fields of elements, by their number in the message. Strings stand apart.
pub(super) mod field {
    pub(crate) const FLOAT: u32 = 5;
    pub(crate) const DOUBLE: u32 = 6;
    pub(crate) const INT: u32 = 7;
    pub(crate) const INT64: u32 = 10;
    pub(crate) const BOOL: u32 = 11;
    pub(crate) const HALF: u32 = 13;
    pub(crate) const UINT32: u32 = 16;
    pub(crate) const UINT64: u32 = 17;
}

const DTYPE: u32 = 1;
const SHAPE: u32 = 2;
const CONTENT: u32 = 4;
const STRING: u32 = 8;

/// A tensor as TensorFlow's clients send and read it.
#[derive(Clone, Default, PartialEq)]
pub struct TensorProto {
    /// A `tensorflow.DataType`.
    pub dtype: i32,
    /// The extents.
    pub tensor_shape: Option<TensorShapeProto>,
    /// All elements, packed.
    pub tensor_content: Bytes,
    pub(super) strings: Strings,
    /// Packed fields, one for each number that came.
    pub(super) packed: Vec<(u32, Packed)>,
}

/// A packed field: as it came, or what several pieces of it make together.
#[derive(Clone)]
pub(super) enum Packed {
    Whole(Bytes),
    Joined(Vec<u8>),
}

/// The strings of a tensor in one buffer, and where each ends.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Strings {
    pub(super) buffer: Vec<u8>,
    pub(super) spans: Vec<(u32, u32)>,
}

impl Strings {
    /// Appends one; false where 4 GiB do not hold them any more.
    pub(super) fn push(&mut self, text: impl Buf) -> bool {
        let (start, end) = (self.buffer.len(), self.buffer.len() + text.remaining());
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
            return false;
        };
        self.buffer.put(text);
        self.spans.push((start, end));
        true
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|&(start, end)| &self.buffer[start as usize..end as usize])
    }
}

impl Packed {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(data) => data,
            Self::Joined(data) => data,
        }
    }

    fn append(&mut self, more: &[u8]) {
        match self {
            Self::Whole(data) => {
                let mut joined = Vec::with_capacity(data.len() + more.len());
                joined.extend_from_slice(data);
                joined.extend_from_slice(more);
                *self = Self::Joined(joined);
            }
            Self::Joined(data) => data.extend_from_slice(more),
        }
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl TensorProto {
    /// Returns what stands in a packed field, none where it did not come.
    pub(super) fn field(&self, number: u32) -> Bytes {
        let found = self.packed.iter().find(|(known, _)| *known == number);
        found.map_or_else(Bytes::new, |(_, packed)| match packed {
            Packed::Whole(data) => data.clone(),
            Packed::Joined(data) => Bytes::copy_from_slice(data),
        })
    }

    /// Puts `data` into a packed field.
    pub(super) fn set_packed(&mut self, number: u32, data: Bytes) {
        if !data.is_empty() {
            self.packed.push((number, Packed::Whole(data)));
        }
    }

    /// Returns the bytes that its data take, roughly.
    pub fn data_len(&self) -> usize {
        let packed: usize = self.packed.iter().map(|(_, packed)| packed.bytes().len()).sum();
        self.tensor_content.len() + self.strings.buffer.len() + 8 * self.strings.spans.len() + packed
    }

    fn append_packed(&mut self, number: u32, data: Bytes) {
        match self.packed.iter_mut().find(|(known, _)| *known == number) {
            Some((_, packed)) => packed.append(&data),
            None => self.packed.push((number, Packed::Whole(data))),
        }
    }

    /// Takes a packed piece, or one element by itself, of a field whose elements have `native` form.
    fn merge_packed(
        &mut self,
        number: u32,
        native: WireType,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if wire_type == WireType::LengthDelimited {
            let mut data = Bytes::new();
            encoding::bytes::merge(wire_type, &mut data, buf, ctx)?;
            self.append_packed(number, data);
            return Ok(());
        }
        encoding::check_wire_type(native, wire_type)?;
        let mut element = Vec::with_capacity(10);
        match native {
            WireType::ThirtyTwoBit => {
                let mut value = 0u32;
                encoding::fixed32::merge(wire_type, &mut value, buf, ctx)?;
                element.put_u32_le(value);
            }
            WireType::SixtyFourBit => {
                let mut value = 0u64;
                encoding::fixed64::merge(wire_type, &mut value, buf, ctx)?;
                element.put_u64_le(value);
            }
            WireType::Varint | WireType::LengthDelimited | WireType::StartGroup | WireType::EndGroup => {
                encoding::encode_varint(encoding::decode_varint(buf)?, &mut element);
            }
        }
        self.append_packed(number, element.into());
        Ok(())
    }

    fn merge_string(&mut self, wire_type: WireType, buf: &mut impl Buf) -> Result<(), DecodeError> {
        encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
        let mut text = Bytes::new();
        encoding::bytes::merge(wire_type, &mut text, buf, DecodeContext::default())?;
        if !self.strings.push(text) {
            // Beyond 4 GiB, which no body limit lets through: as if the message had ended.
            encoding::decode_varint(&mut &b""[..])?;
        }
        Ok(())
    }
}

impl Message for TensorProto {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::int32::encode(DTYPE, &self.dtype, buf);
        if let Some(shape) = &self.tensor_shape {
            encoding::message::encode(SHAPE, shape, buf);
        }
        if !self.tensor_content.is_empty() {
            encoding::bytes::encode(CONTENT, &self.tensor_content, buf);
        }
        for (number, packed) in &self.packed {
            put_bytes(*number, packed.bytes(), buf);
        }
        for text in self.strings.iter() {
            put_bytes(STRING, text, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let native = match tag {
            DTYPE => return encoding::int32::merge(wire_type, &mut self.dtype, buf, ctx),
            SHAPE => return encoding::message::merge(wire_type, self.tensor_shape.get_or_insert_default(), buf, ctx),
            CONTENT => return encoding::bytes::merge(wire_type, &mut self.tensor_content, buf, ctx),
            STRING => return self.merge_string(wire_type, buf),
            field::FLOAT => WireType::ThirtyTwoBit,
            field::DOUBLE => WireType::SixtyFourBit,
            field::INT | field::INT64 | field::BOOL | field::HALF | field::UINT32 | field::UINT64 => WireType::Varint,
            _ => return encoding::skip_field(wire_type, tag, buf, ctx),
        };
        self.merge_packed(tag, native, wire_type, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        let shape = self.tensor_shape.as_ref().map_or(0, |shape| encoding::message::encoded_len(SHAPE, shape));
        let content = if self.tensor_content.is_empty() { 0 } else { bytes_len(CONTENT, self.tensor_content.len()) };
        let packed: usize = self.packed.iter().map(|(number, packed)| bytes_len(*number, packed.bytes().len())).sum();
        let strings: usize = self.strings.iter().map(|text| bytes_len(STRING, text.len())).sum();
        encoding::int32::encoded_len(DTYPE, &self.dtype) + shape + content + packed + strings
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn put_bytes(tag: u32, data: &[u8], buf: &mut impl BufMut) {
    encoding::encode_key(tag, WireType::LengthDelimited, buf);
    encoding::encode_varint(data.len() as u64, buf);
    buf.put_slice(data);
}

fn bytes_len(tag: u32, len: usize) -> usize {
    encoding::key_len(tag) + encoding::encoded_len_varint(len as u64) + len
}

impl fmt::Debug for TensorProto {
    /// Never the content: people's data stays out of logs and panics.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorProto(type {}, about {} bytes)", self.dtype, self.data_len())
    }
}
