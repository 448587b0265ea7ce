//! The statistics of served versions, as the metrics with Triton's names want them.

use salver_core::{DurationStat, ModelStatistics};
use salver_telemetry::{TritonCacheCounters, TritonCounters};

use crate::app::App;

/// Returns the counters of every version that is in memory.
pub(super) fn counters(app: &App) -> Vec<TritonCounters> {
    // Of everything, which cannot be unknown.
    app.services.control.statistics(None).unwrap_or_default().iter().map(of_version).collect()
}

fn of_version(statistics: &ModelStatistics) -> TritonCounters {
    let (hit, miss) = (statistics.cache_hit, statistics.cache_miss);
    let cache = TritonCacheCounters { hits: hit.count, hit_us: us(hit), misses: miss.count, miss_us: us(miss) };
    TritonCounters {
        model: statistics.name.clone(),
        version: statistics.version,
        inferences: statistics.inference_count,
        executions: statistics.execution_count,
        request_us: us(statistics.success),
        queue_us: us(statistics.queue),
        compute_input_us: us(statistics.compute_input),
        compute_infer_us: us(statistics.compute_infer),
        compute_output_us: us(statistics.compute_output),
        cache: (hit.count + miss.count > 0).then_some(cache),
    }
}

fn us(stat: DurationStat) -> u64 {
    u64::try_from(stat.total.as_micros()).unwrap_or(u64::MAX)
}
