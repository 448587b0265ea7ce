//! Several servers on one database, and what is left when one is gone.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use salver_core::ErrorKind;
use salver_jobs::{Beat, Hold, JobId, Outcome, Queue, State};

use salver_store::database::sql;

use crate::place::{LEASE, NOW, Place, answer, bodies, done, job};

contract!(
    no_two_get_the_same_job,
    each_answer_is_kept_once,
    of_two_servers_that_end_a_job_one_does,
    what_was_acknowledged_is_there_after_a_restart,
    the_writer_ends_with_the_last_queue,
    calls_that_wait_are_answered_after_the_last_queue_is_gone,
);

async fn no_two_get_the_same_job(place: Place) {
    let submits = (0..600).map(|idx| place.queue.submit(job(&idx.to_string()), NOW));
    join_all(submits).await.into_iter().for_each(|submitted| assert!(submitted.is_ok()));
    let queues = [place.other().await, place.other().await, place.queue.clone()];
    let workers = (0..12).map(|idx| {
        let queue = queues[idx % 3].clone();
        tokio::spawn(async move {
            let mut holds: Vec<Hold> = Vec::new();
            loop {
                let leases = queue.claim(1 + idx % 7, false, LEASE, NOW).await.unwrap();
                if leases.is_empty() {
                    return holds;
                }
                holds.extend(leases.iter().map(|lease| lease.hold));
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut ids: Vec<JobId> =
        join_all(workers).await.into_iter().flat_map(|holds| holds.unwrap()).map(|hold| hold.id).collect();
    // Under PostgreSQL a claim may pass over what another looks at, so some may be left.
    ids.extend(place.claim(600).await.iter().map(|lease| lease.hold.id));
    assert_eq!(ids.len(), 600);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 600, "some were handed out twice");
    assert_eq!(place.queue.stats().await.unwrap().running, 600);
}

/// A worker that is often taken for dead, and often does not notice.
async fn unsteady(queue: Arc<dyn Queue>, idx: usize, counted: Arc<parking_lot::Mutex<HashMap<JobId, Vec<String>>>>) {
    let mut old: Vec<Hold> = Vec::new();
    for round in 0..60 {
        let leases = queue.claim(4, idx < 2, LEASE, NOW).await.unwrap();
        if round % 3 == idx % 3 {
            let held = queue.held().await.unwrap();
            queue.lose(held, NOW).await.unwrap();
        }
        let beats = leases.iter().map(|lease| Beat { hold: lease.hold, done: 1 }).collect();
        queue.renew(beats).await.unwrap();
        old.extend(leases.iter().map(|lease| lease.hold));
        for (place, hold) in old.iter().enumerate().filter(|(place, _)| (place + round) % 2 == 0) {
            let text = format!("{idx} {round} {place}");
            if queue.finish(*hold, done(&text), NOW).await.unwrap() {
                counted.lock().entry(hold.id).or_default().push(text);
            }
        }
    }
}

async fn each_answer_is_kept_once(place: Place) {
    let ids = join_all((0..40).map(|_| place.submit(job("a")))).await;
    let counted = Arc::new(parking_lot::Mutex::new(HashMap::new()));
    let other = place.other().await;
    let workers = (0..4).map(|idx| {
        let queue = if idx < 2 { place.queue.clone() } else { other.clone() };
        tokio::spawn(unsteady(queue, idx, counted.clone()))
    });
    let workers: Vec<_> = workers.collect();
    join_all(workers).await.into_iter().for_each(|worker| worker.unwrap());
    let counted = counted.lock().clone();
    for id in ids {
        let kept = place.queue.answer(id).await.unwrap();
        match counted.get(&id).map(Vec::as_slice) {
            None => assert_eq!(kept, None),
            Some([text]) => assert_eq!(kept, Some(answer(text))),
            Some(more) => panic!("{id} was finished {} times", more.len()),
        }
    }
    assert!(!counted.is_empty());
}

async fn of_two_servers_that_end_a_job_one_does(place: Place) {
    let other = place.other().await;
    for round in 0..10 {
        join_all((0..60).map(|_| place.submit(job("a")))).await;
        let holds: Vec<Hold> = place.claim(60).await.iter().map(|lease| lease.hold).collect();
        let end = |queue: Arc<dyn Queue>| {
            let holds = holds.clone();
            tokio::spawn(async move {
                let failed = || Outcome::Failed("no".into());
                let ended = holds.iter().map(|hold| queue.finish(*hold, failed(), NOW));
                join_all(ended).await.into_iter().map(|ended| ended.unwrap()).collect::<Vec<bool>>()
            })
        };
        let (one, two) = (end(place.queue.clone()), end(other.clone()));
        let pairs = one.await.unwrap().into_iter().zip(two.await.unwrap());
        assert!(pairs.into_iter().all(|(one, two)| one != two), "round {round}");
    }
}

async fn what_was_acknowledged_is_there_after_a_restart(mut place: Place) {
    let ids = place.submit_all(&["a", "b", "c", "d"]).await;
    let leases = place.claim(3).await;
    assert!(place.finish(leases[0].hold, done("x")).await);
    assert!(place.finish(leases[1].hold, Outcome::Failed("no".into())).await);
    place.queue.renew(vec![Beat { hold: leases[2].hold, done: 2 }]).await.unwrap();
    let before = join_all(ids.iter().map(|id| place.get(*id))).await;
    place.reopen().await;
    assert_eq!(join_all(ids.iter().map(|id| place.get(*id))).await, before);
    assert_eq!(place.queue.answer(ids[0]).await.unwrap(), Some(answer("x")));
    // A worker that outlived the server goes on.
    assert!(place.finish(leases[2].hold, done("y")).await);
    assert_eq!(bodies(&place.claim(9).await), ["d"]);
}

async fn the_writer_ends_with_the_last_queue(place: Place) {
    let metrics = tokio::runtime::Handle::current().metrics();
    let other = place.other().await;
    let clone = other.clone();
    drop(other);
    clone.submit(job("a"), NOW).await.unwrap();
    let before = metrics.num_alive_tasks();
    drop(clone);
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while metrics.num_alive_tasks() >= before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the end of a task");
}

async fn calls_that_wait_are_answered_after_the_last_queue_is_gone(place: Place) {
    let other = place.other().await;
    let submits: Vec<_> = (0..50)
        .map(|_| {
            let queue = other.clone();
            tokio::spawn(async move { queue.submit(job("a"), NOW).await })
        })
        .collect();
    drop(other);
    for submitted in join_all(submits).await {
        let id = crate::place::new(submitted.unwrap().unwrap());
        assert_eq!(place.state(id).await, State::Queued);
    }
}

/// What breaks meanwhile may have been kept or not; what was acknowledged was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_lose_nothing_that_was_acknowledged() {
    let Some(place) = Place::postgres().await else { return };
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let queue = place.queue.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                for _ in 0..200 {
                    match queue.submit(job("a"), NOW).await {
                        Ok(submitted) => taken.push(crate::place::new(submitted)),
                        Err(refusal) => assert_eq!(refusal.kind(), ErrorKind::NotReady, "{refusal:?}"),
                    }
                }
                taken
            })
        })
        .collect();
    let mut session = place.database().await.read().await.unwrap();
    let mut n_broken = 0;
    while callers.iter().any(|caller| !caller.is_finished()) {
        let others = sql("SELECT COUNT(pg_terminate_backend(pid)) AS n FROM pg_stat_activity \
                          WHERE datname = current_database() AND pid <> pg_backend_pid()");
        n_broken += session.first(others).await.unwrap().unwrap().int("n").unwrap();
        tokio::task::yield_now().await;
    }
    assert!(n_broken > 0);
    for taken in join_all(callers).await {
        for id in taken.unwrap() {
            assert_eq!(place.state(id).await, State::Queued);
        }
    }
    place.submit(job("b")).await;
}
