//! Jobs: work that outlives its request. Submitted with the bodies of predictions, asked for under
//! `/api/v1/jobs`.

mod caller;
pub(crate) mod shown;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use salver_core::{Error, ErrorKind, Result};
use salver_jobs::{
    Answer, Content, Filter, Form, Gate, Job, JobId, Jobs, NewJob, Options, Progress, State as JobState, Submitted,
};
use salver_protocol::{Reply, oip_rest, plain};
use serde_json::{Value, json};

use self::caller::Caller;
use self::shown::{render, status_of, url_of};
use super::AppState;
use super::exchange::{EventStream, INFERENCE_HEADER_LEN, manage_as, reply_or};
use super::query::{Query, clip};
use super::target::{Named, Target};
use crate::app::App;
use crate::call::Call;

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

/// Returns the queue.
///
/// # Errors
/// `Unsupported` where there is none.
pub(super) fn jobs(app: &App) -> Result<&Jobs> {
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
    let query = Query::of(&request);
    let headers = request.headers().clone();
    let address = request.extensions().get::<Call>().and_then(|call| call.address);
    manage_as(&app, request, render, async |body: Bytes| {
        let jobs = jobs(&app)?;
        let model = if is_oip { target.model_ref()? } else { target.model_or_alias()? };
        let content = content(&headers, is_oip, body)?;
        let options = options(&query)?;
        let idempotency_key = idempotency_key(&headers)?;
        let Caller { name, owner } = Caller::of(&headers, app.options.caller_header.as_ref(), address)?;
        let deadline = Instant::now() + app.limits().default_deadline;
        let total = app.job_work.check(&model, &content, deadline).await?;
        let job = NewJob { model, content, total, options, owner, caller: name, idempotency_key, replaces: None };
        match jobs.submit(job).await? {
            Submitted::New(id) | Submitted::Known(id) => Ok(submitted(id, JobState::Queued)),
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

/// Renders the reply to a submission.
pub(super) fn submitted(id: JobId, state: JobState) -> Reply {
    let shown = json!({ "id": id.to_string(), "status": status_of(state), "status_url": url_of(id) });
    Reply::json_value(202, &shown)
}

/// Says whose unfinished jobs a new one is counted among.
///
/// # Errors
/// `InvalidInput` for a header that names nobody.
pub(super) fn caller_of(app: &App, headers: &HeaderMap, address: Option<IpAddr>) -> Result<String> {
    Ok(Caller::of(headers, app.options.caller_header.as_ref(), address)?.name)
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
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    if keys.next().is_some() {
        return Err(Error::invalid_input("header Idempotency-Key: expected once, and it is there several times"));
    }
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    let wrong =
        || Error::invalid_input(format!("header Idempotency-Key: expected 1 to {LONGEST_KEY} ASCII characters"));
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

/// Reads how a job is to be treated.
fn options(query: &Query) -> Result<Options> {
    query.check(&["priority", "delay", "time_limit", "retries", "result_ttl", "callback_url"], &[])?;
    let default = Options::default();
    let time_limit = query.duration("time_limit", DAY)?.unwrap_or(default.time_limit);
    if time_limit.is_zero() {
        return Err(Error::invalid_input("'time_limit': no run ends in no time; expected a time such as 30s"));
    }
    let delay = query.duration("delay", 365 * DAY)?;
    let begin = delay.map(|delay| {
        let after = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        salver_jobs::system_clock()().saturating_add(after)
    });
    Ok(Options {
        priority: query.number("priority", 1, 9)?.map_or(default.priority, |number| u8::try_from(number).unwrap_or(9)),
        not_before: begin,
        time_limit,
        retries: query
            .number("retries", 0, 100)?
            .map_or(default.retries, |number| u32::try_from(number).unwrap_or(100)),
        result_ttl: query.duration("result_ttl", 30 * DAY)?.unwrap_or(default.result_ttl),
        callback_url: query.get("callback_url").map(str::to_owned),
    })
}

/// Reads which jobs are meant.
fn filter(query: &Query) -> Result<Filter> {
    let mut states = Vec::new();
    for text in query.all("status").flat_map(|texts| texts.split(',')) {
        states.extend_from_slice(states_of(text)?);
    }
    let model = query.get("model");
    if model.is_some_and(|model| model.is_empty() || model.contains('\0')) {
        return Err(Error::invalid_input("'model': expected a model's name, which is not empty and has no zero bytes"));
    }
    let age = query.duration("older_than", 365 * DAY)?;
    let before = age.map(|age| {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        salver_jobs::system_clock()().saturating_sub(age)
    });
    Ok(Filter { states, model: model.map(str::to_owned), created_before_ms: before })
}

/// Returns the states that a word stands for: one that replies use, or a finer one.
fn states_of(text: &str) -> Result<&'static [JobState]> {
    Ok(match text {
        "queued" => &[JobState::Queued, JobState::Scheduled],
        "scheduled" => &[JobState::Scheduled],
        "running" => &[JobState::Running],
        "done" => &[JobState::Done],
        "failed" => &[JobState::Failed, JobState::Dead],
        "dead" => &[JobState::Dead],
        "cancelled" => &[JobState::Cancelled],
        "expired" => &[JobState::Expired],
        _ => {
            let all: Vec<_> = JobState::ALL.iter().map(|state| state.as_str()).collect();
            let text = format!("'status': expected one of {}, got '{}'", all.join(", "), clip(text));
            return Err(Error::invalid_input(text));
        }
    })
}

/// Renders an error with the status of its kind: these routes are nobody else's.
fn refusal(error: &Error) -> Reply {
    if error.kind() == ErrorKind::Engine {
        tracing::error!(?error, "the queue of jobs failed");
    }
    Reply { status: error.kind().http_status(), ..oip_rest::encode_error(error) }
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

async fn show(State(app): AppState, Named(id): Named, request: Request<Body>) -> Response<Body> {
    let query = Query::of(&request);
    let shown = async {
        query.check(&["wait"], &[])?;
        let (jobs, id) = (jobs(&app)?, id.parse()?);
        let wait = query.duration("wait", LONGEST_WAIT)?.unwrap_or_default();
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

async fn result(State(app): AppState, Named(id): Named) -> Response<Body> {
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
    let query = Query::of(&request);
    let listed = async {
        query.check(&["model", "older_than", "page_token", "limit"], &["status"])?;
        let limit = query
            .number("limit", 1, MOST_OF_A_PAGE as u64)?
            .map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE));
        let after = query.get("page_token").map(str::to_owned);
        let page = jobs(&app)?.list(filter(&query)?, after, limit).await?;
        let rows: Vec<_> = page.jobs.iter().map(render).collect();
        Ok(Reply::json_value(200, &json!({ "jobs": rows, "next_page_token": page.next })))
    };
    reply_or(listed.await, refusal)
}

async fn cancel(State(app): AppState, Named(id): Named) -> Response<Body> {
    let cancelled = async { Ok(Reply::json_value(200, &render(&jobs(&app)?.cancel(id.parse()?).await?))) };
    reply_or(cancelled.await, refusal)
}

async fn replay(State(app): AppState, Named(id): Named) -> Response<Body> {
    let replayed = async { Ok(Reply::json_value(202, &render(&jobs(&app)?.replay(id.parse()?).await?))) };
    reply_or(replayed.await, refusal)
}

async fn purge(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let query = Query::of(&request);
    let purged = async {
        query.check(&["model", "older_than"], &["status"])?;
        let filter = filter(&query)?;
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

async fn set_gate(State(app): AppState, Named(verb): Named) -> Response<Body> {
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
async fn events(State(app): AppState, Named(id): Named) -> Response<Body> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_found_by_the_word_that_replies_have_for_them() {
        for state in JobState::ALL {
            assert!(states_of(state.as_str()).unwrap().contains(&state), "{state}");
            let alike = JobState::ALL.into_iter().filter(|other| status_of(*other) == status_of(state));
            let mut found = states_of(status_of(state)).unwrap().to_vec();
            found.sort_by_key(|state| state.as_str());
            let mut alike: Vec<_> = alike.collect();
            alike.sort_by_key(|state| state.as_str());
            assert_eq!(found, alike, "{state}");
        }
        assert_eq!(states_of("dead").unwrap(), [JobState::Dead]);
        assert_eq!(states_of("scheduled").unwrap(), [JobState::Scheduled]);
        assert!(states_of("dun\u{1b}").unwrap_err().message().contains("dead, cancelled, expired, got 'dun\\u{1b}'"));
    }
}
