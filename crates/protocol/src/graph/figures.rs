//! What the steps of an ensemble did in a time, or since it was loaded.
//!
//! Pure: two looks at a graph and the time between them make a rate.

use std::time::Duration;

use super::{Graph, Statistics, Step};

/// A graph with what its steps did.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    graph: Graph,
    /// One for each step.
    figures: Vec<Figures>,
    interval: Option<Duration>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// In the interval; where there is none, since the ensemble was loaded.
    pub statistics: Statistics,
    /// Since the ensemble was loaded.
    pub so_far: Statistics,
    /// How long the interval was.
    pub interval: Option<Duration>,
}

impl Look {
    /// Takes what the steps did since the ensemble was loaded.
    pub fn so_far(graph: Graph) -> Self {
        let figure = |step: &Step| Figures { statistics: step.statistics, so_far: step.statistics, interval: None };
        Self { figures: graph.steps.iter().map(figure).collect(), graph, interval: None }
    }

    /// Takes what the steps did since an earlier look. An ensemble that was loaded again since then
    /// began to count anew.
    pub fn since(graph: Graph, before: &Graph, interval: Duration) -> Self {
        let figure = |step: &Step| {
            let earlier = before.steps.iter().find(|earlier| earlier.name == step.name);
            let earlier = earlier.filter(|_| before.version == graph.version);
            let statistics = earlier.map_or(step.statistics, |earlier| step.statistics.since(&earlier.statistics));
            Figures { statistics, so_far: step.statistics, interval: Some(interval) }
        };
        Self { figures: graph.steps.iter().map(figure).collect(), graph, interval: Some(interval) }
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the time that the figures are of; none: since the ensemble was loaded.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Returns the steps with what they did.
    pub fn steps(&self) -> impl Iterator<Item = (&Step, &Figures)> {
        self.graph.steps.iter().zip(&self.figures)
    }
}

impl Statistics {
    /// Returns what came to these counts after those of `before`.
    fn since(&self, before: &Self) -> Self {
        let less = || {
            Some(Self {
                runs: self.runs.checked_sub(before.runs)?,
                failed: self.failed.checked_sub(before.failed)?,
                skipped: self.skipped.checked_sub(before.skipped)?,
                fallbacks: self.fallbacks.checked_sub(before.fallbacks)?,
                total_ms: (self.total_ms - before.total_ms).max(0.0),
            })
        };
        less().unwrap_or(*self)
    }

    /// Returns how long a run took in the mean; none where nothing ran.
    pub fn mean_ms(&self) -> Option<f64> {
        (self.runs > 0).then(|| self.total_ms / self.runs as f64)
    }
}

impl Figures {
    /// Returns how many runs ended in a second; none where there is no interval.
    pub fn runs_per_s(&self) -> Option<f64> {
        let seconds = self.interval?.as_secs_f64();
        (seconds > 0.0).then(|| self.statistics.runs as f64 / seconds)
    }

    /// Writes rate and mean time: `118 runs/s · 1.25 ms`. Of a step that did not run in the interval,
    /// the mean time so far.
    pub fn pace(&self) -> String {
        let so_far = |runs: u64| format!("{runs} {}", if runs == 1 { "run" } else { "runs" });
        let mean = |statistics: &Statistics| statistics.mean_ms().map(|mean| format!(" · {}", time(mean)));
        match self.runs_per_s() {
            Some(rate) if self.statistics.runs > 0 => {
                format!("{} runs/s{}", decimals(rate), mean(&self.statistics).unwrap_or_default())
            }
            Some(_) if self.so_far.runs > 0 => {
                format!("idle · {}{}", so_far(self.so_far.runs), mean(&self.so_far).unwrap_or_default())
            }
            Some(_) => "idle · no run yet".to_owned(),
            None if self.so_far.runs > 0 => {
                format!("{}{}", so_far(self.so_far.runs), mean(&self.so_far).unwrap_or_default())
            }
            None => "no run yet".to_owned(),
        }
    }

    /// Writes what did not go the usual way: `3 failed · 3 by fallback · 12 skipped`; none where all
    /// did.
    pub fn trouble(&self) -> Option<String> {
        let Statistics { failed, skipped, fallbacks, .. } = self.statistics;
        let counts = [(failed, "failed"), (fallbacks, "by fallback"), (skipped, "skipped")];
        let parts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| match self.interval.map(|interval| interval.as_secs_f64()) {
                Some(seconds) if seconds > 0.0 => format!("{}/s {what}", decimals(*count as f64 / seconds)),
                _ => format!("{count} {what}"),
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" · "))
    }
}

/// `85 µs`, `1.25 ms`, `3.40 s`: three digits that count.
fn time(ms: f64) -> String {
    let (value, unit) = match ms {
        ms if ms < 1.0 => (ms * 1e3, "µs"),
        ms if ms < 1e3 => (ms, "ms"),
        _ => (ms / 1e3, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// `2.5`, `1234`: decimals only where they tell something.
fn decimals(per_second: f64) -> String {
    let decimals = usize::from(per_second < 100.0);
    format!("{per_second:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::recommender;

    /// The recommender after so many runs of each step, of 2 ms each.
    fn after(runs: u64) -> Graph {
        let mut graph = recommender();
        for step in &mut graph.steps {
            step.statistics =
                Statistics { runs, failed: runs / 10, skipped: 0, fallbacks: runs / 10, total_ms: runs as f64 * 2.0 };
        }
        graph
    }

    fn pace(look: &Look) -> (String, Option<String>) {
        let (_, figures) = look.steps().next().unwrap();
        (figures.pace(), figures.trouble())
    }

    #[test]
    fn without_an_interval_counts_are_since_the_ensemble_was_loaded() {
        assert_eq!(pace(&Look::so_far(after(0))), ("no run yet".to_owned(), None));
        assert_eq!(pace(&Look::so_far(after(1))), ("1 run · 2.00 ms".to_owned(), None));
        let troubled = Some("2 failed · 2 by fallback".to_owned());
        assert_eq!(pace(&Look::so_far(after(20))), ("20 runs · 2.00 ms".to_owned(), troubled));
    }

    #[test]
    fn two_looks_make_a_rate() {
        let between = |before: u64, now: u64| pace(&Look::since(after(now), &after(before), Duration::from_secs(2)));
        let troubled = Some("1.0/s failed · 1.0/s by fallback".to_owned());
        assert_eq!(between(20, 40), ("10.0 runs/s · 2.00 ms".to_owned(), troubled));
        assert_eq!(between(20, 20), ("idle · 20 runs · 2.00 ms".to_owned(), None));
        assert_eq!(between(0, 0), ("idle · no run yet".to_owned(), None));
        assert_eq!(between(0, 2_000).0, "1000 runs/s · 2.00 ms");
    }

    #[test]
    fn an_ensemble_that_was_loaded_again_counts_anew() {
        let second = Duration::from_secs(1);
        assert_eq!(pace(&Look::since(after(5), &after(40), second)).0, "5.0 runs/s · 2.00 ms");
        let other = Graph { version: 2, ..after(40) };
        assert_eq!(pace(&Look::since(other, &after(30), second)).0, "40.0 runs/s · 2.00 ms");
        let fewer = Graph { steps: Vec::new(), ..after(30) };
        assert_eq!(pace(&Look::since(after(40), &fewer, second)).0, "40.0 runs/s · 2.00 ms");
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!(
            [0.0, 0.085, 1.25, 12.5, 250.0, 3400.0].map(time),
            ["0.00 µs", "85.0 µs", "1.25 ms", "12.5 ms", "250 ms", "3.40 s"]
        );
    }
}
