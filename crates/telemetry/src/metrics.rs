//! Prometheus metrics: every family, its labels and its buckets.
//!
//! A model's handles are looked up once, when it is loaded; recording is then a few atomic
//! additions. A model's series go when the last holder of its handles does.

mod buckets;
mod cache;
mod dependencies;
mod features;
mod jobs;
mod labels;
mod model;
mod remote;
mod residency;
#[cfg(test)]
mod tests;
mod triton;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::buckets::{DURATION, ROWS, STAGE};
use self::dependencies::Dependencies;
use self::labels::{
    CacheLabels, LookupLabels, ModelLabels, OutcomeLabels, ReplacedLabels, RequestLabels, StageLabels, StateLabels,
};
use self::model::{Series, Stage};
use self::remote::RemoteFamilies;
use self::residency::ResidencyFamilies;
use crate::histogram::AtomicHistogram;
use crate::names;
use crate::process::Process;
use crate::striped::{StripedCounter, StripedGauge};

pub use self::cache::{CacheMetrics, CacheResult, ModelCacheMetrics};
pub use self::dependencies::Dependency;
pub use self::features::{LookupMetrics, LookupResult};
pub use self::jobs::JobMetrics;
pub use self::model::{ModelMetrics, Outcome, Replaced, TaskMetrics, Timing};
pub use self::remote::{InFlight, RemoteMetrics, RemoteOutcome};
pub use self::triton::{TritonCacheCounters, TritonCounters};

type Histograms<L> = Family<L, AtomicHistogram, fn() -> AtomicHistogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// The families with one series or more for each model version.
#[derive(Debug)]
struct ModelFamilies {
    duration: Histograms<ModelLabels>,
    stage: Histograms<StageLabels>,
    total: Family<OutcomeLabels, StripedCounter>,
    queue: Family<ModelLabels, StripedGauge>,
    batch: Histograms<ModelLabels>,
    elements: Family<ModelLabels, Counter>,
    padded: Family<ModelLabels, Counter>,
    replaced: Family<ReplacedLabels, Counter>,
    restart_failures: Family<ModelLabels, Counter>,
    load: Family<ModelLabels, Seconds>,
    cache: Family<CacheLabels, Counter>,
    lookups: Family<LookupLabels, Counter>,
    remote: RemoteFamilies,
    /// Versions whose handles somebody holds.
    held: Mutex<HashMap<ModelLabels, Weak<Series>>>,
}

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    models: Arc<ModelFamilies>,
    state: Family<StateLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
    waiting: Gauge,
    residency: ResidencyFamilies,
    cache: CacheMetrics,
    jobs: JobMetrics,
    dependencies: Dependencies,
}

impl Metrics {
    /// The media type of [`Metrics::render`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Registers every metric.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let models = Arc::new(ModelFamilies::register(&mut registry));
        let (state, requests, waiting) = (Family::default(), Family::default(), Gauge::default());
        registry.register(names::MODEL_STATE, "1 for the state that the version is in", Family::clone(&state));
        registry.register(names::REQUESTS, "Requests by protocol and status code", Family::clone(&requests));
        registry.register(names::WAITING_BYTES, "Inputs of all requests that wait or run", waiting.clone());
        let residency = ResidencyFamilies::register(&mut registry);
        let dependencies = Dependencies::default();
        registry.register(
            names::DEPENDENCY_UP,
            "1 while the dependency answers, 0 while the server does without it",
            Family::clone(&dependencies.up),
        );
        let cache = CacheMetrics::new(dependencies.clone());
        register_cache(&mut registry, &cache);
        let jobs = JobMetrics::new(dependencies.clone());
        register_jobs(&mut registry, &jobs);
        registry.register_collector(Box::new(Process::new()));
        Arc::new(Self { registry, models, state, requests, waiting, residency, cache, jobs, dependencies })
    }

    /// Renders everything in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts one answered request of a protocol; `code` is its HTTP status or gRPC code.
    pub fn count_request(&self, protocol: &'static str, code: u16) {
        self.requests.get_or_create(&RequestLabels { protocol, code }).inc();
    }

    /// Notes the memory that the inputs of all waiting and running requests take.
    pub fn set_waiting_bytes(&self, bytes: usize) {
        self.waiting.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Returns the handles of one model version. Its series are shown for as long as one of these
    /// handles or a clone is held, and go with the last one.
    pub fn model(&self, name: &str, version: u64) -> ModelMetrics {
        ModelMetrics::new(&self.models, ModelLabels { model: name.to_owned(), version })
    }

    /// Returns the handles of the response cache.
    pub fn cache(&self) -> CacheMetrics {
        self.cache.clone()
    }

    /// Notes that a version went from one state to another; no state: it is gone.
    pub fn model_state(&self, name: &str, version: u64, from: Option<&'static str>, to: Option<&'static str>) {
        let labels = |state| StateLabels { model: name.to_owned(), version, state };
        if let Some(from) = from {
            self.state.remove(&labels(from));
        }
        if let Some(to) = to {
            self.state.get_or_create(&labels(to)).set(1);
        }
    }
}

