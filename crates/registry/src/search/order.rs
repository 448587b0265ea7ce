//! Reads what a search is sorted by: `key [ASC|DESC]`, or the bare name of a field.
//!
//! Defaults and ties are for the store: they differ by subject and need its columns.

use salver_core::{Error, Result};

use super::lexer::excerpt;
use super::path::{Cursor, Path};
use super::{Field, MAX_TEXT_BYTES, Order, Subject, field};

/// Reads one item of `order_by`; without ASC or DESC it is ascending.
///
/// # Errors
/// `InvalidInput` that names the item, what was found and what was expected.
pub fn parse_order(subject: Subject, item: &str) -> Result<Order> {
    let mut cursor = Cursor::new("order_by", item)?;
    order(subject, &mut cursor).map_err(|error| error.context(format!("order_by `{}`", excerpt(item))))
}

fn order(subject: Subject, cursor: &mut Cursor<'_>) -> Result<Order> {
    let path = cursor.path()?;
    let field = field::to_order(subject, path)?;
    let descends = cursor.take_keyword("DESC");
    if !descends {
        cursor.take_keyword("ASC");
    }
    if !cursor.is_at_end() {
        let found = cursor.next();
        return Err(cursor.unexpected(found, "ASC, DESC or the end; each further key is an item of its own"));
    }
    Ok(Order { field, ascending: !descends })
}

/// Reads the name of a field that stands alone, as searches of logged models send it: all that
/// follows the first dot is the key, whether quoted or not.
///
/// # Errors
/// `InvalidInput` that names the field and what was expected.
pub fn order_field(subject: Subject, name: &str) -> Result<Field> {
    if name.len() > MAX_TEXT_BYTES || name.contains('\0') {
        let message = format!("order_by: a field's name is at most {MAX_TEXT_BYTES} bytes long and has no NUL");
        return Err(Error::invalid_input(message));
    }
    let path = match name.split_once('.') {
        Some((prefix, key)) => Path { prefix: Some(prefix), key: unquoted(key) },
        None => Path { prefix: None, key: unquoted(name) },
    };
    field::to_order(subject, path).map_err(|error| error.context(format!("order_by field `{}`", excerpt(name))))
}

/// No key holds a quote, so those around it can only be quotes.
fn unquoted(key: &str) -> &str {
    let inside = |mark| key.strip_prefix(mark).and_then(|rest: &str| rest.strip_suffix(mark));
    inside('`').or_else(|| inside('"')).unwrap_or(key)
}

#[cfg(test)]
mod tests;
