//! Finds a model's best batch when it is loaded: where rows get no cheaper any more.
//!
//! A batch far beyond that knee only makes its requests wait for each other. The sweep is short, runs
//! on one thread as the workers do, and is left out where the model's settings say the size. What
//! was found is remembered per model and machine (`Notes`), so that the next start is quick. Of an
//! instance that computes elsewhere the time of day counts: this thread only waits for it.

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use salver_core::{DataType, Dim, Engine, Inputs, Instance, ModelSpec, Result, Shape, Tensor, TensorSpec};

use crate::TuningOptions;
use crate::interface::Interface;
use crate::warmup;

/// How sweeps are done, and where their findings are kept.
#[derive(Debug)]
pub(crate) struct Tuning {
    pub(crate) budget: Duration,
    pub(crate) notes: Notes,
    machine: String,
}

impl Tuning {
    pub(crate) fn new(options: &TuningOptions) -> Self {
        Self { budget: options.budget, notes: Notes::new(options.notes.clone()), machine: machine() }
    }

    /// Names a finding: the model's files, its engine and this machine.
    pub(crate) fn key(&self, spec: &ModelSpec, engine: &dyn Engine) -> String {
        let mut hasher = DefaultHasher::new();
        (REVISION, spec.fingerprint, engine.name(), engine.describe(), &self.machine).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuned {
    /// The rows of a batch at the knee; none: that was not looked for.
    pub(crate) max_rows: Option<usize>,
    /// How long one row takes by itself.
    pub(crate) lone_run: Duration,
}

/// Goes up when the sweep changes, so that earlier findings are not taken for its own.
const REVISION: u32 = 1;
/// Rows per step of the sweep.
const STEPS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// A size is as good as the cheapest if its rows cost no more than this much over that one's.
const TOLERANCE: f64 = 1.02;
/// Of sizes that are as good the largest is taken whose run is no longer than this: fewer batches
/// change hands less often, but requests wait for all of their batch.
const PATIENCE: Duration = Duration::from_millis(100);
/// Of a few runs the quickest counts; of runs longer than this there are only three.
const SHORT: Duration = Duration::from_millis(2);
const REPEATS: usize = 5;
const LONG_REPEATS: usize = 3;
/// Extent of free dimensions other than the batch, such as the tokens of a text.
const FREE_EXTENT: usize = 64;

/// Runs batches of growing size for at most about `budget`. Returns none where no input can be
/// made up for the model, or it refuses what was made up.
pub(crate) fn sweep(interface: &Interface, instance: &mut dyn Instance, budget: Duration) -> Option<Tuned> {
    let started = Instant::now();
    let mut measured: Vec<(usize, Duration)> = Vec::new();
    for rows in STEPS {
        let expected = measured.last().map_or(Duration::ZERO, |&(_, took)| took * 2 * LONG_REPEATS as u32);
        if !measured.is_empty() && started.elapsed() + expected > budget {
            break;
        }
        let took = time(interface, instance, rows, measured.is_empty()).ok()??;
        measured.push((rows, took));
        if has_turned(&measured) {
            break;
        }
    }
    let &(_, lone_run) = measured.first()?;
    Some(Tuned { max_rows: Some(knee(&measured)), lone_run })
}

/// How long one row takes by itself, where that can be tried.
pub(crate) fn lone_run(interface: &Interface, instance: &mut dyn Instance) -> Option<Tuned> {
    let lone_run = time(interface, instance, 1, true).ok()??;
    Some(Tuned { max_rows: None, lone_run })
}

/// Returns how long the quickest of a few runs took; none: no input can be made up.
fn time(interface: &Interface, instance: &mut dyn Instance, rows: usize, is_first: bool) -> Result<Option<Duration>> {
    let made_up: Option<Vec<Tensor>> =
        interface.wire.inputs.iter().filter(|spec| !spec.optional).map(|spec| input(interface, spec, rows)).collect();
    let Some(made_up) = made_up else {
        return Ok(None);
    };
    let inputs = interface.accept_sample("the sweep", made_up)?;
    if is_first {
        // The first run of all allocates.
        instance.run(Inputs::Direct(&inputs))?;
    }
    let mut quickest = Duration::MAX;
    for repeat in 1..=REPEATS {
        let clock = Clock::start(instance);
        instance.run(Inputs::Direct(&inputs))?;
        quickest = quickest.min(clock.elapsed());
        if quickest > SHORT && repeat == LONG_REPEATS {
            break;
        }
    }
    Ok(Some(quickest))
}

/// Measures one run.
enum Clock {
    /// By what this thread computes.
    Busy(Duration),
    /// By the time of day.
    Wall(Instant),
}

impl Clock {
    fn start(instance: &dyn Instance) -> Self {
        if instance.computes_here() { Self::Busy(busy_time()) } else { Self::Wall(Instant::now()) }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Self::Busy(before) => busy_time().saturating_sub(*before),
            Self::Wall(started) => started.elapsed(),
        }
    }
}

/// What this thread has computed. Unlike the time of day it does not count what others took from
/// it: models are loaded beside each other, and beside those that serve.
fn busy_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// Whole numbers are ones: a valid token, category or mask nearly everywhere. Free dimensions are
/// those of the task's sample, if there is one.
fn input(interface: &Interface, spec: &TensorSpec, rows: usize) -> Option<Tensor> {
    let batched = interface.wire.is_batched();
    let sample = interface.sample.iter().find(|tensor| *tensor.name() == spec.name);
    let extent = |(idx, dim): (usize, &Dim)| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free if idx == 0 && batched => rows,
        Dim::Free => sample.and_then(|tensor| tensor.shape().get(idx).copied()).unwrap_or(FREE_EXTENT),
    };
    let shape: Shape = spec.shape.iter().enumerate().map(extent).collect();
    if spec.dtype == DataType::Bytes {
        return None;
    }
    warmup::ones(&spec.name, spec.dtype, shape).ok()
}

