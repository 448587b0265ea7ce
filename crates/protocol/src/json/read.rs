//! Reads JSON from outside: depth first, then syntax, then piece by piece.
//!
//! Built on `jiter`. `NaN`, `Infinity` and `-Infinity` are read as Python's `json` writes them.
//! Nothing here recurses, and nothing is allocated for what a body merely claims. Values become
//! elements of tensors in [`super::element`].

use std::fmt::Display;

use jiter::{Jiter, JiterError, JsonObject, JsonValue, Peek};
use salver_core::{Error, Result};

/// Checks that lists and objects in `body` nest at most `limit` deep. Linear; knows strings, and
/// leaves every other syntax error to the parser.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] naming the limit and the place.
pub(crate) fn check_depth(body: &[u8], limit: usize) -> Result<()> {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return Err(too_deep(at, limit));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(body, at + 1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Returns the place of the quote that ends the string whose content begins at `at`.
fn end_of_string(body: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

pub(crate) fn too_deep(at: usize, limit: usize) -> Error {
    Error::invalid_input(format!("JSON nests deeper than {limit} levels at byte {at}"))
}

/// Parses a whole body into a tree: for documents that are small or whose form is not known ahead.
///
/// Objects keep repeated keys, in order; [`object`] refuses them. Numbers beyond the range of a
/// double come back as an infinity here, so numbers that become tensors are read by [`element`].
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for nesting beyond `depth`, bad syntax, invalid UTF-8
/// and lone surrogates.
pub(crate) fn parse(body: &[u8], depth: usize) -> Result<JsonValue<'_>> {
    check_depth(body, depth)?;
    JsonValue::parse(body, true).map_err(|error| not_json(&error.error_type, error.index))
}

/// Returns the members of an object without repeated keys; `what` names it in messages.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for anything but an object, and for repeated keys.
pub(crate) fn object<'v, 'j>(value: &'v JsonValue<'j>, what: &str) -> Result<&'v JsonObject<'j>> {
    let JsonValue::Object(members) = value else {
        return Err(Error::invalid_input(format!("{what} must be an object, got {}", kind(value))));
    };
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(members),
        Some(pair) => Err(duplicate(pair[0], what)),
    }
}

/// Returns the first member called `key`.
pub(crate) fn member<'v, 'j>(members: &'v JsonObject<'j>, key: &str) -> Option<&'v JsonValue<'j>> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// Names the type of a value for a message.
pub(crate) fn kind(value: &JsonValue<'_>) -> &'static str {
    match value {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "a boolean",
        JsonValue::Int(_) | JsonValue::BigInt(_) => "an integer",
        JsonValue::Float(_) => "a number",
        JsonValue::Str(_) => "a string",
        JsonValue::Array(_) => "a list",
        JsonValue::Object(_) => "an object",
    }
}

/// Makes the error for a key that an object has twice.
pub(crate) fn duplicate(key: &str, what: &str) -> Error {
    Error::invalid_input(format!("{what} has the key '{}' twice", clip(key)))
}

/// Turns what `jiter` says into our error.
pub(crate) trait OrNotJson<T> {
    /// Returns the value, else the error for bytes that are not JSON, or for a value of another
    /// type than expected.
    fn or_not_json(self) -> Result<T>;
}

impl<T> OrNotJson<T> for Result<T, JiterError> {
    #[inline]
    fn or_not_json(self) -> Result<T> {
        self.map_err(|error| not_json(&error.error_type, error.index))
    }
}

#[cold]
fn not_json(reason: &dyn std::fmt::Display, index: usize) -> Error {
    Error::invalid_input(format!("JSON is not as expected: {} at byte {index}", clip(&reason.to_string())))
}

/// Bounds and escapes what of a request is echoed in a message.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}

/// Starts to read a body piece by piece, with the tokens for non-finite numbers.
pub(crate) fn reader(body: &[u8]) -> Jiter<'_> {
    Jiter::new(body).with_allow_inf_nan()
}

/// Walks over the members of an object: `visit` reads the value of each key in `known` (at most 32
/// of them), the others are skipped. `what` names the object in messages.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for anything but an object, for a known key that comes
/// twice, for a skipped value that nests deeper than `depth`, and whatever `visit` says.
pub(crate) fn members<'j>(
    reader: &mut Jiter<'j>,
    what: impl Display + Copy,
    known: &'static [&'static str],
    depth: usize,
    mut visit: impl FnMut(&mut Jiter<'j>, &'static str) -> Result<()>,
) -> Result<()> {
    let context = |error: Error| error.context(what);
    let find = |key: &str| known.iter().position(|name| *name == key);
    let mut seen = 0u32;
    let mut next = reader.next_object().or_not_json().map_err(context)?.map(find);
    while let Some(place) = next {
        match place.map(|place| (known[place], 1u32 << (place & 31))) {
            None => drop(skip(reader, depth)?),
            Some((key, bit)) if seen & bit != 0 => return Err(duplicate(key, &what.to_string())),
            Some((key, bit)) => {
                seen |= bit;
                visit(reader, key)?;
            }
        }
        next = reader.next_key().or_not_json().map_err(context)?.map(find);
    }
    Ok(())
}

/// Reads a string; `what` names it in messages.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for any other value, and for bad syntax.
pub(crate) fn string<T: for<'t> From<&'t str>>(reader: &mut Jiter<'_>, what: &str) -> Result<T> {
    let text = reader.next_str().or_not_json().map_err(|error| error.context(format!("'{}'", clip(what))))?;
    Ok(T::from(text))
}

/// Skips one value, which is still checked as strictly as if it were used.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for bad syntax, invalid UTF-8 or nesting beyond `depth`.
pub(crate) fn skip<'j>(reader: &mut Jiter<'j>, depth: usize) -> Result<&'j [u8]> {
    let peek = reader.peek().or_not_json()?;
    let start = reader.current_index();
    reader.known_skip(peek).or_not_json()?;
    let skipped = reader.slice_to_current(start);
    if matches!(peek, Peek::Array | Peek::Object) {
        check_depth(skipped, depth)?;
    }
    // `jiter` does not look at the bytes of strings that it skips.
    match std::str::from_utf8(skipped) {
        Ok(_) => Ok(skipped),
        Err(error) => {
            Err(Error::invalid_input(format!("JSON is not valid UTF-8 at byte {}", start + error.valid_up_to())))
        }
    }
}

#[cfg(test)]
mod tests;
