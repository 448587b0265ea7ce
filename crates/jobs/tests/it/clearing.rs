//! What becomes of jobs that have ended: answers expire, jobs are forgotten, removed or replayed, and
//! those who wait are told.

use salver_core::ErrorKind;
use salver_jobs::{Callback, Filter, Gate, Options, Outcome, State, Submitted};

use crate::place::{NOW, Place, done, job, ttl, with_options};

contract!(
    answers_expire_and_jobs_are_forgotten,
    clearing_goes_in_steps,
    a_failed_job_can_be_replayed,
    only_those_that_failed_can_be_replayed,
    purging_takes_what_has_ended,
    nothing_is_left_of_what_is_gone,
    who_waits_for_the_end_is_told,
    a_message_that_was_not_tried_is_due_again,
    histories_stay_short,
);

async fn answers_expire_and_jobs_are_forgotten(place: Place) {
    let id = place.submit(with_options("a", ttl(10))).await;
    let hold = place.claim_one().await.hold;
    assert!(place.finish(hold, done("x")).await);
    let cleared = place.queue.clear(NOW + 9_999, NOW + 9_999).await.unwrap();
    assert_eq!((cleared.expired, cleared.forgotten), (0, 0));
    assert!(place.queue.answer(id).await.unwrap().is_some());
    let cleared = place.queue.clear(NOW + 10_000, NOW).await.unwrap();
    assert_eq!((cleared.expired, cleared.forgotten), (1, 0));
    assert_eq!(place.queue.answer(id).await.unwrap(), None);
    let job = place.get(id).await;
    assert_eq!((job.state, job.ended_ms, job.expires_ms), (State::Expired, Some(NOW), Some(NOW + 10_000)));
    assert_eq!(place.history(id).await, ["submitted", "handed out (attempt 1)", "done"]);
    assert_eq!(place.queue.clear(NOW + 10_000, NOW + 1).await.unwrap().forgotten, 1);
    assert_eq!(place.queue.get(id).await.unwrap(), None);
}

async fn clearing_goes_in_steps(place: Place) {
    let later = with_options("a", Options { not_before: Some(NOW + 1), ..ttl(1) });
    let submits = (0..1200).map(|_| place.queue.submit(later.clone(), NOW));
    futures::future::join_all(submits).await.into_iter().for_each(|submitted| assert!(submitted.is_ok()));
    let mut begun = Vec::new();
    while begun.last() != Some(&0) {
        begun.push(place.queue.clear(NOW + 1, 0).await.unwrap().begun);
    }
    assert_eq!(begun, [500, 500, 200, 0]);
    assert_eq!(place.queue.stats().await.unwrap().queued, 1200);
}

async fn a_failed_job_can_be_replayed(place: Place) {
    let callback_url = Some("http://there".to_owned());
    let options = Options { priority: 2, callback_url, not_before: Some(NOW - 5), ..ttl(60) };
    let mut failing = with_options("a", options);
    failing.idempotency_key = Some("k".into());
    let id = place.submit(failing.clone()).await;
    let lease = place.claim_one().await;
    assert!(place.finish(lease.hold, Outcome::Failed("no".into())).await);
    let replay = place.queue.replay(id, NOW + 3).await.unwrap().unwrap();
    let job = place.get(replay).await;
    assert_eq!((job.state, job.replay_of, job.priority, job.created_ms), (State::Queued, Some(id), 2, NOW + 3));
    assert_eq!(place.state(id).await, State::Failed);
    let again = place.claim_one().await;
    assert_eq!((again.content, again.total, again.time_limit), (lease.content, lease.total, lease.time_limit));
    assert!(place.finish(again.hold, done("x")).await);
    // The key still belongs to the first one.
    assert_eq!(place.queue.submit(failing, NOW).await.unwrap(), Submitted::Known(id));
    assert_eq!(place.history(id).await.last().unwrap(), &format!("replayed by {replay}"));
    assert_eq!(place.history(replay).await[0], format!("submitted, as a replay of {id}"));
    assert_eq!(place.queue.callbacks(9, NOW + 9, NOW + 99).await.unwrap().len(), 2);
}

