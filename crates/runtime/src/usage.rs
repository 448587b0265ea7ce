//! How a slot is used: when last, and by how many who had to wait for it to be loaded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How exactly the last use is known, in nanoseconds.
const MOMENT: u64 = 20_000;

/// When a slot was last used, and the way in for those who waited for it to be loaded.
#[derive(Debug)]
pub(crate) struct Usage {
    last: AtomicU64,
    /// Half of the slot's places: a crowd that waited for the load comes in bit by bit, instead of
    /// being refused because the queue is full, and leaves room for those who come later.
    pub(crate) entrance: Arc<Semaphore>,
}

impl Usage {
    /// Counts as used now.
    pub(crate) fn new(places: usize) -> Self {
        let entrance = Arc::new(Semaphore::new(places.div_ceil(2)));
        Self { last: AtomicU64::new(nanos()), entrance }
    }

    /// Notes a use. Within a moment of the last one nothing is written, so that cores which use the
    /// same slot do not fight over the note.
    pub(crate) fn touch(&self, now: Instant) {
        let now = nanos_at(now);
        if now > self.last.load(Ordering::Relaxed).saturating_add(MOMENT) {
            self.last.store(now, Ordering::Relaxed);
        }
    }

    /// Returns when it was last used; later is larger.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    pub(crate) fn idle_for(&self) -> Duration {
        Duration::from_nanos(nanos().saturating_sub(self.last()))
    }
}

fn nanos() -> u64 {
    nanos_at(Instant::now())
}

/// Nanoseconds since the first call.
fn nanos_at(now: Instant) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(now.saturating_duration_since(*START).as_nanos()).unwrap_or(u64::MAX)
}
