//! What only Redis does: it is restarted, runs out of memory, forgets scripts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use salver_core::ErrorKind;
use salver_jobs::{Beat, Gate, JobId, Outcome, Queue, State, queue_at};
use salver_testkit::RedisServer;

use crate::place::{LEASE, NOW, Place, answer, bodies, done, job, new};

/// What callers were told.
#[derive(Default)]
struct Told {
    taken: Vec<JobId>,
    ended: Vec<(JobId, String)>,
    n_refused: usize,
}

/// Submits jobs and runs them until told to stop, whatever happens to Redis.
async fn go_on(queue: Arc<dyn Queue>, idx: usize, stop: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let text = format!("{idx} {round}");
        match queue.submit(job(&text), NOW).await {
            Ok(submitted) => told.taken.push(new(submitted)),
            Err(refusal) => {
                assert_eq!(refusal.kind(), ErrorKind::NotReady, "{refusal:?}");
                told.n_refused += 1;
            }
        }
        for lease in queue.claim(1, true, LEASE, NOW).await.unwrap_or_default() {
            if queue.finish(lease.hold, done(&text), NOW).await.is_ok_and(|counts| counts) {
                told.ended.push((lease.hold.id, text.clone()));
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_has_all_that_was_acknowledged() {
    let Some(mut server) = RedisServer::start_durable() else { return };
    let place = Place::in_redis(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16).map(|idx| tokio::spawn(go_on(place.queue.clone(), idx, stop.clone()))).collect();
    for kill in 1..=5u64 {
        // It did something since the last time.
        while place
            .queue
            .list(salver_jobs::Filter::default(), None, 1000)
            .await
            .map_or(0, |page| page.jobs.len() as u64)
            < 100 * kill
        {
            tokio::task::yield_now().await;
        }
        server.kill();
        let refusal = place.queue.submit(job("x"), NOW).await.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::NotReady, "{refusal:?}");
        server.restart();
    }
    stop.store(true, Ordering::Relaxed);
    let told: Vec<Told> = join_all(callers).await.into_iter().map(|told| told.unwrap()).collect();
    assert!(told.iter().map(|told| told.n_refused).sum::<usize>() > 0, "nobody noticed");
    // Once more, so that what only memory had is gone.
    server.kill();
    server.restart();
    let place = place.again().await;
    for id in told.iter().flat_map(|told| &told.taken) {
        place.state(*id).await;
    }
    let mut n_ended = 0;
    for (id, text) in told.iter().flat_map(|told| &told.ended) {
        assert_eq!(place.queue.answer(*id).await.unwrap(), Some(answer(text)));
        n_ended += 1;
    }
    assert!(n_ended > 100, "{n_ended}");
}

#[tokio::test]
async fn a_redis_without_memory_takes_nothing_in_and_ends_what_it_has() {
    let Some(server) = RedisServer::start() else { return };
    let place = Place::in_redis(&server).await;
    let ids = place.submit_all(&["a", "b", "c", "d"]).await;
    let hold = place.claim_one().await.hold;
    let limit = async |bytes: u64| {
        let mut redis = place.redis_itself().await;
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query_async::<()>(&mut redis).await.unwrap();
    };
    limit(1).await;
    let refusal = place.queue.submit(job("e"), NOW).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Full, "{refusal:?}");
    assert_eq!(place.queue.renew(vec![Beat { hold, done: 1 }]).await.unwrap(), [true]);
    assert!(place.finish(hold, done("x")).await);
    let lease = place.claim_one().await;
    assert_eq!(bodies(std::slice::from_ref(&lease)), ["b"]);
    assert!(place.finish(lease.hold, Outcome::Failed("no".into())).await);
    let refusal = place.queue.replay(ids[1], NOW).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Full, "{refusal:?}");
    assert_eq!(place.queue.cancel(ids[2], NOW).await.unwrap().unwrap().state, State::Cancelled);
    place.claim_one().await;
    assert_eq!(place.lose(ids[3]).await, 1);
    place.queue.set_gate(Gate::Paused).await.unwrap();
    place.queue.set_gate(Gate::Open).await.unwrap();
    assert_eq!(place.queue.clear(i64::MAX / 2, 0).await.unwrap().expired, 3);
    limit(0).await;
    place.submit(job("e")).await;
    // What was refused left nothing behind.
    assert_eq!((place.count("jobs").await, place.count("bodies").await), (5, 2));
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_told_again() {
    let Some(place) = Place::redis().await else { return };
    let id = place.submit(job("a")).await;
    redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut place.redis_itself().await).await.unwrap();
    assert_eq!(place.claim_one().await.hold.id, id);
}

#[tokio::test]
async fn what_a_newer_program_keeps_is_left_alone() {
    let Some(place) = Place::redis().await else { return };
    let set = async |key: &str, value: &str| {
        redis::cmd("SET")
            .arg(place.key(key))
            .arg(value)
            .query_async::<()>(&mut place.redis_itself().await)
            .await
            .unwrap();
    };
    set("format", "2").await;
    assert_eq!(queue_at(&place.url).unwrap().prepare().await.unwrap_err().kind(), ErrorKind::Unsupported);
}

/// A job that a newer program took in is not in the way of those behind it.
#[tokio::test]
async fn a_job_that_cannot_be_read_has_failed() {
    let Some(place) = Place::redis().await else { return };
    let ids = place.submit_all(&["a", "b"]).await;
    let job = place.key(&format!("job:{}", ids[0]));
    redis::cmd("HSET")
        .arg(job)
        .arg("form")
        .arg("sound")
        .query_async::<()>(&mut place.redis_itself().await)
        .await
        .unwrap();
    assert_eq!(bodies(&place.claim(2).await), ["b"]);
    let job = place.get(ids[0]).await;
    assert_eq!(job.state, State::Failed);
    assert!(job.reason.unwrap().contains("cannot read"));
}

#[tokio::test]
async fn a_redis_that_refuses_says_why_and_repeats_no_password() {
    let Some(server) = RedisServer::start_with_password("secret") else { return };
    let right = Place::in_redis(&server).await;
    right.submit(job("a")).await;
    for user in ["", ":wrong@"] {
        let queue = queue_at(&format!("redis://{user}127.0.0.1:{}", server.port())).unwrap();
        let refusal = queue.prepare().await.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::NotReady, "{refusal:?}");
        assert!(!format!("{refusal:?}").contains("wrong"), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_queue_is_reached_through_tls() {
    let Some(server) = RedisServer::start_with_tls() else { return };
    let (url, folder) = (server.tls_url().unwrap(), server.folder().display());
    let files = format!("sslrootcert={folder}/ca.pem&sslcert={folder}/client.pem&sslkey={folder}/client.key");
    let queue = queue_at(&format!("{url}?prefix=a%20name&{files}")).unwrap();
    queue.prepare().await.unwrap();
    let there = Place::in_redis(&server).await;
    assert!(there.claim(1).await.is_empty(), "another name is another queue");

    let stranger = queue_at(&format!("{url}?sslrootcert={folder}/stranger.pem")).unwrap();
    let refusal = stranger.prepare().await.unwrap_err();
    assert!(refusal.kind() == ErrorKind::NotReady && refusal.message().contains("UnknownIssuer"), "{refusal:?}");
}
