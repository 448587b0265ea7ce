//! The server's queue of jobs: work that is handed in now and asked for later.
//!
//! One call is one request; nothing here polls or tries again. What the replies say stands in
//! `jobs/replies.rs`.

mod replies;

use std::fmt::{Display, Write as _};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use salver_core::{Error, ModelRef, Result};
use salver_protocol::oip_rest::HEADER_LEN;
use salver_protocol::paths;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::replies::{
    JobAnswer, JobEvent, JobGate, JobPage, JobProgress, JobState, JobStats, JobStatus, SubmittedJob,
};
use crate::HttpClient;
use crate::http::HttpReply;

/// The longest that a server lets a client wait in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How the body of a job is written, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JobForm {
    /// As for [`HttpClient::predict`].
    #[default]
    Plain,
    /// As a request of the Open Inference Protocol.
    Oip,
}

/// A job to hand in.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The model that it asks.
    pub model: ModelRef,
    /// How its body is written.
    pub form: JobForm,
    /// The media type of its body; `application/x-ndjson` means one request on each line.
    pub content_type: &'static str,
    /// What it asks.
    pub body: Bytes,
    /// How it is to be treated.
    pub options: JobOptions,
}

/// How a job is to be treated; what is left out is as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobOptions {
    /// 1 goes first, 9 last.
    pub priority: Option<u8>,
    /// How long to wait before it may begin.
    pub delay: Option<Duration>,
    /// How long one run may take.
    pub time_limit: Option<Duration>,
    /// How often it runs again after it failed for a reason that may pass.
    pub retries: Option<u32>,
    /// How long its answer is kept.
    pub result_ttl: Option<Duration>,
    /// Where to tell that it has ended.
    pub callback_url: Option<String>,
    /// Names the submission: one that is repeated under the same key makes no second job.
    pub idempotency_key: Option<String>,
}

/// Which jobs are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Those in one of these states; empty: in any.
    pub states: Vec<JobState>,
    /// Those of this model, as it was written.
    pub model: Option<String>,
    /// Those that were submitted longer ago.
    pub older_than: Option<Duration>,
}

impl HttpClient {
    /// Hands a job in. When this returns, the job survives a crash of the server.
    ///
    /// # Errors
    /// `InvalidInput` for a body that the model cannot read, `Overloaded` where too many jobs wait,
    /// `NotReady` while the queue drains.
    pub async fn submit_job(&self, job: NewJob) -> Result<SubmittedJob> {
        let prefix = match job.form {
            JobForm::Plain => "",
            JobForm::Oip => "/v2",
        };
        let path = job.options.query().path(&format!("{prefix}/models/{}/jobs", paths::model(&job.model)));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(job.content_type));
        if let Some(key) = &job.options.idempotency_key {
            let wrong = |_| Error::invalid_input("the idempotency key holds characters that a header cannot");
            headers.insert("idempotency-key", HeaderValue::from_str(key).map_err(wrong)?);
        }
        read(&self.send(Method::POST, &path, headers, job.body).await?.success()?)
    }

    /// Fetches what is known of a job.
    ///
    /// # Errors
    /// `NotFound` where there is none of this id, `Gone` where its answer has expired.
    pub async fn job(&self, id: &str) -> Result<JobStatus> {
        read(&self.get(&path_of(id, "")).await?)
    }

    /// Fetches what is known of a job as soon as it has ended, or as it stands after `most`, of which
    /// a server grants five minutes at a time.
    ///
    /// # Errors
    /// As [`HttpClient::job`].
    pub async fn wait_for_job(&self, id: &str, most: Duration) -> Result<JobStatus> {
        let mut query = Query::default();
        query.add_time("wait", Some(most.min(LONGEST_WAIT)));
        read(&self.get(&query.path(&path_of(id, ""))).await?)
    }

    /// Fetches the answer of a job that is done.
    ///
    /// # Errors
    /// `NotReady` for a job that has not ended, `Conflict` for one that has no answer, `Gone` for one
    /// whose answer has expired.
    pub async fn job_result(&self, id: &str) -> Result<JobAnswer> {
        let reply = self.get(&path_of(id, "/result")).await?;
        let text = |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(JobAnswer {
            content_type: text(CONTENT_TYPE.as_str()).unwrap_or("application/octet-stream").to_owned(),
            header_len: text(HEADER_LEN).and_then(|len| len.parse().ok()),
            body: reply.body,
        })
    }

    /// Lists up to `limit` jobs, newest first, from where `after` says that the last page ended.
    ///
    /// # Errors
    /// What the server says.
    pub async fn jobs(&self, filter: &JobFilter, limit: usize, after: Option<&str>) -> Result<JobPage> {
        let mut query = filter.query();
        query.add("limit", Some(limit));
        query.add("page_token", after);
        read(&self.get(&query.path("/api/v1/jobs")).await?)
    }

    /// Ends a job that has not ended; one that runs stops as soon as its worker hears of it.
    ///
    /// # Errors
    /// `NotFound` where there is none of this id, `Conflict` for one that has ended otherwise.
    pub async fn cancel_job(&self, id: &str) -> Result<JobStatus> {
        read(&self.send(Method::DELETE, &path_of(id, ""), HeaderMap::new(), Bytes::new()).await?.success()?)
    }

    /// Submits a job that failed anew; returns the new one.
    ///
    /// # Errors
    /// `NotFound` where there is none of this id, `Conflict` for one that did not fail.
    pub async fn replay_job(&self, id: &str) -> Result<JobStatus> {
        read(&self.post(&path_of(id, "/replay"), Bytes::new()).await?)
    }

    /// Removes jobs that have ended, with their answers; returns how many.
    ///
    /// # Errors
    /// `InvalidInput` where a state is asked for in which jobs have not ended.
    pub async fn purge_jobs(&self, filter: &JobFilter) -> Result<u64> {
        let reply = self.post(&filter.query().path("/api/v1/jobs/purge"), Bytes::new()).await?.json()?;
        reply["purged"].as_u64().ok_or_else(|| Error::engine("the server does not say how many jobs it removed"))
    }

    /// Fetches the figures of the queue.
    ///
    /// # Errors
    /// `NotReady` for a server that is not reached, `Unsupported` for one without a queue.
    pub async fn queue_stats(&self) -> Result<JobStats> {
        read(&self.get("/api/v1/jobs/queue").await?)
    }

    /// Opens or closes the queue, for all servers that share it; returns its figures.
    ///
    /// # Errors
    /// As [`HttpClient::queue_stats`].
    pub async fn set_queue_gate(&self, gate: JobGate) -> Result<JobStats> {
        let verb = match gate {
            JobGate::Open => "resume",
            JobGate::Paused => "pause",
            JobGate::Draining => "drain",
        };
        read(&self.post(&format!("/api/v1/jobs/queue/{verb}"), Bytes::new()).await?)
    }
}

