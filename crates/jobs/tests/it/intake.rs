//! How jobs come in.

use bytes::Bytes;
use futures::future::join_all;
use salver_core::ErrorKind;
use salver_jobs::{Form, Gate, JobId, NewJob, Options, State, Submitted};

use crate::place::{NOW, Place, answer, done, job, new, with_key, with_options};

contract!(
    a_job_comes_back_as_it_was_submitted,
    a_repeated_submission_makes_no_second_job,
    each_owner_has_keys_of_its_own,
    a_hundred_at_once_with_one_key_make_one_job,
    of_two_that_differ_under_one_key_one_wins,
    a_key_survives_a_restart_and_the_end_of_its_job,
    a_key_is_taken_over_from_a_job_that_has_ended,
    of_many_that_replace_a_job_one_makes_the_new_one,
    a_queue_that_drains_takes_no_key_over,
    unfinished_jobs_of_a_caller_are_counted,
    what_cannot_be_kept_is_refused,
    a_queue_that_drains_takes_nothing_in,
    a_queue_that_is_paused_hands_nothing_out,
    a_job_waits_for_its_time,
);

async fn a_job_comes_back_as_it_was_submitted(place: Place) {
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut new_job = job("");
    new_job.content.body = Bytes::from(body.clone());
    let id = place.submit(new_job.clone()).await;
    let queued = place.get(id).await;
    assert_eq!((queued.id, queued.state, queued.model.as_str()), (id, State::Queued, "iris@champion"));
    assert_eq!((queued.progress.total, queued.attempts, queued.created_ms), (3, 0, NOW));
    let lease = place.claim_one().await;
    assert_eq!((lease.hold.id, lease.attempt, lease.is_alone, lease.total), (id, 1, false, 3));
    assert_eq!(lease.content, new_job.content);
    assert_eq!((lease.model, lease.time_limit), (new_job.model, new_job.options.time_limit));
    for form in Form::ALL {
        let mut other = job("");
        (other.content.form, other.content.content_type, other.content.header_len) = (form, None, None);
        place.submit(other.clone()).await;
        assert_eq!(place.claim_one().await.content, other.content);
    }
}

async fn a_repeated_submission_makes_no_second_job(place: Place) {
    let id = place.submit(with_key("a", "k")).await;
    assert_eq!(place.queue.submit(with_key("a", "k"), NOW + 5).await.unwrap(), Submitted::Known(id));
    assert_eq!(place.queue.submit(with_key("b", "k"), NOW).await.unwrap(), Submitted::Differs(id));
    let mut other = with_key("a", "k");
    other.options.priority = 1;
    assert_eq!(place.queue.submit(other, NOW).await.unwrap(), Submitted::Differs(id));
    let mut other = with_key("a", "k");
    other.model = "other".parse().unwrap();
    assert_eq!(place.queue.submit(other, NOW).await.unwrap(), Submitted::Differs(id));
    assert_eq!(place.queue.stats().await.unwrap().queued, 1);
    new(place.queue.submit(with_key("a", "another"), NOW).await.unwrap());
    new(place.queue.submit(job("a"), NOW).await.unwrap());
    new(place.queue.submit(job("a"), NOW).await.unwrap());
}

async fn each_owner_has_keys_of_its_own(place: Place) {
    let one = place.submit(with_key("a", "k")).await;
    let mut other = with_key("b", "k");
    other.owner = "bob".into();
    assert_ne!(place.submit(other).await, one);
}

async fn a_hundred_at_once_with_one_key_make_one_job(place: Place) {
    let other = place.other().await;
    let queues = [&place.queue, &other];
    let submits = (0..100).map(|idx| queues[idx % 2].submit(with_key("a", "k"), NOW));
    let mut ids = Vec::new();
    let mut n_new = 0;
    for submitted in join_all(submits).await {
        match submitted.unwrap() {
            Submitted::New(id) => {
                n_new += 1;
                ids.push(id);
            }
            Submitted::Known(id) => ids.push(id),
            Submitted::Differs(id) => panic!("{id} is the same"),
        }
    }
    ids.dedup();
    assert_eq!((n_new, ids.len(), place.queue.stats().await.unwrap().queued), (1, 1, 1));
    assert_eq!(place.claim(10).await.len(), 1);
}

