//! Jobs in the hands of workers.

use std::task::Poll;
use std::time::Duration;

use futures::future::join_all;
use salver_jobs::{Beat, Hold, JobId, Options, Outcome, State};

use crate::place::{LEASE, NOW, Place, answer, bodies, done, job, with_options};

contract!(
    jobs_go_out_by_priority_and_then_in_order,
    a_job_that_is_done_has_its_answer,
    an_old_token_changes_nothing,
    a_job_that_fails_says_why_and_runs_no_more,
    trouble_is_tried_again_with_longer_waits,
    what_is_given_back_is_no_trouble,
    a_cancelled_job_takes_no_answer,
    a_hold_that_is_finished_twice_at_once_counts_once,
    signs_of_life_are_counted,
    each_job_is_held_under_the_lease_of_its_worker,
    a_dropped_claim_holds_nothing,
    nobody_knows_a_job_that_is_not_there,
    a_clock_that_goes_back_an_hour_breaks_nothing,
    large_groups_are_taken_whole,
);

async fn jobs_go_out_by_priority_and_then_in_order(place: Place) {
    for (body, priority) in [("a", 5), ("b", 9), ("c", 1), ("d", 5), ("e", 1)] {
        place.submit(with_options(body, Options { priority, ..Options::default() })).await;
    }
    assert_eq!(bodies(&place.claim(3).await), ["c", "e", "a"]);
    assert_eq!(bodies(&place.claim(9).await), ["d", "b"]);
    assert!(place.claim(9).await.is_empty());
}

async fn a_job_that_is_done_has_its_answer(mut place: Place) {
    let id = place.submit(job("a")).await;
    assert_eq!(place.queue.answer(id).await.unwrap(), None);
    let hold = place.claim_one().await.hold;
    assert_eq!(place.state(id).await, State::Running);
    let mut given = answer("1");
    given.header_len = Some(1);
    assert!(place.queue.finish(hold, Outcome::Done(given.clone()), NOW + 7).await.unwrap());
    place.reopen().await;
    assert_eq!(place.queue.answer(id).await.unwrap(), Some(given));
    let job = place.get(id).await;
    assert_eq!((job.state, job.progress.done, job.ended_ms), (State::Done, 3, Some(NOW + 7)));
    assert_eq!(job.expires_ms, Some(NOW + 7 + 24 * 3_600_000));
    assert_eq!(place.history(id).await, ["submitted", "handed out (attempt 1)", "done"]);
    assert!(place.claim(9).await.is_empty());
}

async fn an_old_token_changes_nothing(place: Place) {
    let id = place.submit(job("a")).await;
    let old = place.claim_one().await.hold;
    assert!(!place.finish(Hold { token: old.token + 1, ..old }, done("never")).await);
    assert_eq!(place.lose(id).await, 1);
    assert!(!place.finish(old, done("late")).await, "nobody holds it");
    let new = place.claim_one().await.hold;
    assert!(new.token > old.token);
    let (failed, troubled) = (Outcome::Failed("late".into()), Outcome::Troubled("late".into()));
    for outcome in [done("late"), failed, troubled, Outcome::Lost("late".into()), Outcome::GivenBack] {
        assert!(!place.finish(old, outcome).await);
    }
    assert_eq!(place.queue.renew(vec![Beat { hold: old, done: 1 }]).await.unwrap(), [false]);
    assert!(place.finish(new, done("new")).await);
    assert!(!place.finish(new, done("again")).await);
    assert_eq!(place.queue.answer(id).await.unwrap(), Some(answer("new")));
}

async fn a_job_that_fails_says_why_and_runs_no_more(place: Place) {
    let id = place.submit(job("a")).await;
    let hold = place.claim_one().await.hold;
    assert!(place.finish(hold, Outcome::Failed("no such\0input".into())).await);
    let job = place.get(id).await;
    assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("no such\u{fffd}input")));
    assert_eq!(place.history(id).await, ["submitted", "handed out (attempt 1)", "failed: no such\u{fffd}input"]);
    assert!(place.claim(9).await.is_empty());
}

