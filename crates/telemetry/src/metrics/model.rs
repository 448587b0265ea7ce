//! The handles of one model version, and the clock of one request.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::ModelFamilies;
use super::cache::{CacheResult, ModelCacheMetrics};
use super::features::{LookupMetrics, LookupResult};
use super::labels::ModelLabels;
use crate::histogram::AtomicHistogram;
use crate::striped::{StripedCounter, StripedGauge};

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
    pub(super) const ALL: [Self; 5] = [Self::Success, Self::Error, Self::Timeout, Self::Rejected, Self::Cancelled];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why an instance was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// The engine panicked.
    Panic,
    /// A run did not end in time.
    Timeout,
    /// A run failed in a way that makes the instance suspect.
    Error,
    /// What computes for it elsewhere ended.
    Died,
}

impl Replaced {
    pub(super) const ALL: [Self; 4] = [Self::Panic, Self::Timeout, Self::Error, Self::Died];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Died => "died",
        }
    }
}

/// The stages of a request, in their order. Those of a batch are shared by its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Decode,
    Queue,
    Assemble,
    Infer,
    Split,
    Encode,
    /// Of models with a task only.
    Preprocess,
    /// Of models with a task only.
    Postprocess,
}

impl Stage {
    /// Those of every model.
    pub(super) const COMMON: [Self; 6] =
        [Self::Decode, Self::Queue, Self::Assemble, Self::Infer, Self::Split, Self::Encode];
    /// Those of a model with a task.
    pub(super) const OF_TASK: [Self; 2] = [Self::Preprocess, Self::Postprocess];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Queue => "queue",
            Self::Assemble => "assemble",
            Self::Infer => "infer",
            Self::Split => "split",
            Self::Encode => "encode",
            Self::Preprocess => "preprocess",
            Self::Postprocess => "postprocess",
        }
    }
}

/// The handles of one model version.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    duration: AtomicHistogram,
    stages: [AtomicHistogram; 6],
    outcomes: [StripedCounter; 5],
    queue: StripedGauge,
    batch: AtomicHistogram,
    elements: Counter,
    padded: Counter,
    replaced: [Counter; 4],
    restart_failures: Counter,
    pub(super) series: Arc<Series>,
}

impl ModelMetrics {
    pub(super) fn new(families: &Arc<ModelFamilies>, labels: ModelLabels) -> Self {
        let mut held = families.held.lock();
        let series = held.get(&labels).and_then(Weak::upgrade).unwrap_or_else(|| {
            let series = Arc::new(Series { families: families.clone(), labels: labels.clone() });
            held.insert(labels.clone(), Arc::downgrade(&series));
            series
        });
        // Made under the lock, so that none of them goes with an earlier holder's.
        Self {
            duration: families.duration.get_or_create_owned(&labels),
            stages: Stage::COMMON.map(|stage| families.stage.get_or_create_owned(&labels.with_stage(stage))),
            outcomes: Outcome::ALL.map(|outcome| families.total.get_or_create_owned(&labels.with_outcome(outcome))),
            queue: families.queue.get_or_create_owned(&labels),
            batch: families.batch.get_or_create_owned(&labels),
            elements: families.elements.get_or_create_owned(&labels),
            padded: families.padded.get_or_create_owned(&labels),
            replaced: Replaced::ALL.map(|reason| families.replaced.get_or_create_owned(&labels.with_reason(reason))),
            restart_failures: families.restart_failures.get_or_create_owned(&labels),
            series,
        }
    }

