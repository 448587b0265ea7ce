//! Answers as bytes, for the level that servers share.
//!
//! What comes back from there is not trusted: a checksum covers all of it, every length is checked
//! before it is believed, nothing is allocated that the bytes do not hold, and the tensors must be
//! those that the model gives. Numbers are little-endian:
//!
//! `"SLVA" version:u8 n_tensors:u32 tensor* checksum:[u8; 16]`, where a tensor is
//! `name:bytes dtype:bytes rank:u32 extent:u64* payload`, a payload is `bytes`, or for BYTES
//! `n_elements:u32 bytes*`, and `bytes` has its length as a `u32` before it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use salver_core::{DataType, Elements, Error, Result, Shape, Signature, Tensor};

const MAGIC: &[u8; 4] = b"SLVA";
const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 16;

/// The largest encoded answer.
pub(crate) const MAX_LEN: usize = 1 << 20;

/// Encodes outputs; none if they are too large to be shared.
pub(crate) fn encode(outputs: &[Tensor]) -> Option<Bytes> {
    let len: usize = outputs.iter().map(Tensor::payload_len).sum();
    if len > MAX_LEN {
        return None;
    }
    let mut out = Vec::with_capacity(len + 128 * outputs.len() + 64);
    out.put_slice(MAGIC);
    out.put_u8(VERSION);
    out.put_u32_le(u32::try_from(outputs.len()).ok()?);
    for tensor in outputs {
        put_tensor(&mut out, tensor)?;
    }
    let sealed = seal(out);
    (sealed.len() <= MAX_LEN).then_some(sealed)
}

/// Puts the checksum behind a body.
pub(crate) fn seal(mut body: Vec<u8>) -> Bytes {
    let checksum = checksum(&body);
    body.put_slice(&checksum);
    body.into()
}

fn put_tensor(out: &mut Vec<u8>, tensor: &Tensor) -> Option<()> {
    put_bytes(out, tensor.name().as_bytes())?;
    put_bytes(out, tensor.dtype().as_str().as_bytes())?;
    out.put_u32_le(u32::try_from(tensor.shape().len()).ok()?);
    tensor.shape().iter().for_each(|&extent| out.put_u64_le(extent as u64));
    match tensor.elements() {
        None => put_bytes(out, tensor.bytes()?),
        Some(elements) => {
            out.put_u32_le(u32::try_from(elements.len()).ok()?);
            elements.iter().try_for_each(|element| put_bytes(out, element))
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.put_u32_le(u32::try_from(bytes.len()).ok()?);
    out.put_slice(bytes);
    Some(())
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut short = [0; CHECKSUM_LEN];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_LEN]);
    short
}

/// Decodes what [`encode`] made. The tensors share `value`'s memory.
///
/// # Errors
/// `Engine` saying what is wrong with the bytes.
pub(crate) fn decode(value: &Bytes) -> Result<Vec<Tensor>> {
    let Some(end) = value.len().checked_sub(CHECKSUM_LEN).filter(|_| value.len() <= MAX_LEN) else {
        return Err(broken("its length"));
    };
    if checksum(&value[..end]) != value[end..] {
        return Err(broken("its checksum"));
    }
    let mut rest = value.slice(..end);
    if take(&mut rest, MAGIC.len() + 1)? != [MAGIC, &[VERSION][..]].concat() {
        return Err(broken("its version"));
    }
    let n_tensors = take_number(&mut rest)?;
    let mut outputs = Vec::new();
    for _ in 0..n_tensors {
        outputs.push(take_tensor(&mut rest)?);
    }
    if rest.is_empty() { Ok(outputs) } else { Err(broken("its end")) }
}

/// Decodes an answer and checks that its tensors are `model`'s outputs.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_answer(value: &Bytes, model: &Signature) -> Result<Vec<Tensor>> {
    let outputs = decode(value)?;
    let named = |tensor: Tensor| match model.output(tensor.name()) {
        Some(spec) if spec.dtype == tensor.dtype() => Ok(tensor.rename(spec.name.clone())),
        _ => Err(broken("one of its tensors")),
    };
    outputs.into_iter().map(named).collect()
}

fn take_tensor(rest: &mut Bytes) -> Result<Tensor> {
    let name: Arc<str> = text(&take_bytes(rest)?)?.into();
    let dtype = DataType::from_wire(text(&take_bytes(rest)?)?).ok_or_else(|| broken("a data type"))?;
    let rank = take_number(rest)?;
    if rank > Shape::MAX_RANK {
        return Err(broken("a rank"));
    }
    let extents = take(rest, rank * size_of::<u64>())?;
    let extents = extents.chunks_exact(size_of::<u64>()).map(|mut chunk| chunk.get_u64_le());
    let shape: Shape = extents.map(|extent| usize::try_from(extent).unwrap_or(usize::MAX)).collect();
    let tensor = match dtype {
        DataType::Bytes => Tensor::from_elements(name, shape, take_elements(rest)?),
        _ => Tensor::new(name, dtype, shape, take_bytes(rest)?),
    };
    tensor.map_err(|error| broken("a tensor").with_source(error))
}

