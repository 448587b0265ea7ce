//! Joins what the protocols measure to the metrics that the runtime keeps for a model.

use std::time::Duration;

use salver_core::Observe;
use salver_telemetry::ModelMetrics;

/// Records under the metrics of one version.
#[derive(Debug)]
pub(crate) struct Observer(pub(crate) ModelMetrics);

impl Observe for Observer {
    fn protocol(&self, decode: Duration, encode: Duration) {
        self.0.observe_protocol(decode, encode);
    }
}
