//! What one look at a server says: the counts of `/metrics` and the states of its index.
//!
//! What an older or smaller server does not show stays empty.

use std::collections::BTreeMap;

use salver_telemetry::names;
use serde_json::Value;

use super::exposition::{Malformed, Sample, parse};
use super::quantile::Cumulative;

/// A model and its version; none for what stands for the whole model.
pub(crate) type Key = (String, Option<u64>);

/// One look at a server.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    /// By model and version.
    pub models: BTreeMap<Key, Counts>,
    /// Seconds since 1970.
    pub started: Option<f64>,
    /// Seconds of processor time.
    pub cpu: Option<f64>,
    /// Resident bytes.
    pub memory: Option<f64>,
}

/// The counts of one version. They only ever grow, apart from the gauges at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Requests, however they ended.
    pub requests: f64,
    /// Those that ended with an error, too late, or refused.
    pub errors: f64,
    /// How long they took.
    pub duration: Cumulative,
    /// Executions.
    pub batches: f64,
    /// Their rows.
    pub rows: f64,
    /// What the cache was asked, and what it had; none without a cache.
    pub cache: Option<Cache>,
    /// Requests waiting now.
    pub queue: Option<f64>,
    /// Bytes taken now.
    pub memory: Option<f64>,
    /// The state now.
    pub state: Option<String>,
}

/// Requests to the response cache.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cache {
    /// Those that it could have answered.
    pub asked: f64,
    /// Those that it answered.
    pub answered: f64,
}

impl Scrape {
    /// Reads the text of `/metrics`.
    ///
    /// # Errors
    /// The first line that is no sample.
    pub(crate) fn read(text: &str) -> Result<Self, Malformed> {
        let mut scrape = Self::default();
        for sample in parse(text)? {
            scrape.take(&sample);
        }
        Ok(scrape)
    }

    /// Adds what only the index knows: models that are not loaded, and why.
    pub(crate) fn add_index(&mut self, index: &Value) {
        for entry in index.as_array().into_iter().flatten() {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            let Some(name) = text("name") else {
                continue;
            };
            let version = text("version").and_then(|version| version.parse().ok());
            let counts = self.models.entry((name.to_owned(), version)).or_default();
            if counts.state.is_none() {
                counts.state = text("state").map(str::to_lowercase);
            }
        }
    }

    fn take(&mut self, sample: &Sample<'_>) {
        match sample.name {
            names::PROCESS_START_TIME => self.started = Some(sample.value),
            names::PROCESS_RESIDENT_MEMORY => self.memory = Some(sample.value),
            name if is_total(name, names::PROCESS_CPU) => self.cpu = Some(sample.value),
            _ => self.take_of_model(sample),
        }
    }

    fn take_of_model(&mut self, sample: &Sample<'_>) {
        let (Some(model), Some(version)) = (sample.label("model"), sample.label("version")) else {
            return;
        };
        let Ok(version) = version.parse() else {
            return;
        };
        self.models.entry((model.to_owned(), Some(version))).or_default().take(sample);
    }
}

impl Counts {
    fn take(&mut self, sample: &Sample<'_>) {
        let Sample { name, value, .. } = *sample;
        match name {
            names::QUEUE => self.queue = Some(value),
            names::MODEL_MEMORY => self.memory = Some(value),
            names::MODEL_STATE if value == 1.0 => self.state = sample.label("state").map(str::to_owned),
            _ if is_total(name, names::INFERENCES) => {
                self.requests += value;
                if matches!(sample.label("status"), Some("error" | "timeout" | "rejected")) {
                    self.errors += value;
                }
            }
            _ if is_total(name, names::CACHE_REQUESTS) => self.take_cache(sample.label("result"), value),
            _ => self.take_histogram(sample),
        }
    }

    fn take_histogram(&mut self, sample: &Sample<'_>) {
        let Some((family, part)) = sample.name.rsplit_once('_') else {
            return;
        };
        match (family, part) {
            (names::INFERENCE_DURATION, "bucket") => {
                if let Some(bound) = sample.label("le").and_then(|bound| bound.parse().ok()) {
                    self.duration.push(bound, sample.value);
                }
            }
            (names::BATCH_ROWS, "count") => self.batches = sample.value,
            (names::BATCH_ROWS, "sum") => self.rows = sample.value,
            _ => {}
        }
    }

    fn take_cache(&mut self, result: Option<&str>, value: f64) {
        let cache = self.cache.get_or_insert_default();
        match result {
            Some("hit" | "shared" | "joined") => {
                cache.asked += value;
                cache.answered += value;
            }
            Some("miss") => cache.asked += value,
            _ => {}
        }
    }
}

/// Whether `name` is that of the counter `family`.
fn is_total(name: &str, family: &str) -> bool {
    name.strip_suffix("_total") == Some(family)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use salver_telemetry::{Metrics, Outcome};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_servers_own_metrics_are_understood() {
        let metrics = Metrics::new();
        let model = metrics.model("iris", 3);
        model.start(None).finish(Outcome::Success);
        model.start(None).finish(Outcome::Error);
        drop(model.start(Some(Instant::now())));
        drop(model.start(None));
        model.observe_batch(6);
        model.observe_batch(2);
        model.queue_grew(5);
        model.observe_queue(Duration::from_secs(1));
        metrics.model_state("iris", 3, None, Some("ready"));
        let scrape = Scrape::read(&metrics.render()).unwrap();
        let counts = &scrape.models[&("iris".to_owned(), Some(3))];
        assert_eq!((counts.requests, counts.errors), (4.0, 2.0));
        assert_eq!((counts.batches, counts.rows, counts.queue), (2.0, 8.0, Some(5.0)));
        assert!(counts.duration.quantile(0.5).is_some_and(|seconds| seconds < 1.0));
        assert_eq!(counts.state.as_deref(), Some("ready"));
        assert!(counts.cache.is_none() && counts.memory.is_none());
        assert!(scrape.started.is_some() && scrape.cpu.is_some());
    }

    #[test]
    fn cache_and_memory_are_read_where_they_are_shown() {
        let labels = |result| format!("salver_cache_requests_total{{model=\"m\",version=\"1\",result=\"{result}\"}}");
        let text = format!(
            "{} 3\n{} 1\n{} 2\n{} 4\n{} 9\nsalver_model_memory_bytes{{model=\"m\",version=\"1\"}} 4096\n",
            labels("hit"),
            labels("shared"),
            labels("joined"),
            labels("miss"),
            labels("bypass")
        );
        let scrape = Scrape::read(&text).unwrap();
        let counts = &scrape.models[&("m".to_owned(), Some(1))];
        let cache = counts.cache.unwrap();
        assert_eq!((cache.asked, cache.answered, counts.memory), (10.0, 6.0, Some(4096.0)));
    }

    #[test]
    fn the_index_adds_what_has_no_series() {
        let mut scrape = Scrape::read("salver_model_state{model=\"m\",version=\"1\",state=\"draining\"} 1\n").unwrap();
        scrape.add_index(&json!([
            {"name": "m", "version": "1", "state": "UNAVAILABLE"},
            {"name": "bad", "state": "UNAVAILABLE", "reason": "line 3"},
            {"name": "new"},
            {"version": "1"},
            7,
        ]));
        let states: Vec<_> =
            scrape.models.iter().map(|((name, _), counts)| (&**name, counts.state.as_deref())).collect();
        assert_eq!(states, [("bad", Some("unavailable")), ("m", Some("draining")), ("new", None)]);
        scrape.add_index(&json!({"error": "no"}));
        assert_eq!(scrape.models.len(), 3);
    }
}