async fn of_two_that_differ_under_one_key_one_wins(place: Place) {
    let submits = ["a", "b", "a", "b"].map(|body| place.queue.submit(with_key(body, "k"), NOW));
    let submitted: Vec<Submitted> = join_all(submits).await.into_iter().map(|submitted| submitted.unwrap()).collect();
    let count = |is: fn(&Submitted) -> bool| submitted.iter().filter(|submitted| is(submitted)).count();
    assert_eq!(count(|submitted| matches!(submitted, Submitted::New(_))), 1);
    assert_eq!(count(|submitted| matches!(submitted, Submitted::Known(_))), 1);
    assert_eq!(count(|submitted| matches!(submitted, Submitted::Differs(_))), 2);
}

async fn a_key_survives_a_restart_and_the_end_of_its_job(mut place: Place) {
    let id = place.submit(with_key("a", "k")).await;
    place.reopen().await;
    let lease = place.claim_one().await;
    assert!(place.finish(lease.hold, done("x")).await);
    assert_eq!(place.queue.submit(with_key("a", "k"), NOW).await.unwrap(), Submitted::Known(id));
    assert_eq!(place.queue.submit(with_key("b", "k"), NOW).await.unwrap(), Submitted::Differs(id));
}

fn replacing(body: &str, key: &str, replaces: JobId) -> NewJob {
    NewJob { replaces: Some(replaces), ..with_key(body, key) }
}

async fn a_key_is_taken_over_from_a_job_that_has_ended(place: Place) {
    let old = place.submit(with_key("a", "k")).await;
    let submit = async |job| place.queue.submit(job, NOW).await.unwrap();
    assert_eq!(submit(replacing("b", "k", old)).await, Submitted::Differs(old), "it still waits");
    let hold = place.claim_one().await.hold;
    assert_eq!(submit(replacing("a", "k", old)).await, Submitted::Known(old), "it runs");
    assert!(place.finish(hold, done("x")).await);
    let other = place.submit(replacing("a", "another key", old)).await;
    let mut foreign = replacing("a", "k", old);
    foreign.owner = "bob".into();
    place.submit(foreign).await;
    assert_eq!(submit(replacing("a", "k", other)).await, Submitted::Known(old), "it has another key");
    assert_eq!(submit(replacing("a", "k", JobId::random())).await, Submitted::Known(old));
    let new = place.submit(replacing("b", "k", old)).await;
    assert_eq!(submit(replacing("b", "k", old)).await, Submitted::Known(new));
    assert_eq!(submit(replacing("a", "k", old)).await, Submitted::Differs(new));
    assert_eq!(submit(with_key("b", "k")).await, Submitted::Known(new));
    // The one that lost its key is as it was otherwise.
    assert_eq!(place.queue.answer(old).await.unwrap(), Some(answer("x")));
}

async fn of_many_that_replace_a_job_one_makes_the_new_one(place: Place) {
    let old = place.submit(with_key("a", "k")).await;
    place.queue.cancel(old, NOW).await.unwrap();
    let other = place.other().await;
    let queues = [&place.queue, &other];
    // Between them are some who do not replace it; they get either job, and make none.
    let submits = (0..100).map(|idx| match idx % 3 {
        0 => queues[idx % 2].submit(with_key("a", "k"), NOW),
        _ => queues[idx % 2].submit(replacing("a", "k", old), NOW),
    });
    let (mut n_new, mut ids) = (0, Vec::new());
    for (idx, submitted) in join_all(submits).await.into_iter().enumerate() {
        match submitted.unwrap() {
            Submitted::New(id) => {
                assert_ne!(idx % 3, 0, "who replaces nothing makes no job");
                n_new += 1;
                ids.push(id);
            }
            Submitted::Known(id) if id == old => assert_eq!(idx % 3, 0),
            Submitted::Known(id) => ids.push(id),
            Submitted::Differs(id) => panic!("{id} is the same"),
        }
    }
    ids.dedup();
    assert_eq!((n_new, ids.len(), place.queue.stats().await.unwrap().queued), (1, 1, 1));
}

