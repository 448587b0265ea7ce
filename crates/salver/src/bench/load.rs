//! Puts load on something that can be called, and measures it.
//!
//! Closed loop: every caller sends its next request when the last one is answered; what ends
//! within the window counts. Fixed rate: request `i` is meant to start at `i / rate`, whoever is
//! free takes it, and its latency counts from that moment, so requests that had to wait for a
//! stalled server show the stall (no coordinated omission).

mod schedule;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::task::JoinSet;

use self::schedule::Schedule;

/// How long after the end of the window answers are still waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that sends one request at a time.
pub(crate) trait Caller: Send + 'static {
    /// Sends a request and waits for a good answer.
    fn call(&mut self) -> impl Future<Output = Result<(), CallError>> + Send;
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// An answer came, but not the right one.
    Refused(String),
    /// No answer will come this way any more.
    Lost(String),
}

/// When requests start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// When the last one is answered.
    ClosedLoop,
    /// So many per second, whatever happens.
    PerSecond(f64),
}

/// How long and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// How long requests are sent that do not count.
    pub warmup: Duration,
    /// How long requests count.
    pub duration: Duration,
    /// When requests start.
    pub pace: Pace,
}

/// What one run gave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    /// Good answers.
    pub requests: u64,
    /// Calls without a good answer.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
    /// Good answers per second.
    pub per_second: f64,
    /// Half of the answers took at most this long.
    pub p50_ms: f64,
    /// Nine of ten answers took at most this long.
    pub p90_ms: f64,
    /// 99 of 100 answers took at most this long.
    pub p99_ms: f64,
    /// The slowest answer.
    pub max_ms: f64,
    /// How many times the median the 99th percentile is.
    pub p99_over_p50: f64,
    /// Processor cores that this process used meanwhile: the load generator's own share.
    pub generator_cores: f64,
}

/// What one caller saw.
struct Tally {
    latencies: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
    last_end: Option<Instant>,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self { latencies: histogram()?, errors: 0, first_error: None, last_end: None })
    }

    fn succeed(&mut self, took: Duration, end: Instant) {
        self.latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.last_end = self.last_end.max(Some(end));
    }

    fn fail(&mut self, text: String) {
        self.errors += 1;
        self.first_error.get_or_insert(text);
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.latencies.add(&other.latencies)?;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.last_end = self.last_end.max(other.last_end);
        Ok(())
    }
}

/// Makes a histogram of nanoseconds: from one microsecond to five minutes, three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 300_000_000_000, 3)?)
}

/// Returns a quantile of nanoseconds as milliseconds.
pub(crate) fn millis(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e6
}

/// Returns the cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The part of a run that counts.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: Instant,
    begin: Instant,
    end: Instant,
}

/// Runs `plan` over all `callers` at once.
///
/// # Errors
/// Only where the measuring itself fails; calls that fail are counted.
pub(crate) async fn run<C: Caller>(callers: Vec<C>, plan: Plan) -> Result<Figures> {
    let start = Instant::now();
    let window = Window { start, begin: start + plan.warmup, end: start + plan.warmup + plan.duration };
    let mut workers = JoinSet::new();
    let schedule = match plan.pace {
        Pace::ClosedLoop => None,
        Pace::PerSecond(rate) => {
            let schedule = Schedule::new(window, rate, callers.len()).context("keep the time of the schedule")?;
            Some(Arc::new(schedule))
        }
    };
    for caller in callers {
        let mut tally = Tally::new()?;
        let schedule = schedule.clone();
        workers.spawn(async move {
            let worker = Worker { caller, tally: &mut tally, n_lost: 0 };
            let work = async {
                match &schedule {
                    None => closed_loop(worker, window).await,
                    Some(schedule) => on_schedule(worker, schedule).await,
                }
            };
            if tokio::time::timeout_at((window.end + PATIENCE).into(), work).await.is_err() {
                tally.fail(format!("no answer within {} s after the end", PATIENCE.as_secs()));
            }
            tally
        });
    }
    let mut clock = JoinSet::new();
    if let Some(schedule) = schedule.clone() {
        clock.spawn(async move { schedule.release().await });
    }
    let generator_cores = cpu_share(window).await;
    let mut total = Tally::new()?;
    while let Some(tally) = workers.join_next().await {
        total.merge(tally?)?;
    }
    if let Some(schedule) = &schedule {
        schedule.count_unsent(&mut total);
    }
    if let Some(released) = clock.join_next().await {
        released?.context("keep the time of the schedule")?;
    }
    Ok(figures(&total, window, generator_cores))
}

async fn closed_loop<C: Caller>(mut worker: Worker<'_, C>, window: Window) {
    loop {
        let start = Instant::now();
        let is_counted = |end| (window.begin..window.end).contains(&end);
        if start >= window.end || !worker.call(start, is_counted).await {
            return;
        }
    }
}

