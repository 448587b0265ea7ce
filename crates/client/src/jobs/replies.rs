//! What a server says of jobs. Fields that are not known here are passed over, so that an older client
//! understands a newer server.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use salver_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Milliseconds since 1970, by the clock of the server.
type Millis = i64;

/// The reply to a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedJob {
    /// Names the job.
    pub id: String,
    /// How it stands.
    pub status: JobState,
    /// Where to ask for it.
    pub status_url: String,
}

impl SubmittedJob {
    /// Says that the answer is still to come, to those who can take nothing else.
    pub(crate) fn not_yet(&self) -> Error {
        let text = format!(
            "the answer is not in the cache, and job {} computes it; ask again, or for {}?wait=60s",
            self.id, self.status_url
        );
        Error::not_ready(text).with_retry_after(Duration::from_secs(1))
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its time. Replies call it queued, too: see [`JobStatus::state`].
    Scheduled,
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Its answer is there.
    Done,
    /// It has no answer, and the reason is known.
    Failed,
    /// It ended its workers too often. Replies call it failed, too: see [`JobStatus::state`].
    Dead,
    /// Somebody did not want it any more.
    Cancelled,
    /// It had ended, and what it left is gone.
    Expired,
    /// One that a newer server has.
    #[serde(other)]
    Unknown,
}

impl JobState {
    /// All that can be asked for.
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

    /// Returns the name.
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
            Self::Unknown => "unknown",
        }
    }

    /// Whether it never runs again.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Dead | Self::Cancelled | Self::Expired)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid_input(format!("status '{text}': expected one of {all}"))
        })
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobProgress {
    /// Requests that were answered.
    pub done: u64,
    /// All requests.
    pub total: u64,
}

/// A line of a job's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvent {
    /// When.
    pub at_ms: Millis,
    /// What.
    pub text: String,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its name.
    pub id: String,
    /// The model that it asks, as it was written.
    pub model: String,
    /// Where it stands, as the reply says; [`JobStatus::state`] is more precise.
    pub status: JobState,
    /// Whether it failed by ending its workers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dead: bool,
    /// How far it is.
    #[serde(default)]
    pub progress: JobProgress,
    /// 1 goes first, 9 last.
    pub priority: u8,
    /// How often it was handed to a worker.
    #[serde(default)]
    pub attempts: u32,
    /// When it may begin; none: at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<Millis>,
    /// When it was taken in.
    pub created_ms: Millis,
    /// When it was handed out last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<Millis>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<Millis>,
    /// When its answer goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<Millis>,
    /// How many workers were lost with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_workers: u32,
    /// Why it failed, or why it ran again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The job that it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    /// What happened to it, oldest first; lists leave it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<JobEvent>,
    /// Where to ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_url: Option<String>,
    /// Where its answer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    /// Its answer, where that is JSON and short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl JobStatus {
    /// Returns where it stands, by the name under which lists find it.
    pub fn state(&self, now: Millis) -> JobState {
        match self.status {
            JobState::Queued if self.not_before_ms.is_some_and(|begin| begin > now) => JobState::Scheduled,
            JobState::Failed if self.dead => JobState::Dead,
            status => status,
        }
    }
}

/// Some jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    /// The jobs, without their history.
    pub jobs: Vec<JobStatus>,
    /// Where the next page begins; none: this is the last one.
    #[serde(default)]
    pub next_page_token: Option<String>,
}

/// Whether jobs come in and go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobGate {
    /// Both.
    #[default]
    Open,
    /// They come in, and wait.
    Paused,
    /// They go out, and no more come in.
    Draining,
}

/// Figures of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobStats {
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
    pub gate: JobGate,
}

impl JobStats {
    /// Returns how many jobs have not ended.
    pub fn unfinished(&self) -> u64 {
        self.scheduled + self.queued + self.running
    }
}

/// What a job answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobAnswer {
    /// Its media type.
    pub content_type: String,
    /// The length of its JSON part, where binary tensors follow it.
    pub header_len: Option<u64>,
    /// The bytes.
    pub body: Bytes,
}

impl JobAnswer {
    /// Whether the whole of it is one JSON text.
    pub fn is_json(&self) -> bool {
        self.header_len.is_none() && self.media() == "application/json"
    }

    /// Whether each line of it is one JSON text.
    pub fn is_lines(&self) -> bool {
        self.media() == "application/x-ndjson"
    }

    fn media(&self) -> &str {
        self.content_type.split(';').next().unwrap_or_default().trim()
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(more: Value) -> JobStatus {
        let mut job = json!({ "id": "a", "model": "iris", "status": "queued", "priority": 5, "created_ms": 1000 });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_job_is_read_as_servers_write_it_and_what_is_new_is_passed_over() {
        let shown = job(json!({
            "status": "done", "progress": { "done": 2, "total": 2 }, "attempts": 1, "started_ms": 1100,
            "ended_ms": 1200, "expires_ms": 9000, "history": [{ "at_ms": 1000, "text": "submitted" }],
            "result_url": "/api/v1/jobs/a/result", "result": { "predictions": [1] }, "new_in_2030": true,
        }));
        assert_eq!(shown.progress, JobProgress { done: 2, total: 2 });
        assert_eq!(shown.history[0].text, "submitted");
        assert!(shown.status.has_ended() && shown.lost_workers == 0 && !shown.dead);
        let again = serde_json::to_value(&shown).unwrap();
        assert_eq!(again["result"], json!({ "predictions": [1] }));
        assert!(again.get("dead").is_none() && again.get("reason").is_none());
    }

    #[test]
    fn jobs_are_called_as_lists_find_them() {
        assert_eq!(job(json!({})).state(0), JobState::Queued);
        let later = job(json!({ "not_before_ms": 5000 }));
        assert_eq!([4999, 5000].map(|now| later.state(now)), [JobState::Scheduled, JobState::Queued]);
        assert_eq!(job(json!({ "status": "failed", "dead": true })).state(0), JobState::Dead);
        assert_eq!(job(json!({ "status": "resting" })).state(0), JobState::Unknown);
        assert!(!JobState::Unknown.has_ended());
        assert!("unknown".parse::<JobState>().is_err() && "dead".parse::<JobState>().is_ok());
    }

    #[test]
    fn figures_and_pages_are_read() {
        let stats: JobStats = serde_json::from_value(json!({
            "scheduled": 1, "queued": 2, "running": 3, "dead": 4, "oldest_queued_ms": null, "gate": "draining",
        }))
        .unwrap();
        assert_eq!((stats.unfinished(), stats.gate), (6, JobGate::Draining));
        let page: JobPage = serde_json::from_value(json!({ "jobs": [], "next_page_token": null })).unwrap();
        assert_eq!(page.next_page_token, None);
    }

    #[test]
    fn the_media_type_tells_what_an_answer_is() {
        let answer = |content_type: &str, header_len| JobAnswer {
            content_type: content_type.to_owned(),
            header_len,
            body: Bytes::new(),
        };
        assert!(answer("application/json; charset=utf-8", None).is_json());
        assert!(!answer("application/json", Some(3)).is_json());
        assert!(answer("application/x-ndjson", None).is_lines());
    }
}
