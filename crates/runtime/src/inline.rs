//! Runs a model of microseconds on the threads that bring its requests.
//!
//! Waking a worker costs more than such a model takes. Instead the first request that finds nobody
//! at it leads: it lets everything go first that is ready on its thread, so that the requests of
//! other connections join, and then runs what waits as one batch. Where nobody has joined for a
//! while it goes ahead, and only now and then looks again: to step back wakes another thread. The requests of each core are a
//! crew with a line and a leader of their own: cores that share a line take turns at it, and wake
//! each other's requests, which costs more than all that is done for them here.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use salver_core::{InstanceGroup, Placement};
use salver_telemetry::{stripe, stripes};

use crate::desk::{Desk, Due};
use crate::queue::{Entry, Queue};
use crate::restore::Held;
use crate::run::{After, Job, Reply, Runner};
use crate::slot::Slot;
use crate::waiting::Line;

/// Runs longer than this are left to workers: meanwhile no socket is read on the thread.
const LONGEST: Duration = Duration::from_micros(150);

/// After so many runs in a row of one request each, none is expected to join.
const ALONE_AFTER: u32 = 32;
/// One in so many of those that expect nobody lets others join all the same.
const LOOK_EVERY: u32 = 8;

/// Whether a slot's requests may run the model themselves, and those that do.
pub(crate) struct Inline {
    placement: Placement,
    /// Whether runs are so short of late that a worker is not worth waking.
    is_quick: AtomicBool,
    /// None: never. No more than instances, as each runs a batch at a time.
    crews: Box<[CachePadded<Crew>]>,
    /// Those of runners at work and at rest, for the watch.
    desks: Mutex<Vec<Weak<Desk>>>,
}

/// Requests that run together on the thread that reads them.
pub(crate) struct Crew {
    idx: usize,
    state: Mutex<State>,
    /// Runs in a row that had one request.
    n_alone: AtomicU32,
}

struct State {
    queue: Queue<Job>,
    n_arrived: u64,
    /// Whether a request is about to run what waits, itself included.
    is_led: bool,
    /// Runners at rest, as many as ever ran at a time.
    runners: Vec<Runner>,
}

impl Inline {
    /// Workers that are pinned, or on a device, or that wait for company stay workers.
    pub(crate) fn new(groups: &[InstanceGroup], max_delay: Duration, run_time: Option<Duration>) -> Self {
        let is_plain =
            |group: &InstanceGroup| group.gpus.is_empty() && group.accelerator.is_none() && group.cores.is_empty();
        let is_allowed = max_delay.is_zero() && groups.iter().all(is_plain);
        let instances: usize = groups.iter().map(|group| group.count).sum();
        let inline = Self::of(if is_allowed { instances.min(stripes()) } else { 0 });
        run_time.into_iter().for_each(|run_time| inline.set_run_time(run_time));
        inline
    }

    /// Leaves everything to workers.
    pub(crate) fn never() -> Self {
        Self::of(0)
    }

    fn of(n_crews: usize) -> Self {
        Self {
            placement: Placement { device: "cpu".to_owned(), threads: 1, core: None },
            is_quick: AtomicBool::new(false),
            crews: (0..n_crews).map(|idx| CachePadded::new(Crew::new(idx))).collect(),
            desks: Mutex::default(),
        }
    }

    /// Returns the crew of this thread, if the model is run by crews.
    pub(crate) fn crew(&self) -> Option<&Crew> {
        if self.crews.is_empty() || !self.is_quick.load(Ordering::Relaxed) {
            return None;
        }
        Some(&self.crews[stripe() % self.crews.len()])
    }

    /// Notes how long runs take of late.
    pub(crate) fn set_run_time(&self, run_time: Duration) {
        let is_quick = run_time < LONGEST;
        // Written only when it changes: every request reads it.
        if self.is_quick.load(Ordering::Relaxed) != is_quick {
            self.is_quick.store(is_quick, Ordering::Relaxed);
        }
    }

    fn new_runner(&self, slot: &Slot) -> Option<Runner> {
        match slot.instance(&self.placement) {
            Ok(instance) => {
                let runner = Runner::new(Held::new(0, self.placement.clone(), instance));
                self.desks.lock().push(Arc::downgrade(&runner.desk));
                Some(runner)
            }
            Err(error) => {
                tracing::debug!(model = &*slot.info.name, %error, "no instance to run on the caller's thread");
                None
            }
        }
    }

    /// Takes a request out of a crew's line.
    pub(crate) fn withdraw(&self, crew: usize, id: u64) -> Option<Entry<Job>> {
        self.crews.get(crew)?.state.lock().queue.remove(id)
    }

    /// Moves the requests that have no time left to `late`.
    pub(crate) fn remove_late(&self, due: &mut Due, late: &mut Vec<Entry<Job>>) {
        for crew in &self.crews {
            late.extend(crew.state.lock().queue.remove_if(|job| due.is_over(job.deadline)));
        }
    }

    /// Takes the replies from runs that have lasted `limit`, and interrupts them.
    pub(crate) fn give_up(&self, limit: Duration, now: Instant) -> Vec<Vec<Reply>> {
        let mut desks = self.desks.lock();
        desks.retain(|desk| desk.strong_count() > 0);
        desks.iter().filter_map(|desk| desk.upgrade()?.revoke(limit, now)).collect()
    }

