//! The worker threads of a slot: each takes what queued while it was busy and runs it as one batch.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::{Error, ErrorKind, Placement, Result};

use crate::desk::{Desk, Due};
use crate::restore::Held;
use crate::run::{After, Reply, Runner};
use crate::slot::Slot;
use crate::waiting::Work;

/// The threads of one slot.
#[derive(Default)]
pub(crate) struct Workers(Mutex<Vec<Worker>>);

struct Worker {
    idx: usize,
    placement: Placement,
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts a worker.
    ///
    /// # Errors
    /// `Full` where no more threads can be started.
    pub(crate) fn start(&self, slot: &Arc<Slot>, runner: Runner) -> Result<()> {
        let mut workers = self.0.lock();
        let (idx, placement, desk) = (runner.held.idx(), runner.held.placement.clone(), runner.desk.clone());
        let name = format!("{}-{idx}", slot.spec.name);
        let own = slot.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || work(&own, runner));
        let thread =
            thread.map_err(|error| Error::new(ErrorKind::Full, "no more threads can be started").with_source(error))?;
        workers.push(Worker { idx, placement, desk, thread });
        Ok(())
    }

    /// Takes the replies from every worker whose run has lasted `limit`, and starts others in
    /// their place, which make their instances themselves: that may take long. The threads are left
    /// to the engine; should it ever come back, they end.
    pub(crate) fn give_up(&self, slot: &Arc<Slot>, limit: Duration, now: Instant) -> Vec<Vec<Reply>> {
        let mut given_up = Vec::new();
        self.0.lock().retain(|worker| {
            let revoked = worker.desk.revoke(limit, now);
            let stays = revoked.is_none();
            given_up.extend(revoked.map(|replies| (worker.idx, worker.placement.clone(), replies)));
            stays
        });
        let mut taken = Vec::new();
        for (idx, placement, replies) in given_up {
            slot.gave_up();
            slot.sequences.iter().for_each(|sequences| sequences.gave_up(slot, idx));
            let end = format!("a run did not end within {} ms", limit.as_millis());
            if let Err(error) = self.start(slot, Runner::new(Held::nothing(idx, placement, end))) {
                tracing::error!(model = &*slot.info.name, %error, "no worker in place of the one that hangs");
            }
            taken.push(replies);
        }
        taken
    }

    /// Takes the replies of running requests that have no time left.
    pub(crate) fn expire(&self, due: &mut Due) {
        self.0.lock().iter().for_each(|worker| worker.desk.expire(due));
    }

    /// Waits for the end of all workers; the slot is closed before.
    pub(crate) fn join(&self) {
        for worker in std::mem::take(&mut *self.0.lock()) {
            // A runner catches panics of the engine; one of its own is logged by the hook.
            let _ = worker.thread.join();
        }
    }
}

/// Runs until the slot is closed and its queue is empty.
fn work(slot: &Arc<Slot>, mut runner: Runner) {
    give_way();
    stay_on(runner.held.placement.core);
    if let Some(sequences) = &slot.sequences {
        return sequences.serve(slot, runner);
    }
    let mut batch = Vec::new();
    while runner.held.restore(slot) {
        match slot.next_work(&mut batch) {
            Work::End => return,
            Work::Look => {
                runner.held.look(slot);
            }
            Work::Batch => {
                let started = Instant::now();
                match runner.run_batch(slot, &mut batch) {
                    After::Next => slot.ran(started.elapsed()),
                    After::Gone(_) => slot.put_back(&mut batch),
                    After::GivenUp => return,
                }
            }
        }
    }
}

/// Asks the system not to interrupt other threads when this one wakes (`SCHED_BATCH`).
///
/// A worker that interrupts the thread that reads the sockets runs a batch of one, while the
/// requests that would have joined it are still unread. On an idle machine nothing changes. Left
/// alone where somebody has given the process another priority; a refusal does no harm.
fn give_way() {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    // The middle of this crate's scale is the ordinary niceness, 0.
    const ORDINARY: u8 = 49;
    let is_ordinary = rustix::process::getpriority_process(None).is_ok_and(|nice| nice == 0);
    if let Ok(priority) = ThreadPriority::try_from(ORDINARY)
        && is_ordinary
    {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, policy) {
            tracing::debug!(?error, "a worker thread keeps the ordinary scheduling policy");
        }
    }
}

/// Pins this thread to a core.
fn stay_on(core: Option<usize>) {
    let Some(core) = core else {
        return;
    };
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
        tracing::warn!(core, %error, "a worker cannot be pinned to its core");
    }
}
