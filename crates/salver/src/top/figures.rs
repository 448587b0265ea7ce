//! What two looks at a server say together: rates and quantiles of the time between them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::scrape::{Cache, Counts, Key, Scrape};
use crate::cli::TopSort;

/// All figures of one interval. What is not known is none.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The time between the two looks.
    pub interval_ms: Option<u64>,
    /// The server as a whole.
    pub server: ServerFigures,
    /// Its models, in the order asked for.
    pub models: Vec<ModelFigures>,
}

/// The server as a whole.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ServerFigures {
    /// How long it runs.
    pub uptime_s: Option<u64>,
    /// Requests to all models.
    pub requests_per_s: Option<f64>,
    /// Those that ended with an error, too late, or refused.
    pub errors_per_s: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
    /// Processor time per time.
    pub cpu_cores: Option<f64>,
}

/// One version.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ModelFigures {
    /// The model.
    pub model: String,
    /// The version, if there is one.
    pub version: Option<u64>,
    /// Its state, in lower case.
    pub state: Option<String>,
    /// Requests, however they ended.
    pub requests_per_s: Option<f64>,
    /// Those that ended with an error, too late, or refused.
    pub errors_per_s: Option<f64>,
    /// Half of the requests took at most this long.
    pub p50_s: Option<f64>,
    /// All but one in a hundred took at most this long.
    pub p99_s: Option<f64>,
    /// Requests that wait.
    pub queue: Option<u64>,
    /// Rows per execution.
    pub mean_batch_rows: Option<f64>,
    /// Memory that it takes.
    pub memory_bytes: Option<u64>,
    /// The share of requests that the cache answered.
    pub cache_hit_share: Option<f64>,
}

impl Figures {
    /// Compares a look with the one before it, `elapsed` ago; the first look has no rates.
    pub(crate) fn new(before: Option<(&Scrape, Duration)>, after: &Scrape, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let models = after.models.iter().map(|(key, counts)| {
            let before = before.map(|(scrape, elapsed)| (scrape.models.get(key), elapsed.as_secs_f64()));
            ModelFigures::new(key, before, counts)
        });
        let models: Vec<ModelFigures> = models.collect();
        let total = |of: fn(&ModelFigures) -> Option<f64>| before.map(|_| models.iter().filter_map(of).sum());
        let server = ServerFigures {
            uptime_s: after.started.map(|started| (now.as_secs_f64() - started).max(0.0) as u64),
            requests_per_s: total(|model| model.requests_per_s),
            errors_per_s: total(|model| model.errors_per_s),
            memory_bytes: after.memory.map(|bytes| bytes as u64),
            cpu_cores: before
                .and_then(|(before, elapsed)| Some(grown(before.cpu?, after.cpu?) / elapsed.as_secs_f64())),
        };
        let interval_ms = before.map(|(_, elapsed)| millis(elapsed));
        Self { time_ms: millis(now), interval_ms, server, models }
    }

    /// Puts the models into an order: what is most in demand first, or by name.
    pub(crate) fn sort(&mut self, by: TopSort) {
        let rank = |model: &ModelFigures| match by {
            TopSort::Rate => model.requests_per_s,
            TopSort::Latency => model.p99_s,
            TopSort::Memory => model.memory_bytes.map(|bytes| bytes as f64),
            TopSort::Name => None,
        };
        // They come by name and version, and a stable order keeps equals that way.
        self.models.sort_by(|a, b| rank(b).unwrap_or(-1.0).total_cmp(&rank(a).unwrap_or(-1.0)));
    }
}

impl ModelFigures {
    fn new((model, version): &Key, before: Option<(Option<&Counts>, f64)>, after: &Counts) -> Self {
        let now = Self {
            model: model.clone(),
            version: *version,
            state: after.state.clone(),
            queue: after.queue.map(|requests| requests as u64),
            memory_bytes: after.memory.map(|bytes| bytes as u64),
            ..Self::default()
        };
        let Some((before, elapsed)) = before else {
            return now;
        };
        // Series that were not there yet began at zero.
        let nothing = Counts::default();
        let before = before.unwrap_or(&nothing);
        let rate = |of: fn(&Counts) -> f64| Some(grown(of(before), of(after)) / elapsed);
        let duration = after.duration.since(&before.duration);
        let batches = grown(before.batches, after.batches);
        Self {
            requests_per_s: rate(|counts| counts.requests),
            errors_per_s: rate(|counts| counts.errors),
            p50_s: duration.quantile(0.5),
            p99_s: duration.quantile(0.99),
            mean_batch_rows: (batches > 0.0).then(|| grown(before.rows, after.rows) / batches),
            cache_hit_share: after.cache.and_then(|cache| hit_share(before.cache.unwrap_or_default(), cache)),
            ..now
        }
    }
}

