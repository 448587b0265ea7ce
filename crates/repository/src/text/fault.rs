//! Something wrong with a field, found after the text was read.
//!
//! The field is named by its path, from which [`Lines`] knows the line; the message is for people
//! and names the field in their words.

use salver_core::Error;

use super::Lines;

/// What is wrong, and with which field.
#[derive(Debug)]
pub(crate) struct Fault {
    path: String,
    error: Error,
}

/// The result of checking a field.
pub(crate) type Checked<T> = Result<T, Fault>;

impl Fault {
    /// Blames the field at `path` for a value that cannot be.
    pub(crate) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(path, Error::invalid_input(message.into()))
    }

    /// Blames the field at `path` for asking for what is not offered.
    pub(crate) fn unsupported(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(path, Error::unsupported(message.into()))
    }

    /// Blames the field at `path` for `error`.
    pub(crate) fn new(path: impl Into<String>, error: Error) -> Self {
        Self { path: path.into(), error }
    }

    /// Says that the path begins at the field `outer`, which people know as `shown`.
    pub(crate) fn within(self, outer: &str, shown: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{outer}{dot}{}", self.path), error: self.error.context(shown) }
    }

    /// Returns the path of the field.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns what is wrong, without a line.
    pub(crate) fn into_error(self) -> Error {
        self.error
    }

    /// Names the line.
    pub(crate) fn locate(self, lines: &Lines) -> Error {
        let line = lines.of(&self.path);
        Error::new(self.error.kind(), format!("line {line}: {}", self.error))
    }
}