async fn only_those_that_failed_can_be_replayed(place: Place) {
    let id = place.submit(with_options("a", ttl(1))).await;
    assert_eq!(place.queue.replay(id, NOW).await.unwrap_err().kind(), ErrorKind::Conflict);
    let hold = place.claim_one().await.hold;
    assert_eq!(place.queue.replay(id, NOW).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(place.finish(hold, Outcome::Failed("no".into())).await);
    place.queue.set_gate(Gate::Draining).await.unwrap();
    assert_eq!(place.queue.replay(id, NOW).await.unwrap_err().kind(), ErrorKind::NotReady);
    place.queue.set_gate(Gate::Open).await.unwrap();
    place.queue.clear(NOW + 1000, 0).await.unwrap();
    assert_eq!(place.queue.replay(id, NOW).await.unwrap_err().kind(), ErrorKind::Conflict);
}

async fn purging_takes_what_has_ended(place: Place) {
    let ids = place.submit_all(&["a", "b", "c", "d"]).await;
    let leases = place.claim(3).await;
    assert!(place.finish(leases[0].hold, done("x")).await);
    assert!(place.finish(leases[1].hold, Outcome::Failed("no".into())).await);
    let failed = Filter { states: vec![State::Failed, State::Running], ..Filter::default() };
    assert_eq!(place.queue.purge(failed).await.unwrap(), 1);
    let nobodys = Filter { model: Some(String::new()), ..Filter::default() };
    assert_eq!(place.queue.purge(nobodys).await.unwrap(), 0);
    let other = Filter { model: Some("other".into()), ..Filter::default() };
    let early = Filter { created_before_ms: Some(NOW), ..Filter::default() };
    let waiting = Filter { states: vec![State::Queued], ..Filter::default() };
    for filter in [other, early, waiting] {
        assert_eq!(place.queue.purge(filter).await.unwrap(), 0);
    }
    assert_eq!(place.queue.purge(Filter::default()).await.unwrap(), 1);
    assert_eq!(place.queue.get(ids[0]).await.unwrap(), None);
    assert_eq!((place.state(ids[2]).await, place.state(ids[3]).await), (State::Running, State::Queued));
}

async fn nothing_is_left_of_what_is_gone(place: Place) {
    let callback_url = Some("http://there".to_owned());
    let options = Options { callback_url, ..ttl(1) };
    for outcome in [done("x"), Outcome::Failed("no".into()), Outcome::Troubled("hm".into())] {
        place.submit(with_options("a", Options { retries: 0, ..options.clone() })).await;
        let hold = place.claim_one().await.hold;
        assert!(place.finish(hold, outcome).await);
    }
    let id = place.submit(with_options("a", options)).await;
    place.queue.cancel(id, NOW).await.unwrap();
    // Those that can be replayed keep what they were asked.
    assert_eq!((place.count("bodies").await, place.count("answers").await), (2, 1));
    place.queue.clear(NOW + 1000, 0).await.unwrap();
    assert_eq!((place.count("bodies").await, place.count("answers").await, place.count("jobs").await), (0, 0, 4));
    place.queue.clear(NOW + 1000, NOW + 1).await.unwrap();
    for what in ["jobs", "bodies", "answers", "lines", "the rest"] {
        assert_eq!(place.count(what).await, 0, "{what}");
    }
}

async fn who_waits_for_the_end_is_told(place: Place) {
    let url = "http://there/x".to_owned();
    let options = Options { callback_url: Some(url.clone()), ..Options::default() };
    let id = place.submit(with_options("a", options)).await;
    place.submit(job("b")).await;
    let leases = place.claim(2).await;
    assert!(place.queue.callbacks(9, NOW + 1, NOW).await.unwrap().is_empty());
    for lease in leases {
        assert!(place.finish(lease.hold, done("x")).await);
    }
    let due = |attempts| vec![Callback { id, url: url.clone(), attempts }];
    assert_eq!(place.queue.callbacks(9, NOW, NOW + 10).await.unwrap(), due(0));
    assert!(place.queue.callbacks(9, NOW + 9, NOW + 20).await.unwrap().is_empty(), "somebody else sends it");
    assert_eq!(place.queue.callbacks(9, NOW + 10, NOW + 20).await.unwrap(), due(1), "nobody said what became of it");
    place.queue.called_back(id, Some(NOW + 50), "callback: 503".into(), NOW + 11).await.unwrap();
    assert!(place.queue.callbacks(9, NOW + 49, NOW + 99).await.unwrap().is_empty());
    assert_eq!(place.queue.callbacks(9, NOW + 50, NOW + 99).await.unwrap(), due(2));
    place.queue.called_back(id, None, "callback: 200".into(), NOW + 51).await.unwrap();
    assert!(place.queue.callbacks(9, NOW + 999, NOW + 999).await.unwrap().is_empty());
    place.queue.put_off(id, NOW + 60).await.unwrap();
    assert!(place.queue.callbacks(9, NOW + 999, NOW + 999).await.unwrap().is_empty(), "it was told");
    let expected = ["submitted", "handed out (attempt 1)", "done", "callback: 503", "callback: 200"];
    assert_eq!(place.history(id).await, expected);
}

async fn a_message_that_was_not_tried_is_due_again(place: Place) {
    let options = Options { callback_url: Some("http://there".into()), ..Options::default() };
    let id = place.submit(with_options("a", options)).await;
    place.queue.put_off(id, NOW).await.unwrap();
    assert!(place.queue.callbacks(9, NOW + 9, NOW + 9).await.unwrap().is_empty(), "the job has not ended");
    place.queue.cancel(id, NOW).await.unwrap();
    let attempts = async |now| {
        let due = place.queue.callbacks(9, now, now + 1000).await.unwrap();
        due.iter().map(|callback| callback.attempts).collect::<Vec<_>>()
    };
    assert_eq!(attempts(NOW).await, [0]);
    place.queue.put_off(id, NOW + 7).await.unwrap();
    assert_eq!(attempts(NOW + 6).await, [0; 0]);
    assert_eq!(attempts(NOW + 7).await, [0]);
    place.queue.called_back(id, Some(NOW + 8), "callback: 500".into(), NOW + 7).await.unwrap();
    assert_eq!(attempts(NOW + 8).await, [1]);
    place.queue.put_off(id, NOW + 9).await.unwrap();
    assert_eq!(attempts(NOW + 9).await, [1]);
    assert_eq!(place.history(id).await, ["submitted", "cancelled", "callback: 500"]);
    place.queue.put_off(salver_jobs::JobId::random(), NOW).await.unwrap();
}

async fn histories_stay_short(place: Place) {
    let id = place.submit(job("a")).await;
    for _ in 0..40 {
        let hold = place.claim_one().await.hold;
        assert!(place.finish(hold, Outcome::GivenBack).await);
    }
    let history = place.history(id).await;
    assert_eq!((history.len(), history[49].as_str()), (50, "given back, as its worker stopped"));
    assert_eq!(history[48], "handed out (attempt 40)");
    assert_eq!(place.count("lines").await, 50);
}
