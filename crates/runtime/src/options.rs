//! Settings of a runtime.

use std::sync::Arc;
use std::time::Duration;

use salver_core::TaskMaker;

use crate::cache::CacheOptions;
use crate::recovery::Backoff;
use crate::residency::ResidencyOptions;

/// Who decides which models are loaded, with Triton's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ControlMode {
    /// Everything at start, nothing later.
    #[default]
    None,
    /// Everything, and changes of the folders are followed at this interval.
    Poll(Duration),
    /// What is named at start, and what clients ask for.
    Explicit,
}

/// Settings of a [`Runtime`].
#[derive(Debug, Clone, Default)]
pub struct RuntimeOptions {
    /// Who decides what is loaded.
    pub control: ControlMode,
    /// Models to load at start where not all are: under [`ControlMode::Explicit`] or a memory
    /// limit; `*`: every one there is.
    pub load: Vec<String>,
    /// Models to load at start in the same way, and to keep in memory.
    pub pin: Vec<String>,
    /// Loads models at first use and keeps a memory limit; none: what is wanted is loaded at once.
    pub residency: Option<ResidencyOptions>,
    /// Whether a model without warm-up requests of its own runs one of zeros before it serves.
    pub generated_warmup: bool,
    /// The most requests in flight per model; none: derived from its batch size and instances.
    pub max_queue: Option<usize>,
    /// The longest that a load may take before it counts as failed; none: as long as it takes.
    pub load_timeout: Option<Duration>,
    /// Inferences slower than this are logged as warnings.
    pub slow: Option<Duration>,
    /// How the best batch of a model is found when it is loaded; none: it is not looked for.
    pub tuning: Option<TuningOptions>,
    /// The most bytes of inputs that wait or run, over all models; none: no bound.
    pub max_waiting_bytes: Option<usize>,
    /// What of the answers is kept.
    pub cache: CacheOptions,
    /// Why no job can compute what is not in the cache: models with [`salver_core::OnMiss::Job`] are
    /// refused with that. None: jobs can, or nobody asks for them here.
    pub no_jobs: Option<String>,
    /// How long instances that run elsewhere, and end again and again, stay away.
    pub backoff: Backoff,
    /// Makes the tasks of models; none: models with one are refused.
    pub tasks: Option<Arc<dyn TaskMaker>>,
}

/// How the best batch of a model is found when it is loaded.
#[derive(Debug, Clone)]
pub struct TuningOptions {
    /// About how long that may take for one model.
    pub budget: Duration,
    /// The folder in which findings are kept between starts; none: they are not.
    pub notes: Option<std::path::PathBuf>,
}
