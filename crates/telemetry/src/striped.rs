//! Numbers that many threads change and few read.
//!
//! Two cores that change the same number take turns at its cache line, which costs more than
//! everything else that is recorded of a small request. So each core has a stripe of its own, and
//! a reader adds the stripes up.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use crossbeam_utils::CachePadded;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The most stripes of anything: memory for more would be held for each loaded version.
const MOST: usize = 8;

/// The stripe of each core by the system's number of it.
struct Stripes {
    of_core: Vec<usize>,
    count: usize,
}

static STRIPES: LazyLock<Stripes> = LazyLock::new(|| {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let is_allowed = |core: usize| allowed.as_ref().is_none_or(|allowed| allowed.is_set(core));
    let mut usable = 0;
    let mut of_core = Vec::new();
    for core in 0..rustix::thread::CpuSet::MAX_CPU {
        of_core.push(usable % MOST);
        usable += usize::from(is_allowed(core));
    }
    let count = if allowed.is_some() { usable.clamp(1, MOST) } else { MOST };
    Stripes { of_core, count }
});

/// Returns how many stripes there are: one for each core that this process may use, 8 at most.
pub fn stripes() -> usize {
    STRIPES.count
}

/// Returns the stripe of the core that this thread runs on, below [`stripes`].
pub fn stripe() -> usize {
    let stripe = STRIPES.of_core.get(rustix::thread::sched_getcpu()).copied().unwrap_or(0);
    if stripe < STRIPES.count { stripe } else { 0 }
}

/// Makes something for each stripe.
pub fn striped<T>(make: impl Fn() -> T) -> Box<[CachePadded<T>]> {
    (0..stripes()).map(|_| CachePadded::new(make())).collect()
}

/// Counts up. Clones share their count.
#[derive(Debug, Clone)]
pub(crate) struct StripedCounter(Arc<[CachePadded<AtomicU64>]>);

impl StripedCounter {
    pub(crate) fn inc(&self) {
        self.0[stripe()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the count.
    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl Default for StripedCounter {
    fn default() -> Self {
        Self(striped(AtomicU64::default).into())
    }
}

impl TypedMetric for StripedCounter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for StripedCounter {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, u64>(&self.get(), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Goes up and down. Clones share their value.
#[derive(Debug, Clone)]
pub(crate) struct StripedGauge(Arc<[CachePadded<AtomicI64>]>);

impl StripedGauge {
    pub(crate) fn add(&self, by: i64) {
        self.0[stripe()].fetch_add(by, Ordering::Relaxed);
    }

    /// What goes up on one core may come down on another, so only the sum means something. It is
    /// never shown below zero, as it would be between the two.
    pub(crate) fn get(&self) -> i64 {
        self.0.iter().map(|stripe| stripe.load(Ordering::Relaxed)).fold(0, i64::wrapping_add).max(0)
    }
}

impl Default for StripedGauge {
    fn default() -> Self {
        Self(striped(AtomicI64::default).into())
    }
}

impl TypedMetric for StripedGauge {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for StripedGauge {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_has_a_stripe() {
        assert!((1..=MOST).contains(&stripes()));
        assert!(STRIPES.of_core.iter().all(|&stripe| stripe < MOST));
        assert!(stripe() < stripes());
    }

    #[test]
    fn stripes_add_up() {
        let (counter, gauge) = (StripedCounter::default(), StripedGauge::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        counter.inc();
                        gauge.add(3);
                        gauge.add(-1);
                    }
                });
            }
        });
        assert_eq!((counter.get(), gauge.get()), (4_000, 8_000));
        gauge.add(-9_000);
        assert_eq!(gauge.get(), 0);
    }
}