async fn on_schedule<C: Caller>(mut worker: Worker<'_, C>, schedule: &Schedule) {
    while let Some(intended) = schedule.take().await {
        let is_counted = |_end| intended >= schedule.window.begin;
        if !worker.call(intended, is_counted).await {
            return;
        }
    }
}

/// A caller and what it saw.
struct Worker<'t, C> {
    caller: C,
    tally: &'t mut Tally,
    /// Calls in a row whose connection was lost.
    n_lost: usize,
}

impl<C: Caller> Worker<'_, C> {
    /// Calls once; the latency counts from `begin`, if `is_counted` says so of the end. Returns
    /// whether it makes sense to call again.
    async fn call(&mut self, begin: Instant, is_counted: impl FnOnce(Instant) -> bool) -> bool {
        let result = self.caller.call().await;
        let end = Instant::now();
        self.n_lost = if matches!(result, Err(CallError::Lost(_))) { self.n_lost + 1 } else { 0 };
        match result {
            Ok(()) if is_counted(end) => self.tally.succeed(end.saturating_duration_since(begin), end),
            Ok(()) => {}
            // Failures count whenever they happen: a benchmark with failing warm-up is none.
            Err(CallError::Refused(text) | CallError::Lost(text)) => self.tally.fail(text),
        }
        self.n_lost < 2
    }
}

/// Waits for the window to pass; returns the cores that this process used in it.
async fn cpu_share(window: Window) -> f64 {
    tokio::time::sleep_until(window.begin.into()).await;
    let (began, used) = (Instant::now(), cpu_time());
    tokio::time::sleep_until(window.end.into()).await;
    let wall = began.elapsed().as_secs_f64().max(1e-9);
    cpu_time().saturating_sub(used).as_secs_f64() / wall
}

/// Returns the processor time that this process has used so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn figures(tally: &Tally, window: Window, generator_cores: f64) -> Figures {
    let millis = |quantile: f64| millis(&tally.latencies, quantile);
    let last = tally.last_end.map_or(window.end, |end| end.max(window.end));
    let requests = tally.latencies.len();
    Figures {
        requests,
        errors: tally.errors,
        first_error: tally.first_error.clone(),
        per_second: requests as f64 / (last - window.begin).as_secs_f64().max(1e-9),
        p50_ms: millis(0.5),
        p90_ms: millis(0.9),
        p99_ms: millis(0.99),
        max_ms: tally.latencies.max() as f64 / 1e6,
        p99_over_p50: millis(0.99) / millis(0.5).max(f64::MIN_POSITIVE),
        generator_cores,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at once, except that the first answer waits for `stall`.
    struct Stalling {
        stall: Option<Duration>,
    }

    impl Caller for Stalling {
        async fn call(&mut self) -> Result<(), CallError> {
            if let Some(stall) = self.stall.take() {
                tokio::time::sleep(stall).await;
            }
            tokio::task::yield_now().await;
            Ok(())
        }
    }

    struct Failing;

    impl Caller for Failing {
        async fn call(&mut self) -> Result<(), CallError> {
            Err(CallError::Lost("gone".to_owned()))
        }
    }

    fn plan(pace: Pace, ms: u64) -> Plan {
        Plan { warmup: Duration::ZERO, duration: Duration::from_millis(ms), pace }
    }

    #[tokio::test]
    async fn a_stall_shows_in_the_latency_of_every_request_that_it_delayed() {
        // One caller, 1000 per second for 300 ms, stalled for the first 200 ms: the 200 requests
        // meant to start meanwhile waited 100 ms on average. A closed loop would see one.
        let callers = vec![Stalling { stall: Some(Duration::from_millis(200)) }];
        let figures = run(callers, plan(Pace::PerSecond(1000.0), 300)).await.unwrap();
        assert_eq!((figures.requests, figures.errors), (300, 0));
        assert!(figures.p50_ms > 25.0, "{figures:?}");
    }

    #[tokio::test]
    async fn a_closed_loop_counts_every_answer() {
        let callers = (0..3).map(|_| Stalling { stall: None }).collect();
        let figures = run(callers, plan(Pace::ClosedLoop, 50)).await.unwrap();
        assert!(figures.requests > 0 && figures.errors == 0, "{figures:?}");
    }

    #[tokio::test]
    async fn lost_connections_end_the_run_and_are_counted() {
        let figures = run(vec![Failing, Failing], plan(Pace::ClosedLoop, 20)).await.unwrap();
        assert_eq!((figures.requests, figures.errors), (0, 4));
        assert_eq!(figures.first_error.as_deref(), Some("gone"));
        let figures = run(vec![Failing], plan(Pace::PerSecond(1000.0), 20)).await.unwrap();
        assert_eq!((figures.requests, figures.errors), (0, 20));
    }
}
