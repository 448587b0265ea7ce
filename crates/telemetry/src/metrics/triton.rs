//! Triton's names for the counters that there are, for dashboards that were made for it.
//!
//! Nothing is counted twice: outcomes and queues are those of the other families, the rest is what
//! the statistics extension answers. In OpenMetrics the name of a counter ends in `_total`; Triton's
//! do not, so these families have the type `unknown`, which Prometheus treats alike.

use std::fmt::Write as _;

use super::Metrics;
use super::labels::ModelLabels;
use super::model::Outcome;
use crate::names::triton as names;

/// What only who serves a version counts. Times are in microseconds, summed over requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TritonCounters {
    /// The model's name.
    pub model: String,
    /// The version.
    pub version: u64,
    /// Rows inferred; those that a cache answered do not count.
    pub inferences: u64,
    /// Executions of the model.
    pub executions: u64,
    /// From admission to answer.
    pub request_us: u64,
    /// Waiting in the queue.
    pub queue_us: u64,
    /// Assembling inputs.
    pub compute_input_us: u64,
    /// Inside the engine.
    pub compute_infer_us: u64,
    /// Cutting outputs apart.
    pub compute_output_us: u64,
    /// What a cache was asked; none: the model's answers are not cached.
    pub cache: Option<TritonCacheCounters>,
}

/// What a cache was asked by requests to one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TritonCacheCounters {
    /// Requests that it answered.
    pub hits: u64,
    /// Time that these took.
    pub hit_us: u64,
    /// Requests that it did not answer.
    pub misses: u64,
    /// Time that looking took in these.
    pub miss_us: u64,
}

/// Triton's reasons for a failed request, and the outcomes that they stand for.
const REASONS: [(&str, &[Outcome]); 4] = [
    ("REJECTED", &[Outcome::Rejected, Outcome::Timeout]),
    ("CANCELED", &[Outcome::Cancelled]),
    ("BACKEND", &[Outcome::Error]),
    ("OTHER", &[]),
];

impl Metrics {
    /// Renders everything, and the counters of these versions under Triton's names besides.
    pub fn render_with_triton(&self, versions: &[TritonCounters]) -> String {
        let mut text = self.render();
        const END: &str = "# EOF\n";
        let has_end = text.ends_with(END);
        text.truncate(text.len() - if has_end { END.len() } else { 0 });
        // Writing into a String cannot fail.
        let _ = self.write_triton(&mut text, versions);
        if has_end {
            text.push_str(END);
        }
        text
    }

    fn write_triton(&self, text: &mut String, versions: &[TritonCounters]) -> std::fmt::Result {
        let outcome = |of: &TritonCounters, outcome: Outcome| {
            let labels = ModelLabels { model: of.model.clone(), version: of.version };
            self.models.total.get(&labels.with_outcome(outcome)).map_or(0, |counter| counter.get())
        };
        let pending = |of: &TritonCounters| {
            let labels = ModelLabels { model: of.model.clone(), version: of.version };
            self.models.queue.get(&labels).map_or(0, |gauge| gauge.get().unsigned_abs())
        };
        family(text, names::SUCCESS, "unknown", "Requests that were answered", versions, |of| {
            outcome(of, Outcome::Success)
        })?;
        head(text, names::FAILURE, "unknown", "Requests that failed, by reason")?;
        for of in versions {
            for (reason, outcomes) in REASONS {
                let count: u64 = outcomes.iter().map(|which| outcome(of, *which)).sum();
                let (model, version) = (escaped(&of.model), of.version);
                let name = names::FAILURE;
                writeln!(text, "{name}{{model=\"{model}\",version=\"{version}\",reason=\"{reason}\"}} {count}")?;
            }
        }
        type Read = fn(&TritonCounters) -> u64;
        let counters: [(&str, &str, Read); 7] = [
            (names::COUNT, "Rows inferred, without those that a cache answered", |of| of.inferences),
            (names::EXECUTIONS, "Executions of the model", |of| of.executions),
            (names::REQUEST, "Microseconds of requests that were answered", |of| of.request_us),
            (names::QUEUE, "Microseconds of waiting in the queue", |of| of.queue_us),
            (names::COMPUTE_INPUT, "Microseconds of assembling inputs", |of| of.compute_input_us),
            (names::COMPUTE_INFER, "Microseconds inside the engine", |of| of.compute_infer_us),
            (names::COMPUTE_OUTPUT, "Microseconds of cutting outputs apart", |of| of.compute_output_us),
        ];
        for (name, help, read) in counters {
            family(text, name, "unknown", help, versions, read)?;
        }
        family(text, names::PENDING, "gauge", "Requests that wait for an instance", versions, pending)?;
        type ReadCache = fn(&TritonCacheCounters) -> u64;
        let of_cache: [(&str, &str, ReadCache); 4] = [
            (names::CACHE_HITS, "Requests that the response cache answered", |cache| cache.hits),
            (names::CACHE_MISSES, "Requests that the response cache did not answer", |cache| cache.misses),
            (names::CACHE_HIT_TIME, "Microseconds of requests that the cache answered", |cache| cache.hit_us),
            (names::CACHE_MISS_TIME, "Microseconds of looking into the cache in vain", |cache| cache.miss_us),
        ];
        for (name, help, read) in of_cache {
            head(text, name, "unknown", help)?;
            for (of, cache) in versions.iter().filter_map(|of| Some((of, of.cache.as_ref()?))) {
                sample(text, name, of, read(cache))?;
            }
        }
        Ok(())
    }
}

fn family(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    versions: &[TritonCounters],
    read: impl Fn(&TritonCounters) -> u64,
) -> std::fmt::Result {
    head(text, name, kind, help)?;
    versions.iter().try_for_each(|of| sample(text, name, of, read(of)))
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}")
}

fn sample(text: &mut String, name: &str, of: &TritonCounters, value: u64) -> std::fmt::Result {
    writeln!(text, "{name}{{model=\"{}\",version=\"{}\"}} {value}", escaped(&of.model), of.version)
}

fn escaped(model: &str) -> String {
    model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
