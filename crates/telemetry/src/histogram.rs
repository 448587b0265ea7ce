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

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

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
    /// The count of each bucket, then the sum of all values. A sum of nanoseconds lasts for 584 years.
    cells: Arc<[AtomicU64]>,
}

impl AtomicHistogram {
    /// Makes an empty one.
    pub(crate) fn new(buckets: &'static Buckets) -> Self {
        debug_assert!(buckets.bounds.is_sorted(), "bounds of buckets ascend");
        Self { buckets, cells: (0..buckets.bounds.len() + 2).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts one value.
    pub(crate) fn observe(&self, value: u64) {
        let idx = self.buckets.bounds.partition_point(|bound| *bound < value);
        self.cells[idx].fetch_add(1, Ordering::Relaxed);
        self.cells[self.cells.len() - 1].fetch_add(value, Ordering::Relaxed);
    }
}

impl TypedMetric for AtomicHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for AtomicHistogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let bounds = self.buckets.bounds.iter().map(|bound| self.buckets.shown(*bound)).chain([f64::INFINITY]);
        let counts = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = self.buckets.shown(self.cells[self.cells.len() - 1].load(Ordering::Relaxed));
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
