//! A crew over a queue that a test holds in its hands: it says what is handed out, and when a call returns.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use salver_core::{BoxFuture, Result};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::types::{Answer, Callback, Content, Filter, Form, Gate, Held, Job, JobId, NewJob, Page, Stats, Submitted};

/// What a crew was seen to do.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Began(JobId),
    /// A run ended so, and the queue heard it.
    Ended(JobId, &'static str),
}

/// A queue of one crew.
struct Fake {
    waiting: Mutex<VecDeque<Lease>>,
    seen: mpsc::Sender<Seen>,
    /// Each end takes one before it is written down.
    writes: Semaphore,
    /// Each claim takes one.
    claims: Semaphore,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

fn none<T>() -> BoxFuture<'static, Result<T>> {
    Box::pin(async { Err(Error::unsupported("no crew asks that")) })
}

impl Queue for Fake {
    fn prepare(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn submit(&self, _job: NewJob, _now: Millis) -> BoxFuture<'_, Result<Submitted>> {
        none()
    }

    fn unfinished(&self, _owner: &str, _most: u64) -> BoxFuture<'_, Result<u64>> {
        none()
    }

    fn claim(&self, most: usize, is_idle: bool, _lease: Duration, _now: Millis) -> BoxFuture<'_, Result<Vec<Lease>>> {
        Box::pin(async move {
            self.claims.acquire().await.unwrap().forget();
            let mut waiting = self.waiting.lock();
            let n_jobs = match waiting.front() {
                Some(first) if first.is_alone => usize::from(is_idle),
                _ => waiting.iter().take(most).take_while(|lease| !lease.is_alone).count(),
            };
            Ok(waiting.drain(..n_jobs).collect())
        })
    }

    fn renew(&self, beats: Vec<Beat>) -> BoxFuture<'_, Result<Vec<bool>>> {
        Box::pin(async move { Ok(vec![true; beats.len()]) })
    }

    fn finish(&self, hold: Hold, outcome: Outcome, _now: Millis) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            self.writes.acquire().await.unwrap().forget();
            self.seen.try_send(Seen::Ended(hold.id, name_of(&outcome))).unwrap();
            Ok(true)
        })
    }

    fn held(&self) -> BoxFuture<'_, Result<Vec<Held>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn lose(&self, _held: Vec<Held>, _now: Millis) -> BoxFuture<'_, Result<u64>> {
        none()
    }

    fn get(&self, _id: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        none()
    }

    fn answer(&self, _id: JobId) -> BoxFuture<'_, Result<Option<Answer>>> {
        none()
    }

    fn list(&self, _filter: Filter, _after: Option<String>, _limit: usize) -> BoxFuture<'_, Result<Page>> {
        none()
    }

    fn cancel(&self, _id: JobId, _now: Millis) -> BoxFuture<'_, Result<Option<Job>>> {
        none()
    }

    fn replay(&self, _id: JobId, _now: Millis) -> BoxFuture<'_, Result<Option<JobId>>> {
        none()
    }

    fn set_gate(&self, _gate: Gate) -> BoxFuture<'_, Result<()>> {
        none()
    }

    fn purge(&self, _filter: Filter) -> BoxFuture<'_, Result<u64>> {
        none()
    }

    fn clear(&self, _now: Millis, _forget_before: Millis) -> BoxFuture<'_, Result<Cleared>> {
        Box::pin(async { Ok(Cleared::default()) })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        none()
    }

    fn callbacks(&self, _most: usize, _now: Millis, _again: Millis) -> BoxFuture<'_, Result<Vec<Callback>>> {
        none()
    }

    fn put_off(&self, _id: JobId, _until: Millis) -> BoxFuture<'_, Result<()>> {
        none()
    }

    fn called_back(
        &self,
        _id: JobId,
        _again: Option<Millis>,
        _note: String,
        _now: Millis,
    ) -> BoxFuture<'_, Result<()>> {
        none()
    }
}

/// Work that goes on until the test says how it ends.
struct Works {
    seen: mpsc::Sender<Seen>,
    ends: Mutex<HashMap<JobId, tokio::sync::oneshot::Sender<Result<Answer>>>>,
}