async fn trouble_is_tried_again_with_longer_waits(place: Place) {
    let id = place.submit(with_options("a", Options { retries: 2, ..Options::default() })).await;
    let mut now = NOW;
    for wait in [1000, 2000] {
        let lease = place.queue.claim(1, true, LEASE, now).await.unwrap().pop().unwrap();
        assert!(place.queue.finish(lease.hold, Outcome::Troubled("busy".into()), now).await.unwrap());
        let job = place.get(id).await;
        assert_eq!(
            (job.state, job.not_before_ms, job.reason.as_deref()),
            (State::Scheduled, Some(now + wait), Some("busy"))
        );
        assert_eq!(place.queue.clear(now + wait - 1, 0).await.unwrap().begun, 0);
        now += wait;
        assert_eq!(place.queue.clear(now, 0).await.unwrap().begun, 1);
    }
    let lease = place.claim_one().await;
    assert_eq!(lease.attempt, 3);
    assert!(place.finish(lease.hold, Outcome::Troubled("still busy".into())).await);
    assert_eq!(place.state(id).await, State::Failed);
    assert_eq!(
        place.history(id).await,
        [
            "submitted",
            "handed out (attempt 1)",
            "trouble: busy; again in 1 s",
            "handed out (attempt 2)",
            "trouble: busy; again in 2 s",
            "handed out (attempt 3)",
            "failed: still busy"
        ]
    );
}

async fn what_is_given_back_is_no_trouble(place: Place) {
    let id = place.submit(with_options("a", Options { retries: 0, ..Options::default() })).await;
    for attempt in 1..5 {
        let lease = place.claim_one().await;
        assert_eq!(lease.attempt, attempt);
        assert!(place.finish(lease.hold, Outcome::GivenBack).await);
        assert_eq!(place.state(id).await, State::Queued);
    }
    let lease = place.claim_one().await;
    assert!(!lease.is_alone);
    assert!(place.finish(lease.hold, done("x")).await);
}

async fn a_cancelled_job_takes_no_answer(place: Place) {
    let ids = place.submit_all(&["a", "b", "c"]).await;
    let lease = place.claim_one().await;
    assert_eq!(lease.hold.id, ids[0]);
    let job = place.queue.cancel(ids[0], NOW + 1).await.unwrap().unwrap();
    assert_eq!((job.state, job.ended_ms), (State::Cancelled, Some(NOW + 1)));
    assert!(!place.finish(lease.hold, done("late")).await);
    assert!(!place.queue.renew(vec![Beat { hold: lease.hold, done: 1 }]).await.unwrap()[0]);
    assert_eq!(place.queue.answer(ids[0]).await.unwrap(), None);
    assert_eq!(place.queue.cancel(ids[1], NOW).await.unwrap().unwrap().state, State::Cancelled);
    assert_eq!(bodies(&place.claim(9).await), ["c"]);
    assert_eq!(place.history(ids[0]).await, ["submitted", "handed out (attempt 1)", "cancelled"]);
    // What has ended stays as it is.
    assert_eq!(place.queue.cancel(ids[0], NOW + 9).await.unwrap().unwrap().ended_ms, Some(NOW + 1));
}

async fn a_hold_that_is_finished_twice_at_once_counts_once(place: Place) {
    let id = place.submit(job("a")).await;
    let hold = place.claim_one().await.hold;
    let finishes = (0..20).map(|idx| place.queue.finish(hold, done(&idx.to_string()), NOW));
    let counted: Vec<bool> = join_all(finishes).await.into_iter().map(|finished| finished.unwrap()).collect();
    assert_eq!(counted.iter().filter(|counted| **counted).count(), 1);
    let winner = counted.iter().position(|counted| *counted).unwrap();
    assert_eq!(place.queue.answer(id).await.unwrap(), Some(answer(&winner.to_string())));
}

async fn signs_of_life_are_counted(place: Place) {
    let ids = place.submit_all(&["a", "b"]).await;
    let leases = place.claim(2).await;
    let before = place.queue.held().await.unwrap();
    assert_eq!(before.len(), 2);
    let beats = leases.iter().map(|lease| Beat { hold: lease.hold, done: 2 }).collect();
    assert_eq!(place.queue.renew(beats).await.unwrap(), [true, true]);
    assert_eq!(place.get(ids[0]).await.progress.done, 2);
    // Whoever watched before that sign takes nothing away.
    assert_eq!(place.queue.lose(before, NOW).await.unwrap(), 0);
    let held = place.queue.held().await.unwrap();
    assert_eq!(place.queue.lose(held.clone(), NOW).await.unwrap(), 2);
    assert_eq!(place.queue.lose(held, NOW).await.unwrap(), 0);
    assert!(place.queue.held().await.unwrap().is_empty());
}

