//! Asking for models to be loaded and unloaded, and seeing what is.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::{EnsembleGraph, Error, LoadOverride, ModelConfig, ModelRef, Result};

/// What admin routes and the model repository extension need.
pub trait ModelControl: Send + Sync + 'static {
    /// Lists every known version, and models without one, by name and version.
    fn index(&self) -> Vec<ModelStatus>;

    /// Describes the engines in the order in which they are tried, a line each.
    fn engines(&self) -> Vec<String>;

    /// Whether every model that should serve does (strict readiness).
    fn is_ready(&self) -> bool;

    /// Whether a request to `model` would be answered: it serves, or is loaded at first use and
    /// nothing is known to be wrong with it.
    fn is_model_ready(&self, model: &ModelRef) -> bool;

    /// Loads or reloads a model from its source and returns once it serves.
    ///
    /// # Errors
    /// `NotFound` for an unknown model, `NotReady` outside explicit control, else what the files
    /// or the engine said.
    fn load<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Loads a model with a configuration, and perhaps files, in place of its own, and returns once
    /// it serves. What served before serves on where that fails. The next [`ModelControl::load`]
    /// returns to the model's source.
    ///
    /// # Errors
    /// As [`ModelControl::load`], and `InvalidInput` for what was sent and does not read, fit or
    /// load; `Unsupported` where nothing may be sent.
    fn load_with<'a>(&'a self, model: &'a str, by: LoadOverride) -> BoxFuture<'a, Result<()>> {
        drop(by);
        let error = Error::unsupported(format!("model '{model}' can only be loaded as it is"));
        Box::pin(std::future::ready(Err(error)))
    }

    /// Stops serving a model; what is in flight is finished in the background.
    ///
    /// # Errors
    /// `NotReady` outside explicit control. An unknown model is no error.
    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Lists the versions that are in memory, by name and version.
    fn resident(&self) -> Vec<ResidentModel>;

    /// Returns how much memory the process holds and may hold.
    fn memory(&self) -> MemoryUse;

    /// Keeps a model in memory from now on, until it is unpinned or the process ends. A model that
    /// is not in memory and may be loaded at any time is loaded first.
    ///
    /// # Errors
    /// `NotFound` for an unknown model, `NotReady` where it does not load; it is not pinned then.
    fn pin<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Lets a model leave memory again to make room.
    ///
    /// # Errors
    /// `NotFound` for an unknown model. One that is not pinned is no error.
    fn unpin(&self, model: &str) -> Result<()>;

    /// Returns the counters of one version, of all versions of a model, or of everything.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version.
    fn statistics(&self, model: Option<&ModelRef>) -> Result<Vec<ModelStatistics>>;

    /// Returns the effective configuration, with what the graph says filled in.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version.
    fn config(&self, model: &ModelRef) -> Result<ModelConfig>;

    /// Describes the steps of an ensemble, and what they did since it was loaded.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version, `NotReady` for one that is not in memory,
    /// `InvalidInput` for a model that is no ensemble.
    fn graph(&self, model: &ModelRef) -> Result<EnsembleGraph> {
        Err(Error::invalid_input(format!("model '{model}' is no ensemble: it has no steps")))
    }

    /// Forgets the cached answers of one version, of all versions of a model, or of everything,
    /// and returns how many this server had. The level that servers share forgets whole models;
    /// other servers keep what they have in memory.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version, `NotReady` where the shared level cannot be
    /// reached: this server's own memory is purged even so.
    fn purge_cache<'a>(&'a self, model: Option<&'a ModelRef>) -> BoxFuture<'a, Result<u64>>;
}

/// One version in the index; no version: a model that was never loaded or whose folder is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatus {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: Option<u64>,
    /// Its state; none: never loaded.
    pub state: Option<ModelState>,
    /// Why it is in that state, for people.
    pub reason: String,
}

/// One version in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidentModel {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// What it takes: measured when it was loaded under a memory limit, else the engine's estimate.
    pub memory_bytes: u64,
    /// Whether it never leaves to make room.
    pub pinned: bool,
    /// Requests that wait or run.
    pub in_flight: usize,
    /// Milliseconds since the last request; since it was loaded, where there was none.
    pub last_used_ms_ago: u64,
    /// How often it was loaded since the process started.
    pub loads: u64,
}

/// Memory of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Resident bytes of the whole process; 0 where the system does not tell.
    pub resident_bytes: u64,
    /// The most that it should hold; none: no limit.
    pub limit_bytes: Option<u64>,
}

/// The state of one version. States run one way; a retry is a new start. Only
/// a version whose instances end again and again goes from `Ready` to `Failed` and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelState {
    /// Waits for its turn.
    Pending,
    /// The engine reads it.
    Loading,
    /// Runs its warm-up requests.
    Warming,
    /// Serves.
    Ready,
    /// Finishes what is in flight, takes nothing new.
    Draining,
    /// Unloaded.
    Gone,
    /// Could not be loaded, or what runs it ends again and again.
    Failed,
}

impl ModelState {
    /// Returns the state in lower case, as people and metrics see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Loading => "loading",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

/// How often something happened and how long it took in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationStat {
    /// How often.
    pub count: u64,
    /// How long in all.
    pub total: Duration,
}

/// Counters of one version since it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelStatistics {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// Milliseconds since the epoch of the last inference; 0: none yet.
    pub last_inference_ms: u64,
    /// Rows inferred.
    pub inference_count: u64,
    /// Model executions.
    pub execution_count: u64,
    /// Requests answered.
    pub success: DurationStat,
    /// Requests failed after they were queued.
    pub fail: DurationStat,
    /// Waiting in the queue.
    pub queue: DurationStat,
    /// Assembling inputs.
    pub compute_input: DurationStat,
    /// Inside the engine.
    pub compute_infer: DurationStat,
    /// Cutting outputs apart.
    pub compute_output: DurationStat,
    /// Requests answered from a cache, or by an identical request in flight.
    pub cache_hit: DurationStat,
    /// Looking into a cache in vain.
    pub cache_miss: DurationStat,
    /// Executions by batch size, ascending.
    pub batches: Vec<BatchStat>,
}

/// Executions of one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchStat {
    /// Rows of the batch.
    pub batch_size: usize,
    /// Assembling inputs.
    pub compute_input: DurationStat,
    /// Inside the engine.
    pub compute_infer: DurationStat,
    /// Cutting outputs apart.
    pub compute_output: DurationStat,
}
