//! Calls instances from a thread each, as fast as they answer, and counts the runs.
//!
//! A thread that has measured long enough goes on calling until the last one has: nobody is
//! measured on a machine that others have left already. Rates add up; each is that of whole runs,
//! so that runs of seconds are not cut off by the window.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use salver_core::{Inputs, Instance, Tensor};
use serde::Serialize;

use crate::bench::load;

/// An instance and what it is called with.
pub(super) struct Caller {
    pub(super) instance: Box<dyn Instance>,
    pub(super) inputs: Vec<Tensor>,
}

/// How long to call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Before anything counts; one run at least.
    pub(super) warmup: Duration,
    /// Counted; one run at least.
    pub(super) duration: Duration,
}

/// The runs of all callers together.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Runs {
    pub(super) runs: u64,
    #[serde(skip)]
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Processor cores that the engine got meanwhile. Fewer than it has threads: somebody else
    /// was using the machine, and the rate is not the engine's best.
    pub(super) cores_used: f64,
}

/// What one caller saw.
struct Tally {
    latencies: Histogram<u64>,
    took: Duration,
}

/// Calls every instance from a thread of its own.
///
/// # Errors
/// Where a run fails.
pub(super) fn measure(callers: Vec<Caller>, window: Window) -> Result<Runs> {
    let (begin, cpu_before) = (Instant::now(), load::cpu_time());
    let measuring = AtomicUsize::new(callers.len());
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            callers.into_iter().map(|caller| scope.spawn(|| drive(caller, window, &measuring))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Tally>>| {
            thread.join().map_err(|_| anyhow::anyhow!("the engine panicked"))?
        };
        threads.into_iter().map(join).collect::<Result<_>>()
    })?;
    let cpu = load::cpu_time().saturating_sub(cpu_before);
    let cores_used = cpu.as_secs_f64() / begin.elapsed().as_secs_f64().max(1e-9);
    let mut latencies = load::histogram()?;
    for tally in &tallies {
        latencies.add(&tally.latencies)?;
    }
    let rate = |tally: &Tally| tally.latencies.len() as f64 / tally.took.as_secs_f64().max(1e-9);
    Ok(Runs {
        runs: latencies.len(),
        per_second: tallies.iter().map(rate).sum(),
        p50_ms: load::millis(&latencies, 0.5),
        p99_ms: load::millis(&latencies, 0.99),
        cores_used,
    })
}

fn drive(mut caller: Caller, window: Window, measuring: &AtomicUsize) -> Result<Tally> {
    let tally = {
        let _own_turn = Measuring(measuring);
        count(&mut caller, window)?
    };
    while measuring.load(Ordering::Acquire) > 0 {
        caller.run()?;
    }
    Ok(tally)
}

/// One of the threads that still measure; over with it, whatever ends it.
struct Measuring<'a>(&'a AtomicUsize);

impl Drop for Measuring<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn count(caller: &mut Caller, window: Window) -> Result<Tally> {
    let start = Instant::now();
    caller.run()?;
    while start.elapsed() < window.warmup {
        caller.run()?;
    }
    let mut latencies = load::histogram()?;
    let begin = Instant::now();
    let mut last = begin;
    while last == begin || last - begin < window.duration {
        caller.run()?;
        let end = Instant::now();
        latencies.saturating_record(u64::try_from((end - last).as_nanos()).unwrap_or(u64::MAX));
        last = end;
    }
    Ok(Tally { latencies, took: last - begin })
}

impl Caller {
    fn run(&mut self) -> Result<()> {
        let outputs = self.instance.run(Inputs::Direct(&self.inputs)).context("run the model")?;
        std::hint::black_box(outputs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salver_core::{BatchLayout, Error};
    use std::sync::Arc;

    /// Counts its runs; from `fails_at` on they fail.
    struct Counting {
        runs: Arc<AtomicUsize>,
        fails_at: usize,
    }

    impl Instance for Counting {
        fn input_buffer(&mut self, _: &BatchLayout) -> salver_core::Result<&mut [u8]> {
            Err(Error::engine("not used"))
        }

        fn run(&mut self, _: Inputs<'_>) -> salver_core::Result<Vec<Tensor>> {
            let so_far = self.runs.fetch_add(1, Ordering::Relaxed);
            if so_far < self.fails_at { Ok(Vec::new()) } else { Err(Error::engine("broken")) }
        }
    }

    fn caller(fails_at: usize) -> (Caller, Arc<AtomicUsize>) {
        let runs = Arc::new(AtomicUsize::new(0));
        let instance = Box::new(Counting { runs: runs.clone(), fails_at });
        (Caller { instance, inputs: Vec::new() }, runs)
    }

    const WINDOW: Window = Window { warmup: Duration::ZERO, duration: Duration::from_millis(5) };

    #[test]
    fn every_instance_is_called_and_warm_up_does_not_count() {
        let callers: Vec<_> = (0..3).map(|_| caller(usize::MAX)).collect();
        let (callers, counts): (Vec<_>, Vec<_>) = callers.into_iter().unzip();
        let runs = measure(callers, WINDOW).unwrap();
        let all: usize = counts.iter().map(|runs| runs.load(Ordering::Relaxed)).sum();
        assert!(runs.runs >= 3 && runs.runs + 3 <= all as u64, "{runs:?} of {all}");
        assert!(runs.per_second > 0.0 && counts.iter().all(|runs| runs.load(Ordering::Relaxed) >= 2));
    }

    #[test]
    fn a_run_that_fails_ends_the_measurement_for_all() {
        let callers = vec![caller(usize::MAX).0, caller(1).0];
        assert!(format!("{:#}", measure(callers, WINDOW).unwrap_err()).contains("broken"));
    }
}
