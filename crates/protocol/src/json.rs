//! JSON as the protocols need it: numbers straight into packed bytes, and tensors back into text.
//!
//! `read` checks and parses what comes in, `element` and `nested` make tensors of it; `write` and
//! `styled` append what goes out. They know data types, but no protocol.

pub(crate) mod base64;
pub(crate) mod element;
pub(crate) mod nested;
pub(crate) mod packed;
pub(crate) mod read;
pub(crate) mod styled;
pub(crate) mod write;
