//! Runs a model of microseconds on the thread that brought the request.
//!
//! Waking a worker costs more than such a model takes. Instead the first request that finds nobody
//! at it leads: it lets everything go first that is ready on its thread, so that the requests of
//! other connections join, and then runs what waits as one batch.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::{InstanceGroup, Placement};

use crate::desk::{Desk, Due};
use crate::run::{After, Reply, Runner};
use crate::slot::Slot;

/// Runs longer than this are left to workers: meanwhile no socket is read on the thread.
const LONGEST: Duration = Duration::from_micros(150);

/// Whether a slot's requests may run the model themselves, and with what.
pub(crate) struct Inline {
    /// None: never.
    placement: Option<Placement>,
    /// Runners at rest, as many as ever ran at a time.
    runners: Mutex<Vec<Runner>>,
    /// Those at work, for the watch.
    desks: Mutex<Vec<Weak<Desk>>>,
}

impl Inline {
    /// Workers that are pinned, or on a device, or that wait for company stay workers. So does
    /// everything where a single thread does all the rest: nobody would be left to read sockets.
    pub(crate) fn new(groups: &[InstanceGroup], max_delay: Duration) -> Self {
        let is_plain =
            |group: &InstanceGroup| group.gpus.is_empty() && group.accelerator.is_none() && group.cores.is_empty();
        let allowed = has_many_threads() && max_delay.is_zero() && !groups.is_empty() && groups.iter().all(is_plain);
        let placement = Placement { device: "cpu".to_owned(), threads: 1, core: None };
        Self { placement: allowed.then_some(placement), runners: Mutex::default(), desks: Mutex::default() }
    }

    /// Whether runs are so short of late that a worker is not worth waking.
    pub(crate) fn is_worth(&self, run_time: Option<Duration>) -> bool {
        self.placement.is_some() && run_time.is_some_and(|run_time| run_time < LONGEST)
    }

    fn runner(&self, slot: &Slot) -> Option<Runner> {
        if let Some(runner) = self.runners.lock().pop() {
            return Some(runner);
        }
        let placement = self.placement.as_ref()?;
        match slot.instance(placement) {
            Ok(instance) => {
                let runner = Runner::new(placement.clone(), instance);
                self.desks.lock().push(Arc::downgrade(&runner.desk));
                Some(runner)
            }
            Err(error) => {
                tracing::debug!(model = &*slot.info.name, %error, "no instance to run on the caller's thread");
                None
            }
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
        self.runners.lock().clear();
    }
}

fn has_many_threads() -> bool {
    let runtime = tokio::runtime::Handle::try_current();
    runtime.is_ok_and(|runtime| runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
}

impl Slot {
    /// Runs what waits, until nothing does or somebody else is at it.
    pub(crate) async fn lead(&self) {
        let mut lead = Lead { slot: self, is_over: false };
        let mut leads = true;
        while leads {
            // Everything that is ready on this thread goes first, and the sockets are looked at
            // once: the requests that are there by now join the batch.
            tokio::task::yield_now().await;
            leads = lead.run();
        }
        lead.is_over = true;
    }
}

/// A request that leads. Dropped on its way, because its caller has left, it hands over.
struct Lead<'a> {
    slot: &'a Slot,
    is_over: bool,
}

impl Lead<'_> {
    /// Runs one batch; true: there is more to lead.
    fn run(&mut self) -> bool {
        let slot = self.slot;
        let Some(mut runner) = slot.inline.runner(slot) else {
            slot.hand_over();
            return false;
        };
        let mut batch = Vec::new();
        if !slot.next_inline(&mut batch) {
            slot.inline.runners.lock().push(runner);
            return false;
        }
        let started = Instant::now();
        let after = runner.run_batch(slot, &mut batch);
        if after == After::Next {
            slot.inline.runners.lock().push(runner);
        }
        slot.ran_inline(started.elapsed())
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.slot.hand_over();
        }
    }
}
