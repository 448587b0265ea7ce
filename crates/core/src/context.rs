//! What travels beside a request: who asks, until when, how urgently.

use std::sync::Arc;
use std::time::Instant;

use crate::{Bill, CacheUse};

/// How a request competes with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Class {
    /// Somebody waits for the answer: refused at once when the model is full.
    #[default]
    Interactive,
    /// Jobs, batches and streams: waits for room instead.
    Background,
}

/// The circumstances of one request. Dropping the future of the call cancels it.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Identifies the request in logs and replies.
    pub id: Arc<str>,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// How the request competes with others.
    pub class: Class,
    /// The W3C `traceparent` that came along.
    pub traceparent: Option<Arc<str>>,
    /// What a response cache may do with it.
    pub cache: CacheUse,
    /// Where charges for the request go; none: nobody charged anything yet.
    pub bill: Option<Arc<Bill>>,
    /// How many ensembles the request has come through.
    pub depth: u8,
}

impl Context {
    /// Makes a context without a deadline.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Whether the deadline has passed at `now`.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}
