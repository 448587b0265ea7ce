//! The routes of jobs: work that outlives its request.

use serde_json::{Value, json};

use super::super::operation::{Operation, binary, text};
use super::{BINARY, JSON};

const BASE: &str = "/api/v1/jobs";
const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
/// What a prediction answers instead where its model leaves what is not in the cache to a job.
pub(super) const LEFT_TO_JOB: &str = "The answer is not in the cache of a model with `on_miss = \"job\"`: this job \
                                      computes it. Ask again after `Retry-After`, or for the job.";
/// Errors of a submission.
const SUBMIT_ERRORS: [u16; 9] = [400, 404, 408, 413, 415, 422, 429, 501, 503];

pub(super) fn all() -> Vec<Operation> {
    let mut all = Vec::new();
    for (base, suffix, what, shape) in [
        ("/models/{model}", "", "predict", "Plain"),
        ("/models/{model}/versions/{version}", "OfVersion", "predict", "Plain"),
        ("/v2/models/{model}", "V2", "infer", "Error"),
        ("/v2/models/{model}/versions/{version}", "V2OfVersion", "infer", "Error"),
    ] {
        let submit = Operation::post(&format!("{base}/jobs"), "jobs", &format!("submitJob{suffix}"), "Submits a job.")
            .describe(&format!(
                "Takes the bodies of `{what}`, or one on each line as `{LINES}`. Answers once the job would survive a \
                 crash of the machine."
            ))
            .headers(&["priority", "delay", "timeLimit", "retries", "resultTtl", "callbackUrl", "idempotencyKey"])
            .body(&[
                (JSON, json!({ "schema": {} })),
                (LINES, text("{\"x\": [1.0]}\n{\"x\": [2.0]}\n")),
                (BINARY, binary()),
            ])
            .json_reply(202, "The job was taken in.", "JobSubmitted", submitted());
        all.push(submit.errors(shape, &SUBMIT_ERRORS));
    }
    all.extend(asked());
    all.extend(queue());
    all
}

fn asked() -> Vec<Operation> {
    let of_job = |rest: &str| format!("{BASE}/{{id}}{rest}");
    vec![
        Operation::get(BASE, "jobs", "listJobs", "Lists jobs, the newest first.")
            .headers(&["jobStatus", "jobModel", "olderThan", "jobsLimit", "pageToken"])
            .json_reply(200, "A page of jobs.", "JobList", json!({ "jobs": [job()], "next_page_token": null }))
            .errors("Error", &[400, 501, 503]),
        Operation::get(&of_job(""), "jobs", "job", "Shows a job, with its answer if that is JSON and short.")
            .headers(&["wait"])
            .json_reply(200, "The job.", "Job", job())
            .errors("Error", &[400, 404, 410, 501, 503]),
        Operation::delete(&of_job(""), "jobs", "cancelJob", "Cancels a job.")
            .json_reply(200, "The job, cancelled.", "Job", job())
            .errors("Error", &[404, 409, 501, 503]),
        Operation::get(&of_job("/result"), "jobs", "jobResult", "The answer of a job, as the prediction gives it.")
            .reply(
                200,
                "The answer.",
                &[(JSON, json!({ "schema": {} })), (LINES, text("{…}\n{…}\n")), (BINARY, binary())],
            )
            .errors("Error", &[404, 409, 410, 501, 503]),
        Operation::get(&of_job("/events"), "jobs", "jobEvents", "Tells how a job goes on until it has ended.")
            .reply(200, "An event for each change.", &[(EVENTS, text("event: done\ndata: {…}\n\n"))])
            .errors("Error", &[404, 501, 503]),
        Operation::post(&of_job("/replay"), "jobs", "replayJob", "Submits a job that failed anew.")
            .json_reply(202, "The new job.", "Job", job())
            .errors("Error", &[404, 409, 501, 503]),
    ]
}

fn queue() -> Vec<Operation> {
    vec![
        Operation::post(&format!("{BASE}/purge"), "jobs", "purgeJobs", "Forgets jobs that have ended.")
            .headers(&["jobStatus", "jobModel", "olderThan"])
            .json_reply(200, "How many.", "Purged", json!({ "purged": 12 }))
            .errors("Error", &[400, 501, 503]),
        Operation::get(&format!("{BASE}/queue"), "jobs", "jobQueue", "Counts what stands in the queue.")
            .json_reply(200, "The counts.", "JobQueue", counts())
            .errors("Error", &[501, 503]),
        Operation::post(
            &format!("{BASE}/queue/{{gate}}"),
            "jobs",
            "setJobQueue",
            "Holds jobs back, lets them go, or takes no more in.",
        )
        .json_reply(200, "The counts.", "JobQueue", counts())
        .errors("Error", &[400, 501, 503]),
    ]
}

const ID: &str = "01a2049be9797362a5ed08843807707c";

pub(super) fn submitted() -> Value {
    json!({ "id": ID, "status": "queued", "status_url": format!("{BASE}/{ID}") })
}

fn job() -> Value {
    json!({
        "id": ID, "model": "iris", "status": "done", "progress": { "done": 1, "total": 1 }, "priority": 5,
        "attempts": 1, "created_ms": 1_795_370_000_000_u64, "started_ms": 1_795_370_000_004_u64,
        "ended_ms": 1_795_370_000_006_u64, "expires_ms": 1_795_456_400_006_u64,
        "history": [{ "at_ms": 1_795_370_000_000_u64, "text": "submitted" }],
        "status_url": format!("{BASE}/{ID}"), "result_url": format!("{BASE}/{ID}/result"),
        "result": { "model": "iris", "version": 1, "predictions": [{ "label": "setosa", "score": 0.98 }] },
    })
}

fn counts() -> Value {
    json!({
        "scheduled": 0, "queued": 12, "running": 4, "dead": 0, "oldest_queued_ms": 1_795_370_000_000_u64,
        "gate": "open",
    })
}
