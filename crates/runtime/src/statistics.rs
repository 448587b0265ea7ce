//! Counters of one served version, in the terms of Triton's statistics extension.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use salver_core::{BatchStat, DurationStat, ModelStatistics, Timings};
use salver_telemetry::{stripe, striped};

/// Counts once per execution, under a lock that only this core takes; but for readers.
#[derive(Debug)]
pub(crate) struct Counters(Box<[CachePadded<Mutex<Inner>>]>);

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
        let inner = &mut *self.0[stripe()].lock();
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
        add(&mut self.0[stripe()].lock().totals.fail, took);
    }

    pub(crate) fn snapshot(&self, name: &str, version: u64) -> ModelStatistics {
        let mut sum = ModelStatistics { name: name.to_owned(), version, ..ModelStatistics::default() };
        let mut batches: BTreeMap<usize, BatchStat> = BTreeMap::new();
        for stripe in &self.0 {
            let inner = stripe.lock();
            merge_totals(&mut sum, &inner.totals);
            for (&batch_size, stat) in &inner.batches {
                let sum = batches.entry(batch_size).or_default();
                sum.batch_size = batch_size;
                merge(&mut sum.compute_input, stat.compute_input);
                merge(&mut sum.compute_infer, stat.compute_infer);
                merge(&mut sum.compute_output, stat.compute_output);
            }
        }
        sum.batches = batches.into_values().collect();
        sum
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self(striped(Mutex::default))
    }
}

fn merge_totals(sum: &mut ModelStatistics, part: &ModelStatistics) {
    sum.last_inference_ms = sum.last_inference_ms.max(part.last_inference_ms);
    sum.execution_count += part.execution_count;
    sum.inference_count += part.inference_count;
    merge(&mut sum.success, part.success);
    merge(&mut sum.fail, part.fail);
    merge(&mut sum.queue, part.queue);
    merge(&mut sum.compute_input, part.compute_input);
    merge(&mut sum.compute_infer, part.compute_infer);
    merge(&mut sum.compute_output, part.compute_output);
}

fn merge(sum: &mut DurationStat, part: DurationStat) {
    sum.count += part.count;
    sum.total += part.total;
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
