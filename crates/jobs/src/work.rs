//! The contract of whoever knows what jobs ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use salver_core::{BoxFuture, Result};

use crate::types::{Answer, Lease};

/// Runs jobs.
pub trait Work: Send + Sync + 'static {
    /// Answers a job. Dropping the future cancels it.
    ///
    /// # Errors
    /// Those of the models; which of them may pass is told by their kind.
    fn run<'a>(&'a self, lease: &'a Lease, progress: &'a Done) -> BoxFuture<'a, Result<Answer>>;
}

/// How many requests of a job are answered.
#[derive(Debug, Clone, Default)]
pub struct Done(Arc<AtomicU64>);

impl Done {
    /// Counts one more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
