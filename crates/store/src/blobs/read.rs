//! Streams of a blob's bytes, checked or not.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::{GetResult, GetResultPayload};
use salver_core::Result;

use super::BlobInfo;
use super::backend::Backend;
use super::digest::{Digest, Hasher};
use super::errors::{damaged, elsewhere, local};

/// What is read from a file at once.
const READ_BYTES: u64 = 256 << 10;

/// Returns the bytes that were found, as they come.
pub(super) fn bytes(backend: Arc<Backend>, digest: Digest, found: GetResult) -> BoxStream<'static, Result<Bytes>> {
    match found.payload {
        // The store's own stream reads 8 KiB per change of threads.
        GetResultPayload::File(file, _) => file_bytes(file, digest, found.range),
        GetResultPayload::Stream(bytes) => {
            let explain = move |error| backend.failed(format_args!("read blob {digest}"), error);
            bytes.map(move |piece| piece.map_err(&explain)).boxed()
        }
    }
}

fn file_bytes(file: File, digest: Digest, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((file, range), move |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let (file, piece) = elsewhere(move || {
            let piece = read_at(&file, range.clone());
            (file, piece.map(|piece| (range.start + piece.len() as u64..range.end, piece)))
        })
        .await?;
        let (rest, piece) = piece.map_err(|error| local(format_args!("read blob {digest}"), error))?;
        Ok(Some((piece, (file, rest))))
    })
    .boxed()
}

fn read_at(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut piece = vec![0; READ_BYTES.min(range.end - range.start) as usize];
    file.read_exact_at(&mut piece, range.start)?;
    Ok(piece.into())
}

/// Ends with an error where the bytes were not those expected.
pub(super) fn checked(
    bytes: BoxStream<'static, Result<Bytes>>,
    expected: BlobInfo,
) -> BoxStream<'static, Result<Bytes>> {
    let state = (bytes, Hasher::default(), 0);
    stream::try_unfold(state, move |(mut bytes, mut hasher, size)| async move {
        let Some(piece) = bytes.next().await.transpose()? else {
            let digest = hasher.finish();
            let fits = BlobInfo { digest, size } == expected;
            return if fits { Ok(None) } else { Err(damaged(expected, digest, size)) };
        };
        // Pieces are small, so this may happen here.
        hasher.update_here(&piece);
        let size = size + piece.len() as u64;
        Ok(Some((piece, (bytes, hasher, size))))
    })
    .boxed()
}
