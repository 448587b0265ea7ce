//! Prometheus metrics: every name, its labels and its buckets.
//!
//! A model's handles are looked up once, when it is loaded; recording is then a few atomic
//! additions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds: 100 µs to 10 s.
const DURATION_BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Rows of a batch.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
    version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    model: String,
    version: u64,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    model: String,
    version: u64,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    protocol: &'static str,
    code: u16,
}

type HistogramFamily = Family<ModelLabels, Histogram, fn() -> Histogram>;

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    duration: HistogramFamily,
    total: Family<OutcomeLabels, Counter>,
    queue: Family<ModelLabels, Gauge>,
    batch: HistogramFamily,
    load: Family<ModelLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    state: Family<StateLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
}

impl Metrics {
    /// The media type of [`Metrics::render`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Registers every metric.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let duration: HistogramFamily = Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        let batch: HistogramFamily = Family::new_with_constructor(|| Histogram::new(BATCH_BUCKETS));
        let (total, queue, load) = (Family::default(), Family::default(), Family::default());
        let (state, requests) = (Family::default(), Family::default());
        registry.register(
            "ml_inference_duration_seconds",
            "Time from the admission of a request to its model until its answer",
            duration.clone(),
        );
        registry.register(
            "ml_inference",
            "Requests by outcome: success, error, timeout, rejected, cancelled",
            Family::clone(&total),
        );
        registry.register("salver_queue_requests", "Requests waiting for a worker", Family::clone(&queue));
        registry.register("salver_batch_rows", "Rows per execution of the model", batch.clone());
        registry.register(
            "salver_model_load_seconds",
            "How long the last load of the model took",
            Family::clone(&load),
        );
        registry.register("salver_model_state", "1 for the state that the version is in", Family::clone(&state));
        registry.register("salver_requests", "Requests by protocol and status code", Family::clone(&requests));
        Arc::new(Self { registry, duration, total, queue, batch, load, state, requests })
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

    /// Returns the handles of one model version.
    pub fn model(&self, name: &str, version: u64) -> ModelMetrics {
        let labels = ModelLabels { model: name.to_owned(), version };
        let outcomes = Outcome::ALL.map(|outcome| {
            let labels = OutcomeLabels { model: name.to_owned(), version, status: outcome.as_str() };
            self.total.get_or_create_owned(&labels)
        });
        ModelMetrics {
            duration: self.duration.get_or_create_owned(&labels),
            outcomes,
            queue: self.queue.get_or_create_owned(&labels),
            batch: self.batch.get_or_create_owned(&labels),
        }
    }

    /// Notes how long a load took.
    pub fn model_loaded(&self, name: &str, version: u64, took: Duration) {
        self.load.get_or_create(&ModelLabels { model: name.to_owned(), version }).set(took.as_secs_f64());
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

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Success,
    /// With an error of the input or the engine.
    Error,
    /// The deadline passed first.
    Timeout,
    /// Refused because the model was full.
    Rejected,
    /// The caller went away.
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Success, Self::Error, Self::Timeout, Self::Rejected, Self::Cancelled];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The handles of one model version.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    duration: Histogram,
    outcomes: [Counter; 5],
    queue: Gauge,
    batch: Histogram,
}

impl ModelMetrics {
    /// Starts timing a request. Without a call of [`Timing::finish`] it counts as cancelled, or
    /// as timed out if `deadline` has passed by then.
    pub fn start(&self, deadline: Option<Instant>) -> Timing<'_> {
        Timing { metrics: self, started: Instant::now(), deadline, end: None }
    }

    /// Notes the length of the queue.
    pub fn set_queue(&self, requests: usize) {
        self.queue.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Notes that an instance was replaced.
    pub fn instance_replaced(&self, _reason: &'static str) {}

    /// Notes how much of a batch is padding.
    pub fn observe_padding(&self, _elements: usize, _padding: usize) {}

    /// Notes the rows of one execution.
    pub fn observe_batch(&self, rows: usize) {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52 rows")]
        self.batch.observe(rows as f64);
    }
}

/// Times one request and records it when dropped, also on `?`.
#[derive(Debug)]
pub struct Timing<'a> {
    metrics: &'a ModelMetrics,
    started: Instant,
    deadline: Option<Instant>,
    end: Option<(Outcome, Duration)>,
}

impl Timing<'_> {
    /// Says how the request ended and returns how long it took.
    pub fn finish(&mut self, outcome: Outcome) -> Duration {
        let took = self.started.elapsed();
        self.end = Some((outcome, took));
        took
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        let (outcome, took) = self.end.unwrap_or_else(|| {
            let now = Instant::now();
            let late = self.deadline.is_some_and(|deadline| deadline <= now);
            (if late { Outcome::Timeout } else { Outcome::Cancelled }, now - self.started)
        });
        self.metrics.outcomes[outcome as usize].inc();
        if outcome != Outcome::Rejected {
            self.metrics.duration.observe(took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_under_its_model_version_and_outcome() {
        let metrics = Metrics::new();
        let model = metrics.model("iris", 3);
        model.start(None).finish(Outcome::Success);
        drop(model.start(None));
        drop(model.start(Some(Instant::now())));
        let text = metrics.render();
        assert!(text.contains("ml_inference_total{model=\"iris\",version=\"3\",status=\"success\"} 1"), "{text}");
        assert!(text.contains("status=\"cancelled\"} 1"), "{text}");
        assert!(text.contains("status=\"timeout\"} 1"), "{text}");
        assert!(text.contains("ml_inference_duration_seconds_count{model=\"iris\",version=\"3\"} 3"), "{text}");
    }

    #[test]
    fn a_version_is_in_one_state_at_a_time() {
        let metrics = Metrics::new();
        metrics.model_state("m", 1, None, Some("loading"));
        metrics.model_state("m", 1, Some("loading"), Some("ready"));
        let text = metrics.render();
        assert!(text.contains("state=\"ready\"} 1") && !text.contains("state=\"loading\""), "{text}");
    }
}
