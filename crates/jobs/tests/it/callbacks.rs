//! Those who asked for it are told that a job has ended, however often that has to be tried.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use salver_core::{BoxFuture, Error, ErrorKind, Result};
use salver_jobs::{
    Bell, CallbackOptions, Callbacks, Clock, Job, JobId, Jobs, JobsOptions, Messenger, Millis, NewJob, Observe,
    Options, Outcome, Queue, Sent, State, Stats,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::place::{NOW, Place, done, job, with_options};

contract!(
    a_message_is_sent_once_it_has_ended,
    what_does_not_arrive_is_tried_for_a_day,
    who_wants_no_messages_gets_no_more,
    a_slow_receiver_holds_nobody_up,
    two_servers_send_a_message_once,
    a_message_that_was_under_way_at_the_end_is_sent_again,
    addresses_are_checked_where_a_job_comes_in,
);

const LONG: Duration = Duration::from_secs(60);

/// A time of day that stands still until it is told to go on.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW)))
    }

    fn clock(&self) -> Clock {
        let hands = self.0.clone();
        Arc::new(move || hands.load(Ordering::SeqCst))
    }

    fn forward(&self, millis: Millis) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

/// Answers as told, by URL; what is `slow` waits until it may go on.
#[derive(Debug)]
struct Fake {
    answers: HashMap<&'static str, Sent>,
    sent: mpsc::Sender<(String, JobId, State)>,
    slow: Arc<Notify>,
    n_slow: Mutex<usize>,
}

impl Fake {
    fn new(
        answers: impl IntoIterator<Item = (&'static str, Sent)>,
    ) -> (Arc<Self>, mpsc::Receiver<(String, JobId, State)>) {
        let (sent, rx) = mpsc::channel(1000);
        (
            Arc::new(Self {
                answers: answers.into_iter().collect(),
                sent,
                slow: Arc::default(),
                n_slow: Mutex::default(),
            }),
            rx,
        )
    }
}

impl Messenger for Fake {
    fn check(&self, url: &str) -> Result<String> {
        match url {
            "bad" => Err(Error::invalid_input("it is bad")),
            url => Ok(url.to_uppercase()),
        }
    }

    fn send<'a>(&'a self, url: &'a str, job: &'a Job) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            if url == "slow" {
                let is_enough = {
                    let mut n_slow = self.n_slow.lock();
                    *n_slow += 1;
                    *n_slow > 2
                };
                if is_enough {
                    return Sent::Busy;
                }
            }
            self.sent.send((url.to_owned(), job.id, job.state)).await.unwrap();
            if url == "slow" {
                self.slow.notified().await;
            }
            self.answers.get(url).cloned().unwrap_or(Sent::Arrived("200".into()))
        })
    }
}

