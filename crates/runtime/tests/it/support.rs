//! A source whose content a test changes, and a process whose memory a test knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use salver_core::{
    Context, Engine, Error, Infer as _, InferRequest, InferResponse, InstanceGroup, ModelEntry, ModelName, ModelRef,
    ModelSource, ModelSpec, Result,
};
use salver_runtime::{Meter, ResidencyOptions, Runtime, RuntimeOptions};
use salver_telemetry::Metrics;
use salver_testkit::{FakeEngine, spec, tensor};

pub(crate) const MIB: u64 = 1 << 20;

/// Models by name, each with its versions.
#[derive(Default)]
pub(crate) struct Source(Mutex<BTreeMap<String, Vec<Arc<ModelSpec>>>>);

impl Source {
    pub(crate) fn set(&self, name: &str, versions: Vec<ModelSpec>) {
        self.0.lock().insert(name.to_owned(), versions.into_iter().map(Arc::new).collect());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().remove(name);
    }

    fn entry(name: &str, versions: &[Arc<ModelSpec>]) -> ModelEntry {
        let labels = [("stable".to_owned(), 1)].into();
        ModelEntry { name: ModelName::new(name).unwrap(), labels, versions: Ok(versions.to_vec()) }
    }
}

impl ModelSource for Source {
    fn scan(&self) -> Vec<ModelEntry> {
        self.0.lock().iter().map(|(name, versions)| Self::entry(name, versions)).collect()
    }

    fn find(&self, name: &str) -> Option<ModelEntry> {
        self.0.lock().get(name).map(|versions| Self::entry(name, versions))
    }
}

/// A version with one worker.
pub(crate) fn version(name: &str, number: u64) -> ModelSpec {
    let mut spec = spec(name, Path::new("no-such-file.onnx"));
    spec.version = number;
    spec.fingerprint = number;
    spec.config.instance_groups = vec![InstanceGroup::default()];
    spec
}

/// A version that asks for an engine by name.
pub(crate) fn version_on(engine: &str, name: &str, number: u64) -> ModelSpec {
    ModelSpec { engine: Some(engine.to_owned()), ..version(name, number) }
}

/// A process that holds a base, each loaded model, and from the first one on the engine's library.
pub(crate) struct FakeProcess {
    pub(crate) engine: FakeEngine,
    pub(crate) base: u64,
    pub(crate) library: u64,
    pub(crate) per_model: u64,
    /// Whether the library is there.
    pub(crate) has_library: AtomicBool,
}

impl std::fmt::Debug for FakeProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeProcess")
    }
}

impl Meter for FakeProcess {
    fn resident_bytes(&self) -> u64 {
        let models = self.engine.live_models() as u64;
        let had_library = self.has_library.fetch_or(models > 0, Ordering::Relaxed);
        let library = if had_library || models > 0 { self.library } else { 0 };
        self.base + library + models * self.per_model
    }
}

/// Options under which `models` of one MiB fit beside a base of 10.
pub(crate) fn room_for(models: u64, engine: &FakeEngine) -> RuntimeOptions {
    room_beside(0, models, engine)
}

/// The same for an engine whose library takes `library` MiB.
pub(crate) fn room_beside(library: u64, models: u64, engine: &FakeEngine) -> RuntimeOptions {
    let process = FakeProcess {
        engine: engine.clone(),
        base: 10 * MIB,
        library: library * MIB,
        per_model: MIB,
        has_library: AtomicBool::new(false),
    };
    let residency = ResidencyOptions {
        memory_limit: (10 + library + models) * MIB,
        load_wait: Duration::from_secs(30),
        meter: Arc::new(process),
    };
    RuntimeOptions { residency: Some(residency), ..RuntimeOptions::default() }
}

pub(crate) struct Fixture {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) source: Arc<Source>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Fixture {
    pub(crate) async fn start(engines: &[&FakeEngine], specs: Vec<ModelSpec>, options: RuntimeOptions) -> Self {
        let (source, metrics) = (Arc::new(Source::default()), Metrics::new());
        let mut by_name: BTreeMap<String, Vec<ModelSpec>> = BTreeMap::new();
        for spec in specs {
            by_name.entry(spec.name.to_string()).or_default().push(spec);
        }
        for (name, versions) in by_name {
            source.set(&name, versions);
        }
        let engines = engines.iter().map(|&engine| Arc::new(engine.clone()) as Arc<dyn Engine>).collect();
        let runtime = Runtime::new(engines, source.clone(), metrics.clone(), options);
        runtime.start().await.unwrap();
        Self { runtime, source, metrics }
    }

    /// Asks in the background.
    pub(crate) fn ask(&self, model: &str, value: f32) -> tokio::task::JoinHandle<Result<f32>> {
        let (runtime, request) = (self.runtime.clone(), request(model, value));
        tokio::spawn(async move { answer_of(&runtime.infer(request, Context::default()).await?) })
    }

    pub(crate) async fn answer(&self, model: &str, value: f32) -> Result<f32> {
        answer_of(&self.runtime.infer(request(model, value), Context::default()).await?)
    }

    /// Returns the names of the models in memory.
    pub(crate) fn resident(&self) -> Vec<String> {
        use salver_core::ModelControl as _;
        self.runtime.resident().into_iter().map(|model| format!("{}/{}", model.name, model.version)).collect()
    }
}

pub(crate) fn request(model: &str, value: f32) -> InferRequest {
    InferRequest {
        model: model.parse::<ModelRef>().unwrap(),
        id: None,
        inputs: vec![tensor("x", &[1, 2], &[value, value])],
        outputs: Vec::new(),
        parameters: Default::default(),
    }
}

/// Returns the value of an answer, all of whose elements are the same.
pub(crate) fn answer_of(response: &InferResponse) -> Result<f32> {
    let values: Vec<f32> = response.outputs.iter().flat_map(|output| output.to_vec::<f32>().unwrap()).collect();
    match values.as_slice() {
        [first, rest @ ..] if rest.iter().all(|value| value == first) => Ok(*first),
        mixed => Err(Error::engine(format!("an answer of several versions: {mixed:?}"))),
    }
}

/// Reads how often a test repeats what it does; larger for the full figures.
pub(crate) fn count_from_env(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
