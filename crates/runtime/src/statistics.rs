//! Counters of one served version, in the terms of Triton's statistics extension.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use salver_core::{BatchStat, DurationStat, ModelStatistics, Timings};

/// Counts once per execution, under a lock that only workers of the same version take.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    totals: ModelStatistics,
    batches: BTreeMap<usize, BatchStat>,
}

/// One execution of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Execution {
    pub(crate) rows: usize,
    pub(crate) compute_input: Duration,
    pub(crate) compute_infer: Duration,
    pub(crate) compute_output: Duration,
}

impl Counters {
    /// Counts a successful execution and the requests that it answered, each with its time from
    /// arrival to answer.
    pub(crate) fn executed(&self, execution: Execution, requests: impl Iterator<Item = (Timings, Duration)>) {
        let inner = &mut *self.0.lock();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        inner.totals.last_inference_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        inner.totals.execution_count += 1;
        inner.totals.inference_count += execution.rows as u64;
        for (timings, took) in requests {
            add(&mut inner.totals.success, took);
            add(&mut inner.totals.queue, timings.queue);
            add(&mut inner.totals.compute_input, execution.compute_input);
            add(&mut inner.totals.compute_infer, execution.compute_infer);
            add(&mut inner.totals.compute_output, execution.compute_output);
        }
        let stat = inner.batches.entry(execution.rows).or_default();
        stat.batch_size = execution.rows;
        add(&mut stat.compute_input, execution.compute_input);
        add(&mut stat.compute_infer, execution.compute_infer);
        add(&mut stat.compute_output, execution.compute_output);
    }

    /// Counts a request that failed after it was queued.
    pub(crate) fn failed(&self, took: Duration) {
        add(&mut self.0.lock().totals.fail, took);
    }

    pub(crate) fn snapshot(&self, name: &str, version: u64) -> ModelStatistics {
        let inner = self.0.lock();
        let batches = inner.batches.values().copied().collect();
        ModelStatistics { name: name.to_owned(), version, batches, ..inner.totals.clone() }
    }
}

fn add(stat: &mut DurationStat, took: Duration) {
    stat.count += 1;
    stat.total += took;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_executions_and_requests_are_counted_apart() {
        let counters = Counters::default();
        let ms = Duration::from_millis;
        let execution = Execution { rows: 4, compute_input: ms(1), compute_infer: ms(2), compute_output: ms(3) };
        counters.executed(execution, [(Timings::default(), ms(9))].into_iter());
        counters.failed(ms(1));
        let stats = counters.snapshot("m", 1);
        assert_eq!((stats.inference_count, stats.execution_count, stats.success.count, stats.fail.count), (4, 1, 1, 1));
        assert_eq!((stats.batches.len(), stats.batches[0].batch_size, stats.compute_infer.total), (1, 4, ms(2)));
        assert!(stats.last_inference_ms > 0);
    }
}
