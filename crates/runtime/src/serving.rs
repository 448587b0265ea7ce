//! The way of a request to the slot that answers it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use salver_core::{Context, Error, ErrorKind, InferRequest, InferResponse, ModelRef, Result};

use crate::cache::CachedVersion;
use crate::ensemble::is_outdated;
use crate::lifecycle::Lifecycle;
use crate::on_demand::Access;
use crate::slot::{Refusal, Slot};

impl Lifecycle {
    /// Runs one request: of a client, or of a step of an ensemble.
    pub(crate) async fn infer(self: &Arc<Self>, request: &mut InferRequest, ctx: &Context) -> Result<InferResponse> {
        // A slot that drains leaves the request alone; by then the table has its successor or none.
        for _ in 0..8 {
            if let Some(slot) = self.begun(request) {
                match Box::pin(slot.infer(request, ctx)).await {
                    Ok(response) => return Ok(response),
                    Err(Refusal::Error(error)) => return Err(error),
                    Err(Refusal::Draining) => {}
                }
            }
            let access = self.access(&request.model, ctx).await?;
            let answered = match self.cache_of(&access.slot) {
                // Boxed: requests of models without a cache need not carry its states along.
                Some(cached) => Box::pin(cached.infer(&access.slot, request, ctx)).await,
                None => access.slot.infer(request, ctx).await,
            };
            match answered {
                Ok(response) => return Ok(response),
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Draining) => {}
            }
        }
        Err(Error::not_ready(format!("model '{}' is being replaced; try again", request.model)))
    }

    /// Returns the answers that are kept for a slot. Those of an ensemble do not count from the moment
    /// that one of its models is another, until it was put together anew.
    pub(crate) fn cache_of<'a>(&self, slot: &'a Slot) -> Option<&'a CachedVersion> {
        let cached = slot.cache.get()?;
        (slot.ensemble.get().is_none() || !is_outdated(slot, &self.table.load())).then_some(cached)
    }

    /// Returns the slot that answers `model`.
    ///
    /// # Errors
    /// As [`Lifecycle::slot`].
    pub(crate) async fn access(self: &Arc<Self>, model: &ModelRef, ctx: &Context) -> Result<Access> {
        self.slot(model, ctx.deadline).await.map_err(|error| self.not_yet(error))
    }

    /// Before the first look at the source is over, nobody knows which models there are.
    pub(crate) fn not_yet(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound || self.has_started() {
            return error;
        }
        Error::not_ready("models are still loading; try again shortly").with_retry_after(Duration::from_secs(1))
    }

    /// Whether the first look at the source is over.
    pub(crate) fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Notes that the first look at the source is over.
    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }
}
