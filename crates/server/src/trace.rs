//! Traces: where the time of single requests went, as lines of the log.
//!
//! Which requests are traced is set while the server runs, for all models and for single ones.
//! Where nothing is traced, a request pays for one look at a flag. Nothing is written to files.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use salver_core::{InferRequest, InferResponse, Result, Tensor};
use salver_protocol::settings::{Change, TraceLevels, TraceSettings, TraceUpdate};
use salver_telemetry::TRACE_TARGET;

/// The trace settings, and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// Whether any request may be traced.
    is_on: AtomicBool,
    samplers: ArcSwap<Samplers>,
    wanted: Mutex<Wanted>,
}

/// What was set: by the server's own settings and, for models that have some, by those.
#[derive(Debug, Default)]
struct Wanted {
    server: TraceSettings,
    models: BTreeMap<String, Own>,
}

/// What a model has of its own; the rest is the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Own {
    levels: Option<TraceLevels>,
    rate: Option<u64>,
    count: Option<i64>,
    log_frequency: Option<u64>,
}

/// Who chooses the requests, of the server and of single models.
#[derive(Debug, Default)]
struct Samplers {
    server: Arc<Sampler>,
    models: HashMap<String, Arc<Sampler>>,
}

/// Chooses the requests of one settings object.
#[derive(Debug)]
struct Sampler {
    settings: TraceSettings,
    seen: AtomicU64,
    /// How many more are traced; -1: any number.
    left: AtomicI64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(TraceSettings::default())
    }
}

impl Sampler {
    fn new(settings: TraceSettings) -> Self {
        Self { settings, seen: AtomicU64::new(0), left: AtomicI64::new(settings.count) }
    }

    /// Goes on with what `earlier` had left, unless the count is a new one.
    fn after(earlier: Option<&Arc<Self>>, settings: TraceSettings) -> Arc<Self> {
        match earlier {
            Some(earlier) if earlier.settings == settings => earlier.clone(),
            Some(earlier) if earlier.settings.count == settings.count => {
                let left = AtomicI64::new(earlier.left.load(Ordering::Relaxed));
                Arc::new(Self { left, ..Self::new(settings) })
            }
            _ => Arc::new(Self::new(settings)),
        }
    }

    fn may_choose(&self) -> bool {
        self.settings.levels.is_on() && self.settings.rate > 0
    }

    /// Whether this request is to be traced.
    fn choose(&self) -> bool {
        if !self.may_choose() || !(self.seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.settings.rate) {
            return false;
        }
        let take = |left: i64| match left {
            0 => None,
            -1 => Some(-1),
            some => Some(some - 1),
        };
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// The settings, with the count that is left.
    fn current(&self) -> TraceSettings {
        TraceSettings { count: self.left.load(Ordering::Relaxed), ..self.settings }
    }
}

impl Samplers {
    fn of(&self, model: &str) -> &Arc<Sampler> {
        self.models.get(model).unwrap_or(&self.server)
    }
}

impl Traces {
    /// Returns the settings of a model, or those of the server.
    pub(crate) fn settings(&self, model: Option<&str>) -> TraceSettings {
        let samplers = self.samplers.load();
        model.map_or(&samplers.server, |model| samplers.of(model)).current()
    }

    /// Changes the settings of a model, or those of the server, and returns them. Of models that are
    /// not `known` any more, nothing is kept.
    pub(crate) fn update(&self, model: Option<&str>, update: TraceUpdate, known: &[String]) -> TraceSettings {
        let mut wanted = self.wanted.lock();
        wanted.models.retain(|name, _| known.iter().any(|known| known == name));
        match model {
            None => change_server(&mut wanted.server, update),
            Some(name) => change_own(wanted.models.entry(name.to_owned()).or_default(), update),
        }
        wanted.models.retain(|_, own| *own != Own::default());
        let earlier = self.samplers.load();
        let starts_anew = |name: Option<&str>, own_count: Option<i64>| {
            update.count != Change::Keep && (name == model || (model.is_none() && own_count.is_none()))
        };
        let server = Some(&earlier.server).filter(|_| !starts_anew(None, None));
        let server = Sampler::after(server, wanted.server);
        let of_model = |(name, own): (&String, &Own)| {
            let before = earlier.models.get(name).filter(|_| !starts_anew(Some(name), own.count));
            (name.clone(), Sampler::after(before, own.over(wanted.server)))
        };
        let samplers = Samplers { server, models: wanted.models.iter().map(of_model).collect() };
        let is_on = samplers.models.values().chain([&samplers.server]).any(|sampler| sampler.may_choose());
        self.samplers.store(Arc::new(samplers));
        self.is_on.store(is_on, Ordering::Relaxed);
        drop(wanted);
        self.settings(model)
    }

