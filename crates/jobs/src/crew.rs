//! Workers: they take jobs out of the queue, have them run, and say how that ended.
//!
//! A crew holds up to so many jobs at a time, so that requests of several jobs share batches. While a
//! job that a worker was lost with runs, the crew has no other: if it ends the process, nobody else
//! is lost with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use salver_core::{Error, ErrorKind};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bell::Bell;
use crate::clock::Clock;
use crate::queue::Queue;
use crate::types::{Beat, Cleared, Hold, Lease, Millis, Outcome};
use crate::watch::Silence;
use crate::work::{Done, Work};

/// The first wait after the queue could not be reached; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often what is due or over is looked for.
const CLEAR_INTERVAL: Duration = Duration::from_secs(1);
/// How often figures are read.
const STATS_INTERVAL: Duration = Duration::from_secs(5);
/// How long a crew that stops waits for an answer to what it asked before.
const LAST_CLAIM: Duration = Duration::from_secs(1);
/// How long it tries to give jobs back.
const GIVING_BACK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

/// How a crew works.
#[derive(Debug, Clone)]
pub struct CrewOptions {
    /// The most jobs at a time; 0: others work, and this process keeps watch and order.
    pub jobs: usize,
    /// A job of this crew is given to another when it gave no sign of life for this long.
    pub lease: Duration,
    /// How often the queue is looked at for jobs that other processes took in.
    pub poll: Duration,
    /// How long jobs may go on when the crew stops; then they go back.
    pub grace: Duration,
    /// How long a job is known after it has ended and its answer has gone.
    pub keep: Duration,
}

