//! What a response cache shows of itself: how a request may use it, what came of that, and the
//! level that several servers share.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::Result;

/// What a request allows a cache to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheUse {
    /// Answer from it, and keep the answer.
    #[default]
    Use,
    /// Compute anew and keep the answer.
    Refresh,
    /// Neither read nor write.
    Bypass,
}

/// What a model's own settings make of a question whose answer is not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMiss {
    /// It is computed while its caller waits.
    #[default]
    Compute,
    /// Callers that can be given a job are: see [`Infer::infer_or_defer`](crate::Infer::infer_or_defer).
    Job,
}

/// Where an answer came from, for a model whose answers are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// This server's memory.
    Hit,
    /// The level that servers share.
    Shared,
    /// The computation of an identical request that was in flight.
    Joined,
    /// The model.
    Miss,
    /// The model, because the request wanted it so.
    Bypass,
}

impl CacheOutcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Hit, Self::Shared, Self::Joined, Self::Miss, Self::Bypass];

    /// Returns the name in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Shared => "shared",
            Self::Joined => "joined",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// The digest of a model version and of everything in a request that its answer depends on.
pub type CacheKey = [u8; 32];

/// An encoded answer and how long it may be used.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedEntry {
    /// The answer, as the writer encoded it.
    pub value: Bytes,
    /// From now on.
    pub time_to_live: Duration,
}

impl Debug for SharedEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedEntry({} bytes for {:?})", self.value.len(), self.time_to_live)
    }
}

/// A cache that several servers share. It may lose anything at any time.
///
/// Callers bound the time of each call by dropping its future. An error names the place, without
/// credentials.
pub trait SharedCache: Debug + Send + Sync + 'static {
    /// Returns the entry under `key`, unless it is gone or `model` was purged since.
    ///
    /// # Errors
    /// `NotReady` where the place cannot be reached, `Engine` for what is no entry.
    fn get<'a>(&'a self, model: &'a str, key: &'a CacheKey) -> BoxFuture<'a, Result<Option<SharedEntry>>>;

    /// Keeps an entry for as long as it says at most.
    ///
    /// # Errors
    /// `NotReady` where the place cannot be reached.
    fn put<'a>(&'a self, model: &'a str, key: &'a CacheKey, entry: SharedEntry) -> BoxFuture<'a, Result<()>>;

    /// Forgets the entries of one model, or all.
    ///
    /// # Errors
    /// `NotReady` where the place cannot be reached.
    fn purge<'a>(&'a self, model: Option<&'a str>) -> BoxFuture<'a, Result<()>>;

    /// Finds out whether the place answers.
    ///
    /// # Errors
    /// `NotReady` where it does not.
    fn ping(&self) -> BoxFuture<'_, Result<()>>;
}
