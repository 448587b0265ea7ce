//! A runtime without an engine: `echo` gives back its input, those of `task_models` show theirs, and
//! the others misbehave as named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use salver_core::{
    Batching, BoxFuture, Context, DataType, EnsembleGraph, Error, ErrorKind, GraphStep, Infer, InferRequest,
    InferResponse, MemoryUse, ModelConfig, ModelControl, ModelInfo, ModelName, ModelRef, ModelState, ModelStatistics,
    ModelStatus, Observe, OnFailure, ResidentModel, Result, Selector, Signature, StepStatistics, Tensor, TensorSpec,
    Timings,
};
use tokio::sync::Semaphore;

use crate::task_models;

/// What the fake knows, with its versions.
pub(crate) const MODELS: [(&str, &[u64]); 11] = [
    ("asked", &[1]),
    ("busy", &[1]),
    ("echo", &[1, 2]),
    ("embedder", &[1]),
    ("failing", &[1]),
    ("names", &[1]),
    ("panicking", &[1]),
    ("people", &[1]),
    ("pictures", &[1]),
    ("sentiment", &[1]),
    ("slow", &[1]),
];

pub(crate) struct Fake {
    pub(crate) is_ready: AtomicBool,
    pub(crate) pinned: Mutex<BTreeSet<String>>,
    /// What `load` and `unload` were called with.
    pub(crate) changes: Mutex<Vec<String>>,
    /// The circumstances of the latest request.
    pub(crate) latest: Mutex<Option<Context>>,
    /// `slow` takes one permit per request.
    pub(crate) gate: Semaphore,
    /// Requests that are inside.
    pub(crate) inside: AtomicUsize,
    /// What the observer of `echo` was told.
    pub(crate) observed: Arc<Observed>,
}

/// Times of decoding and encoding.
#[derive(Debug, Default)]
pub(crate) struct Observed(Mutex<Vec<(Duration, Duration)>>);

impl Observed {
    /// Returns how many requests it was told of, and forgets them.
    pub(crate) fn take(&self) -> usize {
        let told = std::mem::take(&mut *self.0.lock().unwrap());
        assert!(told.iter().all(|(decode, encode)| !decode.is_zero() && !encode.is_zero()), "{told:?}");
        told.len()
    }
}

impl Observe for Observed {
    fn protocol(&self, decode: Duration, encode: Duration) {
        self.0.lock().unwrap().push((decode, encode));
    }
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_ready: AtomicBool::new(true),
            pinned: Mutex::default(),
            changes: Mutex::default(),
            latest: Mutex::default(),
            gate: Semaphore::new(0),
            inside: AtomicUsize::new(0),
            observed: Arc::default(),
        })
    }

    /// Waits until `count` requests are inside.
    pub(crate) async fn wait_inside(&self, count: usize) {
        while self.inside.load(Ordering::SeqCst) != count {
            tokio::task::yield_now().await;
        }
    }

    fn resolve(&self, model: &ModelRef) -> Result<(&'static str, u64)> {
        let unknown = || Error::not_found(format!("Request for unknown model: '{}' is not found", model.name));
        let (name, versions) = MODELS.into_iter().find(|(name, _)| *name == &*model.name).ok_or_else(unknown)?;
        let version = match &model.selector {
            Selector::Latest => versions.last().copied(),
            Selector::Version(version) => versions.contains(version).then_some(*version),
            Selector::Label(label) => (label == "stable").then_some(1),
        };
        let version = version.ok_or_else(|| {
            Error::not_found(format!("Request for unknown model: '{name}' version {:?} is not found", model.selector))
        })?;
        Ok((name, version))
    }

    async fn run(&self, request: InferRequest, ctx: Context) -> Result<InferResponse> {
        let info = self.describe(&request.model)?;
        let inputs = info.signature.check(&info.name, request.inputs)?;
        *self.latest.lock().unwrap() = Some(ctx);
        match &*info.name {
            "slow" => self.gate.acquire().await.unwrap().forget(),
            "failing" => {
                let cause = std::io::Error::other("secret detail");
                return Err(Error::engine("the engine failed").with_source(cause));
            }
            "busy" => {
                let wait = std::time::Duration::from_millis(1500);
                return Err(Error::new(ErrorKind::Overloaded, "Exceeds maximum queue size").with_retry_after(wait));
            }
            "panicking" => panic!("asked to"),
            _ => {}
        }
        let mut outputs: Vec<Tensor> = match &*info.task {
            "tensor" => inputs.into_iter().map(|tensor| tensor.rename("y")).collect(),
            _ => task_models::answer(&info, &inputs),
        };
        if !request.outputs.is_empty() {
            outputs.retain(|tensor| request.outputs.contains(tensor.name()));
            outputs.sort_by_key(|tensor| request.outputs.iter().position(|name| name == tensor.name()));
        }
        Ok(InferResponse { model: info, id: request.id, outputs, timings: Timings::default(), cache: None, cost: None })
    }
}

