//! Handles of the response cache: what requests met, what it holds, and how the level that servers
//! share fares.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::dependencies::{Dependencies, Dependency};
use super::model::Series;

/// Where an answer of a model with a response cache came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// Memory.
    Hit,
    /// The level that servers share.
    Shared,
    /// An identical request in flight.
    Joined,
    /// The model.
    Miss,
    /// The model, because the request wanted it so.
    Bypass,
    /// No answer: its caller got a job.
    Deferred,
}

impl CacheResult {
    pub(super) const ALL: [Self; 6] = [Self::Hit, Self::Shared, Self::Joined, Self::Miss, Self::Bypass, Self::Deferred];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Shared => "shared",
            Self::Joined => "joined",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Deferred => "deferred",
        }
    }
}

/// The handles of one version whose answers are cached.
#[derive(Debug, Clone)]
pub struct ModelCacheMetrics {
    pub(super) results: [Counter; 6],
    pub(super) _series: Arc<Series>,
}

impl ModelCacheMetrics {
    /// Counts an answer.
    pub fn count(&self, result: CacheResult) {
        self.results[result as usize].inc();
    }
}

/// The handles of the whole cache.
#[derive(Debug, Clone, Default)]
pub struct CacheMetrics {
    pub(super) evictions: Counter,
    pub(super) bytes: Gauge,
    pub(super) entries: Gauge,
    pub(super) shared_errors: Counter,
    pub(super) shared_dropped: Counter,
    dependencies: Dependencies,
}

impl CacheMetrics {
    pub(super) fn new(dependencies: Dependencies) -> Self {
        Self { dependencies, ..Self::default() }
    }

    /// Counts an entry that had to make room.
    pub fn count_eviction(&self) {
        self.evictions.inc();
    }

    /// Notes what the cache holds.
    pub fn set_size(&self, entries: usize, bytes: u64) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a failed call of the shared level.
    pub fn count_shared_error(&self) {
        self.shared_errors.inc();
    }

    /// Counts an answer that was not written to the shared level.
    pub fn count_shared_dropped(&self) {
        self.shared_dropped.inc();
    }

    /// Notes whether the shared level is in use.
    pub fn set_shared_in_use(&self, in_use: bool) {
        self.dependencies.set(Dependency::SharedCache, in_use);
    }
}
