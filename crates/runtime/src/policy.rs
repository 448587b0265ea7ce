//! Decides when waiting requests become a batch.
//!
//! Pure: time comes in as an argument and nothing here waits; who runs batches does the waiting.
//! Invariant: no request waits longer than `max_delay` while an instance is free.

use std::time::{Duration, Instant};

/// How requests are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchOptions {
    /// The most rows of a merged batch. A lone larger request runs as it is.
    pub(crate) max_rows: usize,
    /// Rows that are worth running at once, ascending; empty: only a full batch is.
    pub(crate) preferred: Vec<usize>,
    /// How long the oldest request may wait for company.
    pub(crate) max_delay: Duration,
}

impl BatchOptions {
    /// Never merges.
    pub(crate) const SINGLE: Self = Self { max_rows: 1, preferred: Vec::new(), max_delay: Duration::ZERO };

    /// Returns the largest batch worth running at once that `rows` can fill.
    fn filled(&self, rows: usize) -> Option<usize> {
        if rows >= self.max_rows {
            return Some(self.max_rows);
        }
        self.preferred.iter().rev().copied().find(|&preferred| preferred <= rows)
    }
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
    /// Take up to so many rows and run them.
    Run(usize),
    /// Wait for more rows, but no longer than until then.
    WaitUntil(Instant),
    /// Nothing to do.
    Idle,
}

/// Decides what a free instance does at `now`.
///
/// As in Triton, a preferred size is run as soon as it can be filled; once the oldest request has
/// waited its time, whatever is there is run.
pub(crate) fn decide(queue: &QueueView, options: &BatchOptions, now: Instant) -> Decision {
    let Some(oldest) = queue.oldest else {
        return Decision::Idle;
    };
    if options.max_delay.is_zero() {
        return Decision::Run(options.max_rows);
    }
    let due = oldest + options.max_delay;
    match options.filled(queue.rows) {
        Some(rows) => Decision::Run(rows),
        None if due <= now => Decision::Run(options.max_rows),
        None => Decision::WaitUntil(due),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(preferred: &[usize], rows: usize, waited_ms: u64, expected: &str) {
        let start = Instant::now();
        let options = BatchOptions { max_rows: 8, preferred: preferred.to_vec(), max_delay: Duration::from_millis(5) };
        let view = QueueView { rows, oldest: (rows > 0).then_some(start) };
        let now = start + Duration::from_millis(waited_ms);
        let text = match decide(&view, &options, now) {
            Decision::Run(rows) => format!("run {rows}"),
            Decision::Idle => "idle".to_owned(),
            Decision::WaitUntil(due) => format!("wait {}ms", (due - now).as_millis()),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn an_empty_queue_is_idle() {
        check(&[], 0, 100, "idle");
    }

    #[test]
    fn a_partial_batch_waits_for_the_rest_of_its_delay() {
        check(&[], 3, 2, "wait 3ms");
        check(&[], 3, 5, "run 8");
    }

    #[test]
    fn a_full_batch_runs_at_once() {
        check(&[], 8, 0, "run 8");
        check(&[], 9, 0, "run 8");
    }

    #[test]
    fn a_preferred_size_runs_as_soon_as_it_is_filled() {
        check(&[2, 4], 1, 0, "wait 5ms");
        check(&[2, 4], 3, 0, "run 2");
        check(&[2, 4], 7, 0, "run 4");
        check(&[2, 4], 1, 6, "run 8");
    }

    #[test]
    fn without_a_delay_nothing_is_waited_for() {
        let options = BatchOptions { preferred: vec![4], max_rows: 8, max_delay: Duration::ZERO };
        let now = Instant::now();
        assert_eq!(decide(&QueueView { rows: 1, oldest: Some(now) }, &options, now), Decision::Run(8));
    }
}
