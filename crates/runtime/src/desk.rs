//! What a runner has in hand, kept where the watch can reach it.
//!
//! A run that does not come back leaves its thread with the engine; the callers' replies lie here
//! and are taken away from it. Whoever takes a reply answers it, so that each is answered once.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::Interrupt;

use crate::run::Reply;

/// A look around for deadlines: what is over, and when the next one is.
pub(crate) struct Due {
    now: Instant,
    pub(crate) next: Option<Instant>,
    pub(crate) replies: Vec<Reply>,
}

impl Due {
    pub(crate) fn new(now: Instant) -> Self {
        Self { now, next: None, replies: Vec::new() }
    }

    /// Whether `deadline` has passed; if not, it may be the next one.
    pub(crate) fn is_over(&mut self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            return false;
        };
        if deadline <= self.now {
            return true;
        }
        self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
        false
    }
}

/// One runner's desk.
#[derive(Default)]
pub(crate) struct Desk(Mutex<OnDesk>);

#[derive(Default)]
struct OnDesk {
    /// In the order of the batch; taken once answered.
    replies: Vec<Option<Reply>>,
    /// When the engine was called; none: it is not running.
    running_since: Option<Instant>,
    /// Whether a run waits for somebody else.
    is_paused: bool,
    interrupt: Option<Interrupt>,
    is_revoked: bool,
}

impl Desk {
    /// Lays the replies of a batch out.
    pub(crate) fn lay_out(&self, replies: impl Iterator<Item = Reply>) {
        let mut desk = self.0.lock();
        desk.replies.clear();
        desk.replies.extend(replies.map(Some));
    }

    /// Notes that the engine is called.
    pub(crate) fn starts(&self, now: Instant, interrupt: Option<Interrupt>) {
        let mut desk = self.0.lock();
        desk.running_since = Some(now);
        desk.interrupt = interrupt;
    }

    /// Notes that the engine waits for somebody else; false: too late, everything was taken away.
    pub(crate) fn pause(&self) -> bool {
        let mut desk = self.0.lock();
        desk.is_paused = desk.running_since.take().is_some();
        !desk.is_revoked
    }

    /// Notes that the engine goes on; false: too late, everything was taken away.
    pub(crate) fn resume(&self, now: Instant) -> bool {
        let mut desk = self.0.lock();
        if std::mem::take(&mut desk.is_paused) {
            desk.running_since = Some(now);
        }
        !desk.is_revoked
    }

    /// Notes that the engine came back; false: too late, everything was taken away.
    pub(crate) fn came_back(&self) -> bool {
        let mut desk = self.0.lock();
        desk.running_since = None;
        !desk.is_revoked
    }

    /// Hands out the replies from the `first`-th request of the batch on, as far as `answer` goes.
    pub(crate) fn answer<T>(&self, first: usize, with: impl Iterator<Item = T>, mut answer: impl FnMut(Reply, T)) {
        let mut desk = self.0.lock();
        for (reply, value) in desk.replies.iter_mut().skip(first).zip(with) {
            if let Some(reply) = reply.take() {
                answer(reply, value);
            }
        }
    }

    /// Returns the replies from the `first`-th request of the batch on; none where it was answered.
    pub(crate) fn take_back(&self, first: usize) -> Vec<Option<Reply>> {
        let mut desk = self.0.lock();
        let first = first.min(desk.replies.len());
        desk.replies.split_off(first)
    }

    /// Takes the replies away that have no time left.
    pub(crate) fn expire(&self, due: &mut Due) {
        let mut desk = self.0.lock();
        for slot in &mut desk.replies {
            if slot.as_ref().is_some_and(|reply| due.is_over(reply.deadline)) {
                due.replies.extend(slot.take());
            }
        }
    }

    /// Takes everything away from a run that has lasted `limit`, and interrupts it.
    pub(crate) fn revoke(&self, limit: Duration, now: Instant) -> Option<Vec<Reply>> {
        let mut desk = self.0.lock();
        let is_overdue = desk.running_since.is_some_and(|since| now.saturating_duration_since(since) >= limit);
        if !is_overdue || desk.is_revoked {
            return None;
        }
        desk.is_revoked = true;
        if let Some(interrupt) = desk.interrupt.take() {
            interrupt();
        }
        Some(desk.replies.drain(..).flatten().collect())
    }
}