/// Whether rows get dearer again: the two latest steps cost more than the cheapest.
fn has_turned(measured: &[(usize, Duration)]) -> bool {
    let cheapest = cheapest(measured);
    measured.len() > 2 && measured[measured.len() - 2..].iter().all(|step| per_row(*step) > cheapest * TOLERANCE)
}

fn knee(measured: &[(usize, Duration)]) -> usize {
    let cheapest = cheapest(measured);
    let good = || measured.iter().filter(|step| per_row(**step) <= cheapest * TOLERANCE);
    let within_patience = good().rfind(|(_, took)| *took <= PATIENCE);
    within_patience.or_else(|| good().next()).map_or(1, |&(rows, _)| rows)
}

fn cheapest(measured: &[(usize, Duration)]) -> f64 {
    measured.iter().map(|step| per_row(*step)).fold(f64::INFINITY, f64::min)
}

fn per_row((rows, took): (usize, Duration)) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "rows are few")]
    let rows = rows as f64;
    took.as_secs_f64() / rows
}

/// Where findings are kept between starts: a small text file for each model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    folder: Option<PathBuf>,
}

impl Notes {
    /// Keeps notes in `folder`, which is made when it is needed; none: keeps nothing.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Returns what was found before. A note that cannot be read counts as none.
    pub(crate) fn read(&self, key: &str) -> Option<Tuned> {
        let text = fs::read_to_string(self.folder.as_ref()?.join(key)).ok()?;
        parse(&text)
    }

    /// Notes what was found. A folder that cannot be written costs a sweep at the next start.
    pub(crate) fn write(&self, key: &str, tuned: Tuned) {
        let (Some(folder), Some(max_rows)) = (&self.folder, tuned.max_rows) else {
            return;
        };
        let draft = folder.join(format!("{key}.{}", std::process::id()));
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&draft, render(max_rows, tuned.lone_run)))
            .and_then(|()| fs::rename(&draft, folder.join(key)));
        if let Err(error) = written {
            tracing::debug!(folder = %folder.display(), %error, "the best batch size is not remembered");
        }
    }
}

fn render(max_rows: usize, lone_run: Duration) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "max_rows = {}\nlone_run_us = {}", max_rows, lone_run.as_micros());
    text
}

fn parse(text: &str) -> Option<Tuned> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
        line.trim().parse::<u32>().ok()
    };
    let max_rows = value("max_rows").and_then(|rows| usize::try_from(rows).ok()).filter(|rows| STEPS.contains(rows))?;
    Some(Tuned { max_rows: Some(max_rows), lone_run: Duration::from_micros(u64::from(value("lone_run_us")?)) })
}

/// Names this machine as far as speed goes: its processor and the cores that may be used.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{model}, {} cores", std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use salver_core::Placement;
    use salver_testkit::{FakeEngine, spec};

    use super::*;

    #[track_caller]
    fn check(micros_per_row: &[u64], expected: usize) {
        let step = |(&rows, &micros): (&usize, &u64)| (rows, Duration::from_micros(micros * rows as u64));
        let measured: Vec<_> = STEPS.iter().zip(micros_per_row).map(step).collect();
        assert_eq!(knee(&measured), expected);
    }

    #[test]
    fn the_knee_is_where_rows_get_no_cheaper() {
        // Short runs: the largest of those that are as good.
        check(&[132, 110, 100, 99, 106], 8);
        check(&[100, 100, 100], 4);
        check(&[8, 4, 2, 1], 8);
        // Of runs beyond 100 ms the smallest.
        check(&[60_000, 52_000, 50_000, 50_000], 4);
        check(&[101_000, 100_000, 100_000], 1);
        // 80 ms may be waited for, 160 ms not.
        check(&[13_000, 11_700, 10_400, 10_300, 10_300], 8);
    }

    #[test]
    fn a_run_elsewhere_takes_as_long_as_it_is_waited_for() {
        const RUN: Duration = Duration::from_millis(3);
        let lone_run = |engine: FakeEngine| {
            let spec = spec("m", std::path::Path::new("m.onnx"));
            let model = engine.taking(RUN).load(&spec).unwrap();
            let placement = Placement { device: "cpu".to_owned(), threads: 1, core: None };
            let mut instance = model.instance(&placement).unwrap();
            let interface = Interface::new(model.signature(), &spec.config).unwrap();
            super::lone_run(&interface, instance.as_mut()).unwrap().lone_run
        };
        assert!(lone_run(FakeEngine::new().elsewhere()) >= RUN);
        // Here it sleeps, and does not compute.
        assert!(lone_run(FakeEngine::new()) < RUN);
    }

    #[test]
    fn a_sweep_ends_when_rows_get_dearer() {
        let turned = |micros: &[u64]| {
            let step = |(&rows, &micros): (&usize, &u64)| (rows, Duration::from_micros(micros * rows as u64));
            has_turned(&STEPS.iter().zip(micros).map(step).collect::<Vec<_>>())
        };
        assert!(turned(&[100, 120, 130]) && !turned(&[100, 90, 95]) && !turned(&[100, 120]));
    }

    #[test]
    fn notes_are_read_as_they_were_written_and_nothing_else_is() {
        let lone_run = Duration::from_micros(13_200);
        assert_eq!(parse(&render(8, lone_run)), Some(Tuned { max_rows: Some(8), lone_run }));
        for bad in ["", "max_rows = 8", "max_rows = 7\nlone_run_us = 1", "max_rows = -1\nlone_run_us = 1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