/// Counts a request for as long as it is inside, however it ends.
struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Infer for Fake {
    fn infer(&self, request: InferRequest, ctx: Context) -> BoxFuture<'_, Result<InferResponse>> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let inside = Inside(&self.inside);
        Box::pin(async move {
            let _inside = inside;
            // Whoever implements `Infer` keeps the deadline.
            let Some(deadline) = ctx.deadline else {
                return self.run(request, ctx).await;
            };
            let late = |_| Error::new(ErrorKind::Deadline, "the deadline passed");
            tokio::time::timeout_at(deadline.into(), self.run(request, ctx)).await.map_err(late)?
        })
    }

    fn describe(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        let (name, version) = self.resolve(model)?;
        Ok(Arc::new(task_models::of(
            name,
            ModelInfo {
                name: name.into(),
                version,
                engine: "fake".into(),
                platform: "fake_platform".to_owned(),
                signature: Signature {
                    inputs: vec![TensorSpec::new("x", DataType::Fp32, &[-1, 2])],
                    outputs: vec![TensorSpec::new("y", DataType::Fp32, &[-1, 2])],
                    batching: Batching::Rows { limit: None },
                },
                task: "tensor".to_owned(),
                columns: vec![vec!["a".to_owned(), "b".to_owned()]],
                labels: vec![Vec::new()],
                metrics: BTreeMap::new(),
                example: Vec::new(),
                observer: (name == "echo").then(|| self.observed.clone() as Arc<dyn Observe>),
            },
        )))
    }
}

impl ModelControl for Fake {
    fn engines(&self) -> Vec<String> {
        vec!["fake: <none>".to_owned()]
    }

    fn index(&self) -> Vec<ModelStatus> {
        let version = |name: &str, version| ModelStatus {
            name: name.to_owned(),
            version: Some(version),
            state: Some(ModelState::Ready),
            reason: String::new(),
        };
        let ready = MODELS.into_iter().flat_map(|(name, versions)| versions.iter().map(move |&n| version(name, n)));
        let broken = ModelStatus {
            name: "broken".to_owned(),
            version: Some(1),
            state: Some(ModelState::Failed),
            reason: "<script>alert('x')</script>".to_owned(),
        };
        std::iter::once(broken).chain(ready).collect()
    }

    fn is_model_ready(&self, model: &ModelRef) -> bool {
        self.resolve(model).is_ok()
    }

    fn resident(&self) -> Vec<ResidentModel> {
        let pinned = self.pinned.lock().unwrap();
        let resident = |(name, versions): (&str, &[u64])| ResidentModel {
            name: name.to_owned(),
            version: versions.last().copied().unwrap(),
            memory_bytes: 4096,
            pinned: pinned.contains(name),
            in_flight: 0,
            last_used_ms_ago: 12,
            loads: 1,
        };
        MODELS.into_iter().map(resident).collect()
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { resident_bytes: 1 << 20, limit_bytes: Some(1 << 30) }
    }

    fn pin<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.resolve(&ModelRef::latest(ModelName::new(model)?))?;
            self.pinned.lock().unwrap().insert(model.to_owned());
            Ok(())
        })
    }

    fn unpin(&self, model: &str) -> Result<()> {
        self.resolve(&ModelRef::latest(ModelName::new(model)?))?;
        self.pinned.lock().unwrap().remove(model);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }

    fn load<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>> {
        self.changes.lock().unwrap().push(format!("load {model}"));
        Box::pin(async move {
            if model == "echo" { Ok(()) } else { Err(Error::not_found(format!("failed to load '{model}'"))) }
        })
    }

    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>> {
        self.changes.lock().unwrap().push(format!("unload {model}"));
        Box::pin(async { Ok(()) })
    }

    fn statistics(&self, model: Option<&ModelRef>) -> Result<Vec<ModelStatistics>> {
        let (name, version) = match model {
            Some(model) => self.resolve(model)?,
            None => ("echo", 1),
        };
        Ok(vec![ModelStatistics { name: name.to_owned(), version, inference_count: 7, ..Default::default() }])
    }

    fn purge_cache<'a>(&'a self, model: Option<&'a ModelRef>) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            match model {
                Some(model) => self.resolve(model).map(|_| 3),
                None => Ok(7),
            }
        })
    }

    fn graph(&self, model: &ModelRef) -> Result<EnsembleGraph> {
        let (name, version) = self.resolve(model)?;
        if name != "echo" {
            return Err(Error::invalid_input(format!("model '{model}' is no ensemble: it has no steps")));
        }
        let step = GraphStep {
            name: "only".into(),
            model: "busy".parse()?,
            inputs: vec![("x".into(), vec!["x".to_owned()])],
            after: Vec::new(),
            when: Some("x < 0.5".to_owned()),
            is_each: false,
            fallback: None,
            timeout: None,
            on_failure: OnFailure::Fail,
            statistics: StepStatistics { runs: 3, ..StepStatistics::default() },
        };
        let (inputs, outputs) = (vec!["x".into()], vec![("y".into(), vec!["only.y".to_owned()])]);
        Ok(EnsembleGraph { name: name.into(), version, inputs, steps: vec![step], outputs })
    }

    fn config(&self, model: &ModelRef) -> Result<ModelConfig> {
        self.resolve(model)?;
        Ok(ModelConfig { platform: "fake_platform".to_owned(), ..ModelConfig::default() })
    }
}
