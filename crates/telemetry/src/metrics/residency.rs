//! What is in memory: its size, how it came and why it left.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use super::labels::{LoadLabels, ModelLabels, NameLabels};

/// The families that tell what is in memory.
#[derive(Debug)]
pub(super) struct ResidencyFamilies {
    pub(super) memory: Family<ModelLabels, Gauge>,
    pub(super) limit: Gauge,
    pub(super) loads: Family<LoadLabels, Counter>,
    pub(super) evictions: Family<NameLabels, Counter>,
    pub(super) pinned: Family<NameLabels, Gauge>,
}

/// How a load ended.
const RESULTS: [&str; 2] = ["success", "error"];

impl Metrics {
    /// Notes the memory limit; 0: none.
    pub fn memory_limit(&self, bytes: u64) {
        self.residency.limit.set(gauge(bytes));
    }

    /// Notes what a version takes; none: it is not in memory any more.
    pub fn model_memory(&self, name: &str, version: u64, bytes: Option<u64>) {
        let labels = ModelLabels { model: name.to_owned(), version };
        match bytes {
            Some(bytes) => {
                self.residency.memory.get_or_create(&labels).set(gauge(bytes));
            }
            None => {
                self.residency.memory.remove(&labels);
            }
        }
    }

    /// Counts a load.
    pub fn model_loaded(&self, name: &str, success: bool) {
        let [good, bad] = RESULTS;
        let labels = LoadLabels { model: name.to_owned(), result: if success { good } else { bad } };
        self.residency.loads.get_or_create(&labels).inc();
        // Shown from the first load on, so that they can be watched for a change.
        let labels = NameLabels { model: name.to_owned() };
        drop(self.residency.evictions.get_or_create(&labels));
        drop(self.residency.pinned.get_or_create(&labels));
    }

    /// Counts a version that left memory to make room.
    pub fn model_evicted(&self, name: &str) {
        self.residency.evictions.get_or_create(&NameLabels { model: name.to_owned() }).inc();
    }

    /// Notes whether a model is pinned.
    pub fn model_pinned(&self, name: &str, pinned: bool) {
        self.residency.pinned.get_or_create(&NameLabels { model: name.to_owned() }).set(i64::from(pinned));
    }

    /// Ends the series of a model that its source no longer has.
    pub fn model_forgotten(&self, name: &str) {
        let labels = NameLabels { model: name.to_owned() };
        self.residency.evictions.remove(&labels);
        self.residency.pinned.remove(&labels);
        for result in RESULTS {
            self.residency.loads.remove(&LoadLabels { model: name.to_owned(), result });
        }
    }
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
