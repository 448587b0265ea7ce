//! Keeps paths of artifacts, and the sources of versions, inside where they belong.
//!
//! Purely textual: symbolic links are for whoever opens the file. Every form that repeated
//! percent-decoding yields must pass, so that no later decoder finds what was hidden here.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use salver_core::{Error, Result};

/// The most bytes of an artifact's path.
pub const MAX_ARTIFACT_PATH_BYTES: usize = 1_024;

/// How often a text is decoded; one that still changes then is refused rather than followed.
const MAX_DECODINGS: usize = 8;

/// Checks the path of an artifact and returns it without a slash at its end, otherwise as it was.
///
/// A path is relative to the root of its artifacts, with `/` between its parts. The root itself has
/// no path; whoever lists it does not ask here, nor does this refuse a file for a slash at its end.
///
/// # Errors
/// `InvalidInput` ("Invalid path") if it is too long or absolute, begins with a drive or a scheme, or
/// has an empty part, a part `.` or `..`, a backslash or a control character, in plain sight or
/// percent-encoded.
pub fn artifact_path(path: &str) -> Result<String> {
    if path.len() > MAX_ARTIFACT_PATH_BYTES {
        let found = path.len();
        let message = format!("Invalid path: {found} bytes are too long, expected at most {MAX_ARTIFACT_PATH_BYTES}");
        return Err(Error::invalid_input(message));
    }
    let inside = path.strip_suffix('/').unwrap_or(path);
    if every_decoding(inside.as_bytes(), is_plain_path) {
        return Ok(inside.to_owned());
    }
    let shown: String = super::cut(path, 64).chars().flat_map(char::escape_debug).collect();
    Err(Error::invalid_input(format!(
        "Invalid path '{shown}': expected parts joined by '/', none of them empty, '.' or '..', \
         without a scheme, a drive, backslashes and control characters, also when percent-decoded"
    )))
}

/// Whether a URI leads out of its place, or hides that it might: a part `..`, a backslash or a
/// control character such as NUL, in plain sight or percent-encoded.
pub fn uri_has_traversal(uri: &str) -> bool {
    !every_decoding(uri.as_bytes(), stays_inside)
}

/// Whether `passes` holds of `text` and of all that it decodes to; a text too deep to tell fails.
fn every_decoding(text: &[u8], passes: impl Fn(&[u8]) -> bool) -> bool {
    let mut text = Cow::Borrowed(text);
    for _ in 0..=MAX_DECODINGS {
        if !passes(&text) {
            return false;
        }
        let decoded: Vec<u8> = percent_decode(&text).collect();
        if decoded == *text {
            return true;
        }
        text = Cow::Owned(decoded);
    }
    false
}

fn is_plain_path(path: &[u8]) -> bool {
    let Ok(path) = std::str::from_utf8(path) else {
        return false;
    };
    let has_bad_part = path.split('/').any(|part| matches!(part, "" | "." | ".."));
    let has_bad_char = path.contains(|c: char| c.is_control() || c == '\\');
    !has_bad_part && !has_bad_char && !begins_with_scheme(path)
}

/// Whether a path begins as `C:`, `file:` or `scheme:/` do. A colon alone is no scheme: file names
/// such as `loss:train.png` are in use.
fn begins_with_scheme(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let Some((scheme, rest)) = first.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme && (scheme.len() == 1 || scheme.eq_ignore_ascii_case("file") || rest.is_empty())
}

fn stays_inside(uri: &[u8]) -> bool {
    // Some readers take a query or a matrix parameter for a path, so these end a part as well.
    let has_parent = uri.split(|byte| b"/?#&=;:".contains(byte)).any(|part| part == b"..");
    let has_bad_byte = uri.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\');
    !has_parent && !has_bad_byte
}

#[cfg(test)]
mod tests;
