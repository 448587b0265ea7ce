//! The requests of a slot that wait: how they come in, and how runners and the watch take them out.
//!
//! Most wait in one line that the slot's workers serve. Requests of a model that runs on their own
//! threads wait with their crew (`inline.rs`) instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use salver_core::{Error, Result, Tensor};

use crate::desk::Due;
use crate::inline::Crew;
use crate::policy::{Decision, decide};
use crate::queue::{Entry, Lane, Queue};
use crate::recovery::{Outage, Recovery};
use crate::run::Job;
use crate::sequence::Sequences;
use crate::slot::Slot;

/// About how long a called worker takes to arrive.
const ARRIVAL: Duration = Duration::from_micros(50);
/// How often a worker that has nothing to do looks after an instance that runs elsewhere.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
/// How often background work looks for a core that online traffic left free.
const BACKGROUND_RETRY: Duration = Duration::from_millis(1);

/// The line that workers serve.
pub(crate) struct Waiting {
    pub(crate) state: Mutex<State>,
    wake: Condvar,
    /// Wakes workers that wait to make their instance again.
    pub(crate) closing: Condvar,
}

pub(crate) struct State {
    pub(crate) queue: Queue<Job>,
    n_arrived: u64,
    pub(crate) closed: bool,
    /// Of instances that run elsewhere.
    pub(crate) recovery: Option<Recovery>,
    /// Workers that sleep.
    idle: usize,
    /// Batches that run, also those of crews.
    busy: usize,
    /// How long a batch takes of late; none: nothing ran yet.
    run_time: Option<Duration>,
    /// Whether a sleeping worker was called and has not arrived yet. Requests that come meanwhile
    /// join its batch; calling a second worker for them would cost more than it brings.
    called: bool,
}

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Run a batch; say [`Slot::ran`] afterwards.
    Batch,
    /// See whether its instance is still there.
    Look,
    /// End: the slot is closed and nothing is left.
    End,
}

/// What there is to run.
enum Next {
    /// A batch.
    Batch,
    /// Nothing at the moment, or nothing that may run yet; look again then, if it says when.
    Wait(Option<Instant>),
    /// Never again.
    Closed,
}

/// Where a request waits, as its id tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// In the line that workers serve.
    Main,
    /// With a crew.
    Crew(usize),
}

impl Line {
    /// More than there are crews.
    const MOST: u64 = 16;

    /// Returns the id of the `nth` request of this line; ids of one line ascend.
    pub(crate) fn id(self, nth: u64) -> u64 {
        let line = match self {
            Self::Main => 0,
            Self::Crew(idx) => 1 + idx as u64,
        };
        debug_assert!(line < Self::MOST, "there are as many crews as stripes, at most");
        nth * Self::MOST + line
    }

    fn of(id: u64) -> Self {
        match id % Self::MOST {
            0 => Self::Main,
            line => Self::Crew(line as usize - 1),
        }
    }
}

impl Waiting {
    /// Nobody waits yet. `run_time` is what is known of it from elsewhere.
    pub(crate) fn new(run_time: Option<Duration>) -> Self {
        let state = State {
            queue: Queue::new(),
            n_arrived: 0,
            closed: false,
            recovery: None,
            idle: 0,
            busy: 0,
            run_time,
            called: false,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), closing: Condvar::new() }
    }

    /// Calls a worker for what waits, if one sleeps; a busy one looks for more by itself.
    pub(crate) fn call(&self, state: &mut State) {
        if state.queue.len() > 0 && state.idle > 0 {
            state.called = true;
            self.wake.notify_one();
        }
    }
}

impl State {
    /// Says why nothing is taken up at the moment, if that is so.
    pub(crate) fn outage(&self, now: Instant) -> Option<Outage> {
        self.recovery.as_ref()?.outage(now)
    }

    /// Whether a worker has to be called for what is in the queue; notes that it is. Where a busy
    /// one will be back sooner than a called one arrives, the request is left to it.
    fn calls(&mut self, max_rows: usize) -> bool {
        let is_quick = self.run_time.is_some_and(|run_time| run_time < ARRIVAL);
        let returns_soon = self.busy > 0 && is_quick && self.queue.rows() < max_rows;
        let calls = self.idle > 0 && !self.called && self.queue.len() > 0 && !returns_soon;
        self.called |= calls;
        calls
    }
}

