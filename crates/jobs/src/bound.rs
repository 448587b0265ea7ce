//! How many jobs may wait or run in all.
//!
//! One of those who submit asks the queue now and then; the others go by what was known before, and by
//! what came in since. To count a long queue takes a while, and only a small share of the time is spent
//! on that.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::{Error, ErrorKind, Result};

/// How long a count is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// And how many times as long as it took.
const BELIEVED_TIMES: u32 = 20;

#[derive(Debug)]
pub(crate) struct Bound {
    most: u64,
    known: Mutex<Option<Known>>,
    /// Held by the one who asks the queue.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    count: u64,
    until: Instant,
}

impl Bound {
    /// At most about `most` jobs that have not ended.
    pub(crate) fn new(most: u64) -> Self {
        Self { most, known: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    /// Lets one more job in; `look` counts those in the queue.
    ///
    /// # Errors
    /// `Overloaded` where there are too many; those of `look`.
    pub(crate) async fn take(&self, look: impl Future<Output = Result<u64>>) -> Result<()> {
        let (count, most) = (self.count(look).await?, self.most);
        if count >= most {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!("{count} jobs wait or run, and {most} may; submit again once some have ended"),
            )
            .with_retry_after(BELIEVED));
        }
        if let Some(known) = &mut *self.known.lock() {
            known.count += 1;
        }
        Ok(())
    }

    async fn count(&self, look: impl Future<Output = Result<u64>>) -> Result<u64> {
        let is_believed = |known: &Known| Instant::now() < known.until;
        let before = *self.known.lock();
        if let Some(known) = before.filter(is_believed) {
            return Ok(known.count);
        }
        let _turn = match (self.looking.try_lock(), before) {
            (Ok(turn), _) => turn,
            // Nobody is refused by an old count.
            (Err(_), Some(before)) if before.count < self.most => return Ok(before.count),
            (Err(_), _) => self.looking.lock().await,
        };
        // Somebody may have looked while this one waited.
        if let Some(known) = (*self.known.lock()).filter(is_believed) {
            return Ok(known.count);
        }
        let begun = Instant::now();
        let count = look.await?;
        let now = Instant::now();
        *self.known.lock() = Some(Known { count, until: now + BELIEVED.max(BELIEVED_TIMES * (now - begun)) });
        Ok(count)
    }

    #[cfg(test)]
    fn forget_soon(&self) {
        if let Some(known) = &mut *self.known.lock() {
            known.until = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    /// A look that nobody is to take.
    async fn never() -> Result<u64> {
        unreachable!("the queue was asked")
    }

    #[tokio::test]
    async fn what_came_in_counts_until_the_queue_is_asked_again() {
        let bound = Bound::new(3);
        bound.take(async { Ok(1) }).await.unwrap();
        bound.take(never()).await.unwrap();
        let error = bound.take(never()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        bound.forget_soon();
        bound.take(async { Ok(0) }).await.unwrap();
    }

    #[tokio::test]
    async fn one_asks_while_the_others_go_by_the_last_count() {
        let bound = Bound::new(3);
        bound.take(async { Ok(0) }).await.unwrap();
        bound.forget_soon();
        let (answer, asked) = oneshot::channel();
        let mut first = Box::pin(bound.take(async { Ok(asked.await.unwrap()) }));
        assert!(first.as_mut().now_or_never().is_none());
        bound.take(never()).await.unwrap();
        bound.take(never()).await.unwrap();
        // Now the last count says that there is no room: that is looked at, and not by asking once more.
        let mut last = Box::pin(bound.take(never()));
        assert!(last.as_mut().now_or_never().is_none());
        answer.send(0).unwrap();
        first.await.unwrap();
        last.await.unwrap();
    }
}
