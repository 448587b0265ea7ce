//! The answers of one request to a decoupled model, from the thread that runs it to whoever reads
//! them.
//!
//! Bounded: a runner waits while nobody reads, and gives up when the reader has left or the
//! request's time is up. Who reads drops its end to cancel.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use futures::Stream;
use parking_lot::{Condvar, Mutex};
use salver_core::{BoxFuture, InferResponse, Result};

/// Answers that may wait for their reader.
const ROOM: usize = 4;

/// Why an answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Nobody reads any more.
    Gone,
    /// Time is up.
    Late,
}

/// Where a runner puts answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inlet(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<InferResponse>,
    is_gone: bool,
    reader: Option<Waker>,
}

impl Inlet {
    /// Hands an answer over; waits for room until `deadline`.
    pub(crate) fn send(&self, response: InferResponse, deadline: Option<Instant>) -> Result<(), NotTaken> {
        let mut state = self.0.state.lock();
        while state.waiting.len() >= ROOM && !state.is_gone {
            match deadline {
                None => self.0.room.wait(&mut state),
                Some(deadline) if self.0.room.wait_until(&mut state, deadline).timed_out() => {
                    return Err(NotTaken::Late);
                }
                Some(_) => {}
            }
        }
        if state.is_gone {
            return Err(NotTaken::Gone);
        }
        state.waiting.push_back(response);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl Shared {
    fn poll(&self, task: &TaskContext<'_>) -> Option<InferResponse> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        match next {
            Some(_) => drop(self.room.notify_one()),
            None => state.reader = Some(task.waker().clone()),
        }
        next
    }
}

/// The answers of one request, read one by one. `driver` is the request itself: it ends after the
/// last answer, with one of its own where the model is not decoupled after all.
pub(crate) struct Pieces {
    inlet: Inlet,
    driver: Option<BoxFuture<'static, Result<Option<InferResponse>>>>,
    /// How the request ended, until that is read.
    end: Option<Result<InferResponse>>,
}

impl Pieces {
    /// Makes the stream of what `drive` does with its inlet.
    pub(crate) fn new(drive: impl FnOnce(Inlet) -> BoxFuture<'static, Result<Option<InferResponse>>>) -> Self {
        let inlet = Inlet::default();
        Self { driver: Some(drive(inlet.clone())), inlet, end: None }
    }
}

impl Stream for Pieces {
    type Item = Result<InferResponse>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(end) = driver.as_mut().poll(task)
        {
            self.driver = None;
            self.end = end.transpose();
        }
        // Whatever was handed over before the end comes before it.
        if let Some(response) = self.inlet.0.poll(task) {
            return Poll::Ready(Some(Ok(response)));
        }
        if self.driver.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(self.end.take())
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // Before the request: a runner that waits for room must not wait for its end.
        self.inlet.0.state.lock().is_gone = true;
        self.inlet.0.room.notify_all();
    }
}
