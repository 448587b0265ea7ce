//! Entry points for fuzzing: bytes as a worker could send them.

use crate::wire::FromWorker;

/// Reads a packet. Whatever the bytes are, this must return.
pub fn packet(bytes: &[u8]) {
    let _ = FromWorker::decode(bytes);
}
