//! The one place that writes to standard output: lines, tables and JSON.
//!
//! A reader that went away (`salver models | head -1`) is no error: writing simply has no effect.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

/// Prints a line.
pub(crate) fn line(text: impl Display) {
    // Standard output that is closed cannot be told that it is.
    let _ = try_line(text);
}

/// Prints a line, for those who would go on for ever.
///
/// # Errors
/// Where nobody reads any more.
pub(crate) fn try_line(text: impl Display) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

/// Prints raw bytes.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Prints to standard error.
pub(crate) fn error(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether a person is watching standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints indented JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Columns of a terminal that is worth wrapping for.
const LEAST_WIDTH: u16 = 40;

/// A rule under the header and nothing else.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table for people. Headers that start with `>` mark columns of numbers.
pub(crate) struct Rows {
    table: Table,
}

impl Rows {
    /// Starts a table.
    pub(crate) fn new(headers: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(STYLE);
        // Wraps to a terminal's width; where there is no terminal (or one that does not know its
        // width and says 0), lines are as long as they need.
        if table.width().is_some_and(|width| width >= LEAST_WIDTH) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.set_header(headers.iter().map(|header| header.trim_start_matches('>')));
        for (idx, _) in headers.iter().enumerate().filter(|(_, header)| header.starts_with('>')) {
            if let Some(column) = table.column_mut(idx) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table }
    }

    /// Puts a line between rows that are several lines high.
    pub(crate) fn with_lines(mut self) -> Self {
        self.table.load_style(STYLE.row_separator(LineStyle::none().fill('╌').junction('╌')));
        self
    }

    /// Adds a row; control characters in foreign text are made visible.
    pub(crate) fn push<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.table.add_row(cells.into_iter().map(|cell| Cell::new(printable(cell.as_ref()))));
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        line(self);
    }
}

impl Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.table.trim_fmt())
    }
}

/// Makes control characters other than line breaks visible, so that foreign text cannot steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    let is_safe = |c: &char| *c == '\n' || !c.is_control();
    text.chars().map(|c| if is_safe(&c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\nc");
    }
}