impl Default for CrewOptions {
    fn default() -> Self {
        Self {
            jobs: 64,
            lease: Duration::from_secs(15),
            poll: Duration::from_millis(200),
            grace: Duration::from_secs(20),
            keep: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Told what happens, for metrics.
pub trait Observe: Send + Sync + 'static {
    /// A job ended so, this long after it was handed out.
    fn ended(&self, outcome: &'static str, took: Duration);
    /// Workers were lost with this many jobs.
    fn lost(&self, jobs: u64);
    /// An attempt to tell somebody of an end: `sent`, `failed`, or `given_up` with the last one.
    fn told(&self, outcome: &'static str);
    /// Whether the queue answered just now.
    fn reached(&self, answers: bool);
    /// What stands in the queue.
    fn stats(&self, stats: &crate::types::Stats, now: Millis);
}

/// See the module's description.
pub struct Crew {
    queue: Arc<dyn Queue>,
    work: Arc<dyn Work>,
    bell: Bell,
    clock: Clock,
    observer: Arc<dyn Observe>,
    options: CrewOptions,
    running: Mutex<HashMap<Hold, Running>>,
    /// Rung when a run is over.
    room: Notify,
}

struct Running {
    done: Done,
    abort: AbortHandle,
    is_alone: bool,
    /// The run is over, and how it ended is being written down.
    is_over: bool,
}

impl Crew {
    /// Nobody works before [`Crew::run`].
    pub fn new(
        queue: Arc<dyn Queue>,
        work: Arc<dyn Work>,
        bell: Bell,
        clock: Clock,
        observer: Arc<dyn Observe>,
        options: CrewOptions,
    ) -> Arc<Self> {
        let (running, room) = (Mutex::default(), Notify::new());
        Arc::new(Self { queue, work, bell, clock, observer, options, running, room })
    }

    /// Works until told to stop; returns when every job it held has ended or gone back.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let over = CancellationToken::new();
        let beside = [
            tokio::spawn(until(over.clone(), self.clone().give_signs())),
            tokio::spawn(until(over.clone(), self.clone().keep_watch())),
            tokio::spawn(until(over.clone(), self.clone().keep_order())),
            tokio::spawn(until(over.clone(), self.clone().count())),
        ];
        let mut jobs = JoinSet::new();
        let mut wait = FIRST_WAIT;
        if self.options.jobs == 0 {
            stop.cancelled().await;
        }
        while !stop.is_cancelled() {
            while jobs.try_join_next().is_some() {}
            let room = self.room().await;
            if room == 0 {
                tokio::select! {
                    _ = jobs.join_next() => {}
                    () = self.room.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let claim = self.queue.claim(room, jobs.is_empty(), self.options.lease, (self.clock)());
            let claimed = tokio::select! {
                claimed = claim => claimed,
                // What a claim that is dropped would have brought stays in the queue.
                () = long_after(&stop) => break,
            };
            self.observer.reached(claimed.is_ok());
            match claimed {
                Ok(leases) if leases.is_empty() => {
                    wait = FIRST_WAIT;
                    tokio::select! {
                        () = self.bell.heard_work(self.options.poll) => {}
                        Some(_) = jobs.join_next() => {}
                        () = stop.cancelled() => {}
                    }
                }
                Ok(leases) => leases.into_iter().for_each(|lease| self.begin(lease, &mut jobs)),
                Err(error) => {
                    tracing::warn!(%error, "the queue of jobs cannot be reached; trying on");
                    let _ = tokio::time::timeout(wait, stop.cancelled()).await;
                    wait = (2 * wait).min(LONGEST_WAIT);
                }
            }
        }
        self.finish_up(jobs).await;
        over.cancel();
        for task in beside {
            let _ = task.await;
        }
    }

    /// How many more jobs there may be. Those that end at about the same time are replaced together:
    /// to take a job costs a sync of the queue, however many it is.
    async fn room(&self) -> usize {
        let mut room = self.room_now();
        while (1..self.options.jobs).contains(&room) {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut room, self.room_now());
            if room <= before {
                break;
            }
        }
        room
    }

    /// None beside a job that is to be alone. Those whose run is over leave their place to others while
    /// the queue writes down how they ended, so that one sync serves both; as many as may run.
    fn room_now(&self) -> usize {
        let running = self.running.lock();
        if running.values().any(|running| running.is_alone) {
            return 0;
        }
        let n_working = running.values().filter(|running| !running.is_over).count();
        let most = self.options.jobs;
        most.saturating_sub(n_working).min((2 * most).saturating_sub(running.len()))
    }

    fn begin(self: &Arc<Self>, lease: Lease, jobs: &mut JoinSet<()>) {
        let (hold, is_alone, done) = (lease.hold, lease.is_alone, Done::default());
        let leaving = Leaving { crew: self.clone(), hold };
        // Held meanwhile, so that it is not taken off before it is on.
        let mut running = self.running.lock();
        let abort = jobs.spawn(self.clone().run_one(lease, done.clone(), leaving));
        running.insert(hold, Running { done, abort, is_alone, is_over: false });
    }

    async fn run_one(self: Arc<Self>, lease: Lease, done: Done, _leaving: Leaving) {
        let (hold, started) = (lease.hold, Instant::now());
        let run = tokio::time::timeout(lease.time_limit, self.work.run(&lease, &done));
        let outcome = match run.await {
            Ok(Ok(answer)) => Outcome::Done(answer),
            Ok(Err(error)) if error.kind() != ErrorKind::Deadline => outcome_of(&error),
            Ok(Err(_)) | Err(_) => {
                Outcome::Troubled(format!("it took longer than its time limit of {:?}", lease.time_limit))
            }
        };
        if let Some(running) = self.running.lock().get_mut(&hold) {
            running.is_over = true;
        }
        self.room.notify_one();
        let name = name_of(&outcome);
        if self.finish(hold, outcome).await {
            self.observer.ended(name, started.elapsed());
        }
        self.bell.ended(hold.id);
    }

    /// Says how a run ended, as long as it takes until the queue has heard it or the hold is gone.
    async fn finish(&self, hold: Hold, outcome: Outcome) -> bool {
        let mut wait = FIRST_WAIT;
        loop {
            match self.queue.finish(hold, outcome.clone(), (self.clock)()).await {
                Ok(counts) => {
                    if !counts {
                        tracing::info!(job = %hold.id, "the job is no longer this worker's; its answer is dropped");
                    }
                    return counts;
                }
                Err(error) => {
                    tracing::warn!(job = %hold.id, %error, "how a job ended cannot be written down; trying on");
                    tokio::time::sleep(wait).await;
                    wait = (2 * wait).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// Gives the jobs that run some time, then gives them back.
    async fn finish_up(&self, mut jobs: JoinSet<()>) {
        let all = async { while jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(self.options.grace, all).await.is_ok() {
            return;
        }
        let left: Vec<Hold> = self.running.lock().keys().copied().collect();
        jobs.shutdown().await;
        let back = left.into_iter().map(|hold| self.queue.finish(hold, Outcome::GivenBack, (self.clock)()));
        // Where that fails or takes too long, the watch of another crew finds them.
        let _ = tokio::time::timeout(GIVING_BACK, join_all(back)).await;
    }

    async fn give_signs(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.options.lease / 5);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let beats: Vec<Beat> = {
                let running = self.running.lock();
                running.iter().map(|(hold, running)| Beat { hold: *hold, done: running.done.get() }).collect()
            };
            if beats.is_empty() {
                continue;
            }
            match self.queue.renew(beats.clone()).await {
                Ok(counts) => beats.iter().zip(counts).for_each(|(beat, counts)| self.signed(beat.hold, counts)),
                Err(error) => tracing::warn!(%error, "signs of life of jobs cannot be written down"),
            }
        }
    }

    fn signed(&self, hold: Hold, counts: bool) {
        self.bell.changed(hold.id);
        if !counts && let Some(running) = self.running.lock().get(&hold) {
            tracing::info!(job = %hold.id, "the job was cancelled or given to another worker; it is dropped");
            running.abort.abort();
        }
    }

    async fn keep_watch(self: Arc<Self>) {
        let interval = self.options.lease / 5;
        let mut silence = Silence::new(interval);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Ok(held) = self.queue.held().await else {
                continue;
            };
            let lost = silence.look(&held, Instant::now());
            if lost.is_empty() {
                continue;
            }
            if let Ok(n_lost @ 1..) = self.queue.lose(lost.clone(), (self.clock)()).await {
                tracing::warn!(jobs = n_lost, "workers gave no sign of life; their jobs run again, one by one");
                self.observer.lost(n_lost);
                self.bell.work();
                lost.iter().for_each(|held| self.bell.changed(held.hold.id));
            }
        }
    }

    async fn keep_order(self: Arc<Self>) {
        let keep = i64::try_from(self.options.keep.as_millis()).unwrap_or(i64::MAX);
        loop {
            let now = (self.clock)();
            let cleared = self.queue.clear(now, now.saturating_sub(keep)).await;
            if let Ok(Cleared { begun: 1.., .. }) = cleared {
                self.bell.work();
            }
            // What was as much as is done at a time may have left some.
            if cleared.is_err() || cleared.is_ok_and(|cleared| cleared == Cleared::default()) {
                tokio::time::sleep(CLEAR_INTERVAL).await;
            }
        }
    }

    async fn count(self: Arc<Self>) {
        loop {
            match tokio::time::timeout(STATS_INTERVAL, self.queue.stats()).await {
                Ok(Ok(stats)) => {
                    self.observer.stats(&stats, (self.clock)());
                    // Where jobs are taken, that says more: what can be read may not be writable.
                    if self.options.jobs == 0 {
                        self.observer.reached(true);
                    }
                }
                Ok(Err(_)) | Err(_) => self.observer.reached(false),
            }
            tokio::time::sleep(STATS_INTERVAL).await;
        }
    }
}

/// Takes a job off the list of those that run, however its task ends.
struct Leaving {
    crew: Arc<Crew>,
    hold: Hold,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.crew.running.lock().remove(&self.hold);
    }
}

/// Ends a while after it was told to stop.
async fn long_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_CLAIM).await;
}

async fn until(over: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = over.cancelled() => {}
        () = task => {}
    }
}

/// Whether a failure may pass: what the job itself contradicts does not.
fn outcome_of(error: &Error) -> Outcome {
    let reason = error.to_string();
    if error.is_of_lost_batch() {
        return Outcome::Lost(reason);
    }
    match error.kind() {
        ErrorKind::InvalidInput
        | ErrorKind::TooLarge
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::Conflict
        | ErrorKind::Unsupported
        | ErrorKind::Gone => Outcome::Failed(reason),
        // A model that is not there may be loaded again.
        ErrorKind::NotFound
        | ErrorKind::Overloaded
        | ErrorKind::NotReady
        | ErrorKind::Deadline
        | ErrorKind::Cancelled
        | ErrorKind::Engine
        | ErrorKind::Full => Outcome::Troubled(reason),
    }
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Failed(_) => "failed",
        Outcome::Troubled(_) => "troubled",
        Outcome::Lost(_) => "lost",
        Outcome::GivenBack => "given_back",
    }
}
