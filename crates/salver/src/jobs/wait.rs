//! Waits for a job to end, and for the queue to be empty.
//!
//! Jobs outlive a restart of their server, and so does waiting for them.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use salver_client::{JobGate, JobState, JobStatus};
use salver_core::{Error, ErrorKind};

use super::{Queue, now, view};
use crate::cli::DrainOptions;
use crate::out;
use crate::progress::{Position, Progress};

/// How long one request waits at most where nobody watches.
const LOOK: Duration = Duration::from_secs(30);
/// How often the bar moves where somebody does.
const MOVE: Duration = Duration::from_secs(1);
/// How much longer an answer may take than it was asked to.
const SLACK: Duration = Duration::from_secs(10);
/// How often a server is asked at most.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a server may be away that was there.
const AWAY: Duration = Duration::from_secs(60);
/// The exit status where the time was up.
const LATE: u8 = 2;

/// What came of waiting.
#[derive(Debug)]
enum Waited {
    Ended(JobStatus),
    Late(JobStatus),
}

impl Queue {
    /// Waits for a job, and says what came of it.
    pub(super) async fn wait(&self, id: &str, timeout: Option<Duration>) -> Result<ExitCode> {
        let waited = self.until_ended(id, timeout).await?;
        if self.json {
            return self.tell(waited).await;
        }
        match waited {
            Waited::Ended(job) if job.status == JobState::Done => {
                self.print(&self.client.job_result(id).await?, id)?;
                Ok(ExitCode::SUCCESS)
            }
            Waited::Ended(job) => bail!(out::printable(&view::why(&job, now()))),
            Waited::Late(job) => {
                out::error(out::printable(&view::late(&job, now())));
                Ok(ExitCode::from(LATE))
            }
        }
    }

    /// Waits for a job, however long that takes, and returns its answer.
    pub(super) async fn answer(&self, id: &str) -> Result<Bytes> {
        match self.until_ended(id, None).await? {
            Waited::Ended(job) if job.status == JobState::Done => Ok(self.client.job_result(id).await?.body),
            Waited::Ended(job) | Waited::Late(job) => bail!(out::printable(&view::why(&job, now()))),
        }
    }

    /// Says it to a program.
    async fn tell(&self, waited: Waited) -> Result<ExitCode> {
        let (job, code) = match waited {
            Waited::Ended(job) if job.status == JobState::Done => (self.with_result(job).await?, ExitCode::SUCCESS),
            Waited::Ended(job) => (job, ExitCode::FAILURE),
            Waited::Late(job) => (job, ExitCode::from(LATE)),
        };
        out::json(&job)?;
        Ok(code)
    }

    async fn until_ended(&self, id: &str, timeout: Option<Duration>) -> Result<Waited> {
        let (end, mut patience) = (Deadline::after(timeout), Patience::default());
        let position = Arc::new(Mutex::new(Position { done: 0, all: 1 }));
        let seen = position.clone();
        let _bar = Progress::bar(format!("job {id}"), move || *seen.lock());
        let look = if std::io::stderr().is_terminal() { MOVE } else { LOOK };
        let mut last: Option<JobStatus> = None;
        loop {
            let begun = Instant::now();
            let asked = end.left().min(look);
            match self.look(id, asked).await {
                Ok(job) if job.status.has_ended() => return Ok(Waited::Ended(job)),
                Ok(job) => {
                    patience = Patience::default();
                    *position.lock() = Position { done: job.progress.done, all: job.progress.total.max(1) };
                    last = Some(job);
                }
                Err(error) if last.is_none() => return Err(error.into()),
                Err(error) => patience.forgive(error, Instant::now())?,
            }
            if let Some(job) = last.take_if(|_| end.left().is_zero()) {
                return Ok(Waited::Late(job));
            }
            // A server that is about to stop answers at once.
            tokio::time::sleep_until((begun + PAUSE.min(end.left())).into()).await;
        }
    }

    async fn look(&self, id: &str, asked: Duration) -> salver_core::Result<JobStatus> {
        let late = || Error::not_ready(format!("no answer from {} about job {id}", self.client.base()));
        let looked = tokio::time::timeout(asked + SLACK, self.client.wait_for_job(id, asked)).await;
        looked.unwrap_or_else(|_| Err(late()))
    }

    /// Closes the queue, and waits until nothing waits or runs.
    pub(super) async fn drain(&self, options: &DrainOptions) -> Result<ExitCode> {
        let mut stats = self.client.set_queue_gate(JobGate::Draining).await?;
        if options.no_wait {
            self.say_stats(&stats)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (end, mut patience) = (Deadline::after(options.timeout), Patience::default());
        let all = stats.unfinished();
        let position = Arc::new(Mutex::new(Position { done: 0, all }));
        let seen = position.clone();
        let bar = Progress::bar("draining the queue", move || *seen.lock());
        while stats.unfinished() > 0 && !end.left().is_zero() {
            tokio::time::sleep(MOVE.min(end.left())).await;
            match self.client.queue_stats().await {
                Ok(counted) => (stats, patience) = (counted, Patience::default()),
                Err(error) => patience.forgive(error, Instant::now())?,
            }
            if stats.gate != JobGate::Draining {
                bail!("somebody opened the queue again: {}", view::waiting(&stats));
            }
            position.lock().done = all.saturating_sub(stats.unfinished());
        }
        drop(bar);
        self.say_stats(&stats)?;
        Ok(if stats.unfinished() == 0 { ExitCode::SUCCESS } else { ExitCode::from(LATE) })
    }
}

/// When waiting is over.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    /// None is never; so is what no clock of this machine will see.
    fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }
}

/// How a server is dealt with that does not answer any more.
#[derive(Default)]
struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Forgives a server that is away, for as long as a restart may take.
    ///
    /// # Errors
    /// The error, where it is another one or this has gone on for too long.
    fn forgive(&mut self, error: Error, now: Instant) -> Result<(), Error> {
        let since = *self.since.get_or_insert(now);
        if error.kind() == ErrorKind::NotReady && now.saturating_duration_since(since) < AWAY {
            Ok(())
        } else {
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_away_for_a_minute() {
        let (mut patience, begun) = (Patience::default(), Instant::now());
        let mut away =
            |seconds| patience.forgive(Error::not_ready("no answer"), begun + Duration::from_secs(seconds)).is_ok();
        assert_eq!([0, 30, 59, 60].map(&mut away), [true, true, true, false]);
        assert!(Patience::default().forgive(Error::not_found("no such job"), begun).is_err());
    }

    #[test]
    fn no_time_is_too_long() {
        assert_eq!(Deadline::after(Some(Duration::MAX)).left(), Duration::MAX);
        assert_eq!(Deadline::after(None).left(), Duration::MAX);
        assert_eq!(Deadline::after(Some(Duration::ZERO)).left(), Duration::ZERO);
    }
}
