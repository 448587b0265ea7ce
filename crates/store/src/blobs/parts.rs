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
}

impl<S> Parts<S> {
    pub(super) fn new(stream: S, part_bytes: usize) -> Self {
        Self { stream, piece: Bytes::new(), part_bytes }
    }
}

impl<S, E> Parts<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Returns the next part: `part_bytes` long, shorter at the end, then empty.
    pub(super) async fn next(&mut self) -> Result<Bytes> {
        let mut part = BytesMut::new();
        while part.len() < self.part_bytes {
            if self.piece.is_empty() {
                let Some(piece) = self.stream.next().await else { break };
                self.piece = piece.map_err(|error| broken(error.into()))?;
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
