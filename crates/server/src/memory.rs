//! The bound on what all requests together may keep in memory.
//!
//! Each body is bounded by itself, but a thousand connections could each send one. Bytes are
//! counted as they arrive and given back when their request is answered or dropped; a request for
//! which there is no room is told to come back later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for request bodies, shared by the whole server.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    used: AtomicUsize,
}

impl Memory {
    /// Makes room for `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    fn take(&self, bytes: usize) -> bool {
        let grown = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }
}

/// What one request keeps.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Arc<Memory>,
    bytes: AtomicUsize,
}

impl Held {
    /// Starts with nothing.
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self { memory, bytes: AtomicUsize::new(0) }
    }

    /// Takes room for `bytes` more; false if there is none.
    #[must_use]
    pub(crate) fn add(&self, bytes: usize) -> bool {
        let taken = self.memory.take(bytes);
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_up_to_the_limit_and_given_back() {
        let memory = Memory::new(10);
        let (first, second) = (Held::new(memory.clone()), Held::new(memory.clone()));
        assert!(first.add(4) && second.add(6));
        assert!(!first.add(1) && !second.add(usize::MAX));
        drop(first);
        assert!(second.add(4));
        assert!(!second.add(1));
        drop(second);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }
}
