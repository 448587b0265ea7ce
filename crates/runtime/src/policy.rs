//! Decides when waiting requests become a batch.
//!
//! Pure: time comes in as an argument and nothing here waits; `worker.rs` does the waiting.
//! Invariant: no request waits longer than `max_delay` while an instance is free.

use std::time::{Duration, Instant};

/// How requests are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchOptions {
    /// The most rows of a merged batch. A lone larger request runs as it is.
    pub(crate) max_rows: usize,
    /// How long the oldest request may wait for company.
    pub(crate) max_delay: Duration,
}

impl BatchOptions {
    /// Never merges.
    pub(crate) const SINGLE: Self = Self { max_rows: 1, max_delay: Duration::ZERO };
}

/// What the policy needs to know of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueView {
    /// Rows waiting.
    pub(crate) rows: usize,
    /// When the oldest request came; none: the queue is empty.
    pub(crate) oldest: Option<Instant>,
}

/// What a free instance does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Take up to `max_rows` and run them.
    Run,
    /// Wait for more rows, but no longer than until then.
    WaitUntil(Instant),
    /// Nothing to do.
    Idle,
}

/// Decides what a free instance does at `now`.
pub(crate) fn decide(queue: &QueueView, options: &BatchOptions, now: Instant) -> Decision {
    let Some(oldest) = queue.oldest else {
        return Decision::Idle;
    };
    let due = oldest + options.max_delay;
    if queue.rows >= options.max_rows || due <= now { Decision::Run } else { Decision::WaitUntil(due) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rows: usize, waited_ms: u64, expected: &str) {
        let start = Instant::now();
        let options = BatchOptions { max_rows: 8, max_delay: Duration::from_millis(5) };
        let view = QueueView { rows, oldest: (rows > 0).then_some(start) };
        let now = start + Duration::from_millis(waited_ms);
        let text = match decide(&view, &options, now) {
            Decision::Run => "run".to_owned(),
            Decision::Idle => "idle".to_owned(),
            Decision::WaitUntil(due) => format!("wait {}ms", (due - now).as_millis()),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn an_empty_queue_is_idle() {
        check(0, 100, "idle");
    }

    #[test]
    fn a_partial_batch_waits_for_the_rest_of_its_delay() {
        check(3, 2, "wait 3ms");
        check(3, 5, "run");
    }

    #[test]
    fn a_full_batch_runs_at_once() {
        check(8, 0, "run");
        check(9, 0, "run");
    }
}
