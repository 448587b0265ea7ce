//! Statements with their values, and rows.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use salver_core::{Error, ErrorKind, Result};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, Arguments as _, Decode, Row as _, Type};

use super::Dialect;

/// A value of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, or none.
    Int(Option<i64>),
    /// A number; NaN is not kept by SQLite.
    Real(f64),
    /// A text, or none.
    Text(Option<Arc<str>>),
    /// Bytes.
    Blob(Bytes),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers, or none.
    Int,
    /// Numbers.
    Real,
    /// Texts, or none.
    Text,
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        value.as_str().into()
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(Arc::from))
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        value.as_deref().into()
    }
}

impl From<Bytes> for Value {
    fn from(value: Bytes) -> Self {
        Self::Blob(value)
    }
}

/// A statement, put together of fixed pieces; whatever comes from outside is a value.
#[derive(Debug, Clone)]
pub struct Sql {
    text: String,
    values: Vec<Value>,
    is_kept: bool,
}

/// Begins a statement; each `?` stands for a value, `{for update}` for what holds the rows that are
/// read until the transaction ends, and `{for update skip locked}` for the same without those that
/// somebody else holds.
pub fn sql(text: &'static str) -> Sql {
    Sql { text: text.to_owned(), values: Vec::new(), is_kept: true }
}

impl Sql {
    /// Gives the next `?` its value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Gives the next `?`s their values.
    #[must_use]
    pub fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// Appends a piece.
    #[must_use]
    pub fn then(mut self, text: &'static str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Appends another statement's text and values.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.is_kept &= other.is_kept;
        self.text.push_str(&other.text);
        self.values.extend(other.values);
        self
    }

    /// Appends `(?, ?, …)` with these values; nothing fits an empty list.
    #[must_use]
    pub fn list<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        let before = self.values.len();
        self.values.extend(values.into_iter().map(Into::into));
        let count = self.values.len() - before;
        // An empty list is no SQL everywhere.
        self.text.push_str(if count == 0 { "(NULL" } else { "(?" });
        (1..count).for_each(|_| self.text.push_str(", ?"));
        self.text.push(')');
        self
    }

    /// Appends `(?, …), (?, …), …`: the values of several rows.
    #[must_use]
    pub fn rows<R: IntoIterator<Item = Value>>(mut self, rows: impl IntoIterator<Item = R>) -> Self {
        for (idx, row) in rows.into_iter().enumerate() {
            self.text.push_str(if idx > 0 { ", " } else { "" });
            self = self.list(row);
        }
        self
    }

    /// Says that the text has another length each time, so that it is not worth keeping what the
    /// database makes of it.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.is_kept = false;
        self
    }

    /// Returns the text as the database takes it, the values, and whether to keep it prepared.
    pub(super) fn into_parts(self, dialect: Dialect) -> (String, AnyArguments, bool) {
        let text = match dialect {
            // SQLite takes `$1` for a name, and looks for it among all names that came before.
            Dialect::Sqlite => self.text,
            Dialect::Postgres => numbered(&self.text, self.values.len()),
        };
        let text = if text.contains('{') { dialect.fill_in(&text) } else { text };
        let mut arguments = AnyArguments::default();
        for value in self.values {
            let added = match value {
                Value::Int(value) => arguments.add(value),
                Value::Real(value) => arguments.add(value),
                Value::Text(None) => arguments.add(None::<String>),
                Value::Text(Some(text)) => arguments.add(text.to_string()),
                Value::Blob(bytes) => arguments.add(&bytes[..]),
            };
            debug_assert!(added.is_ok(), "numbers, texts and bytes can be values");
        }
        (text, arguments, self.is_kept)
    }
}

/// Writes `$1`, `$2`, … for each `?`.
fn numbered(unnumbered: &str, n_values: usize) -> String {
    let mut text = String::with_capacity(unnumbered.len() + 4 * n_values);
    let mut pieces = unnumbered.split('?');
    text.extend(pieces.next());
    let mut count = 0;
    for piece in pieces {
        count += 1;
        // Nothing can go wrong with writing to a text.
        let _ = write!(text, "${count}{piece}");
    }
    debug_assert_eq!(count, n_values, "as many values as places in: {text}");
    text
}

/// A row of an answer.
pub struct Row(AnyRow);

impl Row {
    pub(super) fn new(row: AnyRow) -> Self {
        Self(row)
    }

    fn get<'r, T: Decode<'r, Any> + Type<Any>>(&'r self, column: &str) -> Result<T> {
        self.0.try_get(column).map_err(|error| {
            Error::new(ErrorKind::Engine, format!("column '{column}' of the database is not as expected"))
                .with_source(error)
        })
    }

    /// Returns a text.
    ///
    /// # Errors
    /// `Engine` where the column is not there or something else.
    pub fn text(&self, column: &str) -> Result<String> {
        self.get(column)
    }

    /// Returns a text that may be missing.
    ///
    /// # Errors
    /// As [`Row::text`].
    pub fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        self.get(column)
    }

    /// Returns a whole number.
    ///
    /// # Errors
    /// As [`Row::text`].
    pub fn int(&self, column: &str) -> Result<i64> {
        self.get(column)
    }

    /// Returns a whole number that may be missing.
    ///
    /// # Errors
    /// As [`Row::text`].
    pub fn maybe_int(&self, column: &str) -> Result<Option<i64>> {
        self.get(column)
    }

    /// Returns bytes.
    ///
    /// # Errors
    /// As [`Row::text`].
    pub fn blob(&self, column: &str) -> Result<Bytes> {
        self.get::<Vec<u8>>(column).map(Bytes::from)
    }

    /// Returns whatever a column of this kind holds.
    ///
    /// # Errors
    /// As [`Row::text`].
    pub fn value(&self, column: &str, kind: Kind) -> Result<Value> {
        Ok(match kind {
            Kind::Int => Value::Int(self.maybe_int(column)?),
            Kind::Real => Value::Real(self.real(column)?),
            Kind::Text => Value::Text(self.maybe_text(column)?.map(Arc::from)),
        })
    }

    /// Returns a number.
    ///
    /// # Errors
    /// As [`Row::text`].
    pub fn real(&self, column: &str) -> Result<f64> {
        self.get(column)
    }
}
