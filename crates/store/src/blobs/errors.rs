//! What a store's failure means for a caller.
//!
//! Messages name the place and what was being done; what the store said is kept as the cause, for
//! the log.

use std::fmt;
use std::io;

use salver_core::{Error, ErrorKind, Result};

use super::{BlobInfo, Digest};

/// Explains a store's error; a blob that is not there is the caller's own case.
pub(super) fn failed(place: &impl fmt::Display, doing: impl fmt::Display, error: object_store::Error) -> Error {
    use object_store::Error as Cause;
    let (kind, what) = match &error {
        error if is_full(error) => (ErrorKind::Full, "has no room left"),
        Cause::NotImplemented { .. } | Cause::NotSupported { .. } => (ErrorKind::Unsupported, "does not offer this"),
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => (ErrorKind::NotReady, "refuses this server"),
        _ => (ErrorKind::NotReady, "does not work"),
    };
    Error::new(kind, format!("{doing}: the blob store {place} {what}")).with_source(error)
}

/// Explains a failure with a local file outside of the store.
pub(super) fn local(doing: impl fmt::Display, error: io::Error) -> Error {
    let kind = if is_full(&error) { ErrorKind::Full } else { ErrorKind::NotReady };
    let what = if kind == ErrorKind::Full { "no room left" } else { "the file system refuses" };
    Error::new(kind, format!("{doing}: {what}")).with_source(error)
}

/// Refuses bytes that are not those of the blob.
pub(super) fn damaged(expected: BlobInfo, digest: Digest, size: u64) -> Error {
    Error::engine(format!(
        "blob {}: expected {} bytes with this digest, got {size} bytes with {digest}; the copy is damaged",
        expected.digest, expected.size
    ))
}

/// Runs `work`, which blocks, on a thread for that.
pub(super) async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::engine("work on a blob ended early").with_source(error))
}

/// A folder says so in an `io::Error` at some depth, an S3-like in the text of its reply.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| match cause.downcast_ref::<io::Error>() {
        Some(error) => matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
        None => {
            let text = cause.to_string();
            ["StorageFull", "QuotaExceeded", "507 Insufficient Storage"].iter().any(|mark| text.contains(mark))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cause: impl std::error::Error + Send + Sync + 'static, kind: ErrorKind, message: &str) {
        let error = object_store::Error::Generic { store: "fake", source: Box::new(cause) };
        let error = failed(&"s3://bucket", "write", error);
        assert_eq!((error.kind(), error.message()), (kind, message));
    }

    #[test]
    fn a_full_store_is_told_from_a_broken_one() {
        let full = Box::new(io::Error::from(io::ErrorKind::StorageFull));
        let nested = object_store::Error::Generic { store: "inner", source: full };
        check(nested, ErrorKind::Full, "write: the blob store s3://bucket has no room left");
        let quota = io::Error::from(io::ErrorKind::QuotaExceeded);
        check(quota, ErrorKind::Full, "write: the blob store s3://bucket has no room left");
        let reply = object_store::Error::Generic { store: "S3", source: "<Code>XMinioStorageFull</Code>".into() };
        check(reply, ErrorKind::Full, "write: the blob store s3://bucket has no room left");
        let broken = io::Error::from(io::ErrorKind::ConnectionRefused);
        check(broken, ErrorKind::NotReady, "write: the blob store s3://bucket does not work");
        let full = local("write f", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((full.kind(), full.message()), (ErrorKind::Full, "write f: no room left"));
    }
}
