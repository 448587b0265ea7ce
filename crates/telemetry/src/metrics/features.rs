//! Handles of a model that looks features up.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use super::model::Series;

/// What became of looking one key up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupResult {
    /// There is a row.
    Found,
    /// There is none.
    Missing,
    /// The store did not answer, or with what cannot be a feature.
    Failed,
}

impl LookupResult {
    pub(super) const ALL: [Self; 3] = [Self::Found, Self::Missing, Self::Failed];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

/// The handles of one version that looks features up.
#[derive(Debug, Clone)]
pub struct LookupMetrics {
    pub(super) results: [Counter; 3],
    pub(super) _series: Arc<Series>,
}

impl LookupMetrics {
    /// Counts keys that ended in the same way.
    pub fn count(&self, result: LookupResult, keys: usize) {
        self.results[result as usize].inc_by(keys as u64);
    }
}
