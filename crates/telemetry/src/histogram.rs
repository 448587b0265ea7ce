//! A histogram without a lock: one atomic addition for the bucket and one for the sum.
//!
//! `prometheus-client` has one behind a mutex, which costs too much where every request passes.
//! Values are whole numbers (nanoseconds, rows), so that the sum is an atomic addition as well.
//! A scrape reads the cells one after the other: what is observed meanwhile may be in a bucket
//! and not yet in the sum.

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

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::{Metric, Registry};
    use proptest::prelude::*;

    use super::*;

    static SECONDS: Buckets = Buckets { bounds: &[1_000, 2_500, 1_000_000, 60_000_000_000], per_shown: 1_000_000_000 };

    fn text(metric: impl Metric) -> String {
        let mut registry = Registry::default();
        registry.register("h", "Help", metric);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    /// The lines, and the sum apart: floats are added up in another order.
    fn parts(text: &str) -> (Vec<&str>, f64) {
        let (sums, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("h_sum "));
        (lines, sums[0]["h_sum ".len()..].parse().unwrap())
    }

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let histogram = AtomicHistogram::new(&SECONDS);
        [0, 1_000, 1_001, u64::from(u32::MAX), 90_000_000_000].into_iter().for_each(|value| histogram.observe(value));
        let text = text(histogram);
        for line in [
            "h_bucket{le=\"0.000001\"} 2",
            "h_bucket{le=\"0.0000025\"} 3",
            "h_bucket{le=\"0.001\"} 3",
            "h_bucket{le=\"60.0\"} 4",
            "h_bucket{le=\"+Inf\"} 5",
            "h_count 5",
            "h_sum 94.294969296",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let histogram = AtomicHistogram::new(&SECONDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|value| histogram.observe(value)));
            }
        });
        let text = text(histogram);
        assert!(text.contains("h_count 40000\n") && text.contains("h_bucket{le=\"0.000001\"} 4004\n"), "{text}");
        assert!(text.contains("h_sum 0.19998\n"), "{text}");
    }

    proptest! {
        #[test]
        fn it_shows_what_the_crates_own_histogram_shows(
            values in prop::collection::vec(prop_oneof![0u64..5_000, 0u64..200_000_000_000, Just(1_000), Just(2_500)], 0..60),
        ) {
            let (own, theirs) =
                (AtomicHistogram::new(&SECONDS), Histogram::new(SECONDS.bounds.iter().map(|bound| SECONDS.shown(*bound))));
            for value in values {
                own.observe(value);
                theirs.observe(SECONDS.shown(value));
            }
            let (own, theirs) = (text(own), text(theirs));
            let ((own, own_sum), (theirs, their_sum)) = (parts(&own), parts(&theirs));
            prop_assert_eq!(own, theirs);
            prop_assert!((own_sum - their_sum).abs() <= 1e-9 * their_sum.max(1.0));
        }
    }
}
