//! What the server tells about itself: metrics with typed handles, and logging.
//!
//! Every metric name is defined once, in `metrics.rs`. Labels come only from loaded models and
//! fixed lists, never from the wire, so the number of series is bounded by what is served.

mod logging;
mod metrics;

pub use logging::{LogFormat, init_logging};
pub use metrics::{Metrics, ModelMetrics, Outcome, Timing};
