//! Where a page of jobs begins: behind the number of the last job of the page before.

use salver_core::{Error, Result};

/// The longest page.
pub(crate) const LONGEST_PAGE: usize = 1000;

/// Reads where a page ended.
pub(crate) fn place(after: &str) -> Result<i64> {
    let place = i64::from_str_radix(after, 16).ok().filter(|place| format!("{place:x}") == after && *place > 0);
    place.ok_or_else(|| {
        Error::invalid_input("this page does not exist: take `next_page_token` of the page before as it is")
    })
}