/// Counts what was told.
#[derive(Default)]
struct Told(Mutex<Vec<&'static str>>);

impl Observe for Told {
    fn ended(&self, _: &'static str, _: Duration) {}
    fn lost(&self, _: u64) {}
    fn reached(&self, _: bool) {}
    fn stats(&self, _: &Stats, _: Millis) {}
    fn told(&self, outcome: &'static str) {
        self.0.lock().push(outcome);
    }
}

struct Sending {
    stop: CancellationToken,
    task: JoinHandle<()>,
    told: Arc<Told>,
}

impl Sending {
    fn begin(queue: Arc<dyn Queue>, fake: &Arc<Fake>, hands: &Hands) -> Self {
        let (stop, told) = (CancellationToken::new(), Arc::<Told>::default());
        let options = CallbackOptions {
            at_a_time: 4,
            poll: Duration::from_millis(1),
            grace: Duration::ZERO,
            ..CallbackOptions::default()
        };
        let callbacks = Callbacks::new(queue, fake.clone(), Bell::default(), hands.clock(), told.clone(), options);
        Self { task: tokio::spawn(callbacks.run(stop.clone())), stop, told }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn telling(body: &str, url: &str) -> NewJob {
    with_options(body, Options { callback_url: Some(url.into()), ..Options::default() })
}

async fn next(rx: &mut mpsc::Receiver<(String, JobId, State)>) -> (String, JobId, State) {
    tokio::time::timeout(LONG, rx.recv()).await.expect("a message").unwrap()
}

/// Waits until the last line of a job's history is this one.
async fn until(place: &Place, id: JobId, line: &str) {
    let look = async {
        while place.history(id).await.last().is_none_or(|last| last != line) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(LONG, look).await.is_ok(), "{:?} lacks {line}", place.history(id).await);
}

/// Waits for the `nth` line on what was told, which is this one.
async fn until_told(place: &Place, id: JobId, nth: usize, line: &str) {
    let look = async {
        loop {
            let told = place.history(id).await.into_iter().filter(|line| line.starts_with("callback: "));
            if let Some(last) = told.skip(nth - 1).last() {
                return last;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(tokio::time::timeout(LONG, look).await.as_deref(), Ok(line));
}

async fn a_message_is_sent_once_it_has_ended(place: Place) {
    let ((fake, mut rx), hands) = (Fake::new([]), Hands::new());
    let sending = Sending::begin(place.queue.clone(), &fake, &hands);
    place.submit(job("nobody asks for this one")).await;
    let ids = [place.submit(telling("a", "a")).await, place.submit(telling("b", "b")).await];
    let cancelled = place.submit(telling("c", "c")).await;
    let leases = place.claim(3).await;
    place.queue.cancel(cancelled, NOW).await.unwrap();
    assert_eq!(next(&mut rx).await, ("c".into(), cancelled, State::Cancelled));
    assert!(place.finish(leases[1].hold, done("x")).await);
    assert_eq!(next(&mut rx).await, ("a".into(), ids[0], State::Done));
    assert!(place.finish(leases[2].hold, Outcome::Failed("no".into())).await);
    assert_eq!(next(&mut rx).await, ("b".into(), ids[1], State::Failed));
    for id in [cancelled, ids[0], ids[1]] {
        until(&place, id, "callback: 200").await;
    }
    assert_eq!(*sending.told.0.lock(), ["sent"; 3]);
    assert!(rx.is_empty());
    sending.end().await;
}

async fn what_does_not_arrive_is_tried_for_a_day(place: Place) {
    let ((fake, mut rx), hands) = (Fake::new([("a", Sent::Failed("503".into()))]), Hands::new());
    let sending = Sending::begin(place.queue.clone(), &fake, &hands);
    let id = place.submit(telling("a", "a")).await;
    place.queue.cancel(id, NOW).await.unwrap();
    for (idx, (text, seconds)) in [
        ("5s", 5),
        ("30s", 30),
        ("120s", 120),
        ("600s", 600),
        ("1800s", 1800),
        ("3600s", 3600),
        ("7200s", 7200),
        ("14400s", 14400),
        ("28800s", 28800),
        ("28800s", 28800),
    ]
    .into_iter()
    .enumerate()
    {
        next(&mut rx).await;
        // Two waits are the same: the line of the one before is not to pass for this one's.
        let line = format!("callback: 503; again in {text}");
        until_told(&place, id, idx + 1, &line).await;
        // Not a moment earlier: nobody is to be asked until the hands are there.
        hands.forward(1000 * seconds - 1);
        assert!(place.queue.callbacks(9, NOW, NOW).await.unwrap().is_empty());
        hands.forward(1);
    }
    next(&mut rx).await;
    until(&place, id, "callback: 503; given up after 11 attempts").await;
    hands.forward(1_000_000_000);
    assert!(place.queue.callbacks(9, NOW + 1_000_000_000, NOW).await.unwrap().is_empty());
    assert_eq!((*sending.told.0.lock()).last(), Some(&"given_up"));
    assert_eq!(sending.told.0.lock().len(), 11);
    sending.end().await;
}

async fn who_wants_no_messages_gets_no_more(place: Place) {
    let ((fake, mut rx), hands) = (Fake::new([("a", Sent::Unwanted("410".into()))]), Hands::new());
    let sending = Sending::begin(place.queue.clone(), &fake, &hands);
    let id = place.submit(telling("a", "a")).await;
    place.queue.cancel(id, NOW).await.unwrap();
    next(&mut rx).await;
    until(&place, id, "callback: 410; it is not sent again").await;
    assert!(place.queue.callbacks(9, NOW + 1_000_000_000, NOW).await.unwrap().is_empty());
    assert_eq!(*sending.told.0.lock(), ["given_up"]);
    sending.end().await;
}

async fn a_slow_receiver_holds_nobody_up(place: Place) {
    let ((fake, mut rx), hands) = (Fake::new([]), Hands::new());
    // More than are sent at a time, and all of them before the others.
    let mut slow = Vec::new();
    for idx in 0..12 {
        slow.push(place.submit(telling(&idx.to_string(), "slow")).await);
        place.queue.cancel(slow[idx], NOW).await.unwrap();
    }
    let quick = place.submit(telling("q", "quick")).await;
    place.queue.cancel(quick, NOW).await.unwrap();
    let sending = Sending::begin(place.queue.clone(), &fake, &hands);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(next(&mut rx).await.0);
    }
    seen.sort();
    assert_eq!(seen, ["quick", "slow", "slow"]);
    until(&place, quick, "callback: 200").await;
    // Those that were not tried have lost no attempt.
    fake.slow.notify_waiters();
    *fake.n_slow.lock() = 0;
    fake.slow.notify_one();
    fake.slow.notify_one();
    hands.forward(10_000);
    next(&mut rx).await;
    let history = place.history(slow[11]).await;
    assert_eq!(history, ["submitted", "cancelled"]);
    sending.end().await;
}

async fn two_servers_send_a_message_once(place: Place) {
    let ((fake, mut rx), hands) = (Fake::new([]), Hands::new());
    let others = [place.queue.clone(), place.other().await].map(|queue| Sending::begin(queue, &fake, &hands));
    let mut ids = Vec::new();
    for idx in 0..40 {
        let id = place.submit(telling(&idx.to_string(), "a")).await;
        place.queue.cancel(id, NOW).await.unwrap();
        ids.push(id);
    }
    for id in &ids {
        until(&place, *id, "callback: 200").await;
    }
    let mut told = Vec::new();
    while let Ok((_, id, _)) = rx.try_recv() {
        told.push(id);
    }
    told.sort();
    assert_eq!(told, ids);
    for sending in others {
        sending.end().await;
    }
}

async fn a_message_that_was_under_way_at_the_end_is_sent_again(place: Place) {
    let ((fake, mut rx), hands) = (Fake::new([]), Hands::new());
    let sending = Sending::begin(place.queue.clone(), &fake, &hands);
    let id = place.submit(telling("a", "slow")).await;
    place.queue.cancel(id, NOW).await.unwrap();
    next(&mut rx).await;
    sending.end().await;
    let sending = Sending::begin(place.other().await, &fake, &hands);
    hands.forward(30_000);
    next(&mut rx).await;
    fake.slow.notify_one();
    until(&place, id, "callback: 200").await;
    sending.end().await;
}

async fn addresses_are_checked_where_a_job_comes_in(place: Place) {
    let (fake, _rx) = Fake::new([]);
    let jobs = |messenger: Option<Arc<dyn Messenger>>| {
        let options = JobsOptions { messenger, ..JobsOptions::default() };
        Jobs::new(place.queue.clone(), Bell::default(), Hands::new().clock(), options)
    };
    let refusal = jobs(None).submit(telling("a", "good")).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::InvalidInput);
    assert!(refusal.message().contains("--callback-secret"), "{refusal}");
    let jobs = jobs(Some(fake));
    assert_eq!(jobs.submit(telling("a", "bad")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let id = crate::place::new(jobs.submit(telling("a", "good")).await.unwrap());
    place.queue.cancel(id, NOW).await.unwrap();
    let due = place.queue.callbacks(9, NOW, NOW).await.unwrap();
    assert_eq!(due[0].url, "GOOD", "the one spelling is kept");
}