    /// Starts timing a request. Without a call of [`Timing::finish`] it counts as cancelled, or
    /// as timed out if `deadline` has passed by then.
    pub fn start(&self, deadline: Option<Instant>) -> Timing<'_> {
        Timing { metrics: self, started: Instant::now(), deadline, end: None, is_handed_over: false }
    }

    /// Returns the handles for a version whose answers are cached.
    pub fn cache(&self) -> ModelCacheMetrics {
        let Series { families, labels } = &*self.series;
        let results = CacheResult::ALL.map(|result| families.cache.get_or_create_owned(&labels.with_result(result)));
        ModelCacheMetrics { results, _series: self.series.clone() }
    }

    /// Returns the handles for a version that looks features up.
    pub fn lookups(&self) -> LookupMetrics {
        let Series { families, labels } = &*self.series;
        let results = LookupResult::ALL.map(|result| families.lookups.get_or_create_owned(&labels.with_lookup(result)));
        LookupMetrics { results, _series: self.series.clone() }
    }

    /// Returns the handles for a version with a task.
    pub fn task(&self) -> TaskMetrics {
        let Series { families, labels } = &*self.series;
        let stage = |stage| families.stage.get_or_create_owned(&labels.with_stage(stage));
        TaskMetrics { stages: Stage::OF_TASK.map(stage), _series: self.series.clone() }
    }

    /// Notes how long reading a request and writing its reply took.
    pub fn observe_protocol(&self, decode: Duration, encode: Duration) {
        self.observe_stage(Stage::Decode, decode);
        self.observe_stage(Stage::Encode, encode);
    }

    /// Notes how long a request waited for a worker.
    pub fn observe_queue(&self, waited: Duration) {
        self.observe_stage(Stage::Queue, waited);
    }

    /// Notes how long the steps of one execution took: joining inputs, the engine, cutting outputs apart.
    pub fn observe_execution(&self, assemble: Duration, infer: Duration, split: Duration) {
        self.observe_stage(Stage::Assemble, assemble);
        self.observe_stage(Stage::Infer, infer);
        self.observe_stage(Stage::Split, split);
    }

    /// Notes the rows of one execution.
    pub fn observe_batch(&self, rows: usize) {
        self.batch.observe(rows as u64);
    }

    /// Notes the elements of one execution's padded inputs: all of them, and those of them that are
    /// padding.
    pub fn observe_padding(&self, elements: usize, padding: usize) {
        self.elements.inc_by(elements as u64);
        self.padded.inc_by(padding as u64);
    }

    /// Notes that requests came to wait for a worker.
    pub fn queue_grew(&self, requests: usize) {
        self.queue.add(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Notes that requests that waited do so no more.
    pub fn queue_shrank(&self, requests: usize) {
        self.queue.add(-i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Notes that an instance was replaced.
    pub fn instance_replaced(&self, reason: Replaced) {
        self.replaced[reason as usize].inc();
    }

    /// Notes that no instance could be made in place of one that is gone.
    pub fn restart_failed(&self) {
        self.restart_failures.inc();
    }

    /// Notes how long the load took.
    pub fn loaded(&self, took: Duration) {
        self.series.families.load.get_or_create(&self.series.labels).set(took.as_secs_f64());
    }

    fn observe_stage(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].observe(nanos(took));
    }
}

/// The handles of one version with a task.
#[derive(Debug, Clone)]
pub struct TaskMetrics {
    stages: [AtomicHistogram; 2],
    _series: Arc<Series>,
}

impl TaskMetrics {
    /// Notes how long it took to turn a request into tensors.
    pub fn observe_preprocess(&self, took: Duration) {
        self.stages[0].observe(nanos(took));
    }

    /// Notes how long it took to turn outputs into an answer.
    pub fn observe_postprocess(&self, took: Duration) {
        self.stages[1].observe(nanos(took));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The series of one version, which end with this value.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) families: Arc<ModelFamilies>,
    pub(super) labels: ModelLabels,
}

impl Drop for Series {
    fn drop(&mut self) {
        let mut held = self.families.held.lock();
        // Somebody may have taken up the same version since the last holder left.
        if held.get(&self.labels).is_some_and(|series| series.strong_count() == 0) {
            held.remove(&self.labels);
            self.families.remove(&self.labels);
        }
    }
}

/// Times one request and records it when dropped, also on `?`.
#[derive(Debug)]
pub struct Timing<'a> {
    metrics: &'a ModelMetrics,
    started: Instant,
    deadline: Option<Instant>,
    end: Option<(Outcome, Duration)>,
    is_handed_over: bool,
}

impl Timing<'_> {
    /// Returns when the request was admitted.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Says how the request ended and returns how long it took.
    pub fn finish(&mut self, outcome: Outcome) -> Duration {
        let took = self.started.elapsed();
        self.end = Some((outcome, took));
        took
    }

    /// Records nothing, because another timing has the request from now on; returns how long this
    /// one had it.
    pub fn hand_over(mut self) -> Duration {
        self.is_handed_over = true;
        self.started.elapsed()
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        if self.is_handed_over {
            return;
        }
        let (outcome, took) = self.end.unwrap_or_else(|| {
            let now = Instant::now();
            let late = self.deadline.is_some_and(|deadline| deadline <= now);
            (if late { Outcome::Timeout } else { Outcome::Cancelled }, now - self.started)
        });
        self.metrics.outcomes[outcome as usize].inc();
        if outcome != Outcome::Rejected {
            self.metrics.duration.observe(nanos(took));
        }
    }
}
