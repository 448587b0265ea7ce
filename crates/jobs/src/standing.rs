//! Where a job stands, and what each thing that can happen to it makes of that. Pure.
//!
//! Happy paths write no history: that a job was submitted, handed out for the last time and done is
//! told by its row. Whatever else happens is written down, and what the row told until then before it.

use std::time::Duration;

use crate::policy::{self, Next};
use crate::types::{Event, Hold, Job, JobId, Millis, Outcome, State};

/// How many lines of a job's history are kept.
pub(crate) const MOST_EVENTS: usize = 50;

/// What of a job may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Counts the jobs in the order in which they came.
    pub(crate) seq: i64,
    pub(crate) id: JobId,
    pub(crate) state: State,
    pub(crate) token: i64,
    pub(crate) beats: i64,
    /// How long whoever holds it may give no sign of life.
    pub(crate) lease_ms: i64,
    pub(crate) done: i64,
    pub(crate) total: i64,
    pub(crate) attempts: i64,
    pub(crate) troubles: i64,
    pub(crate) losses: i64,
    pub(crate) lost_alone: i64,
    /// Whether it runs with nothing beside it, from now on or right now.
    pub(crate) alone: bool,
    pub(crate) retries: i64,
    pub(crate) ttl_ms: i64,
    pub(crate) not_before: Option<Millis>,
    pub(crate) started: Option<Millis>,
    pub(crate) ended: Option<Millis>,
    pub(crate) expires: Option<Millis>,
    pub(crate) reason: Option<String>,
    /// Whether the last time that it was handed out, and that it is done, stand nowhere but in the row.
    pub(crate) untold: bool,
    pub(crate) has_callback: bool,
    /// Whether it ended since it was read.
    pub(crate) is_over: bool,
    /// What of it is to be written.
    pub(crate) change: Change,
    /// Lines to add to its history.
    pub(crate) lines: Vec<Event>,
}

/// How much of a job has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    None,
    /// Only signs of life.
    Beat,
    All,
}

impl Standing {
    /// Whether what `hold` shows still counts.
    pub(crate) fn is_held_by(&self, hold: Hold) -> bool {
        self.state == State::Running && self.token == hold.token
    }

    /// A sign of life.
    pub(crate) fn beat(&mut self, done: i64) {
        self.beats += 1;
        self.done = done;
        self.change = self.change.max(Change::Beat);
    }

    /// It goes to a worker.
    pub(crate) fn hand_out(&mut self, lease: Duration, now: Millis) {
        self.change_to(State::Running);
        self.lease_ms = millis(lease);
        self.token += 1;
        self.attempts += 1;
        self.done = 0;
        self.started = Some(now);
        self.untold = true;
    }

    /// Its run has ended.
    pub(crate) fn finish(&mut self, outcome: &Outcome, now: Millis) {
        match outcome {
            Outcome::Done(_) => {
                self.done = self.total;
                self.end(State::Done, now);
            }
            Outcome::Failed(reason) => self.fail(reason, now),
            Outcome::Troubled(reason) => self.trouble(reason, now),
            Outcome::Lost(reason) => self.lose_for(&clean(reason), now),
            Outcome::GivenBack => {
                self.change_to(State::Queued);
                self.tell(now, "given back, as its worker stopped".into());
            }
        }
    }

    /// It cannot succeed.
    pub(crate) fn fail(&mut self, reason: &str, now: Millis) {
        let reason = clean(reason);
        self.tell(now, format!("failed: {reason}"));
        self.reason = Some(reason);
        self.end(State::Failed, now);
    }

    fn trouble(&mut self, reason: &str, now: Millis) {
        self.troubles += 1;
        match policy::after_trouble(count(self.troubles), count(self.retries)) {
            Next::Again(wait) => {
                let reason = clean(reason);
                self.tell(now, format!("trouble: {reason}; again in {} s", wait.as_secs()));
                self.reason = Some(reason);
                self.again(wait, now);
            }
            Next::Fail => self.fail(reason, now),
            Next::Die => self.die(now),
        }
    }

