//! Reads only the inputs and outputs of an ONNX file, a piece at a time.
//!
//! Walks the fields of the file and of its graph; what is not needed, weights above all, is passed
//! over without being read. Memory is one piece, and the number of pieces is bounded.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, decode_varint};
use salver_core::{DataType, Error, Result};

use super::messages::ValueInfoProto;
use super::{OnnxDim, OnnxType, value};
use crate::signature::{Field, Files, Signature};

/// Bytes that are read at once.
const PIECE: u64 = 256 << 10;
/// The most pieces of a file.
const MAX_PIECES: usize = 1024;
/// The most bytes of a number in protobuf's coding.
const MAX_VARINT: u64 = 10;
/// The most bytes of one input, output or name.
const MAX_FIELD: u64 = 64 << 10;
/// The most inputs and outputs.
const MAX_VALUES: usize = 10_000;

/// Reads what goes in and out of the ONNX file at `path`.
///
/// # Errors
/// Those of `files`; `InvalidInput` for a file that is damaged, `TooLarge` for one that would take
/// too many pieces.
pub(crate) async fn signature(files: &dyn Files, path: &str, size: u64) -> Result<Signature> {
    let mut walk = Walk { files, path, size, at: 0, piece: Bytes::new(), pieces: 0 };
    walk.model().await.map_err(|error| error.context(path.escape_debug()))
}

struct Walk<'a> {
    files: &'a dyn Files,
    path: &'a str,
    size: u64,
    /// Where the piece begins.
    at: u64,
    piece: Bytes,
    pieces: usize,
}

/// A field: its number, and where its bytes are; none: a number stands in their place.
struct Part {
    number: u32,
    bytes: Option<Range<u64>>,
    /// Where the next field begins.
    next: u64,
}

/// What was found in graphs.
#[derive(Default)]
struct Found {
    inputs: Vec<Field>,
    outputs: Vec<Field>,
    initialized: BTreeSet<String>,
}

