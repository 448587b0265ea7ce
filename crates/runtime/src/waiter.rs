//! A caller that waits for its answer.

use std::time::Instant;

use salver_core::{Error, Result};
use tokio::sync::oneshot;

use crate::queue::Expiry;
use crate::run::Answer;
use crate::slot::{NEAR, Slot};

/// A caller that waits. Dropped before its answer came, it takes its request back.
pub(crate) struct Waiter<'a> {
    pub(crate) slot: &'a Slot,
    pub(crate) id: u64,
    pub(crate) answer: oneshot::Receiver<Result<Answer>>,
}

impl Waiter<'_> {
    /// Waits for the answer, no longer than until `deadline`, and for a runner no longer than
    /// `expiry` says.
    pub(crate) async fn answer(
        &mut self,
        deadline: Option<Instant>,
        expiry: Expiry,
        arrived: Instant,
    ) -> Result<Answer> {
        let is_near = deadline.is_some_and(|deadline| deadline < arrived + NEAR);
        if is_near || matches!(expiry, Expiry::Reject(_)) {
            return Box::pin(self.answer_in_time(deadline, expiry, arrived)).await;
        }
        let answer = (&mut self.answer).await;
        self.unpack(answer)
    }

    async fn answer_in_time(&mut self, deadline: Option<Instant>, expiry: Expiry, arrived: Instant) -> Result<Answer> {
        if let Expiry::Reject(due) = expiry
            && deadline.is_none_or(|deadline| due < deadline)
        {
            match tokio::time::timeout_at(due.into(), &mut self.answer).await {
                Ok(answer) => return self.unpack(answer),
                Err(_) if self.slot.withdraw(self.id) => return Err(self.slot.queue_time_over(arrived.elapsed())),
                // A runner has it: from here on only the caller's own deadline counts.
                Err(_) => {}
            }
        }
        let answer = match deadline {
            None => (&mut self.answer).await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), &mut self.answer).await {
                Ok(answer) => answer,
                Err(_) if self.slot.withdraw(self.id) => return Err(self.slot.waited_too_long(arrived.elapsed())),
                Err(_) => return Err(self.slot.ran_too_long()),
            },
        };
        self.unpack(answer)
    }

    fn unpack(&self, answer: Result<Result<Answer>, oneshot::error::RecvError>) -> Result<Answer> {
        answer.map_err(|_| Error::engine(format!("a worker of model '{}' ended early", self.slot.info.name)))?
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            self.slot.withdraw(self.id);
        }
    }
}