    /// Takes the replies of running requests that have no time left.
    pub(crate) fn expire(&self, due: &mut Due) {
        self.desks.lock().iter().filter_map(Weak::upgrade).for_each(|desk| desk.expire(due));
    }

    /// Drops the instances.
    pub(crate) fn clear(&self) {
        self.crews.iter().for_each(|crew| crew.state.lock().runners.clear());
    }
}

/// Whether requests may run models where they come in: a single thread that does all the rest would
/// leave nobody to read sockets.
pub(crate) fn has_many_threads() -> bool {
    let runtime = tokio::runtime::Handle::try_current();
    runtime.is_ok_and(|runtime| runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
}

/// Everything that is ready on this thread goes first, and the sockets are looked at once: the
/// requests that are there by now join the batch.
async fn let_others_join() {
    tokio::task::yield_now().await;
}

impl Crew {
    fn new(idx: usize) -> Self {
        let state = State { queue: Queue::new(), n_arrived: 0, is_led: false, runners: Vec::new() };
        Self { idx, state: Mutex::new(state), n_alone: AtomicU32::new(0) }
    }

    /// Puts a request into the line; returns its id, and whether it is to lead.
    pub(crate) fn join(&self, mut entry: Entry<Job>) -> (u64, bool) {
        let mut state = self.state.lock();
        let id = Line::Crew(self.idx).id(state.n_arrived);
        state.n_arrived += 1;
        entry.set_id(id);
        state.queue.push(entry);
        let leads = !state.is_led;
        state.is_led = true;
        (id, leads)
    }

    /// Runs what waits, until nothing does or somebody else leads.
    pub(crate) async fn lead(&self, slot: &Slot) {
        let mut lead = Lead { slot, crew: self, is_over: false };
        if self.expects_company() {
            let_others_join().await;
        }
        while lead.run() {
            let_others_join().await;
        }
        lead.is_over = true;
    }

    fn expects_company(&self) -> bool {
        let n_alone = self.n_alone.load(Ordering::Relaxed);
        n_alone < ALONE_AFTER || n_alone.is_multiple_of(LOOK_EVERY)
    }

    /// Notes how many requests a run had.
    fn ran(&self, n_requests: usize) {
        let n_alone = if n_requests == 1 { self.n_alone.load(Ordering::Relaxed).wrapping_add(1) } else { 0 };
        self.n_alone.store(n_alone, Ordering::Relaxed);
    }

    /// Takes a batch and a runner; none: nobody waits any more.
    fn take(&self, slot: &Slot, batch: &mut Vec<Entry<Job>>) -> Option<Option<Runner>> {
        let mut state = self.state.lock();
        state.is_led = false;
        slot.expire(&mut state.queue, Instant::now());
        state.queue.take(slot.batching.max_rows, batch);
        slot.metrics.queue_shrank(batch.len());
        (!batch.is_empty()).then(|| state.runners.pop())
    }

    /// Takes up the lead if there is something to run and nobody else has it.
    fn leads_on(&self, at_rest: Option<Runner>) -> bool {
        let mut state = self.state.lock();
        state.runners.extend(at_rest);
        let leads = state.queue.len() > 0 && !state.is_led;
        state.is_led |= leads;
        leads
    }

    /// Leaves what waits to the workers.
    fn hand_over(&self, slot: &Slot, batch: Vec<Entry<Job>>) {
        let mut state = self.state.lock();
        state.is_led = false;
        let waiting = state.queue.take_all();
        drop(state);
        slot.metrics.queue_grew(batch.len());
        slot.hand_over(batch.into_iter().chain(waiting));
    }
}

/// A request that leads. Dropped on its way, because its caller has left, it hands over.
struct Lead<'a> {
    slot: &'a Slot,
    crew: &'a Crew,
    is_over: bool,
}

impl Lead<'_> {
    /// Runs one batch; true: there is more to lead.
    fn run(&mut self) -> bool {
        let Self { slot, crew, .. } = *self;
        if !slot.may_run() {
            crew.hand_over(slot, Vec::new());
            return false;
        }
        let mut batch = Vec::new();
        let Some(at_rest) = crew.take(slot, &mut batch) else {
            slot.crew_ran(None);
            return false;
        };
        let Some(mut runner) = at_rest.or_else(|| slot.inline.new_runner(slot)) else {
            slot.crew_ran(None);
            crew.hand_over(slot, batch);
            return false;
        };
        crew.ran(batch.len());
        let started = Instant::now();
        if runner.run_batch(slot, &mut batch) == After::GivenUp {
            // Whoever gave the run up counted it as over.
            crew.hand_over(slot, Vec::new());
            return false;
        }
        slot.crew_ran(Some(started.elapsed()));
        crew.leads_on(Some(runner))
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.crew.hand_over(self.slot, Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_always_alone_seldom_waits_for_others_and_who_was_joined_does() {
        let crew = Crew::new(0);
        for _ in 0..ALONE_AFTER {
            assert!(crew.expects_company());
            crew.ran(1);
        }
        let looks = (0..10 * LOOK_EVERY).filter(|_| {
            crew.ran(1);
            crew.expects_company()
        });
        assert_eq!(looks.count(), 10);
        crew.ran(2);
        assert!(crew.expects_company());
    }
}
