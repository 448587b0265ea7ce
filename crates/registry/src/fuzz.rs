//! Entry points for fuzzing: one per parser of outside bytes, each total and without a panic.
//!
//! `fuzz/` at the root of the repository wraps them for `cargo fuzz`; the tests here run them over
//! the committed corpus and changed copies of it. Seeds: `corpus/TARGET/`.

use crate::search::{Page, PageLimits, Subject, order_field, parse_filter, parse_order};

/// Reads a filter, an order, the field of an order and a page token, of every search.
pub fn mlflow_filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for subject in Subject::ALL {
        let _ = parse_filter(subject, text);
        let _ = parse_order(subject, text);
        let _ = order_field(subject, text);
        let _ = Page::new(PageLimits::of(subject), Some(1), Some(text));
    }
}

#[cfg(test)]
mod tests;
