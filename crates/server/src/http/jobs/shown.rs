//! How jobs look outside, in replies and in messages.

use std::time::{Duration, UNIX_EPOCH};

use salver_jobs::{Job, JobId, State as JobState};
use serde_json::{Map, Value, json};

/// Returns where a job can be asked for.
pub(super) fn url_of(id: JobId) -> String {
    format!("/api/v1/jobs/{id}")
}

/// How a state is called outside: what is scheduled is queued, what is dead has failed.
pub(super) fn status_of(state: JobState) -> &'static str {
    match state {
        JobState::Scheduled => "queued",
        JobState::Dead => "failed",
        state => state.as_str(),
    }
}

/// Renders what is known of a job.
pub(super) fn render(job: &Job) -> Map<String, Value> {
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

/// Renders the message that a job has ended, as Standard Webhooks has it: what happened, when, and to
/// what. A result can be long or secret: it is fetched.
pub(crate) fn event(job: &Job) -> Value {
    let ended = Duration::from_millis(job.ended_ms.unwrap_or_default().unsigned_abs());
    let at = UNIX_EPOCH.checked_add(ended).unwrap_or(UNIX_EPOCH);
    let mut data = render(job);
    data.remove("history");
    json!({
        "version": 1,
        "type": format!("job.{}", status_of(job.state)),
        "timestamp": humantime::format_rfc3339_millis(at).to_string(),
        "data": data,
    })
}
