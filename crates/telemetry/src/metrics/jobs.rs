//! The queue of jobs: what stands in it, and how runs end.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use super::buckets::DURATION;
use super::dependencies::{Dependencies, Dependency};
use super::labels::{JobOutcomeLabels, JobStateLabels};
use crate::histogram::AtomicHistogram;

/// Handles of the queue of jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobMetrics {
    pub(super) depth: Family<JobStateLabels, Gauge>,
    pub(super) oldest: Gauge<f64, AtomicU64>,
    pub(super) runs: Family<JobOutcomeLabels, Counter>,
    pub(super) lost: Counter,
    pub(super) callbacks: Family<JobOutcomeLabels, Counter>,
    pub(super) duration: AtomicHistogram,
    dependencies: Dependencies,
}

impl JobMetrics {
    pub(super) fn new(dependencies: Dependencies) -> Self {
        let new = Self {
            depth: Family::default(),
            oldest: Gauge::default(),
            runs: Family::default(),
            lost: Counter::default(),
            callbacks: Family::default(),
            duration: AtomicHistogram::new(&DURATION),
            dependencies,
        };
        // Shown from the start, so that they can be watched for a change.
        for state in ["scheduled", "queued", "running", "dead"] {
            new.depth(state, 0);
        }
        for outcome in ["done", "failed", "troubled", "lost", "given_back"] {
            drop(new.runs.get_or_create(&JobOutcomeLabels { outcome }));
        }
        for outcome in ["sent", "failed", "given_up"] {
            drop(new.callbacks.get_or_create(&JobOutcomeLabels { outcome }));
        }
        new
    }

    /// Notes whether the queue answers.
    pub fn answers(&self, answers: bool) {
        self.dependencies.set(Dependency::JobQueue, answers);
    }

    /// Notes how many jobs are in a state.
    pub fn depth(&self, state: &'static str, jobs: u64) {
        self.depth.get_or_create(&JobStateLabels { state }).set(i64::try_from(jobs).unwrap_or(i64::MAX));
    }

    /// Notes how long the oldest job has waited for a worker.
    pub fn oldest(&self, age: Duration) {
        self.oldest.set(age.as_secs_f64());
    }

    /// Counts a run.
    pub fn ran(&self, outcome: &'static str, took: Duration) {
        self.runs.get_or_create(&JobOutcomeLabels { outcome }).inc();
        self.duration.observe(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts an attempt to say that a job has ended.
    pub fn told(&self, outcome: &'static str) {
        self.callbacks.get_or_create(&JobOutcomeLabels { outcome }).inc();
    }

    /// Counts jobs whose worker is gone.
    pub fn lost(&self, jobs: u64) {
        self.lost.inc_by(jobs);
    }
}

impl Metrics {
    /// Returns the handles of the queue of jobs.
    pub fn jobs(&self) -> JobMetrics {
        self.jobs.clone()
    }
}