impl Work for Works {
    fn run<'a>(&'a self, lease: &'a Lease, _done: &'a Done) -> BoxFuture<'a, Result<Answer>> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.ends.lock().insert(lease.hold.id, tx);
        self.seen.try_send(Seen::Began(lease.hold.id)).unwrap();
        Box::pin(async move { rx.await.unwrap() })
    }
}

struct Deaf;

impl Observe for Deaf {
    fn ended(&self, _outcome: &'static str, _took: Duration) {}
    fn lost(&self, _jobs: u64) {}
    fn reached(&self, _answers: bool) {}
    fn stats(&self, _stats: &Stats, _now: Millis) {}
    fn told(&self, _outcome: &'static str) {}
}

/// A crew at work, and all that it is given and does.
struct Place {
    queue: Arc<Fake>,
    work: Arc<Works>,
    bell: Bell,
    seen: mpsc::Receiver<Seen>,
    stop: CancellationToken,
    crew: tokio::task::JoinHandle<()>,
}

const ENOUGH: usize = 1000;

impl Place {
    /// A crew of up to so many jobs; so many ends can be written down for now.
    fn new(jobs: usize, n_writes: usize) -> Self {
        let (tx, seen) = mpsc::channel(ENOUGH);
        let (writes, claims) = (Semaphore::new(n_writes), Semaphore::new(ENOUGH));
        let queue = Arc::new(Fake { waiting: Mutex::default(), seen: tx.clone(), writes, claims });
        let work = Arc::new(Works { seen: tx, ends: Mutex::default() });
        let (bell, stop) = (Bell::default(), CancellationToken::new());
        let options = CrewOptions { jobs, grace: Duration::from_secs(20), ..CrewOptions::default() };
        let crew = Crew::new(queue.clone(), work.clone(), bell.clone(), Arc::new(|| 0), Arc::new(Deaf), options);
        let crew = tokio::spawn(crew.run(stop.clone()));
        Self { queue, work, bell, seen, stop, crew }
    }

    fn submit(&self, n_jobs: usize) -> Vec<JobId> {
        let ids: Vec<JobId> = (0..n_jobs).map(|_| JobId::random()).collect();
        self.queue.waiting.lock().extend(ids.iter().map(|id| lease(*id, false)));
        self.bell.work();
        ids
    }

    fn submit_alone(&self) -> JobId {
        let id = JobId::random();
        self.queue.waiting.lock().push_back(lease(id, true));
        self.bell.work();
        id
    }

    fn end(&self, id: JobId, with: Result<Answer>) {
        self.work.ends.lock().remove(&id).unwrap().send(with).unwrap();
    }

    /// The next thing that the crew does.
    async fn next(&mut self) -> Seen {
        self.seen.recv().await.unwrap()
    }

    async fn began(&mut self, ids: &[JobId]) {
        for id in ids {
            assert_eq!(self.next().await, Seen::Began(*id));
        }
    }

    /// All that the crew does of itself, until it only waits.
    async fn quiet(&mut self) -> Vec<Seen> {
        // Time is made up and goes on only while nobody has anything to do.
        tokio::time::sleep(Duration::from_millis(900)).await;
        let mut seen = Vec::new();
        while let Ok(one) = self.seen.try_recv() {
            seen.push(one);
        }
        seen
    }
}

fn lease(id: JobId, is_alone: bool) -> Lease {
    Lease {
        hold: Hold { id, token: 1 },
        model: "m".parse().unwrap(),
        content: Content { form: Form::Plain, content_type: None, header_len: None, body: Bytes::new() },
        total: 1,
        time_limit: Duration::from_secs(600),
        attempt: 1,
        is_alone,
    }
}

fn answer() -> Result<Answer> {
    Ok(Answer { content_type: "application/json".into(), header_len: None, body: Bytes::new() })
}

#[tokio::test(start_paused = true)]
async fn new_jobs_are_taken_while_ends_are_being_written_down_but_no_more_than_as_many_again() {
    let mut place = Place::new(2, 0);
    let ids = place.submit(6);
    place.began(&ids[..2]).await;
    assert_eq!(place.quiet().await, [], "no more than it may have");
    // Two runs end, which the queue does not write down so far; two others begin meanwhile.
    ids[..2].iter().for_each(|id| place.end(*id, answer()));
    place.began(&ids[2..4]).await;
    ids[2..4].iter().for_each(|id| place.end(*id, answer()));
    assert_eq!(place.quiet().await, [], "as many again, and no more");
    // One that is written down makes room for one.
    place.queue.writes.add_permits(1);
    assert_eq!(place.next().await, Seen::Ended(ids[0], "done"));
    place.began(&ids[4..5]).await;
    assert_eq!(place.quiet().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_alone_has_no_company_before_its_end_is_written_down() {
    let mut place = Place::new(4, 0);
    let before = place.submit(1)[0];
    place.began(&[before]).await;
    let alone = place.submit_alone();
    let behind = place.submit(2);
    assert_eq!(place.quiet().await, [], "it waits until the crew is idle");
    place.end(before, answer());
    assert_eq!(place.quiet().await, [], "an end that is being written down is company, too");
    place.queue.writes.add_permits(1);
    assert_eq!(place.next().await, Seen::Ended(before, "done"));
    place.began(&[alone]).await;
    assert_eq!(place.quiet().await, [], "nobody beside it");
    place.end(alone, answer());
    assert_eq!(place.quiet().await, [], "it may yet be lost");
    place.queue.writes.add_permits(1);
    assert_eq!(place.next().await, Seen::Ended(alone, "done"));
    place.began(&behind).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_back_at_once_what_did_not_end_in_time() {
    let mut place = Place::new(4, 0);
    let ids = place.submit(4);
    place.began(&ids).await;
    place.stop.cancel();
    place.submit(1);
    // Within the grace it ends as ever.
    place.queue.writes.add_permits(1);
    place.end(ids[0], answer());
    assert_eq!(place.next().await, Seen::Ended(ids[0], "done"));
    place.queue.writes.add_permits(3);
    let mut back = [place.next().await, place.next().await, place.next().await];
    back.sort_by_key(|seen| format!("{seen:?}"));
    assert_eq!(back, [1, 2, 3].map(|idx| Seen::Ended(ids[idx], "given_back")));
    (&mut place.crew).await.unwrap();
    assert_eq!(place.quiet().await, [], "nothing new");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_once_and_not_for_ever_for_a_queue_that_does_not_answer() {
    let mut place = Place::new(8, 0);
    let ids = place.submit(8);
    place.began(&ids).await;
    let stopped = tokio::time::Instant::now();
    place.stop.cancel();
    (&mut place.crew).await.unwrap();
    assert_eq!(stopped.elapsed(), Duration::from_secs(20) + GIVING_BACK);
    assert_eq!(place.quiet().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever_for_a_claim() {
    let mut place = Place::new(8, 0);
    place.queue.claims.forget_permits(ENOUGH);
    // The crew has asked, and nobody answers.
    assert_eq!(place.quiet().await, []);
    let stopped = tokio::time::Instant::now();
    place.stop.cancel();
    (&mut place.crew).await.unwrap();
    assert_eq!(stopped.elapsed(), LAST_CLAIM);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_after_all_is_not_lost_at_a_stop() {
    let mut place = Place::new(1, 0);
    place.queue.claims.forget_permits(ENOUGH);
    let ids = place.submit(1);
    assert_eq!(place.quiet().await, []);
    place.stop.cancel();
    tokio::task::yield_now().await;
    place.queue.claims.add_permits(1);
    place.queue.writes.add_permits(1);
    place.began(&ids).await;
    place.end(ids[0], answer());
    assert_eq!(place.next().await, Seen::Ended(ids[0], "done"));
    place.crew.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_was_in_a_batch_that_was_lost_is_lost_with_it() {
    let mut place = Place::new(2, 2);
    let ids = place.submit(2);
    place.began(&ids).await;
    let error = || Error::not_ready("its worker ended");
    place.end(ids[0], Err(error().of_lost_batch().context("request 7")));
    assert_eq!(place.next().await, Seen::Ended(ids[0], "lost"));
    place.end(ids[1], Err(error()));
    assert_eq!(place.next().await, Seen::Ended(ids[1], "troubled"), "it was by itself");
}
