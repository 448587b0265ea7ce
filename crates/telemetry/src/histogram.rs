//! A histogram without a lock: one atomic addition for the bucket and one for the sum.
//!
//! `prometheus-client` has one behind a mutex, which costs too much where every request passes.
//! Values are whole numbers (nanoseconds, rows), so that the sum is an atomic addition as well.
//! A scrape reads the cells one after the other: what is observed meanwhile may be in a bucket
//! and not yet in the sum.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::striped::{stripe, stripes};

/// Cells that no other core's stripe shares a cache line with.
type Line = CachePadded<[AtomicU64; 16]>;

/// Where the buckets of a histogram end, and how its values are shown.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// The upper bounds, ascending, in the unit that is observed. One without a bound comes after them.
    pub(crate) bounds: &'static [u64],
    /// How many observed units make one shown unit: 10⁹ where nanoseconds are shown as seconds.
    pub(crate) per_shown: u64,
}

impl Buckets {
    /// A division by a power of ten gives the float nearest to the decimal, so `le` reads well.
    fn shown(&self, value: u64) -> f64 {
        value as f64 / self.per_shown as f64
    }
}

/// Counts values by size. Clones share their counts.
#[derive(Debug, Clone)]
pub(crate) struct AtomicHistogram {
    buckets: &'static Buckets,
    /// For each stripe the count of each bucket, then the sum of all values. A sum of nanoseconds
    /// lasts for 584 years.
    lines: Arc<[Line]>,
}

impl AtomicHistogram {
    /// Makes an empty one.
    pub(crate) fn new(buckets: &'static Buckets) -> Self {
        debug_assert!(buckets.bounds.is_sorted(), "bounds of buckets ascend");
        let lines = (buckets.bounds.len() + 2).div_ceil(16) * stripes();
        Self { buckets, lines: (0..lines).map(|_| Line::default()).collect() }
    }

    /// Counts one value.
    pub(crate) fn observe(&self, value: u64) {
        let bucket = self.buckets.bounds.partition_point(|bound| *bound < value);
        let stripe = stripe();
        self.cell(stripe, bucket).fetch_add(1, Ordering::Relaxed);
        self.cell(stripe, self.sum_idx()).fetch_add(value, Ordering::Relaxed);
    }

    fn sum_idx(&self) -> usize {
        self.buckets.bounds.len() + 1
    }

    fn cell(&self, stripe: usize, idx: usize) -> &AtomicU64 {
        let first = stripe * (self.lines.len() / stripes());
        &self.lines[first + idx / 16][idx % 16]
    }

    fn total(&self, idx: usize) -> u64 {
        (0..stripes()).map(|stripe| self.cell(stripe, idx).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl TypedMetric for AtomicHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for AtomicHistogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let bounds = self.buckets.bounds.iter().map(|bound| self.buckets.shown(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(idx, bound)| (bound, self.total(idx))).collect();
        let sum = self.buckets.shown(self.total(self.sum_idx()));
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
