//! Statements with their values, and rows.

use std::sync::Arc;

use salver_core::{Error, ErrorKind, Result};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, Arguments as _, Decode, Row as _, Type};

/// A value of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, or none.
    Int(Option<i64>),
    /// A number; NaN is not kept by SQLite.
    Real(f64),
    /// A text, or none.
    Text(Option<Arc<str>>),
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

/// A statement, put together of fixed pieces; whatever comes from outside is a value.
#[derive(Debug, Clone)]
pub struct Sql {
    text: String,
    values: Vec<Value>,
}

/// Begins a statement; each `?` stands for a value.
pub fn sql(text: &'static str) -> Sql {
    Sql { text: text.to_owned(), values: Vec::new() }
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
        let marks = if count == 0 { "NULL".to_owned() } else { vec!["?"; count].join(", ") };
        self.text.push('(');
        self.text.push_str(&marks);
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

    /// Returns the text with numbered places, as both databases take them, and the values.
    pub(super) fn into_parts(self) -> (String, AnyArguments) {
        let mut text = String::with_capacity(self.text.len() + 2 * self.values.len());
        let mut pieces = self.text.split('?');
        text.extend(pieces.next());
        let mut count = 0;
        for piece in pieces {
            count += 1;
            text.push_str(&format!("${count}{piece}"));
        }
        debug_assert_eq!(count, self.values.len(), "as many values as places in: {text}");
        let mut arguments = AnyArguments::default();
        for value in self.values {
            let added = match value {
                Value::Int(value) => arguments.add(value),
                Value::Real(value) => arguments.add(value),
                Value::Text(None) => arguments.add(None::<String>),
                Value::Text(Some(text)) => arguments.add(text.to_string()),
            };
            debug_assert!(added.is_ok(), "numbers and texts can be values");
        }
        (text, arguments)
    }
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
