//! Jobs: work that outlives its request. Submitted with the bodies of predictions, asked for under
//! `/api/v1/jobs`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use salver_core::{Error, Result};
use salver_jobs::{
    Answer, Content, Filter, Form, Gate, Job, JobId, Jobs, NewJob, Options, Progress, State as JobState, Submitted,
};
use salver_protocol::{Reply, oip_rest, plain};
use serde_json::{Map, Value, json};

use super::AppState;
use super::exchange::{EventStream, INFERENCE_HEADER_LEN, manage_as, reply_or};
use super::target::Target;
use crate::app::App;

/// Answers up to this size stand in the status of their job.
const INLINE_BYTES: usize = 64 << 10;
/// The longest that a status may be waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long the stream of a job's progress is silent at most.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Jobs of one page, where nothing is said, and at most.
const PAGE: usize = 50;
const MOST_OF_A_PAGE: usize = 1_000;
const LONGEST_KEY: usize = 255;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Adds the routes.
pub(super) fn routes(router: Router<Arc<App>>) -> Router<Arc<App>> {
    router
        .route("/models/{model}/jobs", post(submit_plain))
        .route("/models/{model}/versions/{version}/jobs", post(submit_plain))
        .route("/v2/models/{model}/jobs", post(submit_oip))
        .route("/v2/models/{model}/versions/{version}/jobs", post(submit_oip))
        .route("/api/v1/jobs", get(list))
        .route("/api/v1/jobs/purge", post(purge))
        .route("/api/v1/jobs/queue", get(stats))
        .route("/api/v1/jobs/queue/{gate}", post(set_gate))
        .route("/api/v1/jobs/{id}", get(show).delete(cancel))
        .route("/api/v1/jobs/{id}/result", get(result))
        .route("/api/v1/jobs/{id}/events", get(events))
        .route("/api/v1/jobs/{id}/replay", post(replay))
}

fn jobs(app: &App) -> Result<&Jobs> {
    app.services.jobs.as_ref().ok_or_else(|| Error::unsupported("this server has no queue of jobs"))
}

async fn submit_plain(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    submit(app, target, request, false, plain::encode_error).await
}

async fn submit_oip(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    submit(app, target, request, true, oip_rest::encode_error).await
}

async fn submit(
    app: Arc<App>,
    target: Target,
    request: Request<Body>,
    is_oip: bool,
    render: fn(&Error) -> Reply,
) -> Response<Body> {
    let asked = Asked::of(&request);
    let headers = request.headers().clone();
    manage_as(&app, request, render, async |body: Bytes| {
        let jobs = jobs(&app)?;
        let model = if is_oip { target.model_ref()? } else { target.model_or_alias()? };
        let content = content(&headers, is_oip, body)?;
        let options = asked.options()?;
        let idempotency_key = idempotency_key(&headers)?;
        let deadline = Instant::now() + app.limits().default_deadline;
        let total = app.job_work.check(&model, &content, deadline).await?;
        let job = NewJob { model, content, total, options, owner: String::new(), idempotency_key };
        match jobs.submit(job).await? {
            Submitted::New(id) | Submitted::Known(id) => Ok(Reply::json_value(
                202,
                &json!({ "id": id.to_string(), "status": "queued", "status_url": url_of(id) }),
            )),
            Submitted::Differs(id) => {
                let error = Error::invalid_input(format!(
                    "the Idempotency-Key was used for job {id}, which has another model, body or options; use a new \
                     key for a new job"
                ));
                Ok(Reply { status: 422, ..render(&error) })
            }
        }
    })
    .await
}

fn url_of(id: JobId) -> String {
    format!("/api/v1/jobs/{id}")
}

fn content(headers: &HeaderMap, is_oip: bool, body: Bytes) -> Result<Content> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let media = content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let has_lines = ["application/x-ndjson", "application/jsonl", "application/x-jsonlines"]
        .iter()
        .any(|lines| media.eq_ignore_ascii_case(lines));
    let form = match (is_oip, has_lines) {
        (false, false) => Form::Plain,
        (false, true) => Form::PlainLines,
        (true, false) => Form::Oip,
        (true, true) => Form::OipLines,
    };
    let header_len = super::oip::header_len(headers)?.map(|len| len as u64);
    if has_lines && header_len.is_some() {
        return Err(Error::invalid_input("tensors as bytes have no place on a line; send one request, or JSON"));
    }
    Ok(Content { form, content_type, header_len: header_len.filter(|_| is_oip), body })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    let wrong =
        || Error::invalid_input(format!("header Idempotency-Key: expected 1 to {LONGEST_KEY} ASCII characters"));
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

/// What a query says.
struct Asked(Vec<(String, String)>);

