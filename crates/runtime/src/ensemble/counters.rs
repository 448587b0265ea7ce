//! What each step of an ensemble did since it was loaded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use salver_core::StepStatistics;

/// Counters of one step.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    runs: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
    fallbacks: AtomicU64,
    nanos: AtomicU64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Failed,
}

/// A run that is timed.
pub(crate) struct Timer<'a> {
    counters: &'a Counters,
    started: Instant,
}

impl Timer<'_> {
    pub(crate) fn end(&self, ended: Ended) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.runs.fetch_add(1, Ordering::Relaxed);
        self.counters.nanos.fetch_add(nanos, Ordering::Relaxed);
        if ended == Ended::Failed {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counters {
    pub(crate) fn start(&self) -> Timer<'_> {
        Timer { counters: self, started: Instant::now() }
    }

    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fell_back(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> StepStatistics {
        StepStatistics {
            runs: self.runs.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            total: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}
