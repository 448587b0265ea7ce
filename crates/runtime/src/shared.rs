//! What all served versions share: the memory of waiting requests, the cores, the watch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::slot::Slot;

/// One per runtime.
#[derive(Debug)]
pub(crate) struct Shared {
    waiting_limit: usize,
    waiting_bytes: AtomicUsize,
    cores: usize,
    /// Batches that run now and that somebody waits for.
    online: AtomicUsize,
    watched: Mutex<Vec<Weak<Slot>>>,
}

impl Shared {
    /// Makes room for `waiting_limit` bytes of inputs.
    pub(crate) fn new(waiting_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting_limit,
            waiting_bytes: AtomicUsize::new(0),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            online: AtomicUsize::new(0),
            watched: Mutex::default(),
        })
    }

    /// Takes room for the inputs of a request that is about to wait; none: there is no room.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let grown = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.waiting_limit);
        self.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).ok()?;
        Some(Held { shared: self.clone(), bytes })
    }

    /// Returns the bytes of all requests that wait or run.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
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
            waiting_limit: usize::MAX,
            waiting_bytes: AtomicUsize::new(0),
            cores: 1,
            online: AtomicUsize::new(0),
            watched: Mutex::default(),
        }
    }
}

/// Room for one request's inputs, given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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
    fn room_is_taken_up_to_the_limit_and_given_back() {
        let shared = Shared::new(10);
        let first = shared.hold(4).unwrap();
        let second = shared.hold(6).unwrap();
        assert!(shared.hold(1).is_none() && shared.hold(usize::MAX).is_none());
        drop(first);
        assert_eq!(shared.waiting_bytes(), 6);
        drop((second, shared.hold(4).unwrap()));
        assert_eq!(shared.waiting_bytes(), 0);
    }

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
