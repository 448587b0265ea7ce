//! How many jobs of one caller may wait or run.
//!
//! A count is believed for a while and grows with each job that is let in; nobody is refused by an old
//! one. So a caller that is far from its bound costs the queue a look now and then, and one that sends
//! many at once gets no more in than it may. Several servers count apart between their looks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::{Error, ErrorKind, Result};

use crate::queue::Queue;

/// With more callers than these, the counts that are not believed any more are forgotten.
const MOST_KNOWN: usize = 4096;
/// When a caller that has too many may ask again: jobs take their time.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Quota {
    most: u64,
    believed: Duration,
    counts: Mutex<HashMap<String, Count>>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    jobs: u64,
    /// When the queue was asked.
    read: Instant,
    /// When it last grew.
    grew: Instant,
}

impl Quota {
    pub(crate) fn new(most: u64, believed: Duration) -> Self {
        Self { most, believed, counts: Mutex::default() }
    }

    /// Lets one more job of a caller in.
    ///
    /// # Errors
    /// `Overloaded` where it has as many as it may; those of the queue.
    pub(crate) async fn take(&self, queue: &dyn Queue, caller: &str) -> Result<()> {
        if self.is_far(caller, Instant::now()) {
            return Ok(());
        }
        let begun = Instant::now();
        let jobs = queue.unfinished(caller, self.most).await?;
        if self.read(caller, jobs, begun, Instant::now()) {
            return Ok(());
        }
        let text = format!(
            "{} jobs of this caller wait or run, as many as one may have; submit again once some have ended",
            self.most
        );
        Err(Error::new(ErrorKind::Overloaded, text).with_retry_after(RETRY_AFTER))
    }

    /// Lets one in by what is known.
    fn is_far(&self, caller: &str, now: Instant) -> bool {
        let mut counts = self.counts.lock();
        let is_new = |count: &&mut Count| now.saturating_duration_since(count.read) < self.believed;
        let Some(count) = counts.get_mut(caller).filter(is_new) else { return false };
        let is_far = count.jobs < self.most;
        if is_far {
            (count.jobs, count.grew) = (count.jobs + 1, now);
        }
        is_far
    }

    /// Lets one in by what the queue said to a question that was asked at `begun`. Those that were let
    /// in since then need not be in its answer.
    fn read(&self, caller: &str, jobs: u64, begun: Instant, now: Instant) -> bool {
        let mut counts = self.counts.lock();
        let later = counts.get(caller).filter(|count| count.grew >= begun).map_or(0, |count| count.jobs);
        let jobs = jobs.max(later);
        if jobs >= self.most {
            return false;
        }
        if counts.len() >= MOST_KNOWN {
            counts.retain(|_, count| now.saturating_duration_since(count.read) < self.believed);
        }
        // Who is not remembered costs a question more.
        if counts.len() < MOST_KNOWN || counts.contains_key(caller) {
            counts.insert(caller.to_owned(), Count { jobs: jobs + 1, read: begun, grew: now });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BELIEVED: Duration = Duration::from_secs(1);

    fn quota(most: u64) -> (Quota, Instant) {
        (Quota::new(most, BELIEVED), Instant::now())
    }

    #[test]
    fn many_at_once_get_no_more_than_they_may() {
        let (quota, start) = quota(3);
        assert!(!quota.is_far("ann", start));
        // All ask before any of their jobs stands in the queue.
        let let_in = (0..10).filter(|_| quota.read("ann", 0, start, start)).count();
        assert_eq!(let_in, 3);
        assert!(!quota.is_far("ann", start) && quota.read("bob", 2, start, start) && !quota.is_far("bob", start));
    }

    #[test]
    fn nobody_is_refused_by_an_old_count() {
        let (quota, start) = quota(3);
        assert!(quota.read("ann", 2, start, start));
        let later = start + BELIEVED / 2;
        assert!(!quota.is_far("ann", later), "it is full as far as is known");
        assert!(quota.read("ann", 1, later, later), "two have ended");
        assert!(quota.is_far("ann", later) && !quota.is_far("ann", later));
    }

    #[test]
    fn a_count_is_asked_for_again_after_a_while() {
        let (quota, start) = quota(100);
        assert!(quota.read("ann", 0, start, start));
        assert!(quota.is_far("ann", start + BELIEVED / 2));
        assert!(!quota.is_far("ann", start + BELIEVED), "also where it grew meanwhile");
    }

    #[test]
    fn not_more_callers_are_known_than_there_is_room_for() {
        let (quota, start) = quota(1);
        for caller in 0..MOST_KNOWN + 10 {
            assert!(quota.read(&caller.to_string(), 0, start, start));
        }
        assert_eq!(quota.counts.lock().len(), MOST_KNOWN);
        assert!(quota.read("late", 0, start + BELIEVED, start + BELIEVED));
        assert_eq!(quota.counts.lock().len(), 1);
    }
}
