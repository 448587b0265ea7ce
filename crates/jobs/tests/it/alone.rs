//! Jobs that their workers were lost with.

use salver_jobs::{Options, Outcome, State};

use crate::place::{LEASE, NOW, Place, bodies, done, job, with_options};

contract!(
    a_job_that_was_lost_runs_alone,
    a_job_that_is_lost_alone_too_often_is_dead,
    only_losses_alone_count,
    a_dead_job_can_be_replayed_and_still_runs_alone,
    what_was_lost_with_others_runs_alone_and_is_no_trouble,
    what_is_lost_alone_again_and_again_is_dead,
);

async fn a_job_that_was_lost_runs_alone(place: Place) {
    let ids = place.submit_all(&["a", "b", "c"]).await;
    assert_eq!(bodies(&place.claim(2).await), ["a", "b"]);
    assert_eq!(place.lose(ids[1]).await, 1);
    // It is the first now, before `c`; a busy worker gets neither.
    assert!(place.queue.claim(9, false, LEASE, NOW).await.unwrap().is_empty());
    let alone = place.claim(9).await;
    assert_eq!((bodies(&alone), alone[0].is_alone, alone[0].attempt), (vec!["b"], true, 2));
    assert_eq!(bodies(&place.queue.claim(9, false, LEASE, NOW).await.unwrap()), ["c"]);
    let job = place.get(ids[1]).await;
    assert_eq!((job.losses, job.state), (1, State::Running));
    assert_eq!(
        place.history(ids[1]).await,
        [
            "submitted",
            "handed out (attempt 1)",
            "lost with its worker; from now on it runs alone",
            "handed out (attempt 2)"
        ]
    );
    assert!(place.finish(alone[0].hold, done("x")).await);
}

async fn a_job_that_is_lost_alone_too_often_is_dead(place: Place) {
    let id = place.submit(job("poison")).await;
    let behind = place.submit(job("behind")).await;
    for loss in 0..6 {
        assert_eq!(place.claim(1).await[0].hold.id, id, "loss {loss}");
        assert_eq!(place.lose(id).await, 1);
    }
    let dead = place.get(id).await;
    assert_eq!((dead.state, dead.losses, dead.attempts), (State::Dead, 6, 6));
    assert!(dead.reason.unwrap().contains("5 workers were lost"));
    assert_eq!(place.history(id).await.len(), 1 + 6 * 2 + 1);
    assert_eq!(place.claim_one().await.hold.id, behind);
    assert_eq!(place.queue.stats().await.unwrap().dead, 1);
}

async fn only_losses_alone_count(place: Place) {
    let ids = place.submit_all(&["a", "b"]).await;
    assert_eq!(place.claim(2).await.len(), 2);
    let held = place.queue.held().await.unwrap();
    assert_eq!(place.queue.lose(held, NOW).await.unwrap(), 2);
    for _ in 0..4 {
        assert_eq!(place.claim_one().await.hold.id, ids[0]);
        assert_eq!(place.lose(ids[0]).await, 1);
    }
    assert_eq!(place.state(ids[0]).await, State::Queued);
    let hold = place.claim_one().await.hold;
    assert!(place.finish(hold, Outcome::GivenBack).await);
    assert_eq!(place.claim_one().await.hold.id, ids[0]);
    assert_eq!(place.lose(ids[0]).await, 1);
    assert_eq!((place.state(ids[0]).await, place.state(ids[1]).await), (State::Dead, State::Queued));
}

async fn a_dead_job_can_be_replayed_and_still_runs_alone(place: Place) {
    let id = place.submit(job("poison")).await;
    for _ in 0..6 {
        place.claim_one().await;
        place.lose(id).await;
    }
    let replay = place.queue.replay(id, NOW).await.unwrap().unwrap();
    assert!(place.queue.claim(1, false, LEASE, NOW).await.unwrap().is_empty());
    let lease = place.claim_one().await;
    assert_eq!((lease.hold.id, lease.attempt, lease.is_alone), (replay, 1, true));
    assert_eq!(bodies(&[lease]), ["poison"]);
    assert_eq!(place.history(id).await.last().unwrap(), &format!("replayed by {replay}"));
}

fn lost() -> Outcome {
    Outcome::Lost("the\0process of its model ended".into())
}

async fn what_was_lost_with_others_runs_alone_and_is_no_trouble(place: Place) {
    let no_retries = || Options { retries: 0, ..Options::default() };
    let ids =
        [place.submit(with_options("a", no_retries())).await, place.submit(with_options("b", no_retries())).await];
    place.submit(job("behind")).await;
    for lease in place.claim(2).await {
        assert!(place.finish(lease.hold, lost()).await);
        assert!(!place.finish(lease.hold, lost()).await, "it counts once");
    }
    // At once, before those behind them, and one by one.
    for (id, body) in ids.into_iter().zip(["a", "b"]) {
        assert!(place.queue.claim(9, false, LEASE, NOW).await.unwrap().is_empty());
        let alone = place.claim(9).await;
        assert_eq!((bodies(&alone), alone[0].is_alone, alone[0].attempt), (vec![body], true, 2));
        let job = place.get(id).await;
        assert_eq!((job.losses, job.reason.as_deref()), (1, Some("the\u{fffd}process of its model ended")));
        assert!(place.finish(alone[0].hold, done("x")).await);
        assert_eq!(
            place.history(id).await,
            [
                "submitted",
                "handed out (attempt 1)",
                "the\u{fffd}process of its model ended; from now on it runs alone",
                "handed out (attempt 2)",
                "done"
            ]
        );
    }
    assert_eq!(bodies(&place.claim(9).await), ["behind"]);
}

async fn what_is_lost_alone_again_and_again_is_dead(place: Place) {
    let id = place.submit(job("poison")).await;
    for loss in 0..6 {
        assert_eq!(place.state(id).await, State::Queued, "loss {loss}");
        let hold = place.claim_one().await.hold;
        assert!(place.finish(hold, lost()).await);
    }
    let dead = place.get(id).await;
    assert_eq!((dead.state, dead.losses, dead.attempts), (State::Dead, 6, 6));
    assert!(dead.ended_ms.is_some() && dead.reason.unwrap().contains("5 workers were lost"));
    assert!(place.claim(9).await.is_empty());
}
