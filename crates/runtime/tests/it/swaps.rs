//! P1: versions that replace each other under load lose and mix nothing. Times are printed, not
//! asserted; `SALVER_SWAPS` and `SALVER_SWAP_ANSWERS` make it last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::{Context, DynamicBatching, Infer as _, ModelSpec};
use salver_runtime::RuntimeOptions;
use salver_testkit::FakeEngine;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{Fixture, answer_of, count_from_env, request, version_on};

/// How long a run of the model takes; each has one row.
const RUN: Duration = Duration::from_micros(500);
/// Answers without a swap, for comparison.
const STEADY: u64 = 2_000;
/// How many answers measure what the model can do, to as many callers at a time.
const MOST: (u64, u64) = (500, 4);

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
    is_swapping: AtomicBool,
    /// Told of each that ended.
    one_more: Notify,
    /// How long answers took: while nothing changed, and while versions did.
    took: [Mutex<Vec<Duration>>; 2],
}

impl Tally {
    fn ended(&self) -> u64 {
        [&self.answered, &self.failed, &self.wrong].map(|counter| counter.load(Ordering::Relaxed)).iter().sum()
    }

    /// Waits until so many have ended.
    async fn have_ended(&self, count: u64) {
        while self.ended() < count {
            self.one_more.notified().await;
        }
    }

    fn p99(&self, swapping: bool) -> Duration {
        let mut took = self.took[usize::from(swapping)].lock();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

/// Asks, and checks that the answer is that of the one version that it names.
async fn ask(fixture: Arc<Fixture>, tally: Arc<Tally>, value: f32) {
    let (began, swapping) = (Instant::now(), tally.is_swapping.load(Ordering::Relaxed));
    let result = fixture.runtime.infer(request("m", value), Context::default()).await;
    tally.took[usize::from(swapping)].lock().push(began.elapsed());
    match result {
        Err(_) => tally.failed.fetch_add(1, Ordering::Relaxed),
        Ok(response) => {
            let addend = if response.model.version % 2 == 1 { 1. } else { 2. };
            let right = answer_of(&response).is_ok_and(|answer| answer == value + addend);
            let count = if right { &tally.answered } else { &tally.wrong };
            count.fetch_add(1, Ordering::Relaxed)
        }
    };
    tally.one_more.notify_one();
}

/// A version that runs one row at a time, so that it can do so much and no more.
fn one_by_one(engine: &str, number: u64) -> ModelSpec {
    let mut spec = version_on(engine, "m", number);
    spec.config.dynamic_batching = Some(DynamicBatching { max_rows: Some(1), ..DynamicBatching::default() });
    spec
}

/// How long the model takes for a request where there is always another.
async fn time_of_one(fixture: &Arc<Fixture>) -> Duration {
    let (answers, callers) = MOST;
    let began = Instant::now();
    let asking = (0..callers).map(|_| {
        let fixture = fixture.clone();
        tokio::spawn(async move {
            for _ in 0..answers / callers {
                fixture.answer("m", 1.).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(asking).await.unwrap();
    began.elapsed() / u32::try_from(answers).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapping_versions_loses_and_mixes_nothing() {
    let swaps = count_from_env("SALVER_SWAPS", 200) as u64;
    let each = count_from_env("SALVER_SWAP_ANSWERS", 5) as u64;
    let engine = |name, addend| FakeEngine::new().named(name).adding(addend).taking(RUN);
    let (odd, even) = (engine("odd", 1.), engine("even", 2.));
    let engine_of = |number: u64| if number % 2 == 1 { "odd" } else { "even" };
    let specs = vec![one_by_one("odd", 1)];
    let fixture = Arc::new(Fixture::start(&[&odd, &even], specs, RuntimeOptions::default()).await);
    // Half of what it can do, whatever becomes of the earlier requests.
    let interval = 2 * time_of_one(&fixture).await;
    let (tally, stop, asked) = (Arc::new(Tally::default()), CancellationToken::new(), TaskTracker::new());
    let load = {
        let (fixture, tally, stop, asked) = (fixture.clone(), tally.clone(), stop.clone(), asked.clone());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            let mut value = 0u16;
            while !stop.is_cancelled() {
                ticks.tick().await;
                value = value.wrapping_add(1);
                asked.spawn(ask(fixture.clone(), tally.clone(), f32::from(value)));
            }
        })
    };
    tally.have_ended(STEADY).await;
    tally.is_swapping.store(true, Ordering::Relaxed);
    let started = Instant::now();
    for number in 2..swaps + 2 {
        fixture.source.set("m", vec![one_by_one(engine_of(number), number)]);
        fixture.runtime.sync().await.unwrap();
        assert_eq!(fixture.runtime.describe(&"m".parse().unwrap()).unwrap().version, number);
        // Each version has to answer some.
        tally.have_ended(STEADY + each * (number - 1)).await;
    }
    let took = started.elapsed();
    stop.cancel();
    load.await.unwrap();
    asked.close();
    asked.wait().await;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (swapping, steady) = (tally.p99(true), tally.p99(false));
    let (answered, failed, wrong) = (count(&tally.answered), count(&tally.failed), count(&tally.wrong));
    println!(
        "P1: {swaps} swaps in {took:.1?} at half of what the model can do, {:.0} requests/s: {answered} answered by one \
         version, {failed} failed, {wrong} mixed or wrong; p99 {swapping:.2?} while versions were swapped, {steady:.2?} \
         before: {:.2} times",
        1. / interval.as_secs_f64(),
        swapping.as_secs_f64() / steady.as_secs_f64(),
    );
    assert!(answered > 0);
    assert_eq!((failed, wrong), (0, 0));
    fixture.runtime.shutdown().await;
    assert_eq!((odd.live_models() + even.live_models(), odd.live_instances() + even.live_instances()), (0, 0));
}
