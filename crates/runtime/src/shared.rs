//! What all served versions share: the memory of waiting requests, the cores, the watch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::budget::Budget;
use crate::slot::Slot;

/// One per runtime.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Bytes of inputs that wait or run.
    pub(crate) waiting: Budget,
    /// Who may prepare requests: as many at a time as there are cores.
    pub(crate) compute: Arc<Semaphore>,
    cores: usize,
    /// Batches that run now and that somebody waits for.
    online: AtomicUsize,
    watched: Mutex<Vec<Weak<Slot>>>,
}

impl Shared {
    /// Makes room for `waiting_limit` bytes of inputs.
    pub(crate) fn new(waiting_limit: usize) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            waiting: Budget::new(waiting_limit),
            compute: Arc::new(Semaphore::new(cores)),
            cores,
            online: AtomicUsize::new(0),
            watched: Mutex::default(),
        })
    }

    /// Notes a batch that somebody waits for, while it runs.
    pub(crate) fn online(&self) -> Online<'_> {
        self.online.fetch_add(1, Ordering::Relaxed);
        Online(self)
    }

    /// Whether online batches leave a core free for background ones.
    pub(crate) fn has_free_core(&self) -> bool {
        self.online.load(Ordering::Relaxed) < self.cores
    }

    /// Puts a slot under watch for as long as it lives.
    pub(crate) fn watch(&self, slot: &Arc<Slot>) {
        self.watched.lock().push(Arc::downgrade(slot));
    }

    /// Answers what has no time left at `now`, and fails what has run for too long. Returns the
    /// next deadline.
    pub(crate) fn check(&self, now: Instant) -> Option<Instant> {
        let slots: Vec<Arc<Slot>> = {
            let mut watched = self.watched.lock();
            watched.retain(|slot| slot.strong_count() > 0);
            watched.iter().filter_map(Weak::upgrade).collect()
        };
        slots.iter().filter_map(|slot| slot.check(now)).min()
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            waiting: Budget::new(usize::MAX),
            compute: Arc::new(Semaphore::new(1)),
            cores: 1,
            online: AtomicUsize::new(0),
            watched: Mutex::default(),
        }
    }
}

/// A running batch that somebody waits for.
#[derive(Debug)]
pub(crate) struct Online<'a>(&'a Shared);

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.0.online.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_free_until_online_batches_run_on_all() {
        let shared = Shared { cores: 2, ..Shared::default() };
        let first = shared.online();
        assert!(shared.has_free_core());
        let _second = shared.online();
        assert!(!shared.has_free_core());
        drop(first);
        assert!(shared.has_free_core());
    }
}
