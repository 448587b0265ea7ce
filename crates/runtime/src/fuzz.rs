//! Entry points for fuzzing: one per decoder of outside bytes, each total and without a panic.
//!
//! `fuzz/` at the root of the repository wraps them for `cargo fuzz`; the tests of each decoder
//! run them over random bytes.

use bytes::Bytes;

use crate::cache::codec;

/// Feeds `data` to the decoder of shared answers: as it is, and as the body of a value whose
/// checksum is right. What it accepts is encoded to the same bytes again.
///
/// # Panics
/// If what was accepted is not encoded to the same bytes.
pub fn cached_value(data: &[u8]) {
    let _ = codec::decode(&Bytes::copy_from_slice(data));
    let sealed = codec::seal(data.to_vec());
    if let Ok(outputs) = codec::decode(&sealed) {
        assert!(codec::encode(&outputs).is_none_or(|again| again == sealed), "another encoding");
    }
}