    /// Begins to trace a request, if it is chosen.
    pub(crate) fn begin(&self, request: &InferRequest, id: &Arc<str>) -> Option<Box<Trace>> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let samplers = self.samplers.load();
        let sampler = samplers.of(&request.model.name);
        sampler.choose().then(|| {
            let levels = sampler.settings.levels;
            Box::new(Trace {
                id: id.clone(),
                model: request.model.name.to_string(),
                levels,
                inputs: levels.tensors.then(|| shapes(&request.inputs)),
                began: Instant::now(),
            })
        })
    }
}

impl Own {
    fn over(self, server: TraceSettings) -> TraceSettings {
        TraceSettings {
            levels: self.levels.unwrap_or(server.levels),
            rate: self.rate.unwrap_or(server.rate),
            count: self.count.unwrap_or(server.count),
            log_frequency: self.log_frequency.unwrap_or(server.log_frequency),
        }
    }
}

fn change_own(own: &mut Own, update: TraceUpdate) {
    fn change<T>(own: &mut Option<T>, change: Change<T>) {
        match change {
            Change::Keep => {}
            Change::Clear => *own = None,
            Change::Set(value) => *own = Some(value),
        }
    }
    change(&mut own.levels, update.levels);
    change(&mut own.rate, update.rate);
    change(&mut own.count, update.count);
    change(&mut own.log_frequency, update.log_frequency);
}

fn change_server(server: &mut TraceSettings, update: TraceUpdate) {
    fn change<T>(value: &mut T, start: T, change: Change<T>) {
        match change {
            Change::Keep => {}
            Change::Clear => *value = start,
            Change::Set(new) => *value = new,
        }
    }
    let start = TraceSettings::default();
    change(&mut server.levels, start.levels, update.levels);
    change(&mut server.rate, start.rate, update.rate);
    change(&mut server.count, start.count, update.count);
    change(&mut server.log_frequency, start.log_frequency, update.log_frequency);
}

/// One request that is traced.
pub(crate) struct Trace {
    id: Arc<str>,
    model: String,
    levels: TraceLevels,
    inputs: Option<String>,
    began: Instant,
}

impl Trace {
    /// Writes the line of a request that is answered, and hands the answer on.
    pub(crate) fn end(self, decode: Duration, outcome: Result<InferResponse>) -> Result<InferResponse> {
        let total = self.began.elapsed();
        match &outcome {
            Ok(response) => self.write(decode, total, response),
            Err(error) => tracing::info!(
                target: TRACE_TARGET,
                request_id = &*self.id,
                model = self.model,
                error = error.message(),
                total_ns = ns(total),
                "request traced"
            ),
        }
        outcome
    }

    fn write(&self, decode: Duration, total: Duration, response: &InferResponse) {
        let timings = self.levels.timestamps.then_some(response.timings);
        tracing::info!(
            target: TRACE_TARGET,
            request_id = &*self.id,
            model = self.model,
            version = response.model.version,
            decode_ns = timings.map(|_| ns(decode)),
            queue_ns = timings.map(|timings| ns(timings.queue)),
            compute_input_ns = timings.map(|timings| ns(timings.compute_input)),
            compute_infer_ns = timings.map(|timings| ns(timings.compute_infer)),
            compute_output_ns = timings.map(|timings| ns(timings.compute_output)),
            total_ns = timings.map(|_| ns(total)),
            batch_rows = timings.map(|timings| timings.batch_rows),
            cache = response.cache.map(|outcome| outcome.as_str()),
            inputs = self.inputs,
            outputs = self.levels.tensors.then(|| shapes(&response.outputs)),
            "request traced"
        );
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Says what tensors are without a word of what they hold: `x FP32 [1,4], y INT64 [1]`.
fn shapes(tensors: &[Tensor]) -> String {
    let mut text = String::new();
    for (idx, tensor) in tensors.iter().enumerate() {
        let comma = if idx == 0 { "" } else { ", " };
        let written = write!(text, "{comma}{} {} {}", tensor.name(), tensor.dtype(), tensor.shape());
        debug_assert!(written.is_ok(), "a string takes whatever is written to it");
    }
    text
}

#[cfg(test)]
mod tests;