impl Walk<'_> {
    async fn model(&mut self) -> Result<Signature> {
        let (mut at, mut found, mut is_model) = (0, Found::default(), false);
        while at < self.size {
            let part = self.part(at, self.size).await?;
            if let (7, Some(graph)) = (part.number, part.bytes) {
                self.graph(graph, &mut found).await?;
                is_model = true;
            }
            at = part.next;
        }
        if !is_model {
            return Err(Error::invalid_input("not an ONNX model: it holds no graph"));
        }
        // Old files list their weights among the inputs.
        found.inputs.retain(|input| !found.initialized.contains(&input.name));
        Ok(Signature { inputs: found.inputs, outputs: found.outputs })
    }

    async fn graph(&mut self, graph: Range<u64>, found: &mut Found) -> Result<()> {
        let mut at = graph.start;
        while at < graph.end {
            let part = self.part(at, graph.end).await?;
            match (part.number, part.bytes) {
                (5, Some(tensor)) => found.initialized.extend(self.text(tensor, 8).await?),
                (15, Some(sparse)) => {
                    if let Some(values) = self.find(sparse, 1).await? {
                        found.initialized.extend(self.text(values, 8).await?);
                    }
                }
                (11, Some(input)) => found.inputs.push(self.value(input).await?),
                (12, Some(output)) => found.outputs.push(self.value(output).await?),
                _ => {}
            }
            if found.inputs.len().max(found.outputs.len()) > MAX_VALUES {
                return Err(Error::too_large(format!("more than {MAX_VALUES} inputs or outputs")));
            }
            at = part.next;
        }
        Ok(())
    }

    async fn value(&mut self, range: Range<u64>) -> Result<Field> {
        let bytes = self.bytes(range).await?;
        let info = ValueInfoProto::decode(bytes).map_err(|error| damaged().with_source(error))?;
        Ok(field(&info))
    }

    /// Returns a text in a message.
    async fn text(&mut self, message: Range<u64>, number: u32) -> Result<Option<String>> {
        let Some(range) = self.find(message, number).await? else {
            return Ok(None);
        };
        let bytes = self.bytes(range).await?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Finds the first field of a number in a message.
    async fn find(&mut self, message: Range<u64>, number: u32) -> Result<Option<Range<u64>>> {
        let mut at = message.start;
        while at < message.end {
            let part = self.part(at, message.end).await?;
            if part.number == number {
                return Ok(part.bytes);
            }
            at = part.next;
        }
        Ok(None)
    }

    /// Reads the head of the field at `at` of a message that ends at `end`.
    async fn part(&mut self, at: u64, end: u64) -> Result<Part> {
        let (key, at) = self.varint(at, end).await?;
        let number = u32::try_from(key >> 3).map_err(|_| damaged())?;
        let (start, len) = match WireType::try_from(key & 7).map_err(|error| damaged().with_source(error))? {
            WireType::Varint => {
                let (_, next) = self.varint(at, end).await?;
                return Ok(Part { number, bytes: None, next });
            }
            WireType::SixtyFourBit => (at, 8),
            WireType::ThirtyTwoBit => (at, 4),
            WireType::LengthDelimited => {
                let (len, start) = self.varint(at, end).await?;
                (start, len)
            }
            WireType::StartGroup | WireType::EndGroup => return Err(damaged()),
        };
        let next = start.checked_add(len).filter(|next| *next <= end).ok_or_else(damaged)?;
        Ok(Part { number, bytes: Some(start..next), next })
    }

    /// Reads a number, and returns where it ends.
    async fn varint(&mut self, at: u64, end: u64) -> Result<(u64, u64)> {
        let mut bytes = self.bytes(at..end.min(at + MAX_VARINT)).await?;
        let before = bytes.len();
        let number = decode_varint(&mut bytes).map_err(|error| damaged().with_source(error))?;
        Ok((number, at + (before - bytes.len()) as u64))
    }

    /// Returns bytes of the file, from the piece at hand or the next one.
    async fn bytes(&mut self, range: Range<u64>) -> Result<Bytes> {
        let len = range.end - range.start;
        if len > MAX_FIELD {
            return Err(Error::too_large(format!("a name or a type of {len} bytes")));
        }
        let is_here = self.at <= range.start && range.end <= self.at + self.piece.len() as u64;
        if !is_here {
            self.pieces += 1;
            if self.pieces > MAX_PIECES {
                let most = (MAX_PIECES as u64 * PIECE) >> 20;
                return Err(Error::too_large(format!("its inputs are not within the {most} MiB that are looked at")));
            }
            self.at = range.start;
            self.piece = self.files.read(self.path, self.at..self.size.min(self.at + PIECE)).await?;
        }
        let start = usize::try_from(range.start - self.at).unwrap_or(usize::MAX);
        let end = start.saturating_add(len as usize);
        if end > self.piece.len() {
            return Err(damaged());
        }
        Ok(self.piece.slice(start..end))
    }
}

fn damaged() -> Error {
    Error::invalid_input("not an ONNX model: it is cut off or damaged")
}

fn field(info: &ValueInfoProto) -> Field {
    let value = value(info);
    let extent = |dim: &OnnxDim| match dim {
        OnnxDim::Fixed(extent) => *extent,
        OnnxDim::Named(_) | OnnxDim::Unknown => -1,
    };
    let (datatype, shape) = match &value.kind {
        OnnxType::Other(text) => (text.clone(), None),
        OnnxType::Tensor { dtype, onnx_type, dims } => {
            let dims = dims.as_ref().map(|dims| dims.iter().map(extent).collect());
            (dtype.map_or_else(|| onnx_type.clone(), |dtype| DataType::as_str(dtype).to_owned()), dims)
        }
    };
    Field { name: value.name, datatype, shape, optional: false }
}