    /// Its worker gave no sign of life.
    pub(crate) fn lose(&mut self, now: Millis) {
        self.lose_for("lost with its worker", now);
    }

    fn lose_for(&mut self, reason: &str, now: Millis) {
        self.losses += 1;
        self.lost_alone += i64::from(self.alone);
        self.alone = true;
        self.reason = Some(reason.to_owned());
        match policy::after_loss(count(self.lost_alone)) {
            Next::Again(wait) => {
                self.tell(now, format!("{reason}; from now on it runs alone"));
                self.again(wait, now);
            }
            Next::Fail | Next::Die => {
                self.tell(now, reason.to_owned());
                self.die(now);
            }
        }
    }

    fn die(&mut self, now: Millis) {
        let reason = format!("{} workers were lost with it while it ran alone", self.lost_alone);
        self.tell(now, format!("dead: {reason}"));
        self.reason = Some(reason);
        self.end(State::Dead, now);
    }

    /// Nobody wants it any more. What its worker writes from now on comes too late.
    pub(crate) fn cancel(&mut self, now: Millis) {
        self.tell(now, "cancelled".into());
        self.token += 1;
        self.end(State::Cancelled, now);
    }

    /// Its content was submitted anew.
    pub(crate) fn replayed(&mut self, by: JobId, now: Millis) {
        self.tell(now, format!("replayed by {by}"));
    }

    /// Something happened that does not change it.
    pub(crate) fn note(&mut self, note: &str, now: Millis) {
        self.tell(now, clean(note));
    }

    fn again(&mut self, wait: Duration, now: Millis) {
        if wait.is_zero() {
            return self.change_to(State::Queued);
        }
        self.change_to(State::Scheduled);
        self.not_before = Some(now.saturating_add(millis(wait)));
    }

    fn end(&mut self, state: State, now: Millis) {
        self.change_to(state);
        self.is_over = true;
        self.ended = Some(now);
        self.expires = Some(now.saturating_add(self.ttl_ms));
    }

    fn change_to(&mut self, state: State) {
        self.state = state;
        self.change = Change::All;
    }

    /// Adds a line to its history, behind those that only the row told.
    fn tell(&mut self, now: Millis, text: String) {
        if std::mem::take(&mut self.untold) {
            self.change = Change::All;
            let told = self.untold_lines();
            self.lines.extend(told);
        }
        self.lines.push(Event { at_ms: now, text });
    }

    fn untold_lines(&self) -> Vec<Event> {
        untold_lines(self.state, self.attempts, self.started, self.ended)
    }
}

/// Returns the lines of a history that only the row tells.
fn untold_lines(state: State, attempts: i64, started: Option<Millis>, ended: Option<Millis>) -> Vec<Event> {
    let handed_out = Event { at_ms: started.unwrap_or_default(), text: format!("handed out (attempt {attempts})") };
    let done = ended.filter(|_| state != State::Running).map(|at_ms| Event { at_ms, text: "done".into() });
    [handed_out].into_iter().chain(done).collect()
}

/// Returns the history of a job: what its row tells, and around it what was written down.
pub(crate) fn history(job: &Job, written: Vec<Event>, is_untold: bool) -> Vec<Event> {
    let submitted = match job.replay_of {
        Some(id) => format!("submitted, as a replay of {id}"),
        None => "submitted".into(),
    };
    let mut history = vec![Event { at_ms: job.created_ms, text: submitted }];
    history.extend(written);
    if is_untold {
        history.extend(untold_lines(job.state, job.attempts.into(), job.started_ms, job.ended_ms));
    }
    history.split_off(history.len().saturating_sub(MOST_EVENTS))
}

/// Returns a text without what PostgreSQL keeps in no text.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(crate) fn count(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// Returns milliseconds; a time that is too long for them is as good as endless.
pub(crate) fn millis(time: Duration) -> Millis {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
