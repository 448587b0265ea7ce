//! What is known of a job, and what travels between a queue, its workers and those who ask.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use salver_core::{Error, ModelRef, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Milliseconds since 1970, by the clock of whoever writes.
pub type Millis = i64;

/// Names a job; ascending in the order of submission, as far as clocks agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Uuid);

impl JobId {
    /// Makes an id that nobody else has.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Reads 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self> {
        let is_simple = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = Some(text).filter(|_| is_simple).and_then(|text| Uuid::try_parse(text).ok());
        id.map(Self).ok_or_else(|| Error::not_found("there is no such job: an id has 32 hexadecimal digits"))
    }
}

/// How the body of a job is to be read, and its answer written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As `POST /models/{name}/predict`.
    Plain,
    /// As `POST /v2/models/{name}/infer`.
    Oip,
    /// One body of [`Form::Plain`] on each line.
    PlainLines,
    /// One body of [`Form::Oip`] on each line.
    OipLines,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Oip, Self::PlainLines, Self::OipLines];

    /// Returns the form's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Oip => "oip",
            Self::PlainLines => "plain_lines",
            Self::OipLines => "oip_lines",
        }
    }
}

/// What a job is to answer: a request's body as it came, and what was said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// How to read it.
    pub form: Form,
    /// Its media type, where one was given.
    pub content_type: Option<String>,
    /// The length of the JSON part, where binary tensors follow it.
    pub header_len: Option<u64>,
    /// The bytes, without any transfer or content coding.
    pub body: Bytes,
}

/// What the submitter chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// 1 goes first, 9 last.
    pub priority: u8,
    /// When it may begin at the earliest; none: at once.
    pub not_before: Option<Millis>,
    /// How long one run may take.
    pub time_limit: Duration,
    /// How often it may run again after it failed for a reason that may pass.
    pub retries: u32,
    /// How long its answer is kept after it has ended.
    pub result_ttl: Duration,
    /// Who is told when it has ended.
    pub callback_url: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            priority: 5,
            not_before: None,
            time_limit: Duration::from_secs(600),
            retries: 3,
            result_ttl: Duration::from_secs(24 * 3600),
            callback_url: None,
        }
    }
}

/// A job to take in.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The model that it asks.
    pub model: ModelRef,
    /// What it asks.
    pub content: Content,
    /// How many requests its content is.
    pub total: u64,
    /// How it is to be treated.
    pub options: Options,
    /// Whose idempotency keys there are: each owner has keys of their own.
    pub owner: String,
    /// Who submits it: whose unfinished jobs are counted.
    pub caller: String,
    /// Names the submission, so that one that is repeated makes no second job.
    pub idempotency_key: Option<String>,
    /// The job whose key this submission takes over, if that one has it and has ended; else it changes
    /// nothing. So of many that replace the same job one makes the new one, which the others get.
    pub replaces: Option<JobId>,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// A job was made, and survives a crash.
    New(JobId),
    /// The same submission had made this job before.
    Known(JobId),
    /// The idempotency key belongs to this job, which is another one.
    Differs(JobId),
}

/// Where a job stands. Those that have ended never change, except that results expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its time.
    Scheduled,
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Its answer is there.
    Done,
    /// It has no answer, and the reason is known.
    Failed,
    /// It ended its workers, alone, too often: somebody has to look at it.
    Dead,
    /// Somebody did not want it any more.
    Cancelled,
    /// It had ended, and what it left is gone.
    Expired,
}

impl State {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Whether it never runs again.
    pub const fn has_ended(self) -> bool {
        !matches!(self, Self::Scheduled | Self::Queued | Self::Running)
    }

    /// Returns the state's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Requests that were answered.
    pub done: u64,
    /// All requests.
    pub total: u64,
}

