//! Cuts a stream into parts of one size, so that memory has a bound whatever the pieces are.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use salver_core::{Error, ErrorKind, Result};

/// The parts of a stream.
pub(super) struct Parts<S> {
    stream: S,
    /// What is left of a piece that began in an earlier part.
    piece: Bytes,
    part_bytes: usize,
    /// What the next part makes room for: little until one was full, since most streams are short.
    room: usize,
}

/// A part that grows beyond this is likely to become full.
const SMALL: usize = 256 << 10;

impl<S> Parts<S> {
    pub(super) fn new(stream: S, part_bytes: usize) -> Self {
        Self { stream, piece: Bytes::new(), part_bytes, room: 0 }
    }
}

impl<S, E> Parts<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Returns the next part: `part_bytes` long, shorter at the end, then empty.
    pub(super) async fn next(&mut self) -> Result<Bytes> {
        let mut part = BytesMut::with_capacity(self.room);
        while part.len() < self.part_bytes {
            if self.piece.is_empty() {
                let Some(piece) = self.stream.next().await else { break };
                self.piece = piece.map_err(|error| broken(error.into()))?;
            }
            // In one step: doubling would leave a trail of buffers half as large.
            if part.len() + self.piece.len() > SMALL && part.capacity() < self.part_bytes {
                part.reserve(self.part_bytes - part.len());
                self.room = self.part_bytes;
            }
            let n_bytes = self.piece.len().min(self.part_bytes - part.len());
            part.extend_from_slice(&self.piece.split_to(n_bytes));
        }
        Ok(part.freeze())
    }
}

/// An [`Error`] is passed on as it is: a limit on a body, say.
fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::new(ErrorKind::Cancelled, "the bytes of a blob ended early")
            .with_source(std::io::Error::other(error)),
    }
}