impl JobOptions {
    fn query(&self) -> Query {
        let mut query = Query::default();
        query.add("priority", self.priority);
        query.add_time("delay", self.delay);
        query.add_time("time_limit", self.time_limit);
        query.add("retries", self.retries);
        query.add_time("result_ttl", self.result_ttl);
        query.add("callback_url", self.callback_url.as_deref());
        query
    }
}

impl JobFilter {
    fn query(&self) -> Query {
        let mut query = Query::default();
        for state in &self.states {
            query.add("status", Some(state));
        }
        query.add("model", self.model.as_deref());
        query.add_time("older_than", self.older_than);
        query
    }
}

/// What stands behind the question mark.
#[derive(Default)]
struct Query(String);

impl Query {
    fn add(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            let separator = if self.0.is_empty() { '?' } else { '&' };
            // Writing to a string succeeds.
            let _ = write!(self.0, "{separator}{name}={}", paths::segment(&value.to_string()));
        }
    }

    fn add_time(&mut self, name: &str, time: Option<Duration>) {
        self.add(name, time.map(|time| format!("{}ms", time.as_millis())));
    }

    fn path(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

fn path_of(id: &str, rest: &str) -> String {
    format!("/api/v1/jobs/{}{rest}", paths::segment(id))
}

pub(crate) fn read<T: DeserializeOwned>(reply: &HttpReply) -> Result<T> {
    serde_json::from_value::<T>(reply.json().unwrap_or(Value::Null)).map_err(|error| {
        Error::engine(format!("the server's reply about jobs is not understood: {error}")).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_filters_become_queries_that_the_server_reads() {
        let options = JobOptions {
            priority: Some(1),
            delay: Some(Duration::from_millis(1500)),
            retries: Some(0),
            result_ttl: Some(Duration::from_secs(7 * 86_400)),
            callback_url: Some("https://a/?b=c&d".to_owned()),
            idempotency_key: Some("not in the query".to_owned()),
            ..JobOptions::default()
        };
        assert_eq!(
            options.query().0,
            "?priority=1&delay=1500ms&retries=0&result_ttl=604800000ms&callback_url=https%3A%2F%2Fa%2F%3Fb%3Dc%26d"
        );
        assert_eq!(JobOptions::default().query().0, "");
        let filter = JobFilter {
            states: vec![JobState::Dead, JobState::Failed],
            model: Some("a&b/3".to_owned()),
            older_than: Some(Duration::from_secs(1)),
        };
        assert_eq!(filter.query().0, "?status=dead&status=failed&model=a%26b%2F3&older_than=1000ms");
    }

    #[test]
    fn an_id_from_outside_stays_one_segment() {
        assert_eq!(path_of("../models?x", "/result"), "/api/v1/jobs/..%2Fmodels%3Fx/result");
    }
}
