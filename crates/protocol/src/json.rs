//! JSON as the protocols need it: numbers straight into packed bytes, and tensors back into text.
//!
//! `read` checks and parses what comes in, `write` appends what goes out. Both know data types,
//! neither knows a protocol.

pub(crate) mod nested;
pub(crate) mod read;
pub(crate) mod write;
