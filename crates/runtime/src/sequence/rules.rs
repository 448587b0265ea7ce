//! Decides when the requests that may run on an instance become a batch.
//!
//! Pure, as `policy.rs` is for requests that stand alone.

use std::time::{Duration, Instant};

use salver_core::{SequenceBatching, SequenceStrategy};

use crate::policy::{BatchOptions, Decision, QueueView, decide};

/// The strategy of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rules {
    /// Each sequence has its own row.
    Direct { rows: usize, worth: usize, max_delay: Duration },
    /// Rows differ from batch to batch.
    Oldest { candidates: usize, options: BatchOptions },
}

impl Rules {
    /// `rows` is the most that a batch may have.
    pub(crate) fn new(config: &SequenceBatching, rows: usize) -> Self {
        match &config.strategy {
            SequenceStrategy::Direct { max_queue_delay_microseconds, minimum_slot_utilization } => Self::Direct {
                rows,
                // At most the number of rows, which is small.
                worth: ((rows as f32 * minimum_slot_utilization).ceil() as usize).min(rows),
                max_delay: Duration::from_micros(*max_queue_delay_microseconds),
            },
            SequenceStrategy::Oldest {
                max_candidate_sequences,
                preferred_batch_size,
                max_queue_delay_microseconds,
                ..
            } => Self::Oldest {
                candidates: *max_candidate_sequences,
                options: BatchOptions {
                    max_rows: rows,
                    preferred: preferred_batch_size.clone(),
                    max_delay: Duration::from_micros(*max_queue_delay_microseconds),
                },
            },
        }
    }

    /// Returns the seats of one instance.
    pub(crate) fn seats(&self) -> usize {
        match self {
            Self::Direct { rows, .. } => *rows,
            Self::Oldest { candidates, .. } => *candidates,
        }
    }

    /// Whether a request's row in the batch is that of its sequence.
    pub(crate) fn has_fixed_rows(&self) -> bool {
        matches!(self, Self::Direct { .. })
    }

    /// Decides what a free instance does at `now`, of whose sequences `ready` have a request.
    pub(crate) fn decide(&self, ready: usize, oldest: Option<Instant>, now: Instant) -> Decision {
        match (self, oldest) {
            (_, None) => Decision::Idle,
            (Self::Oldest { options, .. }, _) => decide(&QueueView { rows: ready, oldest }, options, now),
            (Self::Direct { rows, worth, max_delay }, Some(oldest)) => match oldest + *max_delay {
                due if ready < *worth && now < due => Decision::WaitUntil(due),
                _ => Decision::Run(*rows),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(utilization: f32, ready: usize, waited_ms: u64, expected: &str) {
        let start = Instant::now();
        let strategy =
            SequenceStrategy::Direct { max_queue_delay_microseconds: 5_000, minimum_slot_utilization: utilization };
        let config = SequenceBatching { strategy, max_idle: Duration::ZERO, controls: Vec::new(), states: Vec::new() };
        let oldest = (ready > 0).then_some(start);
        let text = match Rules::new(&config, 4).decide(ready, oldest, start + Duration::from_millis(waited_ms)) {
            Decision::Run(rows) => format!("run {rows}"),
            Decision::Idle => "idle".to_owned(),
            Decision::WaitUntil(due) => format!("wait {}ms", (due - start).as_millis()),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn direct_waits_only_until_enough_rows_are_taken() {
        check(0.0, 0, 9, "idle");
        check(0.0, 1, 0, "run 4");
        check(0.5, 1, 0, "wait 5ms");
        check(0.5, 2, 0, "run 4");
        check(0.5, 1, 5, "run 4");
        check(1.0, 3, 0, "wait 5ms");
    }
}