async fn a_queue_that_drains_takes_no_key_over(place: Place) {
    let old = place.submit(with_key("a", "k")).await;
    place.queue.cancel(old, NOW).await.unwrap();
    place.queue.set_gate(Gate::Draining).await.unwrap();
    let refusal = place.queue.submit(replacing("a", "k", old), NOW).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::NotReady);
    assert_eq!(place.queue.submit(with_key("a", "k"), NOW).await.unwrap(), Submitted::Known(old));
    place.queue.set_gate(Gate::Open).await.unwrap();
    place.submit(replacing("a", "k", old)).await;
}

async fn unfinished_jobs_of_a_caller_are_counted(place: Place) {
    let count = async |caller: &str, most| place.queue.unfinished(caller, most).await.unwrap();
    assert_eq!(count("ann's machine", 9).await, 0);
    let later = Options { not_before: Some(NOW + 1000), ..Options::default() };
    place.submit(with_options("later", later)).await;
    place.submit_all(&["a", "b", "c"]).await;
    let mut other = job("a");
    other.caller = "bob".into();
    place.submit(other).await;
    let leases = place.claim(2).await;
    assert_eq!(
        (count("ann's machine", 9).await, count("ann's machine", 4).await, count("ann's machine", 3).await),
        (4, 4, 3)
    );
    assert_eq!((count("ann's machine", 0).await, count("bob", 9).await, count("ann", 9).await), (0, 1, 0));
    assert!(place.finish(leases[0].hold, done("x")).await);
    place.queue.cancel(leases[1].hold.id, NOW).await.unwrap();
    assert_eq!(count("ann's machine", 9).await, 2);
    assert_eq!(count("ann's machine", u64::MAX).await, 2);
}

async fn what_cannot_be_kept_is_refused(place: Place) {
    let mut zero = job("a");
    zero.owner = "a\0b".into();
    let mut late = job("a");
    late.options.priority = 10;
    for refused in [zero, with_key("a", "\0"), with_key("a", &"k".repeat(256)), late] {
        let refusal = place.queue.submit(refused, NOW).await.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::InvalidInput, "{refusal}");
    }
    place.submit(with_key("a", &"k".repeat(255))).await;
}

async fn a_queue_that_drains_takes_nothing_in(mut place: Place) {
    let id = place.submit(with_key("a", "k")).await;
    place.queue.set_gate(Gate::Draining).await.unwrap();
    place.reopen().await;
    assert_eq!(place.queue.stats().await.unwrap().gate, Gate::Draining);
    let refusal = place.queue.submit(job("b"), NOW).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::NotReady);
    assert!(refusal.message().contains("salver jobs resume"), "{refusal}");
    // Who asks again after an answer that got lost learns what became of it.
    assert_eq!(place.queue.submit(with_key("a", "k"), NOW).await.unwrap(), Submitted::Known(id));
    assert_eq!(place.claim(9).await.len(), 1);
    place.queue.set_gate(Gate::Open).await.unwrap();
    place.submit(job("b")).await;
}

async fn a_queue_that_is_paused_hands_nothing_out(place: Place) {
    place.queue.set_gate(Gate::Paused).await.unwrap();
    place.submit(job("a")).await;
    assert!(place.claim(9).await.is_empty());
    place.queue.set_gate(Gate::Open).await.unwrap();
    assert_eq!(place.claim(9).await.len(), 1);
}

async fn a_job_waits_for_its_time(place: Place) {
    let later = |time| with_options("later", Options { not_before: Some(time), ..Options::default() });
    let id = place.submit(later(NOW + 1000)).await;
    let now = place.submit(later(NOW)).await;
    assert_eq!((place.state(id).await, place.state(now).await), (State::Scheduled, State::Queued));
    assert_eq!(place.claim(9).await.len(), 1);
    assert_eq!(place.queue.clear(NOW + 999, 0).await.unwrap().begun, 0);
    assert_eq!(place.queue.clear(NOW + 1000, 0).await.unwrap().begun, 1);
    assert_eq!(place.claim_one().await.hold.id, id);
}
