//! A fixed rate: request `i` is meant to start at `i / rate`, whoever is free takes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::{Tally, Window};

/// Requests that are due within this time become due together: a wake-up for each would take from
/// the server what is to be measured. Latency counts from the moment of each all the same.
const STEP: Duration = Duration::from_micros(100);

/// Hands out the moments at which requests are meant to start.
pub(super) struct Schedule {
    pub(super) window: Window,
    rate: f64,
    total: u64,
    callers: usize,
    due: Semaphore,
    next: AtomicU64,
}

impl Schedule {
    pub(super) fn new(window: Window, rate: f64, callers: usize) -> Self {
        let total = ((window.end - window.start).as_secs_f64() * rate).floor() as u64;
        Self { window, rate, total, callers, due: Semaphore::new(0), next: AtomicU64::new(0) }
    }

    fn intended(&self, idx: u64) -> Instant {
        self.window.start + Duration::from_secs_f64(idx as f64 / self.rate)
    }

    /// Makes each request due at its time. A thread of its own: the runtime's timers only know
    /// milliseconds.
    pub(super) fn release(&self) {
        let mut released = 0;
        while released < self.total {
            let now = Instant::now();
            let next = self.intended(released);
            if now < next {
                std::thread::park_timeout((next - now).max(STEP));
                continue;
            }
            let due = ((now - self.window.start).as_secs_f64() * self.rate).floor() as u64 + 1;
            let due = due.clamp(released + 1, self.total);
            self.due.add_permits(usize::try_from(due - released).unwrap_or(0));
            released = due;
        }
        // One more for each caller tells it that the schedule is over.
        self.due.add_permits(self.callers);
    }

    pub(super) async fn take(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let idx = self.next.fetch_add(1, Ordering::Relaxed);
        (idx < self.total).then(|| self.intended(idx))
    }

    /// Requests that nobody was left to send are failures, not silence.
    pub(super) fn count_unsent(&self, tally: &mut Tally) {
        let sent = self.next.load(Ordering::Relaxed).min(self.total);
        if sent < self.total {
            tally.errors += self.total - sent;
            tally.first_error.get_or_insert_with(|| "not sent: no connection was free in time".to_owned());
        }
    }
}
