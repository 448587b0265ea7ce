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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use salver_core::Error;
    use tokio::sync::oneshot;

    use super::*;
    use crate::places::Places;
    use crate::run::Seat;
    use crate::shared::Shared;

    type Waiting = oneshot::Receiver<Result<Answer>>;

    fn reply(id: u64) -> (Reply, Waiting) {
        let (sender, receiver) = oneshot::channel();
        let place = Places::new(1, Shared::new(0)).take().unwrap();
        (Reply { id, deadline: None, sender, seat: Seat::Own(place) }, receiver)
    }

    proptest! {
        #[test]
        fn an_answer_leaves_once_all_earlier_ones_have(
            ends in Just((0u64..12).collect::<Vec<_>>()).prop_shuffle(),
            leaves in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let order = Order::default();
            let (mut replies, mut waiting): (Vec<_>, Vec<_>) = (0..12)
                .map(|id| { order.arrived(id); let (reply, waiting) = reply(id); (Some(reply), Some(waiting)) })
                .unzip();
            let mut settled = [false; 12];
            for id in ends {
                let idx = usize::try_from(id).unwrap();
                let reply = replies[idx].take().unwrap();
                if leaves[idx] {
                    waiting[idx] = None;
                    order.left(id);
                } else {
                    order.deliver(reply, Err(Error::engine("late")));
                }
                settled[idx] = true;
                let due = settled.iter().take_while(|settled| **settled).count();
                for (idx, waiting) in waiting.iter_mut().enumerate() {
                    let is_answered = waiting.as_mut().map(|waiting| !waiting.is_empty());
                    prop_assert!(is_answered.is_none_or(|answered| answered == (idx < due)), "{idx} of {due}");
                }
            }
            prop_assert!(order.0.lock().is_empty());
        }
    }
}