impl Asked {
    fn of(request: &Request<Body>) -> Self {
        let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        Self(query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Refuses names that mean nothing here: a misspelt one would be passed over in silence.
    fn check(&self, known: &[&str]) -> Result<()> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
                Err(Error::invalid_input(format!("unknown parameter '{shown}'; expected one of {}", known.join(", "))))
            }
        }
    }

    fn get(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| {
            Error::invalid_input(format!("'{name}': expected a number from {least} to {most}, got '{}'", clip(text)))
        })
    }

    fn duration(&self, name: &str, most: Duration) -> Result<Option<Duration>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= most);
        duration.map(Some).ok_or_else(|| {
            let most = humantime::format_duration(most);
            Error::invalid_input(format!("'{name}': expected a time such as 30s, at most {most}, got '{}'", clip(text)))
        })
    }

    fn options(&self) -> Result<Options> {
        self.check(&["priority", "delay", "time_limit", "retries", "result_ttl"])?;
        let default = Options::default();
        let delay = self.duration("delay", 365 * DAY)?;
        let begin = delay.map(|delay| {
            let after = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            salver_jobs::system_clock()().saturating_add(after)
        });
        Ok(Options {
            priority: self
                .number("priority", 1, 9)?
                .map_or(default.priority, |number| u8::try_from(number).unwrap_or(9)),
            not_before: begin,
            time_limit: self.duration("time_limit", DAY)?.unwrap_or(default.time_limit),
            retries: self
                .number("retries", 0, 100)?
                .map_or(default.retries, |number| u32::try_from(number).unwrap_or(100)),
            result_ttl: self.duration("result_ttl", 30 * DAY)?.unwrap_or(default.result_ttl),
            callback_url: None,
        })
    }

    fn filter(&self) -> Result<Filter> {
        let states = self.0.iter().filter(|(name, _)| name == "status").flat_map(|(_, value)| value.split(','));
        let states = states.map(state).collect::<Result<Vec<_>>>()?;
        let age = self.duration("older_than", 365 * DAY)?;
        let before = age.map(|age| {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            salver_jobs::system_clock()().saturating_sub(age)
        });
        Ok(Filter { states, model: self.get("model").map(str::to_owned), created_before_ms: before })
    }
}

fn state(text: &str) -> Result<JobState> {
    JobState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let all: Vec<_> = JobState::ALL.iter().map(|state| state.as_str()).collect();
        Error::invalid_input(format!("'status': expected one of {}, got '{}'", all.join(", "), clip(text)))
    })
}

/// Renders an error with the status of its kind: these routes are nobody else's.
fn refusal(error: &Error) -> Reply {
    Reply { status: error.kind().http_status(), ..oip_rest::encode_error(error) }
}

fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// How a state is called outside: what is scheduled is queued, what is dead has failed.
fn status_of(state: JobState) -> &'static str {
    match state {
        JobState::Scheduled => "queued",
        JobState::Dead => "failed",
        state => state.as_str(),
    }
}

/// Renders what is known of a job.
fn render(job: &Job) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    put("id", json!(job.id.to_string()));
    put("model", json!(job.model));
    put("status", json!(status_of(job.state)));
    if job.state == JobState::Dead {
        put("dead", json!(true));
    }
    put("progress", json!(job.progress));
    put("priority", json!(job.priority));
    put("attempts", json!(job.attempts));
    for (name, value) in [
        ("not_before_ms", job.not_before_ms),
        ("created_ms", Some(job.created_ms)),
        ("started_ms", job.started_ms),
        ("ended_ms", job.ended_ms),
        ("expires_ms", job.expires_ms),
    ] {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    if job.losses > 0 {
        put("lost_workers", json!(job.losses));
    }
    if let Some(reason) = &job.reason {
        put("reason", json!(reason));
    }
    if let Some(replayed) = job.replay_of {
        put("replay_of", json!(replayed.to_string()));
    }
    if !job.history.is_empty() {
        put("history", json!(job.history));
    }
    put("status_url", json!(url_of(job.id)));
    if job.state == JobState::Done {
        put("result_url", json!(format!("{}/result", url_of(job.id))));
    }
    shown
}

/// The same with the answer in it, if that is JSON and short.
async fn with_answer(jobs: &Jobs, job: &Job) -> Result<Reply> {
    let shown = render(job);
    if job.state != JobState::Done {
        return Ok(Reply::json_value(200, &shown));
    }
    let answer = jobs.answer(job.id).await?;
    if answer.content_type != "application/json" || answer.header_len.is_some() || answer.body.len() > INLINE_BYTES {
        return Ok(Reply::json_value(200, &shown));
    }
    // The answer is finished JSON; it is put in as it is.
    let mut body =
        serde_json::to_vec(&shown).map_err(|error| Error::engine("a job has no JSON form").with_source(error))?;
    body.pop();
    body.extend_from_slice(b",\"result\":");
    body.extend_from_slice(&answer.body);
    body.push(b'}');
    Ok(Reply::json(200, body))
}

async fn show(State(app): AppState, Path(id): Path<String>, request: Request<Body>) -> Response<Body> {
    let asked = Asked::of(&request);
    let shown = async {
        asked.check(&["wait"])?;
        let (jobs, id) = (jobs(&app)?, id.parse()?);
        let wait = asked.duration("wait", LONGEST_WAIT)?.unwrap_or_default();
        let has_ended = |job: &Job| job.state.has_ended();
        let job = tokio::select! {
            job = jobs.wait(id, wait, has_ended) => job?,
            () = app.shutdown.drain.cancelled() => jobs.get(id).await?,
        };
        match job.state {
            JobState::Expired => Err(salver_jobs::expired(&job)),
            _ => with_answer(jobs, &job).await,
        }
    };
    reply_or(shown.await, refusal)
}