impl Slot {
    /// Puts a request into a line; returns its id, and the crew that it is to lead, if any.
    pub(crate) fn push(&self, mut entry: Entry<Job>) -> Result<(u64, Option<&Crew>)> {
        let is_online = entry.lane != Lane::Background && entry.rows <= self.batching.max_rows;
        let bytes = || entry.payload.inputs.iter().map(Tensor::payload_len).sum::<usize>();
        let is_quick = self.quick_bytes.is_none_or(|most| bytes() <= most);
        if is_online
            && is_quick
            && let Some(crew) = self.inline.crew()
        {
            let (id, leads) = crew.join(entry);
            self.metrics.queue_grew(1);
            return Ok((id, leads.then_some(crew)));
        }
        let mut state = self.waiting.state.lock();
        if let Some(outage) = state.outage(entry.arrived) {
            return Err(self.unavailable(&outage));
        }
        if let Some(most) = self.levels.max_queue(entry.lane)
            && state.queue.len_of(entry.lane) >= most
        {
            return Err(self.full(format_args!("{most} requests waiting")));
        }
        let id = Line::Main.id(state.n_arrived);
        state.n_arrived += 1;
        entry.set_id(id);
        if let Some(order) = &self.order {
            order.arrived(id);
        }
        state.queue.push(entry);
        let calls = state.calls(self.batching.max_rows);
        drop(state);
        self.metrics.queue_grew(1);
        if calls {
            self.waiting.wake.notify_one();
        }
        Ok((id, None))
    }

    /// Takes a request back that nobody waits for any more; false: a runner has it already.
    pub(crate) fn withdraw(&self, id: u64) -> bool {
        if let Some(sequences) = &self.sequences {
            let is_back = sequences.withdraw(self, id);
            if is_back {
                self.left(id);
            }
            return is_back;
        }
        let of_crew = match Line::of(id) {
            Line::Main => None,
            Line::Crew(idx) => self.inline.withdraw(idx, id),
        };
        // A crew may have left its requests to the workers.
        let entry = of_crew.or_else(|| self.waiting.state.lock().queue.remove(id));
        if entry.is_some() {
            self.metrics.queue_shrank(1);
            self.left(id);
        }
        entry.is_some()
    }

    /// Refuses what has waited too long in `queue`.
    pub(crate) fn expire(&self, queue: &mut Queue<Job>, now: Instant) {
        let refused = queue.expire(now);
        if !refused.is_empty() {
            self.metrics.queue_shrank(refused.len());
            refused.into_iter().for_each(|entry| self.refuse_late(entry, now, Self::queue_time_over));
        }
    }

    fn refuse_late(&self, entry: Entry<Job>, now: Instant, why: impl Fn(&Self, Duration) -> Error) {
        let waited = now.saturating_duration_since(entry.arrived);
        self.counters.failed(waited);
        if let Some(reply) = entry.payload.reply {
            self.deliver(reply, Err(why(self, waited)));
        }
    }

    /// Moves the next batch into `batch`, if there is one that may run now.
    fn take(&self, state: &mut State, batch: &mut Vec<Entry<Job>>) -> Next {
        let now = Instant::now();
        self.expire(&mut state.queue, now);
        let rows = match decide(&state.queue.view(), &self.batching, now) {
            Decision::Idle if state.closed => return Next::Closed,
            Decision::Idle => return Next::Wait(None),
            Decision::WaitUntil(due) if !state.closed => return Next::Wait(Some(due)),
            Decision::WaitUntil(_) => self.batching.max_rows,
            Decision::Run(rows) => rows,
        };
        if state.queue.is_background_only() && !self.shared().has_free_core() {
            return Next::Wait(Some(now + BACKGROUND_RETRY));
        }
        state.queue.take(rows, batch);
        state.busy += 1;
        self.metrics.queue_shrank(batch.len());
        Next::Batch
    }