impl ModelFamilies {
    fn register(registry: &mut Registry) -> Self {
        let duration: Histograms<_> = Family::new_with_constructor(|| AtomicHistogram::new(&DURATION));
        let stage: Histograms<_> = Family::new_with_constructor(|| AtomicHistogram::new(&STAGE));
        let batch: Histograms<_> = Family::new_with_constructor(|| AtomicHistogram::new(&ROWS));
        let (total, queue, load) = (Family::default(), Family::default(), Family::default());
        let (elements, padded, replaced) = (Family::default(), Family::default(), Family::default());
        let (cache, lookups, restart_failures) = (Family::default(), Family::default(), Family::default());
        registry.register(
            names::INFERENCE_DURATION,
            "Time from the admission of a request to its model until its answer",
            duration.clone(),
        );
        registry.register(
            names::INFERENCES,
            "Requests by outcome: success, error, timeout, rejected, cancelled",
            Family::clone(&total),
        );
        registry.register(
            names::STAGE_DURATION,
            "Time of one stage: decode, queue and encode of a request, assemble, infer and split of a batch",
            stage.clone(),
        );
        registry.register(names::QUEUE, "Requests waiting for a worker", Family::clone(&queue));
        registry.register(names::BATCH_ROWS, "Rows per execution of the model", batch.clone());
        registry.register(
            names::BATCH_ELEMENTS,
            "Elements of padded inputs, padding included",
            Family::clone(&elements),
        );
        registry.register(names::PADDED_ELEMENTS, "Those of them that are padding", Family::clone(&padded));
        registry.register(
            names::INSTANCES_REPLACED,
            "Instances that were replaced: panic, timeout, error, died",
            Family::clone(&replaced),
        );
        registry.register(
            names::INSTANCE_RESTART_FAILURES,
            "Attempts to start the worker of an instance again that failed",
            Family::clone(&restart_failures),
        );
        registry.register(names::MODEL_LOAD, "How long the last load of the model took", Family::clone(&load));
        registry.register(
            names::CACHE_REQUESTS,
            "Requests to models with a response cache, by where the answer came from",
            Family::clone(&cache),
        );
        registry.register(
            names::FEATURE_LOOKUPS,
            "Keys of models that look features up, by result: found, missing, failed",
            Family::clone(&lookups),
        );
        Self {
            duration,
            stage,
            total,
            queue,
            batch,
            elements,
            padded,
            replaced,
            restart_failures,
            load,
            cache,
            lookups,
            remote: RemoteFamilies::register(registry),
            held: Mutex::default(),
        }
    }

    /// Removes every series of a version.
    fn remove(&self, of: &ModelLabels) {
        self.duration.remove(of);
        self.queue.remove(of);
        self.batch.remove(of);
        self.elements.remove(of);
        self.padded.remove(of);
        self.restart_failures.remove(of);
        self.load.remove(of);
        for outcome in Outcome::ALL {
            self.total.remove(&of.with_outcome(outcome));
        }
        for stage in Stage::COMMON.into_iter().chain(Stage::OF_TASK) {
            self.stage.remove(&of.with_stage(stage));
        }
        for result in CacheResult::ALL {
            self.cache.remove(&of.with_result(result));
        }
        for result in LookupResult::ALL {
            self.lookups.remove(&of.with_lookup(result));
        }
        for reason in Replaced::ALL {
            self.replaced.remove(&of.with_reason(reason));
        }
        self.remote.remove(of);
    }
}

fn register_jobs(registry: &mut Registry, jobs: &JobMetrics) {
    registry.register(names::JOBS, "Jobs by state", jobs.depth.clone());
    registry.register(names::JOBS_OLDEST, "Age of the oldest job that waits for a worker", jobs.oldest.clone());
    registry.register(names::JOB_RUNS, "Runs of jobs by outcome", jobs.runs.clone());
    registry.register(names::JOBS_LOST, "Jobs whose worker gave no sign of life", jobs.lost.clone());
    registry.register(names::JOB_CALLBACKS, "Attempts to say that a job has ended, by outcome", jobs.callbacks.clone());
    registry.register(names::JOB_DURATION, "Runs of jobs, from hand-out to answer", jobs.duration.clone());
}

fn register_cache(registry: &mut Registry, cache: &CacheMetrics) {
    registry.register(names::CACHE_EVICTIONS, "Cached answers that had to make room", cache.evictions.clone());
    registry.register(names::CACHE_BYTES, "Memory that cached answers take", cache.bytes.clone());
    registry.register(names::CACHE_ENTRIES, "Cached answers", cache.entries.clone());
    registry.register(
        names::CACHE_SHARED_ERRORS,
        "Calls of the shared cache that failed, and values that were not understood",
        cache.shared_errors.clone(),
    );
    registry.register(
        names::CACHE_SHARED_DROPPED,
        "Answers that were not written to the shared cache: its queue was full, or it was not in use",
        cache.shared_dropped.clone(),
    );
}

impl RemoteFamilies {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            names::REMOTE_REQUESTS,
            "Attempts to ask the server that answers for a model, by outcome",
            new.requests.clone(),
        );
        registry.register(
            names::REMOTE_TOKENS,
            "Tokens that the server has counted: input, output",
            new.tokens.clone(),
        );
        registry.register(
            names::REMOTE_COST,
            "What the server charges, in the currency of the model's prices",
            new.cost.clone(),
        );
        registry.register(
            names::REMOTE_CIRCUIT,
            "1 while calls are refused because the server fails them, else 0",
            new.circuit.clone(),
        );
        registry.register(names::REMOTE_IN_FLIGHT, "Attempts under way", new.in_flight.clone());
        new
    }
}

impl ResidencyFamilies {
    fn register(registry: &mut Registry) -> Self {
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
        registry.register(names::MODEL_PINNED, "1 while the model is pinned, else 0", Family::clone(&pinned));
        Self { memory, limit, loads, evictions, pinned }
    }
}
