//! The queue as those see it who submit and ask.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use salver_core::{Error, ErrorKind, Result};

use crate::bell::Bell;
use crate::bound::Bound;
use crate::callbacks::Messenger;
use crate::clock::Clock;
use crate::queue::Queue;
use crate::quota::Quota;
use crate::types::{Answer, Filter, Gate, Job, JobId, NewJob, Page, Stats, Submitted};

/// How often a job is looked at that another process may work on.
const LOOK: Duration = Duration::from_millis(250);
/// How long the figures of one caller are believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// What is taken in.
#[derive(Debug, Clone)]
pub struct JobsOptions {
    /// About the most jobs that have not ended.
    pub most: u64,
    /// About the most of them of one caller; none: as many as all may have.
    pub most_per_caller: Option<NonZeroU64>,
    /// Who tells others that a job has ended; none: nobody is told.
    pub messenger: Option<Arc<dyn Messenger>>,
}

impl Default for JobsOptions {
    fn default() -> Self {
        Self { most: 1_000_000, most_per_caller: None, messenger: None }
    }
}

/// A queue, and who is to be woken. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    queue: Arc<dyn Queue>,
    bell: Bell,
    clock: Clock,
    options: JobsOptions,
    bound: Arc<Bound>,
    quota: Option<Arc<Quota>>,
}

impl Jobs {
    /// Takes in what the options say.
    pub fn new(queue: Arc<dyn Queue>, bell: Bell, clock: Clock, options: JobsOptions) -> Self {
        let quota = options.most_per_caller.map(|most| Arc::new(Quota::new(most.get(), BELIEVED)));
        Self { queue, bell, clock, bound: Arc::new(Bound::new(options.most)), options, quota }
    }

    /// Returns who wakes workers and callers.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// `Overloaded` where too many wait; `InvalidInput` for an address that nobody is told at; those of
    /// [`Queue::submit`].
    pub async fn submit(&self, mut job: NewJob) -> Result<Submitted> {
        if let Some(url) = &job.options.callback_url {
            job.options.callback_url = Some(self.messenger()?.check(url)?);
        }
        let count = async { self.queue.stats().await.map(|stats| stats.scheduled + stats.queued + stats.running) };
        self.bound.take(count).await?;
        if let Some(quota) = &self.quota {
            quota.take(&*self.queue, &job.caller).await?;
        }
        let submitted = self.queue.submit(job, (self.clock)()).await?;
        if matches!(submitted, Submitted::New(_)) {
            self.bell.work();
        }
        Ok(submitted)
    }

    fn messenger(&self) -> Result<&dyn Messenger> {
        self.options.messenger.as_deref().ok_or_else(|| {
            Error::invalid_input(
                "callback_url: this server sends no messages, because it has no secret to sign them with; whoever runs it \
                 sets --callback-secret (SALVER_CALLBACK_SECRET)",
            )
        })
    }

    /// Returns what is known of a job.
    ///
    /// # Errors
    /// `NotFound` where there is none of this id.
    pub async fn get(&self, id: JobId) -> Result<Job> {
        self.queue.get(id).await?.ok_or_else(|| unknown(id))
    }

    /// Returns a job once `enough` says so of it, or as it stands when `most` has passed.
    ///
    /// # Errors
    /// As [`Jobs::get`].
    pub async fn wait(&self, id: JobId, most: Duration, enough: impl Fn(&Job) -> bool) -> Result<Job> {
        let (watch, begun) = (self.bell.watch(id), Instant::now());
        loop {
            let left = most.saturating_sub(begun.elapsed());
            let job = watch
                .look_and_wait(self.get(id), |job| match job {
                    Ok(job) if !enough(job) => left.min(LOOK),
                    _ => Duration::ZERO,
                })
                .await?;
            if enough(&job) || left.is_zero() {
                return Ok(job);
            }
        }
    }

    /// Returns the answer of a job that is done.
    ///
    /// # Errors
    /// `NotReady` for a job that has not ended, `Conflict` for one that has no answer, `Gone` for one
    /// whose answer has expired.
    pub async fn answer(&self, id: JobId) -> Result<Answer> {
        match self.queue.answer(id).await? {
            Some(answer) => Ok(answer),
            None => Err(without_answer(&self.get(id).await?)),
        }
    }

    /// Returns jobs, newest first.
    ///
    /// # Errors
    /// As [`Queue::list`].
    pub async fn list(&self, filter: Filter, after: Option<String>, limit: usize) -> Result<Page> {
        self.queue.list(filter, after, limit).await
    }

    /// Ends a job.
    ///
    /// # Errors
    /// `NotFound` where there is none of this id, `Conflict` for one that has ended otherwise.
    pub async fn cancel(&self, id: JobId) -> Result<Job> {
        let job = self.queue.cancel(id, (self.clock)()).await?.ok_or_else(|| unknown(id))?;
        self.bell.ended(id);
        match job.state {
            crate::State::Cancelled => Ok(job),
            state => Err(Error::new(ErrorKind::Conflict, format!("job {id} has ended already: it is {state}"))),
        }
    }

    /// Submits a job that failed anew; returns the new one.
    ///
    /// # Errors
    /// `NotFound` where there is none of this id, `Conflict` for one that did not fail.
    pub async fn replay(&self, id: JobId) -> Result<Job> {
        let new = self.queue.replay(id, (self.clock)()).await?.ok_or_else(|| unknown(id))?;
        self.bell.work();
        self.get(new).await
    }

    /// Opens or closes the queue.
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn set_gate(&self, gate: Gate) -> Result<Stats> {
        self.queue.set_gate(gate).await?;
        self.bell.work();
        self.queue.stats().await
    }

    /// Removes jobs that have ended.
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn purge(&self, filter: Filter) -> Result<u64> {
        self.queue.purge(filter).await
    }

    /// Counts.
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn stats(&self) -> Result<Stats> {
        self.queue.stats().await
    }
}

fn unknown(id: JobId) -> Error {
    Error::not_found(format!("there is no job {id}; a job is forgotten some days after its answer has expired"))
}

/// Says why a job has no answer.
fn without_answer(job: &Job) -> Error {
    let id = job.id;
    match job.state {
        crate::State::Expired => expired(job),
        state if state.has_ended() => {
            let reason = job.reason.as_deref().unwrap_or("no reason is known");
            Error::new(ErrorKind::Conflict, format!("job {id} has no answer: it is {state} ({reason})"))
        }
        state => {
            let text = format!("job {id} has no answer yet: it is {state}; ask for its status with ?wait=30s");
            Error::not_ready(text).with_retry_after(Duration::from_secs(1))
        }
    }
}

/// Says that what a job left is gone.
pub fn expired(job: &Job) -> Error {
    let id = job.id;
    Error::new(
        ErrorKind::Gone,
        format!(
            "the answer of job {id} has expired; submit the job again, with a longer result_ttl if it is needed for longer"
        ),
    )
}
