//! Holds answers back until all earlier requests have theirs (`preserve_ordering`).

use std::collections::VecDeque;

use parking_lot::Mutex;
use salver_core::Result;

use crate::run::{Answer, Reply};

/// Requests in the order in which they came, with the answers that are ready too early.
#[derive(Debug, Default)]
pub(crate) struct Order(Mutex<VecDeque<Turn>>);

#[derive(Debug)]
struct Turn {
    id: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Ready(Box<(Reply, Result<Answer>)>),
    /// Its caller has left.
    Void,
}

impl Order {
    /// Notes that `id` came. Ids ascend.
    pub(crate) fn arrived(&self, id: u64) {
        self.0.lock().push_back(Turn { id, state: State::Open });
    }

    /// Answers a request once its turn has come, and those that waited for it.
    pub(crate) fn deliver(&self, reply: Reply, result: Result<Answer>) {
        let id = reply.id();
        self.settle(id, State::Ready(Box::new((reply, result))));
    }

    /// Notes that nobody waits for `id` any more.
    pub(crate) fn left(&self, id: u64) {
        self.settle(id, State::Void);
    }

    fn settle(&self, id: u64, state: State) {
        let mut turns = self.0.lock();
        if let Ok(idx) = turns.binary_search_by_key(&id, |turn| turn.id) {
            turns[idx].state = state;
        }
        while turns.front().is_some_and(|turn| !matches!(turn.state, State::Open)) {
            // Sent under the lock: two runners must not overtake each other here. Nothing waits.
            if let Some(Turn { state: State::Ready(ready), .. }) = turns.pop_front() {
                let (reply, result) = *ready;
                reply.send(result);
            }
        }
    }
}
