//! What a measurement says, as a table or JSON.

use anyhow::{Result, bail};
use serde::Serialize;

use super::load::{self, Figures};
use crate::cli::BenchOptions;
use crate::out;

/// One measured run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    /// What was called.
    pub what: String,
    /// Whether that was the yardstick.
    pub is_constant: bool,
    /// Requests per second that were meant to start; none: a closed loop.
    pub rate: Option<f64>,
    /// What it gave.
    #[serde(flatten)]
    pub figures: Figures,
}

/// All runs of one command, and what they say together.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    connections: usize,
    duration_ms: u128,
    rows: usize,
    cores: usize,
    runs: Vec<Run>,
    ratio: Option<Spread>,
}

/// How a figure is spread over several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    n: usize,
    median: f64,
    lower_quartile: f64,
    upper_quartile: f64,
    min: f64,
    max: f64,
}

impl Report {
    /// Puts runs together; pairs of yardstick and model give ratios.
    pub(crate) fn new(options: &BenchOptions, runs: Vec<Run>) -> Self {
        let of = |constant: bool| runs.iter().filter(move |run| run.is_constant == constant);
        let ratios = of(false)
            .zip(of(true))
            .map(|(model, yardstick)| model.figures.per_second / yardstick.figures.per_second.max(f64::MIN_POSITIVE));
        Self {
            connections: options.connections,
            duration_ms: options.duration.as_millis(),
            rows: options.rows,
            cores: load::cores(),
            ratio: Spread::of(ratios.collect()),
            runs,
        }
    }

    /// Prints it.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            return out::json(self);
        }
        let has_rate = self.runs.iter().any(|run| run.rate.is_some());
        let pace = if has_rate { "at a fixed rate: latency from the intended start" } else { "closed loop" };
        let seconds = self.duration_ms as f64 / 1000.0;
        out::line(format!(
            "{} connections, {} row(s) a request, {seconds} s, {pace}; this machine has {} cores",
            self.connections, self.rows, self.cores
        ));
        let mut rows = out::Rows::new(&[
            "target",
            ">req/s",
            ">p50 ms",
            ">p90 ms",
            ">p99 ms",
            ">max ms",
            ">p99/p50",
            ">errors",
            ">generator cores",
        ]);
        for run in &self.runs {
            let figures = &run.figures;
            let ms = |value: f64| format!("{value:.3}");
            rows.push([
                run.rate.map_or_else(|| run.what.clone(), |rate| format!("{} at {rate:.0}/s", run.what)),
                format!("{:.0}", figures.per_second),
                ms(figures.p50_ms),
                ms(figures.p90_ms),
                ms(figures.p99_ms),
                ms(figures.max_ms),
                format!("{:.2}", figures.p99_over_p50),
                figures.errors.to_string(),
                format!("{:.2}", figures.generator_cores),
            ]);
        }
        rows.print();
        if let Some(ratio) = self.ratio {
            out::line(format!(
                "model / constant: median {:.3} of {} pairs (quartiles {:.3}-{:.3}, range {:.3}-{:.3})",
                ratio.median, ratio.n, ratio.lower_quartile, ratio.upper_quartile, ratio.min, ratio.max
            ));
        }
        Ok(())
    }

    /// Refuses a measurement in which calls failed.
    ///
    /// # Errors
    /// What the first failed call said.
    pub(crate) fn check(&self) -> Result<()> {
        let errors: u64 = self.runs.iter().map(|run| run.figures.errors).sum();
        let first = self.runs.iter().find_map(|run| run.figures.first_error.as_deref());
        match first {
            Some(text) => bail!("{errors} calls failed; the first one: {}", out::printable(text)),
            None => Ok(()),
        }
    }
}

impl Spread {
    /// Summarises `values`; none for none.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self {
            n: values.len(),
            median: quantile(&values, 0.5),
            lower_quartile: quantile(&values, 0.25),
            upper_quartile: quantile(&values, 0.75),
            min,
            max,
        })
    }
}

/// Interpolates linearly between the two nearest of the sorted `values`.
fn quantile(values: &[f64], at: f64) -> f64 {
    let place = at * values.len().saturating_sub(1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    values[below] + (values[above] - values[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_the_middle_and_the_ends() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!((spread.lower_quartile, spread.upper_quartile), (1.75, 3.25));
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![0.7]).unwrap().median, 0.7);
    }
}
