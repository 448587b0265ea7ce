//! How fast it is. Run it by hand: `cargo test --release -p salver-jobs --test it -- --nocapture figures`
//! with SALVER_JOB_FIGURES=1; it takes minutes.

#![expect(clippy::print_stdout, reason = "figures are to be read")]

use std::time::Instant;

use futures::future::join_all;
use salver_jobs::{Filter, State};
use salver_store::database::sql;
use salver_testkit::RedisServer;

use crate::place::{LEASE, NOW, Place, done, job};

/// Callers at a time.
const N_CALLERS: usize = 64;
/// Calls of each caller.
const N_CALLS: usize = 300;

/// Runs what a caller does, for each; returns how many calls per second that makes.
async fn rate<F: Future<Output = ()> + Send + 'static>(caller: impl Fn() -> F) -> f64 {
    let begin = Instant::now();
    let callers: Vec<_> = (0..N_CALLERS).map(|_| tokio::spawn(caller())).collect();
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
    (N_CALLERS * N_CALLS) as f64 / begin.elapsed().as_secs_f64()
}

async fn measure(place: &Place, what: &str) {
    let body = "x".repeat(200);
    let submits = rate(|| {
        let (queue, body) = (place.queue.clone(), body.clone());
        async move {
            for _ in 0..N_CALLS {
                queue.submit(job(&body), NOW).await.unwrap();
            }
        }
    });
    println!("{what}: {:.0} submits/s", submits.await);
    let runs = rate(|| {
        let queue = place.queue.clone();
        async move {
            for _ in 0..N_CALLS {
                let lease = loop {
                    if let Some(lease) = queue.claim(1, false, LEASE, NOW).await.unwrap().pop() {
                        break lease;
                    }
                };
                assert!(queue.finish(lease.hold, done("y"), NOW).await.unwrap());
            }
        }
    });
    println!("{what}: {:.0} claims with their finishes/s", runs.await);
    let begin = Instant::now();
    let stats = place.queue.stats().await.unwrap();
    println!("{what}: stats in {:?}: {stats:?}", begin.elapsed());
    for filter in [vec![], vec![State::Queued], vec![State::Done, State::Queued], vec![State::Dead]] {
        let filter = Filter { states: filter, model: Some("iris@champion".into()), ..Filter::default() };
        let begin = Instant::now();
        let page = place.queue.list(filter.clone(), None, 50).await.unwrap();
        println!("{what}: {} of {:?} in {:?}", page.jobs.len(), filter.states, begin.elapsed());
    }
    let begin = Instant::now();
    let cleared = place.queue.clear(NOW, 0).await.unwrap();
    println!("{what}: {cleared:?} in {:?}", begin.elapsed());
}

/// Adds jobs past the queue.
async fn add(place: &Place, n_jobs: i64, state: i64, not_before: i64) {
    let database = place.database().await;
    let mut session = database.write().await.unwrap();
    let statement = sql("INSERT INTO jobs (id, model, form, state, priority, total, owner, time_limit, ttl, retries, \
                         size, has_callback, created, not_before) \
                         WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < ?) \
                         SELECT ")
    .bind(n_jobs)
    .bind(state.to_string())
    .then(
        "CAST(? AS TEXT) || substr('0000000000000000000000000000000', 1, 31 - length(CAST(i AS TEXT))) \
               || CAST(i AS TEXT), 'm', 'plain', CAST(? AS BIGINT), 5, 1, 'ann', 600000, 600000, 3, 2, 0, ",
    )
    .bind(state)
    .then("CAST(? AS BIGINT), CAST(? AS BIGINT) + i FROM n")
    .bind(NOW)
    .bind(not_before);
    session.execute(statement).await.unwrap();
    let bodies = sql("INSERT INTO job_bodies (job, bytes) SELECT seq, CAST('{}' AS {bytes}) FROM jobs \
                      WHERE model = 'm' AND state = ?");
    session.execute(bodies.bind(state)).await.unwrap();
    session.commit().await.unwrap();
}

async fn figures(place: Place) {
    measure(&place, "empty").await;
    let n_jobs = n_many() as i64;
    add(&place, n_jobs, 1, NOW).await;
    measure(&place, "with as many queued").await;
    add(&place, n_jobs, 0, NOW + 1_000_000).await;
    measure(&place, "with as many scheduled, too").await;
}

/// Adds jobs through the queue: their keys are nobody else's business.
async fn submit_many(place: &Place, n_jobs: usize, not_before: Option<i64>) {
    let callers = (0..N_CALLERS).map(|caller| {
        let queue = place.queue.clone();
        tokio::spawn(async move {
            for _ in (caller..n_jobs).step_by(N_CALLERS) {
                let mut job = job("{}");
                job.options.not_before = not_before;
                queue.submit(job, NOW).await.unwrap();
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
}

async fn redis_memory(place: &Place) -> usize {
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut place.redis_itself().await).await.unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    used.trim().parse().unwrap()
}

/// Returns how long Redis was busy with each script since the last time.
async fn redis_per_script(place: &Place) -> String {
    let mut redis = place.redis_itself().await;
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.unwrap();
    redis::cmd("CONFIG").arg("RESETSTAT").query_async::<()>(&mut redis).await.unwrap();
    let scripts = info.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
    scripts.unwrap_or_default().to_owned()
}

fn n_many() -> usize {
    std::env::var("SALVER_FIGURES_JOBS").map_or(1_000_000, |text| text.parse().unwrap())
}

fn are_wanted() -> bool {
    std::env::var_os("SALVER_JOB_FIGURES").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_sqlite() {
    if !are_wanted() {
        return;
    }
    figures(Place::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_postgres() {
    if !are_wanted() {
        return;
    }
    let Some(place) = Place::postgres().await else { return };
    figures(place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_redis() {
    if !are_wanted() {
        return;
    }
    let Some(server) = RedisServer::start_durable() else { return };
    let place = Place::in_redis(&server).await;
    measure(&place, "empty").await;
    println!("{}", redis_per_script(&place).await);
    for (not_before, what) in [(None, "with as many queued"), (Some(NOW + 1_000_000), "with as many scheduled, too")] {
        let before = redis_memory(&place).await;
        submit_many(&place, n_many(), not_before).await;
        println!("Redis takes {} bytes for each of {}", (redis_memory(&place).await - before) / n_many(), n_many());
        println!("{}", redis_per_script(&place).await);
        measure(&place, what).await;
        println!("{}", redis_per_script(&place).await);
    }
}
