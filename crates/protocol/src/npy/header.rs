//! The header of an `.npy` file: a Python dictionary of three known keys.
//!
//! Parsed by hand because it is a closed, tiny part of Python's syntax. Bounded before it is read.

use salver_core::{DataType, Error, Result};

use super::MAGIC;

/// NumPy itself writes a few hundred bytes and by default refuses more than 10,000.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) item_len: usize,
    pub(super) big_endian: bool,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

/// What an item is.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Kind {
    Number(DataType),
    ByteString,
    Text,
}

/// Returns the header and where the data begins.
pub(super) fn read(bytes: &[u8]) -> Result<(Header, usize)> {
    let invalid = |text: &'static str| Error::invalid_input(text);
    if bytes.get(..MAGIC.len()) != Some(MAGIC) {
        return Err(invalid("does not begin with the .npy magic bytes"));
    }
    let cut = || invalid("ends within its header");
    let &[major, _minor] = bytes.get(6..8).ok_or_else(cut)? else {
        return Err(cut());
    };
    let (len, start) = match major {
        1 => (little_endian(bytes.get(8..10).ok_or_else(cut)?), 10),
        2 | 3 => (little_endian(bytes.get(8..12).ok_or_else(cut)?), 12),
        other => return Err(Error::invalid_input(format!("format version {other}, known are 1 to 3"))),
    };
    if len > MAX_HEADER_BYTES {
        return Err(Error::invalid_input(format!("header of {len} bytes, at most {MAX_HEADER_BYTES} are allowed")));
    }
    let end = start + len;
    let text = bytes.get(start..end).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| invalid("header is not text"))?;
    Ok((parse(text)?, end))
}

fn little_endian(raw: &[u8]) -> usize {
    raw.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte))
}

/// Writes magic, version 1.0 and the header, padded so that the data begins at a multiple of 64.
pub(super) fn write(descr: &str, shape: &[usize]) -> Vec<u8> {
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", extents.join(", "));
    let padding = (64 - (10 + text.len() + 1) % 64) % 64;
    let len = text.len() + padding + 1;
    let mut out = Vec::with_capacity(10 + len);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[1, 0]);
    // At most 64 extents of 20 digits: far below the 65,535 bytes of version 1.
    out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len() + padding, b' ');
    out.push(b'\n');
    out
}

fn parse(text: &str) -> Result<Header> {
    let mut parser = Parser { rest: text };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    parser.expect('{')?;
    while !parser.take('}') {
        let key = parser.quoted()?;
        parser.expect(':')?;
        let is_new = match key {
            "descr" => descr.replace(parser.descr()?).is_none(),
            "fortran_order" => fortran_order.replace(parser.boolean()?).is_none(),
            "shape" => shape.replace(parser.tuple()?).is_none(),
            _ => return Err(Error::invalid_input("header has a key other than descr, fortran_order and shape")),
        };
        if !is_new {
            return Err(Error::invalid_input(format!("header has the key '{key}' twice")));
        }
        if !parser.take(',') {
            parser.expect('}')?;
            break;
        }
    }
    parser.end()?;
    let (Some((kind, item_len, big_endian)), Some(fortran_order), Some(shape)) = (descr, fortran_order, shape) else {
        return Err(Error::invalid_input("header lacks one of the keys descr, fortran_order and shape"));
    };
    Ok(Header { kind, item_len, big_endian, fortran_order, shape })
}

/// Reads `<f4` and the like.
fn parse_descr(descr: &str) -> Result<(Kind, usize, bool)> {
    let unknown = || {
        let shown: String = descr.chars().take(32).flat_map(char::escape_default).collect();
        Error::invalid_input(format!("type '{shown}' has no tensor form; known are b1, i1-i8, u1-u8, f2-f8, S and U"))
    };
    let mut chars = descr.chars();
    let big_endian = match chars.next() {
        Some('<' | '|' | '=') => false,
        Some('>') => true,
        _ => return Err(unknown()),
    };
    let code = chars.next().ok_or_else(unknown)?;
    let digits = chars.as_str();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unknown());
    }
    let len: usize = digits.parse().map_err(|_| unknown())?;
    let number = |dtype| (Kind::Number(dtype), len, big_endian);
    Ok(match (code, len) {
        ('b', 1) => number(DataType::Bool),
        ('i', 1) => number(DataType::Int8),
        ('i', 2) => number(DataType::Int16),
        ('i', 4) => number(DataType::Int32),
        ('i', 8) => number(DataType::Int64),
        ('u', 1) => number(DataType::Uint8),
        ('u', 2) => number(DataType::Uint16),
        ('u', 4) => number(DataType::Uint32),
        ('u', 8) => number(DataType::Uint64),
        ('f', 2) => number(DataType::Fp16),
        ('f', 4) => number(DataType::Fp32),
        ('f', 8) => number(DataType::Fp64),
        ('S', _) => (Kind::ByteString, len, big_endian),
        ('U', _) => (Kind::Text, len.checked_mul(4).ok_or_else(unknown)?, big_endian),
        _ => return Err(unknown()),
    })
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn take(&mut self, expected: char) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(expected);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, expected: char) -> Result<()> {
        if self.take(expected) {
            return Ok(());
        }
        Err(Error::invalid_input(format!("header: expected '{expected}'")))
    }

    fn end(&self) -> Result<()> {
        if self.rest.trim().is_empty() {
            return Ok(());
        }
        Err(Error::invalid_input("header goes on after its dictionary"))
    }

    fn quoted(&mut self) -> Result<&'a str> {
        let quote = if self.take('\'') { '\'' } else { '"' };
        if quote == '"' {
            self.expect('"')?;
        }
        let (text, rest) =
            self.rest.split_once(quote).ok_or_else(|| Error::invalid_input("header: a string does not end"))?;
        self.rest = rest;
        Ok(text)
    }

    fn descr(&mut self) -> Result<(Kind, usize, bool)> {
        if self.take('[') {
            return Err(Error::invalid_input("structured types have no tensor form"));
        }
        parse_descr(self.quoted()?)
    }

    fn boolean(&mut self) -> Result<bool> {
        let rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(Error::invalid_input("header: fortran_order is neither True nor False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>> {
        let mut extents = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            extents.push(self.extent()?);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(extents)
    }

    fn extent(&mut self) -> Result<usize> {
        let rest = self.rest.trim_start();
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = rest.split_at(len);
        // Python 2 wrote long integers as `3L`.
        self.rest = rest.strip_prefix('L').unwrap_or(rest);
        digits.parse().map_err(|_| Error::invalid_input("header: an extent of the shape is not a whole number"))
    }
}
