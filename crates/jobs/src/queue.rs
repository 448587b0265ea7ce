//! The contract of every queue.

use std::fmt;
use std::time::Duration;

use salver_core::{BoxFuture, Result};

use crate::types::{
    Answer, Beat, Callback, Cleared, Filter, Gate, Held, Hold, Job, JobId, Lease, Millis, NewJob, Outcome, Page, Stats,
    Submitted,
};

/// Keeps jobs. Whatever a call has returned `Ok` for survives a crash of the process and of the machine.
///
/// A job is handed out with a token that grows (fencing). Whoever holds it shows the token with each
/// write; once the job was handed to another, or was cancelled, an older token changes nothing. So a
/// job runs at least once and its answer is kept exactly once.
///
/// A worker gives signs of life. Who watches counts them by its own steady clock (`watch.rs`), so a
/// wall clock that jumps ends no lease and keeps none. Wall clocks decide only when a scheduled job
/// may begin and when an answer expires.
///
/// # Errors
/// Of every call: `Full` where there is no room, `NotReady` where the queue cannot be reached.
pub trait Queue: fmt::Debug + Send + Sync + 'static {
    /// Brings what the queue needs up to date. Calls may answer `NotReady` until it has succeeded once.
    ///
    /// # Errors
    /// `Unsupported` where a newer program wrote what is there.
    fn prepare(&self) -> BoxFuture<'_, Result<()>>;

    /// Takes a job in.
    ///
    /// # Errors
    /// `NotReady` while the queue drains.
    fn submit(&self, job: NewJob, now: Millis) -> BoxFuture<'_, Result<Submitted>>;

    /// Counts the jobs of a caller that have not ended, up to `most`: it costs no more than that many.
    fn unfinished(&self, caller: &str, most: u64) -> BoxFuture<'_, Result<u64>>;

    /// Hands out up to `most` jobs: by priority, then in the order in which they came.
    ///
    /// A job that is to run alone is handed out by itself and only where `is_idle` says that the
    /// worker has nothing else; where it is the next one, no other job goes out before it to a busy
    /// worker. They are held as long as there is a sign of life within each `lease`.
    ///
    /// A call that is dropped hands out nothing: what it would have brought goes back.
    fn claim(&self, most: usize, is_idle: bool, lease: Duration, now: Millis) -> BoxFuture<'_, Result<Vec<Lease>>>;

    /// Notes signs of life; says for each whether the hold still counts.
    fn renew(&self, beats: Vec<Beat>) -> BoxFuture<'_, Result<Vec<bool>>>;

    /// Notes how a run ended; false: the hold does not count any more, and nothing has changed.
    /// [`Outcome::Lost`] is what [`Queue::lose`] does.
    fn finish(&self, hold: Hold, outcome: Outcome, now: Millis) -> BoxFuture<'_, Result<bool>>;

    /// Returns every job that somebody holds.
    fn held(&self) -> BoxFuture<'_, Result<Vec<Held>>>;

    /// Takes jobs from those who hold them, if there was no sign of life since: they run again, alone.
    /// One that was lost [`crate::policy::MOST_LOSSES`] times alone is dead. Returns how many were taken.
    fn lose(&self, held: Vec<Held>, now: Millis) -> BoxFuture<'_, Result<u64>>;

    /// Returns what is known of a job, with its history.
    fn get(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>>;

    /// Returns the answer of a job that is done and has not expired.
    fn answer(&self, id: JobId) -> BoxFuture<'_, Result<Option<Answer>>>;

    /// Returns jobs, newest first, from `after` on.
    ///
    /// # Errors
    /// `InvalidInput` for an `after` that no page gave.
    fn list(&self, filter: Filter, after: Option<String>, limit: usize) -> BoxFuture<'_, Result<Page>>;

    /// Ends a job that has not ended. Returns it as it then is; none: there is no such job.
    fn cancel(&self, id: JobId, now: Millis) -> BoxFuture<'_, Result<Option<Job>>>;

    /// Submits the content of a job that failed or is dead anew. None: there is no such job.
    ///
    /// # Errors
    /// `Conflict` for a job in another state.
    fn replay(&self, id: JobId, now: Millis) -> BoxFuture<'_, Result<Option<JobId>>>;

    /// Opens or closes the queue for everybody.
    fn set_gate(&self, gate: Gate) -> BoxFuture<'_, Result<()>>;

    /// Removes jobs that have ended, with all that is known of them; returns how many.
    fn purge(&self, filter: Filter) -> BoxFuture<'_, Result<u64>>;

    /// Queues what was scheduled and is due, lets go of answers that have expired, and forgets jobs
    /// that ended before `forget_before`; a bounded number of each at a time.
    fn clear(&self, now: Millis, forget_before: Millis) -> BoxFuture<'_, Result<Cleared>>;

    /// Counts.
    fn stats(&self) -> BoxFuture<'_, Result<Stats>>;

    /// Returns up to `most` messages that are due at `now`, and puts each off until `again`, so that
    /// nobody else sends it meanwhile.
    fn callbacks(&self, most: usize, now: Millis, again: Millis) -> BoxFuture<'_, Result<Vec<Callback>>>;

    /// Notes that a message that [`Queue::callbacks`] returned was not tried after all, and is due then:
    /// that time does not count as an attempt.
    fn put_off(&self, id: JobId, until: Millis) -> BoxFuture<'_, Result<()>>;

    /// Notes that a message arrived or is given up (`again` is none), or is to be sent again then.
    fn called_back(&self, id: JobId, again: Option<Millis>, note: String, now: Millis) -> BoxFuture<'_, Result<()>>;
}
