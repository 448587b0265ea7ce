//! The shapes of jobs.

use serde_json::{Value, json};

use super::{count, list, object, text};

pub(super) fn schemas() -> Value {
    let progress = object(&["done", "total"], json!({ "done": count(), "total": count() }));
    let event = object(&["at_ms", "text"], json!({ "at_ms": count(), "text": text() }));
    json!({
        "JobSubmitted": object(&["id", "status", "status_url"], json!({
            "id": text(), "status": text(), "status_url": text(),
        })),
        "Job": object(&["id", "model", "status", "progress", "priority", "attempts", "created_ms", "status_url"], json!({
            "id": text(),
            "model": { "type": "string", "description": "As it was written: NAME, NAME/VERSION or NAME@ALIAS." },
            "status": { "type": "string", "examples": ["queued", "running", "done", "failed", "cancelled", "expired"] },
            "dead": { "type": "boolean", "description": "Its workers were lost with it too often." },
            "progress": progress,
            "priority": count(),
            "attempts": count(),
            "not_before_ms": count(),
            "created_ms": count(),
            "started_ms": count(),
            "ended_ms": count(),
            "expires_ms": { "type": "integer", "description": "When the answer goes, in milliseconds since 1970." },
            "lost_workers": count(),
            "reason": text(),
            "replay_of": text(),
            "history": list(event),
            "status_url": text(),
            "result_url": text(),
            "result": { "description": "The answer, if it is JSON and has no more than 64 KiB." },
        })),
        "JobList": object(&["jobs", "next_page_token"], json!({
            "jobs": list(json!({ "$ref": "#/components/schemas/Job" })),
            "next_page_token": { "type": ["string", "null"] },
        })),
        "JobQueue": object(&["scheduled", "queued", "running", "dead", "gate"], json!({
            "scheduled": count(), "queued": count(), "running": count(), "dead": count(),
            "oldest_queued_ms": { "type": ["integer", "null"] },
            "gate": { "type": "string", "examples": ["open", "paused", "draining"] },
        })),
    })
}

/// What the routes of jobs take in path, query and headers.
pub(super) fn parameters() -> Value {
    let in_path = |name: &str, description: &str| json!({ "name": name, "in": "path", "required": true, "description": description, "schema": text() });
    let in_query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema });
    json!({
        "id": in_path("id", "The id of a job: 32 hexadecimal digits."),
        "gate": in_path("gate", "`pause`, `resume` or `drain`."),
        "priority": in_query("priority", "1 goes first, 9 last.", json!({ "type": "integer", "minimum": 1, "maximum": 9, "default": 5 })),
        "delay": in_query("delay", "Begin no earlier than in this time, such as `30s`.", text()),
        "timeLimit": in_query("time_limit", "How long one run may take.", json!({ "type": "string", "default": "10m" })),
        "retries": in_query("retries", "Runs after the first, where it failed for a reason that may pass.", json!({ "type": "integer", "minimum": 0, "maximum": 100, "default": 3 })),
        "resultTtl": in_query("result_ttl", "How long the answer is kept.", json!({ "type": "string", "default": "1day" })),
        "callbackUrl": in_query("callback_url", "Who is told when the job has ended, by a signed message (type `job.done` and so on); refused where the server has no secret to sign with, and for addresses that are not public.", json!({ "type": "string", "format": "uri", "maxLength": 2048 })),
        "wait": in_query("wait", "Answer when the job has ended, or after this time; at most 5m.", text()),
        "jobStatus": in_query("status", "Only jobs in one of these states, with commas: those of replies, where `failed` includes dead jobs and `queued` those that wait for their time; or `dead` and `scheduled`.", text()),
        "jobModel": in_query("model", "Only jobs of this model, as it was written.", text()),
        "olderThan": in_query("older_than", "Only jobs that were submitted longer ago, such as `7d`.", text()),
        "jobsLimit": in_query("limit", "How many at most.", json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 50 })),
        "idempotencyKey": { "name": "Idempotency-Key", "in": "header", "required": false, "description": "Names the submission: repeated, it is the same job.", "schema": { "type": "string", "maxLength": 255 } },
    })
}
