//! Calls of models that other servers answer for: how they end, and what they cost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::labels::{ModelLabels, RemoteOutcomeLabels, TokenLabels};
use super::model::{ModelMetrics, Series};

/// How an attempt to ask another server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteOutcome {
    /// With an answer that could be used.
    Success,
    /// With an answer of success that could not.
    Unusable,
    /// With a refusal: the request, the key or the model.
    Refused,
    /// With the wish for fewer requests.
    RateLimited,
    /// With the word that the server cannot answer.
    Unavailable,
    /// No connection came about.
    Unreached,
    /// The connection ended before the answer did.
    Lost,
    /// Not within its time.
    Timeout,
    /// Nobody waited for the answer any more.
    Abandoned,
}

impl RemoteOutcome {
    const ALL: [Self; 9] = [
        Self::Success,
        Self::Unusable,
        Self::Refused,
        Self::RateLimited,
        Self::Unavailable,
        Self::Unreached,
        Self::Lost,
        Self::Timeout,
        Self::Abandoned,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unusable => "unusable",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Unreached => "unreached",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::Abandoned => "abandoned",
        }
    }
}

const INPUT: &str = "input";
const OUTPUT: &str = "output";

/// An amount that only grows, kept in millionths of a millionth so that its sum is exact.
#[derive(Debug, Clone, Default)]
pub(super) struct CostCounter(Arc<AtomicU64>);

impl CostCounter {
    fn add(&self, picos: u64) {
        self.0.fetch_add(picos, Ordering::Relaxed);
    }
}

impl TypedMetric for CostCounter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for CostCounter {
    /// The double nearest to the sum: its shortest form has all digits of up to 15.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a double")]
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let amount = self.0.load(Ordering::Relaxed) as f64 / 1e12;
        encoder.encode_counter::<NoLabelSet, _, u64>(&amount, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// The families with series for each remote model.
#[derive(Debug, Default)]
pub(super) struct RemoteFamilies {
    pub(super) requests: Family<RemoteOutcomeLabels, Counter>,
    pub(super) tokens: Family<TokenLabels, Counter>,
    pub(super) cost: Family<ModelLabels, CostCounter>,
    pub(super) circuit: Family<ModelLabels, Gauge>,
    pub(super) in_flight: Family<ModelLabels, Gauge>,
}

impl RemoteFamilies {
    /// Removes every series of a version.
    pub(super) fn remove(&self, of: &ModelLabels) {
        for outcome in RemoteOutcome::ALL {
            self.requests.remove(&of.with_remote_outcome(outcome));
        }
        for kind in [INPUT, OUTPUT] {
            self.tokens.remove(&of.with_tokens(kind));
        }
        self.cost.remove(of);
        self.circuit.remove(of);
        self.in_flight.remove(of);
    }
}

/// The handles of one version that another server answers for.
#[derive(Debug, Clone)]
pub struct RemoteMetrics {
    outcomes: [Counter; 9],
    input: Counter,
    output: Counter,
    cost: CostCounter,
    circuit: Gauge,
    in_flight: Gauge,
    _series: Arc<Series>,
}

impl ModelMetrics {
    /// Returns the handles for a version that another server answers for.
    pub fn remote(&self) -> RemoteMetrics {
        let (families, labels) = (&self.series.families.remote, &self.series.labels);
        let outcome = |outcome| families.requests.get_or_create_owned(&labels.with_remote_outcome(outcome));
        let tokens = |kind| families.tokens.get_or_create_owned(&labels.with_tokens(kind));
        RemoteMetrics {
            outcomes: RemoteOutcome::ALL.map(outcome),
            input: tokens(INPUT),
            output: tokens(OUTPUT),
            cost: families.cost.get_or_create_owned(labels),
            circuit: families.circuit.get_or_create_owned(labels),
            in_flight: families.in_flight.get_or_create_owned(labels),
            _series: self.series.clone(),
        }
    }
}

impl RemoteMetrics {
    /// Counts an attempt that has ended.
    pub fn attempted(&self, outcome: RemoteOutcome) {
        self.outcomes[outcome as usize].inc();
    }

    /// Counts tokens that the server has counted: of the question, and of the answer.
    pub fn used(&self, input: u64, output: u64) {
        self.input.inc_by(input);
        self.output.inc_by(output);
    }

    /// Adds what the server charges, in millionths of a millionth.
    pub fn charged(&self, picos: u64) {
        self.cost.add(picos);
    }

    /// Notes whether calls are refused because the server fails them.
    pub fn circuit_open(&self, is_open: bool) {
        self.circuit.set(i64::from(is_open));
    }

    /// Notes an attempt that is under way until the guard is dropped.
    pub fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }
}

/// An attempt that is under way.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