async fn each_job_is_held_under_the_lease_of_its_worker(place: Place) {
    let ids = place.submit_all(&["a", "b"]).await;
    let short = Duration::from_millis(1001);
    for lease in [LEASE, short] {
        assert_eq!(place.queue.claim(1, true, lease, NOW).await.unwrap().len(), 1);
    }
    let leases = async || {
        let mut held = place.queue.held().await.unwrap();
        held.sort_by_key(|held| held.hold.id != ids[0]);
        held.into_iter().map(|held| held.lease).collect::<Vec<_>>()
    };
    assert_eq!(leases().await, [LEASE, short]);
    // The next worker has its own.
    assert_eq!(place.lose(ids[0]).await, 1);
    assert_eq!(place.queue.claim(1, true, short, NOW).await.unwrap()[0].hold.id, ids[0]);
    assert_eq!(leases().await, [short, short]);
}

async fn a_dropped_claim_holds_nothing(place: Place) {
    place.submit(job("a")).await;
    for _ in 0..50 {
        let mut claim = place.queue.claim(1, true, LEASE, NOW);
        // Asked for, and dropped before anybody looked at the answer.
        let polled = futures::poll!(&mut claim);
        drop(claim);
        // Unless the answer was there at once: then the caller has them.
        if let Poll::Ready(leases) = polled {
            for lease in leases.unwrap() {
                assert!(place.finish(lease.hold, Outcome::GivenBack).await);
            }
        }
    }
    let mut found = Vec::new();
    for _ in 0..100 {
        found = place.claim(1).await;
        if !found.is_empty() {
            break;
        }
    }
    assert_eq!(bodies(&found), ["a"]);
}

async fn nobody_knows_a_job_that_is_not_there(place: Place) {
    let id = JobId::random();
    assert_eq!(place.queue.get(id).await.unwrap(), None);
    assert_eq!(place.queue.answer(id).await.unwrap(), None);
    assert_eq!(place.queue.cancel(id, NOW).await.unwrap(), None);
    assert_eq!(place.queue.replay(id, NOW).await.unwrap(), None);
    assert!(!place.finish(Hold { id, token: 1 }, Outcome::GivenBack).await);
    place.queue.called_back(id, None, "told".into(), NOW).await.unwrap();
}

async fn a_clock_that_goes_back_an_hour_breaks_nothing(place: Place) {
    let ids = place.submit_all(&["a", "b"]).await;
    let earlier = NOW - 3_600_000;
    let early = place.queue.submit(job("c"), earlier).await.unwrap();
    let leases = place.queue.claim(9, true, LEASE, earlier).await.unwrap();
    assert_eq!(bodies(&leases), ["a", "b", "c"], "who came first goes first, whatever the clock says");
    let beats = leases.iter().map(|lease| Beat { hold: lease.hold, done: 0 }).collect();
    assert_eq!(place.queue.renew(beats).await.unwrap(), [true; 3]);
    assert!(place.queue.finish(leases[0].hold, done("x"), earlier).await.unwrap());
    assert!(place.queue.finish(leases[1].hold, Outcome::Troubled("busy".into()), earlier).await.unwrap());
    let cleared = place.queue.clear(earlier, earlier - 1).await.unwrap();
    assert_eq!((cleared.begun, cleared.expired, cleared.forgotten), (0, 0, 0));
    assert_eq!(place.queue.clear(NOW, earlier).await.unwrap().begun, 1);
    assert_eq!(place.claim_one().await.hold.id, ids[1]);
    assert_eq!(place.queue.answer(ids[0]).await.unwrap(), Some(answer("x")));
    assert_eq!(place.state(crate::place::new(early)).await, State::Running);
}

async fn large_groups_are_taken_whole(place: Place) {
    let submits = (0..3000).map(|idx| place.queue.submit(job(&idx.to_string()), NOW));
    let ids: Vec<JobId> = join_all(submits).await.into_iter().map(|id| crate::place::new(id.unwrap())).collect();
    let mut leases = Vec::new();
    while leases.len() < ids.len() {
        let claimed = place.claim(5000).await;
        assert!(!claimed.is_empty());
        leases.extend(claimed);
    }
    let beats: Vec<Beat> = leases.iter().map(|lease| Beat { hold: lease.hold, done: 1 }).collect();
    assert!(place.queue.renew(beats).await.unwrap().into_iter().all(|counts| counts));
    let finishes = leases.iter().map(|lease| place.queue.finish(lease.hold, done("x"), NOW));
    assert!(join_all(finishes).await.into_iter().all(|finished| finished.unwrap()));
    assert_eq!(place.queue.purge(salver_jobs::Filter::default()).await.unwrap(), 3000);
}