fn hit_share(before: Cache, after: Cache) -> Option<f64> {
    let asked = grown(before.asked, after.asked);
    (asked > 0.0).then(|| grown(before.answered, after.answered) / asked)
}

/// What a counter grew by; one that has shrunk has begun anew at zero.
fn grown(before: f64, after: f64) -> f64 {
    if after >= before { after - before } else { after }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELAPSED: Duration = Duration::from_secs(2);

    fn text(model: &str, success: u64, errors: u64, fast: u64, batches: u64, rows: u64) -> String {
        let labels = format!("model=\"{model}\",version=\"1\"");
        let all = success + errors;
        format!(
            "ml_inference_total{{{labels},status=\"success\"}} {success}\n\
             ml_inference_total{{{labels},status=\"error\"}} {errors}\n\
             ml_inference_duration_seconds_bucket{{{labels},le=\"0.001\"}} {fast}\n\
             ml_inference_duration_seconds_bucket{{{labels},le=\"0.01\"}} {all}\n\
             ml_inference_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {all}\n\
             salver_batch_rows_count{{{labels}}} {batches}\nsalver_batch_rows_sum{{{labels}}} {rows}\n"
        )
    }

    fn figures(before: Option<&str>, after: &str) -> Figures {
        let before = before.map(|text| Scrape::read(text).unwrap());
        let after = Scrape::read(after).unwrap();
        Figures::new(before.as_ref().map(|scrape| (scrape, ELAPSED)), &after, UNIX_EPOCH + Duration::from_secs(1000))
    }

    #[test]
    fn rates_are_of_the_interval() {
        let (before, after) = (text("m", 1000, 10, 500, 100, 1000), text("m", 1180, 30, 600, 140, 1200));
        let server = "process_start_time_seconds 400.5\nprocess_cpu_seconds_total ";
        let figures = figures(Some(&format!("{before}{server}7\n")), &format!("{after}{server}10\n"));
        let model = &figures.models[0];
        assert_eq!((model.requests_per_s, model.errors_per_s), (Some(100.0), Some(10.0)));
        assert_eq!((model.p50_s, model.mean_batch_rows), (Some(0.001), Some(5.0)));
        assert!(model.p99_s.is_some_and(|seconds| (0.0098..0.01).contains(&seconds)), "{model:?}");
        assert_eq!((model.queue, model.memory_bytes, model.cache_hit_share), (None, None, None));
        let server = &figures.server;
        assert_eq!((server.uptime_s, server.cpu_cores, server.requests_per_s), (Some(599), Some(1.5), Some(100.0)));
    }

    #[test]
    fn the_first_look_has_no_rates_and_an_idle_interval_no_quantiles() {
        let text = text("m", 5, 0, 5, 1, 5);
        let first = figures(None, &text);
        assert_eq!(
            (first.models[0].requests_per_s, first.interval_ms, first.server.requests_per_s),
            (None, None, None)
        );
        let idle = figures(Some(&text), &text);
        let model = &idle.models[0];
        assert_eq!((model.requests_per_s, model.p50_s, model.mean_batch_rows), (Some(0.0), None, None));
    }

    #[test]
    fn a_restarted_server_counts_from_zero_and_so_does_a_new_model() {
        let restarted = figures(Some(&text("m", 1000, 0, 1000, 100, 100)), &text("m", 50, 0, 50, 10, 50));
        assert_eq!(restarted.models[0].requests_per_s, Some(25.0));
        assert_eq!(restarted.models[0].mean_batch_rows, Some(5.0));
        let new = figures(Some(""), &text("m", 50, 0, 50, 10, 50));
        assert_eq!(new.models[0].requests_per_s, Some(25.0));
    }

    #[test]
    fn models_are_sorted_with_the_unknown_last_and_equals_by_name() {
        let model = |name: &str, rate, p99_s| ModelFigures {
            model: name.to_owned(),
            requests_per_s: rate,
            p99_s,
            ..ModelFigures::default()
        };
        let mut figures = figures(None, "");
        figures.models = vec![
            model("a", None, Some(3.0)),
            model("b", Some(1.0), None),
            model("c", Some(2.0), Some(4.0)),
            model("d", Some(2.0), None),
        ];
        let mut order = |by| {
            figures.models.sort_by(|a, b| a.model.cmp(&b.model));
            figures.sort(by);
            figures.models.iter().map(|model| &*model.model).collect::<String>()
        };
        assert_eq!(order(TopSort::Rate), "cdba");
        assert_eq!(order(TopSort::Latency), "cabd");
        assert_eq!(order(TopSort::Memory), "abcd");
        assert_eq!(order(TopSort::Name), "abcd");
    }
}
