//! Jobs as people read them. Pure: what time it is comes in as an argument.

use std::time::Duration;

use salver_client::{JobFilter, JobGate, JobState, JobStats, JobStatus};

use crate::out;
use crate::units::{long_time, short_time, time};

/// Makes a table of jobs: how far each is.
pub(super) fn jobs(jobs: &[JobStatus], now: i64) -> String {
    let mut table = out::Rows::new(&["id", "model", "status", ">progress", ">submitted", ">took", "reason"]);
    for job in jobs {
        table.push([
            job.id.clone(),
            job.model.clone(),
            job.state(now).to_string(),
            progress(job),
            ago(job.created_ms, now),
            took(job, now).unwrap_or_default(),
            job.reason.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// Makes a table of jobs that are dead: what ended them.
pub(super) fn dead(jobs: &[JobStatus], now: i64) -> String {
    let mut table = out::Rows::new(&["id", "model", ">lost workers", ">runs", ">ended", "reason"]);
    for job in jobs {
        table.push([
            job.id.clone(),
            job.model.clone(),
            job.lost_workers.to_string(),
            job.attempts.to_string(),
            job.ended_ms.map(|ended| ago(ended, now)).unwrap_or_default(),
            job.reason.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// Makes a table of all that is known of a job.
pub(super) fn job(job: &JobStatus, now: i64) -> String {
    let mut table = out::Rows::new(&["job", job.id.as_str()]);
    let lost = (job.lost_workers > 0).then(|| job.lost_workers.to_string());
    let rows = [
        ("model", Some(job.model.clone())),
        ("status", Some(job.state(now).to_string())),
        ("reason", job.reason.clone()),
        ("progress", Some(format!("{} of {}", job.progress.done, job.progress.total))),
        ("priority", Some(job.priority.to_string())),
        ("runs", Some(job.attempts.to_string())),
        ("lost workers", lost),
        ("repeats", job.replay_of.clone()),
        ("submitted", Some(time(Some(job.created_ms)))),
        ("not before", job.not_before_ms.map(|at| time(Some(at)))),
        ("started", job.started_ms.map(|at| time(Some(at)))),
        ("ended", job.ended_ms.map(|at| time(Some(at)))),
        ("took", took(job, now)),
        ("kept until", job.expires_ms.map(|at| time(Some(at)))),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            table.push([name, &value]);
        }
    }
    table.to_string()
}

/// Makes a table of what happened to a job, oldest first.
pub(super) fn history(job: &JobStatus) -> String {
    let mut table = out::Rows::new(&["time", "what happened"]);
    for event in &job.history {
        table.push([time(Some(event.at_ms)), event.text.clone()]);
    }
    table.to_string()
}

/// Makes a table of the queue's figures, and says whether it is open.
pub(super) fn stats(stats: &JobStats, now: i64) -> String {
    let mut table = out::Rows::new(&["jobs", ">count"]);
    for (name, count) in
        [("scheduled", stats.scheduled), ("queued", stats.queued), ("running", stats.running), ("dead", stats.dead)]
    {
        table.push([name, &count.to_string()]);
    }
    let oldest = stats
        .oldest_queued_ms
        .map(|at| format!("The oldest that waits for a worker was submitted {}.\n", ago(at, now)));
    format!("{table}\n\n{}{}", oldest.unwrap_or_default(), gate(stats))
}

fn gate(stats: &JobStats) -> &'static str {
    match (stats.gate, stats.unfinished()) {
        (JobGate::Open, _) => "The queue is open.",
        (JobGate::Paused, _) => "The queue is paused: jobs come in and none begins, until `salver jobs resume`.",
        (JobGate::Draining, 0) => "The queue is empty, and no job comes in until `salver jobs resume`.",
        (JobGate::Draining, _) => "The queue drains: no job comes in until `salver jobs resume`.",
    }
}

/// A line about a queue, above a list.
pub(super) fn head(server: &str, stats: &JobStats) -> String {
    let gate = match stats.gate {
        JobGate::Open => None,
        JobGate::Paused => Some("paused".to_owned()),
        JobGate::Draining => Some("draining".to_owned()),
    };
    let parts =
        [Some(server.to_owned()), Some(waiting(stats)), (stats.dead > 0).then(|| format!("{} dead", stats.dead)), gate];
    out::printable(&parts.into_iter().flatten().collect::<Vec<_>>().join(" · "))
}

/// Says how many jobs have not ended.
pub(super) fn waiting(stats: &JobStats) -> String {
    format!("{} scheduled · {} queued · {} running", stats.scheduled, stats.queued, stats.running)
}

/// Says why a job has no result.
pub(super) fn why(job: &JobStatus, now: i64) -> String {
    let (id, reason) = (&job.id, job.reason.as_deref().unwrap_or("no reason is known"));
    match job.state(now) {
        JobState::Cancelled => format!("job {id} was cancelled"),
        JobState::Expired => format!("the result of job {id} has expired"),
        JobState::Dead => format!("job {id} is dead, and {} workers with it: {reason}", job.lost_workers),
        JobState::Failed => format!("job {id} failed: {reason}"),
        state @ (JobState::Scheduled | JobState::Queued | JobState::Running | JobState::Done | JobState::Unknown) => {
            format!("job {id} is {state}")
        }
    }
}

/// Says that the time was up before a job had ended.
pub(super) fn late(job: &JobStatus, now: i64) -> String {
    let (id, progress) = (&job.id, &job.progress);
    format!(
        "the time is up: job {id} is {}, {} of {} done; it goes on, and `salver jobs wait {id}` waits for it again",
        job.state(now),
        progress.done,
        progress.total
    )
}

/// Says which jobs a filter means.
pub(super) fn meant(filter: &JobFilter) -> String {
    let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
    let mut text = match states.as_slice() {
        [] => "all jobs that have ended".to_owned(),
        states => format!("all jobs that are {}", states.join(" or ")),
    };
    if let Some(model) = &filter.model {
        text.push_str(&format!(", of model {model}"));
    }
    if let Some(age) = filter.older_than {
        text.push_str(&format!(", submitted more than {} ago", long_time(age)));
    }
    out::printable(&text)
}

/// How far a job of several requests is.
fn progress(job: &JobStatus) -> String {
    let progress = &job.progress;
    if progress.total > 1 { format!("{} of {}", progress.done, progress.total) } else { String::new() }
}

/// How long the last run took, or takes.
fn took(job: &JobStatus, now: i64) -> Option<String> {
    let end = match job.status {
        JobState::Running => now,
        _ => job.ended_ms?,
    };
    let took = between(job.started_ms?, end);
    Some(if took < Duration::from_secs(60) { short_time(took.as_secs_f64()) } else { long_time(took) })
}

fn ago(at: i64, now: i64) -> String {
    format!("{} ago", long_time(between(at, now)))
}

/// The clocks of two machines may differ: what is not over yet has taken no time.
fn between(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_000_000;

    fn sample(more: Value) -> JobStatus {
        let mut job = json!({
            "id": "0a", "model": "iris", "status": "queued", "priority": 5, "created_ms": NOW - 90_000,
            "progress": { "done": 0, "total": 1 },
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    /// The lines of a table, with one blank between cells.
    fn rows(table: &str) -> Vec<String> {
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_list_says_how_far_each_job_is() {
        let running = json!({
            "status": "running", "started_ms": NOW - 2500, "progress": { "done": 3, "total": 10 }, "attempts": 1,
        });
        let failed = json!({
            "status": "failed", "dead": true, "started_ms": NOW - 80_000, "ended_ms": NOW - 10_000,
            "reason": "lost its \u{1b}[31mworker",
        });
        let later = json!({ "not_before_ms": NOW + 1 });
        let shown = rows(&jobs(&[sample(running), sample(failed), sample(later)], NOW));
        assert_eq!(shown[0], "id model status progress submitted took reason");
        assert_eq!(shown[2], "0a iris running 3 of 10 1 min 30 s ago 2.50 s");
        assert_eq!(shown[3], "0a iris dead 1 min 30 s ago 1 min 10 s lost its \u{fffd}[31mworker");
        assert_eq!(shown[4], "0a iris scheduled 1 min 30 s ago");
    }

    #[test]
    fn a_list_of_dead_jobs_says_what_ended_them() {
        let job = json!({ "status": "failed", "dead": true, "lost_workers": 3, "attempts": 4, "ended_ms": NOW - 5000,
            "reason": "3 workers were lost with it" });
        let shown = rows(&dead(&[sample(job)], NOW));
        assert_eq!(shown[2], "0a iris 3 4 5 s ago 3 workers were lost with it");
    }

    #[test]
    fn a_job_is_shown_with_what_is_known_and_no_more() {
        let shown = rows(&job(&sample(json!({})), NOW));
        assert_eq!(shown[0], "job 0a");
        let known = [
            "model iris",
            "status queued",
            "progress 0 of 1",
            "priority 5",
            "runs 0",
            "submitted 1970-01-01T00:15:10Z",
        ];
        assert_eq!(shown[2..], known);
        let event =
            json!({ "history": [{ "at_ms": 0, "text": "submitted" }], "started_ms": NOW, "ended_ms": NOW + 20 });
        let with_history = sample(event);
        assert_eq!(rows(&history(&with_history))[2], "1970-01-01T00:00:00Z submitted");
        assert!(rows(&job(&with_history, NOW)).contains(&"took 20.0 ms".to_owned()));
    }

    #[test]
    fn figures_say_whether_the_queue_is_open() {
        let some = JobStats { queued: 2, running: 1, oldest_queued_ms: Some(NOW - 61_000), ..JobStats::default() };
        let text = stats(&some, NOW);
        assert!(text.contains("submitted 1 min 1 s ago.\nThe queue is open."), "{text}");
        assert!(rows(&text).contains(&"queued 2".to_owned()), "{text}");
        let empty = JobStats { gate: JobGate::Draining, ..JobStats::default() };
        assert!(stats(&empty, NOW).ends_with("The queue is empty, and no job comes in until `salver jobs resume`."));
        let busy = JobStats { gate: JobGate::Draining, dead: 1, ..some };
        assert_eq!(head("http://a:1", &busy), "http://a:1 · 0 scheduled · 2 queued · 1 running · 1 dead · draining");
        assert_eq!(head("a", &some), "a · 0 scheduled · 2 queued · 1 running");
    }

    #[test]
    fn a_job_without_a_result_says_why() {
        let why = |more| why(&sample(more), NOW);
        assert_eq!(why(json!({ "status": "failed", "reason": "no room" })), "job 0a failed: no room");
        assert_eq!(why(json!({ "status": "cancelled" })), "job 0a was cancelled");
        let dead = json!({ "status": "failed", "dead": true, "lost_workers": 3 });
        assert_eq!(why(dead), "job 0a is dead, and 3 workers with it: no reason is known");
        assert!(late(&sample(json!({})), NOW).starts_with("the time is up: job 0a is queued, 0 of 1 done"));
    }

    #[test]
    fn what_is_removed_is_said_in_words() {
        let filter = JobFilter {
            states: vec![JobState::Done, JobState::Failed],
            model: Some("iris".to_owned()),
            older_than: Some(Duration::from_secs(7 * 86_400)),
        };
        let words = "all jobs that are done or failed, of model iris, submitted more than 7 d 0 h ago";
        assert_eq!(meant(&filter), words);
        assert_eq!(meant(&JobFilter::default()), "all jobs that have ended");
    }

    #[test]
    fn clocks_that_differ_show_no_time_below_zero() {
        assert_eq!(ago(NOW + 5000, NOW), "0 s ago");
    }
}
