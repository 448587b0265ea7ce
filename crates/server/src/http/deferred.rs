//! "From the cache, or in the background": what is not in the cache of a model with `on_miss = "job"`
//! is left to a job, and whoever asks the same meanwhile gets the same job.
//!
//! Whether there is an answer is the runtime's to say. Here is only which job is handed out.

use std::time::{Duration, Instant};

use salver_core::{CacheKey, Deferred, ErrorKind, ModelRef, Result};
use salver_jobs::{Content, Form, Job, Millis, NewJob, Options, State, Submitted};
use salver_protocol::Reply;

use super::jobs::{jobs, submitted};
use crate::app::App;

/// Whom these jobs belong to, so that their keys are nobody else's.
const OWNER: &str = "salver:cache";
/// For how long a job that is done is handed out: Redis may take a moment to have its answer. After
/// that the answer is gone from the cache, and has to be computed again.
const DONE_FOR: Duration = Duration::from_secs(5);
/// For how long a job that failed is handed out, so that a question without an answer is not computed
/// again and again.
const FAILED_FOR: Duration = Duration::from_secs(60);
/// How long a job's answer is kept where the cache's has no end, and at most.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
const KEPT_AT_MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Hands out the job that answers a question: the one that is under way, or a new one, which counts
/// for this caller.
///
/// # Errors
/// Those of a submission.
pub(super) async fn hand_out(
    app: &App,
    deferred: &Deferred,
    model: ModelRef,
    content: Content,
    caller: String,
) -> Result<Reply> {
    let jobs = jobs(app)?;
    // What was decoded may still have no place in a job: the memory of a client.
    let total = app.job_work.check(&model, &content, Instant::now() + app.limits().default_deadline).await?;
    let job = NewJob {
        idempotency_key: Some(key(&deferred.question, &model, content.form)),
        options: Options { result_ttl: kept_for(deferred.ttl), ..Options::default() },
        owner: OWNER.to_owned(),
        caller,
        replaces: None,
        model,
        content,
        total,
    };
    let earlier = match jobs.submit(job.clone()).await? {
        Submitted::New(id) => return Ok(submitted(id, State::Queued)),
        // Bodies may differ in their spaces, and are the same question.
        Submitted::Known(id) | Submitted::Differs(id) => id,
    };
    match jobs.get(earlier).await {
        Ok(known) if stands(&known, deferred.ttl, salver_jobs::system_clock()()) => {
            return Ok(submitted(earlier, known.state));
        }
        Ok(_) => {}
        // Somebody has just removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match jobs.submit(NewJob { replaces: Some(earlier), ..job }).await? {
        Submitted::New(id) | Submitted::Known(id) | Submitted::Differs(id) => Ok(submitted(id, State::Queued)),
    }
}

/// Names a question. Versions and forms have jobs of their own: who asked for the latest version gets
/// the one that is the latest when the job runs, and the answer has the form of the request.
fn key(question: &CacheKey, model: &ModelRef, form: Form) -> String {
    let hex: String = question.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex} {} {model}", form.as_str())
}

/// How long a job's answer is kept: as long as the cache would, and at least until a failure is forgiven.
fn kept_for(ttl: Option<Duration>) -> Duration {
    ttl.unwrap_or(KEPT_FOR).clamp(FAILED_FOR, KEPT_AT_MOST)
}

/// Whether a question is still left to this job, although there is no answer in the cache.
fn stands(job: &Job, ttl: Option<Duration>, now: Millis) -> bool {
    let ended_within = |time: Duration| {
        let age = now.saturating_sub(job.ended_ms.unwrap_or(now));
        u128::try_from(age).is_ok_and(|age| age < time.as_millis())
    };
    match job.state {
        State::Scheduled | State::Queued | State::Running => true,
        // It ended its workers: not again before somebody has looked at it.
        State::Dead => true,
        State::Done => ended_within(ttl.map_or(DONE_FOR, |ttl| ttl.min(DONE_FOR))),
        State::Failed => ended_within(FAILED_FOR),
        State::Cancelled | State::Expired => false,
    }
}

#[cfg(test)]
mod tests {
    use salver_jobs::{JobId, Progress};

    use super::*;

    const NOW: Millis = 1_000_000;

    /// Whether a job that ended `ago` milliseconds before stands.
    fn check(state: State, ago: Millis, ttl_s: Option<u64>, expected: bool) {
        let job = Job {
            id: JobId::random(),
            model: "m".to_owned(),
            state,
            progress: Progress::default(),
            priority: 5,
            attempts: 1,
            losses: 0,
            reason: None,
            created_ms: 0,
            not_before_ms: None,
            started_ms: None,
            ended_ms: state.has_ended().then_some(NOW - ago),
            expires_ms: None,
            replay_of: None,
            history: Vec::new(),
        };
        assert_eq!(stands(&job, ttl_s.map(Duration::from_secs), NOW), expected, "{state} {ago} {ttl_s:?}");
    }

    #[test]
    fn a_job_under_way_stands_however_long_it_takes() {
        for state in [State::Scheduled, State::Queued, State::Running] {
            check(state, 0, Some(1), true);
        }
    }

    #[test]
    fn an_answer_that_the_cache_lost_is_computed_again_after_a_moment() {
        check(State::Done, 4_999, None, true);
        check(State::Done, 5_000, None, false);
        check(State::Done, 1_000, Some(1), false);
        check(State::Expired, 0, None, false);
    }

    #[test]
    fn a_question_without_an_answer_is_not_computed_again_and_again() {
        check(State::Failed, 59_999, Some(1), true);
        check(State::Failed, 60_000, None, false);
        check(State::Dead, 100 * 24 * 3_600_000, Some(1), true);
        check(State::Cancelled, 0, None, false);
    }

    #[test]
    fn a_clock_that_went_back_makes_no_new_jobs_for_long() {
        check(State::Failed, -50_000, None, false);
    }

    #[test]
    fn answers_are_kept_as_long_as_in_the_cache_within_reason() {
        let kept = |ttl_s: Option<u64>| kept_for(ttl_s.map(Duration::from_secs)).as_secs();
        assert_eq!([None, Some(1), Some(3600), Some(31_536_000)].map(kept), [86_400, 60, 3_600, 2_592_000]);
    }

    #[test]
    fn keys_fit_and_differ_by_question_form_and_version() {
        let model = |text: &str| text.parse::<ModelRef>().unwrap();
        let long = format!("{}/18446744073709551615", "m".repeat(128));
        assert!(key(&[255; 32], &model(&long), Form::PlainLines).len() <= 255);
        let all = [
            key(&[1; 32], &model("m"), Form::Plain),
            key(&[2; 32], &model("m"), Form::Plain),
            key(&[1; 32], &model("m"), Form::Oip),
            key(&[1; 32], &model("m/1"), Form::Plain),
        ];
        assert!(all.iter().enumerate().all(|(idx, one)| !all[..idx].contains(one)), "{all:?}");
    }
}
