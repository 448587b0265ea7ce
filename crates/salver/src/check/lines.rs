//! Which line of a `model.toml` a message about a task is about.
//!
//! The reader of `model.toml` names lines itself. What only the graph tells (a width, a number of
//! labels) is found out where there are no lines any more: they are looked up again by the names that
//! the message has.

use salver_core::TaskSpec;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Returns the line, counted from 1, of the key that `message` is about; none: the file has no such
/// key.
pub(super) fn locate(text: &str, task: &TaskSpec, message: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let document = document.get_ref();
    let at = match task {
        TaskSpec::Tensor | TaskSpec::Rows => None,
        TaskSpec::Tabular(_) => column(document, message),
        TaskSpec::Text(_) => key_of(document, "text", message),
        TaskSpec::Image(_) => key_of(document, "image", message),
    };
    let labels = || if message.contains("label") { key(document, "labels") } else { None };
    let position = at.or_else(labels).or_else(|| key(document, "task"))?;
    Some(text.get(..position)?.matches('\n').count() + 1)
}

/// The column that is named first, else the first one.
fn column(document: &DeTable<'_>, message: &str) -> Option<usize> {
    let DeValue::Array(columns) = document.get("column")?.get_ref() else {
        return None;
    };
    let named = |column: &Spanned<DeValue<'_>>| {
        let name = table(column)?.get("name")?;
        let quoted = format!("column '{}'", name.get_ref().as_str()?);
        Some((message.find(&quoted)?, name.span().start))
    };
    let first = || table(columns.iter().next()?)?.get("name").map(|name| name.span().start);
    columns.iter().filter_map(named).min().map(|(_, position)| position).or_else(first)
}

/// The key of the task's own table that the message names first.
fn key_of(document: &DeTable<'_>, name: &str, message: &str) -> Option<usize> {
    let keys = table(document.get(name)?)?.iter();
    let named = keys.filter_map(|(key, _)| Some((message.find(key.get_ref().as_ref())?, key.span().start)));
    named.min().map(|(_, position)| position)
}

fn key(document: &DeTable<'_>, name: &str) -> Option<usize> {
    document.iter().find(|(key, _)| key.get_ref().as_ref() == name).map(|(key, _)| key.span().start)
}

fn table<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Option<&'a DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use salver_core::TabularSpec;

    use super::*;

    const TABLE: &str = "task = 'tabular'\nlabels = ['a', 'b']\n\n[[column]]\nname = 'age'\ntype = 'int'\n\n\
        [[column]]\ntype = 'int'\nname = 'size'\n";

    #[track_caller]
    fn check(text: &str, task: &TaskSpec, message: &str, expected: Option<usize>) {
        assert_eq!(locate(text, task, message), expected, "{message}");
    }

    #[test]
    fn the_column_that_a_message_names_is_found() {
        let table = TaskSpec::Tabular(TabularSpec::default());
        check(TABLE, &table, "task 'tabular': column 'size': a column of type int does not fit", Some(10));
        check(TABLE, &table, "column 'age': names", Some(5));
        check(TABLE, &table, "the columns of 'X' make 3 values: 'age', 'size'", Some(5));
        check("task = 'tabular'", &table, "there are no columns", Some(1));
        check("", &table, "there are no columns", None);
        check("task = ", &table, "half written", None);
    }
}
