//! Forms with files (`multipart/form-data`, RFC 7578), read where they lie: parts are slices of the
//! body.
//!
//! The body is in memory and bounded before it comes here; the number of parts and the size of
//! their headers are bounded here. Linear in the body. Transfer encodings, which RFC 7578 does away
//! with, are refused.

use memchr::memmem;
use salver_core::{Error, Result};

use crate::json::read;

/// The most parts of a form.
const MOST_PARTS: usize = 4096;
/// The most bytes of the headers of one part.
const MOST_HEADER_BYTES: usize = 8 << 10;
/// The most bytes of a boundary, by RFC 2046.
const MOST_BOUNDARY_BYTES: usize = 70;

/// One field or file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'b> {
    /// The name of the field.
    pub(super) name: String,
    /// What it holds.
    pub(super) content: &'b [u8],
}

/// Returns the boundary that a `Content-Type` names.
///
/// # Errors
/// `InvalidInput` if there is none, or one of no or more than 70 characters.
pub(super) fn boundary(content_type: &str) -> Result<String> {
    let boundary = parameter(content_type, "boundary").unwrap_or_default();
    if (1..=MOST_BOUNDARY_BYTES).contains(&boundary.len()) {
        return Ok(boundary);
    }
    Err(Error::invalid_input(
        "the Content-Type multipart/form-data has no boundary of 1 to 70 characters; let your client write the header",
    ))
}

/// Returns the parts, in order.
///
/// # Errors
/// `InvalidInput` for a form that is not complete or a part without a name; `TooLarge` for too many
/// parts or headers that are too long.
pub(super) fn parts<'b>(body: &'b [u8], boundary: &str) -> Result<Vec<Part<'b>>> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(&delimiter);
    // The first delimiter may stand at the very beginning, without a line break before it.
    let mut rest = match body.strip_prefix(&delimiter.as_bytes()[2..]) {
        Some(rest) => rest,
        None => finder.find(body).map(|at| &body[at + delimiter.len()..]).ok_or_else(|| no_boundary(boundary))?,
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == MOST_PARTS {
            return Err(Error::too_large(format!("the form has more than {MOST_PARTS} parts")));
        }
        let number = parts.len();
        let begin = line_end(rest).ok_or_else(|| incomplete(number))?;
        // The line break before the headers may be the one that ends them.
        let end = finder.find(&rest[begin..]).ok_or_else(|| incomplete(number))? + begin;
        parts.push(part(&rest[begin..end], number)?);
        rest = &rest[end + delimiter.len()..];
    }
    Ok(parts)
}

/// Returns where the line break after a delimiter begins: spaces and tabs may stand before it.
fn line_end(rest: &[u8]) -> Option<usize> {
    let at = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    rest[at..].starts_with(b"\r\n").then_some(at)
}

/// Reads a part, from the line break before its headers.
fn part(bytes: &[u8], number: usize) -> Result<Part<'_>> {
    let Some(end) = memmem::find(&bytes[..bytes.len().min(MOST_HEADER_BYTES)], b"\r\n\r\n") else {
        return Err(match bytes.len() > MOST_HEADER_BYTES {
            true => Error::too_large(format!(
                "part {number} of the form has headers of more than {MOST_HEADER_BYTES} bytes"
            )),
            false => incomplete(number),
        });
    };
    let headers = String::from_utf8_lossy(&bytes[..end]);
    let value = |wanted: &str| {
        let fields = headers.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value).next()
    };
    if let Some(coding) = value("content-transfer-encoding")
        && !["binary", "8bit", "7bit"].iter().any(|plain| coding.trim().eq_ignore_ascii_case(plain))
    {
        return Err(Error::invalid_input(format!(
            "part {number} of the form is in '{}'; expected its bytes as they are",
            read::clip(coding.trim())
        )));
    }
    let name = value("content-disposition").and_then(|value| parameter(value, "name"));
    let name = name.ok_or_else(|| Error::invalid_input(format!("part {number} of the form has no field name")))?;
    Ok(Part { name, content: &bytes[end + 4..] })
}

/// Returns a parameter of a header such as `form-data; name="a"; filename="b.png"`.
pub(super) fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = parameter_value(after.trim_start());
        // A parameter without a value may stand before the name.
        let name = name.rsplit(';').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// Reads a token or a quoted string, and returns what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim().to_owned(), rest);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            '"' if !escaped => return (value, &quoted[at + 1..]),
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            other => value.push(other),
        }
        escaped = false;
    }
    (value, "")
}

fn no_boundary(boundary: &str) -> Error {
    Error::invalid_input(format!("the form does not have its boundary '{}'", read::clip(boundary)))
}

fn incomplete(number: usize) -> Error {
    Error::invalid_input(format!("the form ends within part {number}"))
}

#[cfg(test)]
mod tests;