async fn result(State(app): AppState, Path(id): Path<String>) -> Response<Body> {
    let found = async { jobs(&app)?.answer(id.parse()?).await };
    match found.await {
        Ok(answer) => answered(answer),
        Err(error) => reply_or(Err(error), refusal),
    }
}

fn answered(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    let headers = response.headers_mut();
    if let Ok(media) = HeaderValue::from_str(&answer.content_type) {
        headers.insert(CONTENT_TYPE, media);
    }
    if let Some(len) = answer.header_len {
        headers.insert(INFERENCE_HEADER_LEN, HeaderValue::from(len));
    }
    response
}

async fn list(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let asked = Asked::of(&request);
    let listed = async {
        asked.check(&["status", "model", "older_than", "page_token", "limit"])?;
        let limit = asked
            .number("limit", 1, MOST_OF_A_PAGE as u64)?
            .map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE));
        let after = asked.get("page_token").map(str::to_owned);
        let page = jobs(&app)?.list(asked.filter()?, after, limit).await?;
        let rows: Vec<_> = page.jobs.iter().map(render).collect();
        Ok(Reply::json_value(200, &json!({ "jobs": rows, "next_page_token": page.next })))
    };
    reply_or(listed.await, refusal)
}

async fn cancel(State(app): AppState, Path(id): Path<String>) -> Response<Body> {
    let cancelled = async { Ok(Reply::json_value(200, &render(&jobs(&app)?.cancel(id.parse()?).await?))) };
    reply_or(cancelled.await, refusal)
}

async fn replay(State(app): AppState, Path(id): Path<String>) -> Response<Body> {
    let replayed = async { Ok(Reply::json_value(202, &render(&jobs(&app)?.replay(id.parse()?).await?))) };
    reply_or(replayed.await, refusal)
}

async fn purge(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let asked = Asked::of(&request);
    let purged = async {
        asked.check(&["status", "model", "older_than"])?;
        let filter = asked.filter()?;
        if let Some(state) = filter.states.iter().find(|state| !state.has_ended()) {
            return Err(Error::invalid_input(format!("a job that is {state} cannot be purged; cancel it first")));
        }
        Ok(Reply::json_value(200, &json!({ "purged": jobs(&app)?.purge(filter).await? })))
    };
    reply_or(purged.await, refusal)
}

async fn stats(State(app): AppState) -> Response<Body> {
    let counted = async { Ok(Reply::json_value(200, &jobs(&app)?.stats().await?)) };
    reply_or(counted.await, refusal)
}

async fn set_gate(State(app): AppState, Path(verb): Path<String>) -> Response<Body> {
    let set = async {
        let jobs = jobs(&app)?;
        let gate = match verb.as_str() {
            "resume" => Gate::Open,
            "pause" => Gate::Paused,
            "drain" => Gate::Draining,
            _ => return Err(Error::invalid_input("expected /api/v1/jobs/queue/pause, …/resume or …/drain")),
        };
        Ok(Reply::json_value(200, &jobs.set_gate(gate).await?))
    };
    reply_or(set.await, refusal)
}

/// What a listener has heard.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Heard {
    state: JobState,
    progress: Progress,
    attempts: u32,
}

impl Heard {
    fn of(job: &Job) -> Self {
        Self { state: job.state, progress: job.progress, attempts: job.attempts }
    }
}

/// Tells how a job goes on until it has ended, one event for each change.
async fn events(State(app): AppState, Path(id): Path<String>) -> Response<Body> {
    let begun = async {
        let jobs = jobs(&app)?.clone();
        let job = jobs.get(id.parse()?).await?;
        Ok::<_, Error>((jobs, job))
    };
    let (jobs, job) = match begun.await {
        Ok(begun) => begun,
        Err(error) => return reply_or(Err(error), refusal),
    };
    let drain = app.shutdown.drain.clone();
    let told = stream::unfold(Some((job.id, None::<Heard>)), move |at| {
        let (jobs, drain) = (jobs.clone(), drain.clone());
        async move {
            let (id, heard) = at?;
            let is_news = move |job: &Job| Some(Heard::of(job)) != heard;
            let job = tokio::select! {
                job = jobs.wait(id, KEEP_ALIVE, is_news) => job.ok()?,
                () = drain.cancelled() => return None,
            };
            let next = (!job.state.has_ended()).then(|| (id, Some(Heard::of(&job))));
            if !is_news(&job) {
                return Some((Bytes::from_static(b": still there\n\n"), next));
            }
            let told = Value::Object(render(&job)).to_string();
            Some((Bytes::from(format!("event: {}\ndata: {told}\n\n", status_of(job.state))), next))
        }
    });
    let mut response = Response::new(Body::from_stream(futures::StreamExt::map(told, Ok::<_, Infallible>)));
    response.extensions_mut().insert(EventStream);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
