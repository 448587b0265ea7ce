//! The time that a caller leaves for an answer.

use std::time::Instant;

use salver_core::{Error, ErrorKind, Result};

/// Waits for `work`, at most until `deadline`.
pub(crate) async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(deadline) = deadline else {
        return work.await;
    };
    let late = || Error::new(ErrorKind::Deadline, "no answer from the server before the deadline");
    // Timers round up to a millisecond, in which a server may well answer.
    if deadline <= Instant::now() {
        return Err(late());
    }
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(late()))
}

/// Returns the time left until `deadline`, in whole milliseconds, at least one.
pub(crate) fn millis_left(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    u64::try_from(left).unwrap_or(u64::MAX).max(1)
}
