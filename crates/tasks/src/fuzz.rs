//! Entry points for fuzzing: one for each reader of outside bytes, each total and without a panic.
//!
//! `fuzz/` at the root of the repository wraps them for `cargo fuzz`; the tests here run them over
//! `corpus/` and over changed copies of it.

/// Decodes a picture, as colours and as brightness.
///
/// # Panics
/// If a decoder panics, or a picture is not of the size that it says.
pub fn picture(data: &[u8]) {
    crate::image::fuzz(data);
}

#[cfg(test)]
mod tests;
