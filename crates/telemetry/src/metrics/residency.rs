//! What is in memory: its size, how it came and why it left.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::labels::{LoadLabels, ModelLabels, NameLabels};
use crate::names;

/// The families that tell what is in memory.
#[derive(Debug)]
pub(super) struct ResidencyFamilies {
    memory: Family<ModelLabels, Gauge>,
    limit: Gauge,
    loads: Family<LoadLabels, Counter>,
    evictions: Family<NameLabels, Counter>,
    pinned: Family<NameLabels, Gauge>,
}

/// How a load ended.
const RESULTS: [&str; 2] = ["success", "error"];

impl ResidencyFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (memory, loads, evictions, pinned) =
            (Family::default(), Family::default(), Family::default(), Family::default());
        let limit = Gauge::default();
        registry.register(
            names::MODEL_MEMORY,
            "What the version takes: measured under a memory limit, else the engine's estimate",
            Family::clone(&memory),
        );
        registry.register(
            names::MEMORY_LIMIT,
            "The most memory that the process should hold; 0: no limit",
            limit.clone(),
        );
        registry.register(names::MODEL_LOADS, "Loads by result: success, error", Family::clone(&loads));
        registry.register(
            names::MODEL_EVICTIONS,
            "How often a version of the model left memory to make room",
            Family::clone(&evictions),
        );
        registry.register(names::MODEL_PINNED, "1 while the model is pinned", Family::clone(&pinned));
        Self { memory, limit, loads, evictions, pinned }
    }
}

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
    }

    /// Counts a version that left memory to make room.
    pub fn model_evicted(&self, name: &str) {
        self.residency.evictions.get_or_create(&NameLabels { model: name.to_owned() }).inc();
    }

    /// Notes whether a model is pinned.
    pub fn model_pinned(&self, name: &str, pinned: bool) {
        let labels = NameLabels { model: name.to_owned() };
        if pinned {
            self.residency.pinned.get_or_create(&labels).set(1);
        } else {
            self.residency.pinned.remove(&labels);
        }
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
