//! Sends every held-out row through each protocol, one request a row, and keeps what came back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use salver_core::{Context, Infer, InferRequest, InferResponse, ModelInfo, ModelRef, Parameters};

use super::examples::{Example, HeldOut};

/// What a model said to one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The likeliest label.
    pub label: String,
    /// Its probability.
    pub probability: f32,
    /// From sending the request to having the answer.
    pub took: Duration,
}

/// All answers over one protocol.
pub(crate) struct Round {
    /// The protocol's name.
    pub protocol: &'static str,
    /// The answers, row by row.
    pub answers: Vec<Answer>,
}

impl Round {
    /// Returns how many answers are right.
    pub(crate) fn correct(&self, rows: &[HeldOut]) -> usize {
        self.answers.iter().zip(rows).filter(|(answer, row)| answer.label == row.truth).count()
    }

    /// Returns the latency that the share `quantile` of the answers kept to.
    pub(crate) fn latency(&self, quantile: f64) -> Duration {
        let mut all: Vec<Duration> = self.answers.iter().map(|answer| answer.took).collect();
        all.sort_unstable();
        let place = (quantile * all.len().saturating_sub(1) as f64).round() as usize;
        all.get(place).copied().unwrap_or_default()
    }
}

/// Asks `client` for every row of `example`.
///
/// # Errors
/// The first request that is not answered.
pub(crate) async fn ask(
    protocol: &'static str,
    client: &dyn Infer,
    example: &Example,
    info: &ModelInfo,
    rows: &[HeldOut],
) -> Result<Round> {
    let model = ModelRef::latest(example.model()?);
    let labels = info.labels.first().filter(|labels| !labels.is_empty()).context("the model's labels")?;
    let request = |row| {
        let inputs = vec![example.tensor(row)?];
        anyhow::Ok(InferRequest {
            model: model.clone(),
            id: None,
            inputs,
            outputs: vec![],
            parameters: Parameters::new(),
        })
    };
    // The first request opens the connection and fetches the metadata; it is not part of the figures.
    if let Some(first) = rows.first() {
        client
            .infer(request(first)?, Context::new("demo"))
            .await
            .with_context(|| format!("first request, {protocol}"))?;
    }
    let mut answers = Vec::with_capacity(rows.len());
    for (idx, row) in rows.iter().enumerate() {
        let request = request(row)?;
        let start = Instant::now();
        let response = client.infer(request, Context::new("demo")).await;
        let took = start.elapsed();
        let response = response.with_context(|| format!("row {idx} of {}, {protocol}", example.name))?;
        answers.push(read(&response, labels, took)?);
    }
    Ok(Round { protocol, answers })
}

fn read(response: &InferResponse, labels: &[String], took: Duration) -> Result<Answer> {
    let probabilities: Vec<f32> =
        response.outputs.first().and_then(|output| output.to_vec()).context("probabilities in the answer")?;
    ensure!(probabilities.len() == labels.len(), "{} probabilities for {} labels", probabilities.len(), labels.len());
    let best = probabilities.iter().zip(labels).max_by(|(a, _), (b, _)| a.total_cmp(b)).context("a class")?;
    Ok(Answer { label: best.1.clone(), probability: *best.0, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(label: &str, micros: u64) -> Answer {
        Answer { label: label.to_owned(), probability: 0.5, took: Duration::from_micros(micros) }
    }

    #[test]
    fn a_round_counts_right_answers_and_sorts_its_latencies() {
        let rows = ["a", "b", "c"].map(|truth| HeldOut { features: vec![], truth: truth.to_owned() });
        let round = Round { protocol: "x", answers: vec![answer("a", 30), answer("x", 10), answer("c", 20)] };
        assert_eq!(round.correct(&rows), 2);
        assert_eq!(round.latency(0.5), Duration::from_micros(20));
        assert_eq!(round.latency(0.95), Duration::from_micros(30));
    }
}
