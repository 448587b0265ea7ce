//! Tensors as JSON in the style of a protocol: whole, row by row, or element by element.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use salver_core::{Result, Tensor};

use super::write;

/// How a tensor becomes JSON beside the plain form of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `NaN` and `Infinity` as bare tokens; BYTES as text, or as `{"b64": "…"}` where they are no text.
    Tokens,
    /// As `Tokens`, and all BYTES as `{"b64": "…"}`.
    Base64,
    /// Strict JSON: `null` for what is not finite.
    Nulls,
}

/// Appends a whole tensor, nested by its shape.
///
/// # Errors
/// None that the data can cause; the result is that of the writer beneath.
pub(crate) fn whole(out: &mut Vec<u8>, tensor: &Tensor, style: Style) -> Result<()> {
    out.reserve(tensor.payload_len().saturating_mul(2));
    part(out, tensor, tensor.shape(), 0..tensor.element_count(), style)
}

/// Appends row `row` of the first dimension, nested by the shape of the others.
///
/// # Errors
/// As [`whole`].
pub(crate) fn row(out: &mut Vec<u8>, tensor: &Tensor, row: usize, style: Style) -> Result<()> {
    let Some((&rows, inner)) = tensor.shape().split_first() else {
        return whole(out, tensor, style);
    };
    let len = tensor.element_count().checked_div(rows).unwrap_or(0);
    part(out, tensor, inner, row * len..(row + 1) * len, style)
}

/// As [`row`], but bare where the row is one value (`[rows]` or `[rows, 1]`).
///
/// # Errors
/// As [`whole`].
pub(crate) fn cell(out: &mut Vec<u8>, tensor: &Tensor, row: usize, style: Style) -> Result<()> {
    if **tensor.shape() == [tensor.rows(), 1] {
        return element(out, tensor, row, style);
    }
    self::row(out, tensor, row, style)
}

/// Appends an object with one key per tensor, its value by `write`.
///
/// # Errors
/// Those of `write`.
pub(crate) fn object(
    out: &mut Vec<u8>,
    tensors: &[Tensor],
    mut write: impl FnMut(&mut Vec<u8>, &Tensor) -> Result<()>,
) -> Result<()> {
    out.push(b'{');
    for (idx, tensor) in tensors.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write::key(out, tensor.name());
        write(out, tensor)?;
    }
    out.push(b'}');
    Ok(())
}

/// Appends element `idx`, bare.
///
/// # Errors
/// As [`whole`].
pub(crate) fn element(out: &mut Vec<u8>, tensor: &Tensor, idx: usize, style: Style) -> Result<()> {
    elements(out, tensor, idx..idx + 1, style)
}

/// The most empty lists that one level of an empty tensor prints.
const MAX_EMPTY_ROWS: usize = 1024;

fn part(out: &mut Vec<u8>, tensor: &Tensor, shape: &[usize], range: Range<usize>, style: Style) -> Result<()> {
    let Some((&extent, inner)) = shape.split_first() else {
        return elements(out, tensor, range, style);
    };
    if inner.is_empty() {
        out.push(b'[');
        elements(out, tensor, range, style)?;
        out.push(b']');
        return Ok(());
    }
    // `[10^12, 0]` takes no memory as a tensor and must not as text either.
    let printed = if range.is_empty() { extent.min(MAX_EMPTY_ROWS) } else { extent };
    let step = range.len().checked_div(extent).unwrap_or(0);
    write::try_list(out, 0..printed, |out, idx| {
        let start = range.start + idx * step;
        part(out, tensor, inner, start..start + step, style)
    })
}

fn elements(out: &mut Vec<u8>, tensor: &Tensor, range: Range<usize>, style: Style) -> Result<()> {
    let texts = tensor.elements();
    if texts.is_none() && !(style == Style::Nulls && tensor.dtype().is_float()) {
        return write::elements(out, tensor, range.start, range.len());
    }
    let first = range.start;
    for idx in range {
        if idx > first {
            out.push(b',');
        }
        match texts {
            Some(elements) => text(out, elements.get(idx).unwrap_or_default(), style),
            None => finite(out, tensor, idx)?,
        }
    }
    Ok(())
}

/// Appends one float, or `null` where it is not finite.
fn finite(out: &mut Vec<u8>, tensor: &Tensor, idx: usize) -> Result<()> {
    let start = out.len();
    write::elements(out, tensor, idx, 1)?;
    if matches!(out.get(start..), Some(b"NaN" | b"Infinity" | b"-Infinity")) {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
    Ok(())
}

/// Appends BYTES as text, or as base64 where they are none or `style` asks for it.
fn text(out: &mut Vec<u8>, element: &[u8], style: Style) {
    match std::str::from_utf8(element) {
        Ok(text) if style != Style::Base64 => write::string(out, text),
        _ => {
            out.extend_from_slice(b"{\"b64\":\"");
            out.extend_from_slice(STANDARD.encode(element).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

#[cfg(test)]
mod tests;