/// The elements stay where they are, with the lengths between them.
fn take_elements(rest: &mut Bytes) -> Result<Elements> {
    let count = take_number(rest)?;
    let buffer = rest.clone();
    let mut spans = Vec::new();
    for _ in 0..count {
        let len = take_bytes(rest)?.len();
        let end = buffer.len() - rest.len();
        let span = (u32::try_from(end - len).ok(), u32::try_from(end).ok());
        let (Some(start), Some(end)) = span else {
            return Err(broken("an element"));
        };
        spans.push((start, end));
    }
    Elements::new(buffer.slice(..buffer.len() - rest.len()), spans)
}

fn take(rest: &mut Bytes, len: usize) -> Result<Bytes> {
    if len > rest.len() {
        return Err(broken("a length"));
    }
    Ok(rest.split_to(len))
}

fn take_number(rest: &mut Bytes) -> Result<usize> {
    let number = take(rest, size_of::<u32>())?.get_u32_le();
    Ok(number as usize)
}

fn take_bytes(rest: &mut Bytes) -> Result<Bytes> {
    let len = take_number(rest)?;
    take(rest, len)
}

fn text(bytes: &Bytes) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| broken("a name").with_source(error))
}

fn broken(what: &'static str) -> Error {
    Error::engine(format!("a shared answer is not understood: {what} is wrong"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use salver_core::{Batching, TensorSpec};
    use salver_testkit::{tensor, text};

    use super::*;

    /// Name, type, shape and elements of a tensor.
    type Flat = (String, DataType, Vec<usize>, Vec<Vec<u8>>);

    fn flat(outputs: &[Tensor]) -> Vec<Flat> {
        let content = |tensor: &Tensor| match tensor.elements() {
            None => vec![tensor.bytes().unwrap().to_vec()],
            Some(elements) => elements.iter().map(<[u8]>::to_vec).collect(),
        };
        let one =
            |tensor: &Tensor| (tensor.name().to_string(), tensor.dtype(), tensor.shape().to_vec(), content(tensor));
        outputs.iter().map(one).collect()
    }

    fn sample() -> Vec<Tensor> {
        vec![
            tensor("y", &[2, 2], &[1f32, f32::NAN, -0.0, 4.0]),
            text("words", &[3], &[b"one", b"", b"\xff\0"]),
            tensor::<i64>("none", &[0, 3], &[]),
            tensor("scalar", &[], &[7u8]),
        ]
    }

    #[test]
    fn what_was_encoded_comes_back_bit_for_bit() {
        let decoded = decode(&encode(&sample()).unwrap()).unwrap();
        assert_eq!(flat(&decoded), flat(&sample()));
        assert!(decode(&encode(&[]).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn a_flipped_bit_or_a_missing_byte_is_seen() {
        let good = encode(&sample()).unwrap();
        for idx in 0..good.len() {
            let mut bad = good.to_vec();
            bad[idx] ^= 1;
            assert!(decode(&bad.into()).is_err(), "{idx}");
            assert!(decode(&good.slice(..idx)).is_err(), "{idx}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_shared() {
        let large = [Tensor::new("y", DataType::Uint8, [MAX_LEN], vec![0; MAX_LEN].into()).unwrap()];
        assert!(encode(&large).is_none());
        let largest = MAX_LEN - encode(&[tensor::<u8>("y", &[0], &[])]).unwrap().len();
        let fits = [Tensor::new("y", DataType::Uint8, [largest], vec![0; largest].into()).unwrap()];
        assert_eq!(decode(&encode(&fits).unwrap()).unwrap()[0].payload_len(), largest);
    }

    #[test]
    fn an_answer_must_be_the_models() {
        let model = |dtype| Signature {
            inputs: vec![],
            outputs: vec![TensorSpec::new("y", dtype, &[-1])],
            batching: Batching::Fixed,
        };
        let value = encode(&[tensor("y", &[1], &[1f32])]).unwrap();
        assert!(decode_answer(&value, &model(DataType::Fp32)).is_ok());
        assert!(decode_answer(&value, &model(DataType::Fp64)).is_err());
        let other = encode(&[tensor("z", &[1], &[1f32])]).unwrap();
        assert!(decode_answer(&other, &model(DataType::Fp32)).is_err());
    }

    proptest! {
        #[test]
        fn any_words_and_numbers_come_back(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20),
            numbers in proptest::collection::vec(any::<i32>(), 0..50),
        ) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let outputs = [text("a", &[words.len()], &words), tensor("b", &[numbers.len(), 1], &numbers)];
            prop_assert_eq!(flat(&decode(&encode(&outputs).unwrap()).unwrap()), flat(&outputs));
        }

        #[test]
        fn any_bytes_with_a_good_checksum_are_refused_or_read(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            crate::fuzz::cached_value(&body);
            crate::fuzz::cached_value(&[&MAGIC[..], &[VERSION, 1, 0, 0, 0], &body].concat());
        }
    }
}
