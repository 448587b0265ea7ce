//! JSON as the protocols need it: numbers straight into packed bytes, and tensors back into text.
//!
//! `read` checks and parses what comes in, `write` appends what goes out. Both know data types,
//! neither knows a protocol.

pub mod nested;
pub mod read;
pub mod write;
