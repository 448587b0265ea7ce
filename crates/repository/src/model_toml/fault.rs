//! Something wrong in a `model.toml`, with the place in the text that is to blame.
//!
//! A place becomes a line and a key only when there is something to report, so that reading a good
//! file costs nothing.

use std::fmt;
use std::ops::Range;

use salver_core::{Error, ErrorKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong, and where. The message goes on after the key: `must be …`, or after a colon.
#[derive(Debug)]
pub(super) struct Fault {
    span: Range<usize>,
    kind: ErrorKind,
    message: String,
}

impl Fault {
    /// Blames `place` for a value that cannot be.
    pub(super) fn invalid<T>(place: &Spanned<T>, message: impl fmt::Display) -> Self {
        Self { span: place.span(), kind: ErrorKind::InvalidInput, message: message.to_string() }
    }

    /// Blames `place` for `error`.
    pub(super) fn new<T>(place: &Spanned<T>, error: &Error) -> Self {
        Self { span: place.span(), kind: error.kind(), message: error.to_string() }
    }

    /// Names the line and the key in `text`.
    pub(super) fn locate(self, text: &str) -> Error {
        let Self { span, kind, message } = self;
        let line = text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1);
        let key = key_at(text, span.start);
        let separator = match key.as_str() {
            "" => "",
            _ if message.starts_with("must ") => " ",
            _ => ": ",
        };
        Error::new(kind, format!("line {line}: {key}{separator}{message}"))
    }
}

impl From<toml::de::Error> for Fault {
    fn from(error: toml::de::Error) -> Self {
        Self {
            span: error.span().unwrap_or_default(),
            kind: ErrorKind::InvalidInput,
            message: error.message().replace('\n', "; "),
        }
    }
}

/// Returns the dotted key of the value at a position; for a key itself, that of its table.
fn key_at(text: &str, position: usize) -> String {
    let mut path = Vec::new();
    // A text that is not TOML at all has no keys.
    if let Ok(document) = DeTable::parse(text)
        && find_in_table(document.get_ref(), position, &mut path)
    {
        return path.join(".");
    }
    String::new()
}

fn find_in_table(table: &DeTable<'_>, position: usize, path: &mut Vec<String>) -> bool {
    for (key, value) in table {
        if key.span().contains(&position) {
            return true;
        }
        path.push(key.get_ref().to_string());
        if find_in_value(value, position, path) {
            return true;
        }
        path.pop();
    }
    false
}

fn find_in_value(value: &Spanned<DeValue<'_>>, position: usize, path: &mut Vec<String>) -> bool {
    let is_inside = match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, position, path),
        DeValue::Array(items) => items.iter().any(|item| find_in_value(item, position, path)),
        _ => false,
    };
    is_inside || value.span().contains(&position)
}
