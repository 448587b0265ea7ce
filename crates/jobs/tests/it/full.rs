//! A disk without room.

use salver_core::ErrorKind;
use salver_jobs::{Filter, Outcome, Queue, SqlQueue, State};
use salver_store::Database;
use salver_store::database::sql;
use tempfile::TempDir;

use crate::place::{LEASE, NOW, answer, done, job, new};

/// Says how many pages SQLite may use, on each connection that there can be.
async fn limit(database: &Database, n_pages: &'static str) {
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(database.read().await.unwrap());
    }
    for session in &mut sessions {
        session.execute(sql("PRAGMA max_page_count = ").then(n_pages)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_loses_nothing_that_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let database = Database::sqlite(&folder.path().join("jobs.db")).await.unwrap();
    let queue = SqlQueue::open(database.clone()).await.unwrap();
    let first = new(queue.submit(job("first"), NOW).await.unwrap());
    let hold = queue.claim(1, true, LEASE, NOW).await.unwrap()[0].hold;
    let body = "x".repeat(20_000);
    let mut taken = vec![first];
    for _ in 0..5 {
        limit(&database, "150").await;
        let submits = (0..10).map(|_| queue.submit(job(&body), NOW));
        for submitted in futures::future::join_all(submits).await {
            match submitted {
                Ok(submitted) => taken.push(new(submitted)),
                Err(refusal) => assert_eq!(refusal.kind(), ErrorKind::Full, "{refusal:?}"),
            }
        }
    }
    assert!(taken.len() < 51, "there was room for all");
    let listed = queue.list(Filter::default(), None, 1000).await.unwrap().jobs;
    let mut listed: Vec<_> = listed.into_iter().map(|job| job.id).collect();
    taken.sort();
    listed.sort();
    assert_eq!(listed, taken);
    limit(&database, "1000000").await;
    assert!(queue.finish(hold, done("x"), NOW).await.unwrap());
    new(queue.submit(job(&body), NOW).await.unwrap());
    drop(queue);
    let queue = SqlQueue::open(Database::sqlite(&folder.path().join("jobs.db")).await.unwrap()).await.unwrap();
    assert_eq!(queue.answer(first).await.unwrap(), Some(answer("x")));
    let waiting = queue.claim(1000, true, LEASE, NOW).await.unwrap();
    assert_eq!(waiting.len(), taken.len());
    assert!(waiting.iter().all(|lease| lease.content.body == body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_disk_fills_up_and_loses_nothing_that_was_acknowledged() {
    // A folder on a disk of a few megabytes, which takes root to make: without it, see the test above.
    let Some(disk) = std::env::var_os("SALVER_SMALL_DISK") else { return };
    let folder = TempDir::new_in(disk).unwrap();
    let database = Database::sqlite(&folder.path().join("jobs.db")).await.unwrap();
    let queue = SqlQueue::open(database).await.unwrap();
    let mut taken = Vec::new();
    let mut n_refused = 0;
    while n_refused < 30 {
        let submits = (0..5).map(|_| queue.submit(job(&"x".repeat(30_000)), NOW));
        for submitted in futures::future::join_all(submits).await {
            match submitted {
                Ok(submitted) => taken.push(new(submitted)),
                Err(refusal) => {
                    assert_eq!(refusal.kind(), ErrorKind::Full, "{refusal:?}");
                    n_refused += 1;
                }
            }
        }
    }
    println!("{} jobs fit", taken.len());
    for id in &taken {
        assert_eq!(queue.get(*id).await.unwrap().unwrap().state, State::Queued);
    }
    drop(queue);
    let queue = SqlQueue::open(Database::sqlite(&folder.path().join("jobs.db")).await.unwrap()).await.unwrap();
    assert_eq!(queue.list(Filter::default(), None, 1000).await.unwrap().jobs.len(), taken.len());
    let mut n_failed = 0;
    // Whether there is room to hand anything out is another matter; nothing may break.
    for _ in 0..taken.len() {
        match queue.claim(1, true, LEASE, NOW).await {
            Ok(leases) => {
                let hold = leases[0].hold;
                n_failed += u64::from(queue.finish(hold, Outcome::Failed("no".into()), NOW).await.is_ok());
            }
            Err(refusal) => assert_eq!(refusal.kind(), ErrorKind::Full, "{refusal:?}"),
        }
    }
    println!("{n_failed} of them could be run");
}
