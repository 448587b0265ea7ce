//! The queue in SQLite or PostgreSQL.
//!
//! Who asks reads the tables; who changes something tells the one task that writes (`writer.rs`),
//! which runs all calls that wait in one transaction. So each has the disk's word before it is
//! answered, and many share the price. Several servers may work on one database, each with its writer.

mod batch;
mod claim;
mod read;
mod rows;
mod schema;
mod submit;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::fmt;
use std::time::Duration;

use salver_core::{BoxFuture, Result};
use salver_store::Database;

use self::batch::{Cancel, Finish, Loss};
use self::claim::Wish;
use self::submit::Replay;
use self::upkeep::{Clear, Due, MOST_CLEARED, Note, PutOff};
use self::writer::Writer;
use crate::queue::Queue;
use crate::submission::Submission;
use crate::types::{
    Answer, Beat, Callback, Cleared, Filter, Gate, Held, Hold, Job, JobId, Lease, Millis, NewJob, Outcome, Page, Stats,
    Submitted,
};

/// A queue in a database. Cheap to clone; with the last clone its task ends, after the calls that wait.
#[derive(Clone)]
pub struct SqlQueue {
    database: Database,
    writer: Writer,
}

impl fmt::Debug for SqlQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlQueue").finish_non_exhaustive()
    }
}

impl SqlQueue {
    /// Opens a queue, bringing its schema up to date.
    ///
    /// # Errors
    /// `Unsupported` where the database was written by a newer program; those of the database.
    pub async fn open(database: Database) -> Result<Self> {
        let queue = Self::new(database);
        queue.prepare().await?;
        Ok(queue)
    }

    /// Takes a database that may not be there yet: calls answer `NotReady` until
    /// [`Queue::prepare`] has succeeded once.
    pub fn new(database: Database) -> Self {
        Self { writer: Writer::spawn(database.clone()), database }
    }
}

impl Queue for SqlQueue {
    fn prepare(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.database.migrate_in(schema::TABLE, schema::HISTORY))
    }

    fn submit(&self, job: NewJob, now: Millis) -> BoxFuture<'_, Result<Submitted>> {
        Box::pin(async move {
            let submission = Submission::new(job, now)?;
            self.writer.ask(submission, |batch| &mut batch.submits).await
        })
    }

    fn unfinished(&self, caller: &str, most: u64) -> BoxFuture<'_, Result<u64>> {
        let caller = caller.to_owned();
        Box::pin(async move { read::unfinished(&self.database, &caller, most).await })
    }

    fn claim(&self, most: usize, is_idle: bool, lease: Duration, now: Millis) -> BoxFuture<'_, Result<Vec<Lease>>> {
        Box::pin(self.writer.ask(Wish { most, is_idle, lease, now }, |batch| &mut batch.claims))
    }

    fn renew(&self, beats: Vec<Beat>) -> BoxFuture<'_, Result<Vec<bool>>> {
        Box::pin(self.writer.ask(beats, |batch| &mut batch.beats))
    }

    fn finish(&self, hold: Hold, outcome: Outcome, now: Millis) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.writer.ask(Finish { hold, outcome, now }, |batch| &mut batch.finishes))
    }

    fn held(&self) -> BoxFuture<'_, Result<Vec<Held>>> {
        Box::pin(read::held(&self.database))
    }

    fn lose(&self, held: Vec<Held>, now: Millis) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.writer.ask(Loss { held, now }, |batch| &mut batch.losses))
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(read::get(&self.database, id))
    }

    fn answer(&self, id: JobId) -> BoxFuture<'_, Result<Option<Answer>>> {
        Box::pin(read::answer(&self.database, id))
    }

    fn list(&self, filter: Filter, after: Option<String>, limit: usize) -> BoxFuture<'_, Result<Page>> {
        Box::pin(read::list(&self.database, filter, after, limit))
    }

    fn cancel(&self, id: JobId, now: Millis) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(async move {
            match self.writer.ask(Cancel { id, now }, |batch| &mut batch.cancels).await? {
                true => read::get(&self.database, id).await,
                false => Ok(None),
            }
        })
    }

    fn replay(&self, id: JobId, now: Millis) -> BoxFuture<'_, Result<Option<JobId>>> {
        let replay = Replay { of: id, id: JobId::random(), now };
        Box::pin(self.writer.ask(replay, |batch| &mut batch.replays))
    }

    fn set_gate(&self, gate: Gate) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.writer.ask(gate, |batch| &mut batch.gates))
    }

    fn purge(&self, filter: Filter) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let (mut n_removed, mut after) = (0, 0);
            loop {
                let jobs = read::ended(&self.database, &filter, after, MOST_CLEARED).await?;
                let Some(last) = jobs.last() else { return Ok(n_removed) };
                after = *last;
                n_removed += self.writer.ask(jobs, |batch| &mut batch.removals).await?;
            }
        })
    }

    fn clear(&self, now: Millis, forget_before: Millis) -> BoxFuture<'_, Result<Cleared>> {
        Box::pin(self.writer.ask(Clear { now, forget_before }, |batch| &mut batch.clears))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        Box::pin(read::stats(&self.database))
    }

    fn callbacks(&self, most: usize, now: Millis, again: Millis) -> BoxFuture<'_, Result<Vec<Callback>>> {
        Box::pin(self.writer.ask(Due { most, now, again }, |batch| &mut batch.dues))
    }

    fn put_off(&self, id: JobId, until: Millis) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.writer.ask(PutOff { id, until }, |batch| &mut batch.put_offs))
    }

    fn called_back(&self, id: JobId, again: Option<Millis>, note: String, now: Millis) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.writer.ask(Note { id, again, text: note, now }, |batch| &mut batch.notes))
    }
}