/// What is known of a job, without its body and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    #[serde(with = "as_text")]
    pub id: JobId,
    /// The model that it asks, as it was written.
    pub model: String,
    /// Where it stands.
    pub state: State,
    /// How far it is.
    pub progress: Progress,
    /// 1 goes first, 9 last.
    pub priority: u8,
    /// How often it was handed to a worker.
    pub attempts: u32,
    /// How many workers were lost with it.
    pub losses: u32,
    /// Why it failed, or why it ran again.
    pub reason: Option<String>,
    /// When it was taken in.
    pub created_ms: Millis,
    /// When it may begin; none: at once.
    pub not_before_ms: Option<Millis>,
    /// When it was handed out last.
    pub started_ms: Option<Millis>,
    /// When it ended.
    pub ended_ms: Option<Millis>,
    /// When its answer goes.
    pub expires_ms: Option<Millis>,
    /// The job that it repeats.
    #[serde(with = "as_maybe_text")]
    pub replay_of: Option<JobId>,
    /// What happened to it, oldest first; the last few dozen lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Event>,
}

/// A line of a job's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at_ms: Millis,
    /// What.
    pub text: String,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::JobId;

    pub(super) fn serialize<S: Serializer>(id: &JobId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<JobId, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

mod as_maybe_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::JobId;

    pub(super) fn serialize<S: Serializer>(id: &Option<JobId>, to: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => to.collect_str(id),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<JobId>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

/// What a job answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its media type.
    pub content_type: String,
    /// The length of its JSON part, where binary tensors follow it.
    pub header_len: Option<u64>,
    /// The bytes.
    pub body: Bytes,
}

/// A job in the hands of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Which job.
    pub id: JobId,
    /// Grows with each time that the job is handed out, and is never used twice: whoever writes for
    /// a job shows it, and an old one is refused.
    pub token: i64,
}

/// A job to run.
#[derive(Debug, Clone)]
pub struct Lease {
    /// What its worker has to show.
    pub hold: Hold,
    /// The model that it asks.
    pub model: ModelRef,
    /// What it asks.
    pub content: Content,
    /// How many requests that is.
    pub total: u64,
    /// How long this run may take.
    pub time_limit: Duration,
    /// Which run this is, from 1.
    pub attempt: u32,
    /// Whether it is to run while its worker runs nothing else: a worker was lost with it before.
    pub is_alone: bool,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// With an answer.
    Done(Answer),
    /// For a reason that lies in the job: it would fail again.
    Failed(String),
    /// For a reason that may pass: it runs again as often as it may.
    Troubled(String),
    /// What it ran on was lost with it and others, for this reason. Whose fault that was is not known:
    /// it runs again, alone.
    Lost(String),
    /// Its worker stops; it goes back as if nothing had happened.
    GivenBack,
}

/// A sign of life.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// Of which hold.
    pub hold: Hold,
    /// How many requests it has answered.
    pub done: u64,
}

/// A job that somebody holds, as everybody sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// By whom.
    pub hold: Hold,
    /// How many signs of life there were.
    pub beats: i64,
    /// How long there may be none, as its worker said when it took the job.
    pub lease: Duration,
}

/// Whether jobs come in and go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Both.
    #[default]
    Open,
    /// They come in, and wait.
    Paused,
    /// They go out, and no more come in.
    Draining,
}

impl Gate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Paused, Self::Draining];

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// Which jobs are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those in one of these states; empty: in any.
    pub states: Vec<State>,
    /// Those of this model, as it was written.
    pub model: Option<String>,
    /// Those that were taken in before.
    pub created_before_ms: Option<Millis>,
}

/// Some jobs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The jobs, without their history.
    pub jobs: Vec<Job>,
    /// Where the next page begins; none: this is the last one.
    pub next: Option<String>,
}

/// Figures of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that wait for a worker.
    pub queued: u64,
    /// Jobs that workers have.
    pub running: u64,
    /// Jobs that somebody has to look at.
    pub dead: u64,
    /// When the oldest of those that wait for a worker was taken in.
    pub oldest_queued_ms: Option<Millis>,
    /// Whether jobs come in and go out.
    pub gate: Gate,
}

/// What was cleared away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Jobs whose time has come.
    pub begun: u64,
    /// Answers that are gone.
    pub expired: u64,
    /// Jobs that nothing is known of any more.
    pub forgotten: u64,
}

/// A message that somebody is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Of which job.
    pub id: JobId,
    /// Where it goes.
    pub url: String,
    /// How often it was tried.
    pub attempts: u32,
}
