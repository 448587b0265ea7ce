//! What the server tells about itself: metrics with typed handles, and logging.
//!
//! Every metric's name stands once, in `names.rs`. Labels come only from loaded models and fixed
//! lists, never from the wire, so the number of series is bounded by what is served.

mod histogram;
mod logging;
mod metrics;
pub mod names;
mod process;
mod striped;

pub use logging::{LogFormat, LogLevels, TRACE_TARGET, change_log_levels, init_logging, log_levels};
pub use metrics::{
    CacheMetrics, CacheResult, Dependency, InFlight, JobMetrics, LookupMetrics, LookupResult, Metrics,
    ModelCacheMetrics, ModelMetrics, Outcome, RemoteMetrics, RemoteOutcome, Replaced, TaskMetrics, Timing,
    TritonCacheCounters, TritonCounters,
};
pub use process::{resident_bytes, resident_shared_bytes};
pub use striped::{stripe, striped, stripes};
