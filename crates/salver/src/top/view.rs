//! Figures as a table for people.

use std::time::Duration;

use super::figures::{Figures, ModelFigures, ServerFigures};
use crate::{out, units};

/// Stands for what is not known.
const UNKNOWN: &str = "-";

/// Returns a line about the server and a table of its models.
pub(crate) fn table(server: &str, figures: &Figures) -> String {
    let head = head(server, &figures.server);
    if figures.models.is_empty() {
        return format!("{head}\n\nThe server has no models.");
    }
    let mut rows = out::Rows::new(&[
        "model", ">version", "state", ">req/s", ">err/s", ">p50", ">p99", ">queue", ">batch", ">memory", ">cache",
    ]);
    for model in &figures.models {
        rows.push(cells(model));
    }
    format!("{head}\n\n{rows}")
}

fn head(server: &str, figures: &ServerFigures) -> String {
    let parts = [
        Some(server.to_owned()),
        figures.uptime_s.map(|seconds| format!("up {}", units::long_time(Duration::from_secs(seconds)))),
        figures.requests_per_s.map(|rate| format!("{} req/s", units::rate(rate))),
        figures.errors_per_s.map(|rate| format!("{} err/s", units::rate(rate))),
        figures.memory_bytes.map(|bytes| format!("{} resident", units::bytes(bytes))),
        figures.cpu_cores.map(|cores| format!("{cores:.2} cores busy")),
    ];
    out::printable(&parts.into_iter().flatten().collect::<Vec<_>>().join(" · "))
}

fn cells(model: &ModelFigures) -> [String; 11] {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    [
        model.model.clone(),
        or_unknown(model.version.map(|version| version.to_string())),
        model.state.clone().unwrap_or_else(|| "not loaded".to_owned()),
        or_unknown(model.requests_per_s.map(units::rate)),
        or_unknown(model.errors_per_s.map(units::rate)),
        or_unknown(model.p50_s.map(units::short_time)),
        or_unknown(model.p99_s.map(units::short_time)),
        or_unknown(model.queue.map(|requests| requests.to_string())),
        or_unknown(model.mean_batch_rows.map(|rows| format!("{rows:.1}"))),
        or_unknown(model.memory_bytes.map(units::bytes)),
        or_unknown(model.cache_hit_share.map(|share| format!("{:.0} %", share * 100.0))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(models: Vec<ModelFigures>) -> Figures {
        Figures { time_ms: 0, interval_ms: Some(1000), server: ServerFigures::default(), models }
    }

    #[test]
    fn each_figure_has_its_column_and_unit() {
        let busy = ModelFigures {
            model: "iris".to_owned(),
            version: Some(3),
            state: Some("ready".to_owned()),
            requests_per_s: Some(1520.4),
            errors_per_s: Some(0.0),
            p50_s: Some(0.000_41),
            p99_s: Some(0.002_3),
            queue: Some(7),
            mean_batch_rows: Some(4.25),
            memory_bytes: Some(3 << 20),
            cache_hit_share: Some(0.613),
        };
        let idle = ModelFigures { model: "e\u{1b}[31mvil".to_owned(), ..ModelFigures::default() };
        let mut figures = figures(vec![busy, idle]);
        figures.server = ServerFigures { uptime_s: Some(61), cpu_cores: Some(1.5), ..ServerFigures::default() };
        let text = table("http://a:1", &figures);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "http://a:1 · up 1 min 1 s · 1.50 cores busy");
        assert_eq!(lines[2], "model version state req/s err/s p50 p99 queue batch memory cache");
        assert_eq!(lines[4], "iris 3 ready 1520 0 410 µs 2.30 ms 7 4.2 3.0 MiB 61 %");
        assert_eq!(lines[5], "e\u{fffd}[31mvil - not loaded - - - - - - - -");
    }

    #[test]
    fn a_server_without_models_says_so() {
        assert!(table("http://a:1", &figures(vec![])).ends_with("The server has no models."));
    }
}