    /// Blocks until there is something to do; moves a batch to run into `batch`.
    pub(crate) fn next_work(&self, batch: &mut Vec<Entry<Job>>) -> Work {
        let Waiting { state, wake, .. } = &self.waiting;
        let look_at = self.is_elsewhere.then(|| Instant::now() + LOOK);
        let mut state = state.lock();
        loop {
            let next = if state.busy < self.instances || state.closed {
                self.take(&mut state, batch)
            } else {
                Next::Wait(None)
            };
            match next {
                Next::Closed => return Work::End,
                Next::Batch => {
                    if state.calls(self.batching.max_rows) {
                        wake.notify_one();
                    }
                    return Work::Batch;
                }
                Next::Wait(_) if look_at.is_some_and(|look_at| look_at <= Instant::now()) => return Work::Look,
                Next::Wait(until) => {
                    state.idle += 1;
                    match until.into_iter().chain(look_at).min() {
                        Some(due) => drop(wake.wait_until(&mut state, due)),
                        None => wake.wait(&mut state),
                    }
                    state.idle -= 1;
                    state.called = false;
                }
            }
        }
    }

    /// Notes that a crew is about to run a batch; false: as many run as there may be.
    pub(crate) fn may_run(&self) -> bool {
        let mut state = self.waiting.state.lock();
        let may = state.busy < self.instances;
        state.busy += usize::from(may);
        may
    }

    /// Notes that a worker's batch is over; it looks for the next one by itself.
    pub(crate) fn ran(&self, took: Duration) {
        drop(self.over(Some(took)));
    }

    /// Notes that the batch of a crew is over, or that there was none.
    pub(crate) fn crew_ran(&self, took: Option<Duration>) {
        let mut state = self.over(took);
        self.waiting.call(&mut state);
    }

    /// Notes that a run was given up; what waits is left to another runner.
    pub(crate) fn gave_up(&self) {
        if self.sequences.is_none() {
            self.crew_ran(None);
        }
    }

    pub(crate) fn over(&self, took: Option<Duration>) -> MutexGuard<'_, State> {
        let mut state = self.waiting.state.lock();
        state.busy -= 1;
        if let Some(took) = took {
            // The latest has a weight of an eighth.
            let run_time = state.run_time.map_or(took, |run_time| (run_time * 7 + took) / 8);
            state.run_time = Some(run_time);
            self.inline.set_run_time(run_time);
        }
        state
    }

    /// Leaves requests of a crew to the workers.
    pub(crate) fn hand_over(&self, entries: impl Iterator<Item = Entry<Job>>) {
        let mut state = self.waiting.state.lock();
        entries.for_each(|entry| state.queue.push(entry));
        self.waiting.call(&mut state);
    }

    /// Answers what has no time left at `now`, and fails the batches that have run for too long.
    /// Returns the next deadline.
    pub(crate) fn check(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        if let Some(limit) = self.run_timeout {
            self.give_up(limit, now);
        }
        let mut due = Due::new(now);
        self.workers.expire(&mut due);
        self.inline.expire(&mut due);
        let mut late = self.waiting.state.lock().queue.remove_if(|job| due.is_over(job.deadline));
        self.inline.remove_late(&mut due, &mut late);
        if let Some(sequences) = &self.sequences {
            late.extend(sequences.check(self, now, &mut due));
        }
        self.metrics.queue_shrank(late.len());
        late.into_iter().for_each(|entry| self.refuse_late(entry, now, Self::waited_too_long));
        for reply in due.replies {
            self.deliver(reply, Err(self.ran_too_long()));
        }
        due.next
    }

    /// Lets workers end once their line is empty. One that is being made again is given up.
    pub(crate) fn close(&self) {
        self.close_model();
        self.waiting.state.lock().closed = true;
        self.waiting.wake.notify_all();
        self.waiting.closing.notify_all();
        self.sequences.iter().for_each(Sequences::close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_where_its_request_waits() {
        for line in [Line::Main, Line::Crew(0), Line::Crew(7)] {
            for nth in [0, 1, 1 << 40] {
                assert_eq!(Line::of(line.id(nth)), line);
                assert!(line.id(nth) < line.id(nth + 1));
            }
        }
    }
}
