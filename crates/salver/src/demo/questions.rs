//! Single questions, each with the answer that people would give: picture files and sentences.

use std::time::Instant;

use anyhow::{Context as _, Result};
use salver_core::{Context, Elements, Infer, InferRequest, ModelName, ModelRef, Parameters, Shape, Tensor};

use super::show;
use crate::out;

/// A text or file.
pub(crate) struct Question<'q> {
    /// What people see of it.
    pub(crate) shown: String,
    pub(crate) data: &'q [u8],
    /// The right label.
    pub(crate) truth: &'q str,
}

/// Asks `model` each question in its only `input`, prints a table under `headers` (what was asked,
/// the answer, its score), and returns what is not as it should be.
///
/// # Errors
/// The first request that is not answered.
pub(crate) async fn ask(
    client: &dyn Infer,
    model: &str,
    input: &str,
    headers: [&str; 3],
    questions: impl Iterator<Item = Question<'_>>,
) -> Result<Vec<String>> {
    let [what, answer, score] = headers;
    let mut table = out::Rows::new(&[what, answer, "", score, ">HTTP binary"]);
    let mut problems = Vec::new();
    for Question { shown, data, truth } in questions {
        let start = Instant::now();
        let (label, score) = best(client, model, input, data).await.with_context(|| format!("'{shown}' of {model}"))?;
        let took = start.elapsed();
        let is_right = label == truth;
        if !is_right {
            problems.push(format!("model {model} takes '{shown}' for {label}"));
        }
        let verdict = if is_right { "right" } else { "WRONG" }.to_owned();
        table.push([shown, label, verdict, format!("{:.1} %", score * 100.0), show::millis(took)]);
    }
    table.print();
    out::line("");
    Ok(problems)
}

/// Returns the best label and its score.
async fn best(client: &dyn Infer, model: &str, input: &str, data: &[u8]) -> Result<(String, f32)> {
    let elements: Elements = [data].into_iter().collect();
    let inputs = vec![Tensor::from_elements(input, Shape::new(&[1]), elements)?];
    let model = ModelRef::latest(ModelName::new(model)?);
    let request = InferRequest { model, id: None, inputs, outputs: vec![], parameters: Parameters::new() };
    let response = client.infer(request, Context::new("demo")).await?;
    let output = |name: &str| response.outputs.iter().find(|output| &**output.name() == name);
    let label = output("label").and_then(Tensor::elements).and_then(|labels| labels.get(0)).context("a label")?;
    let scores: Vec<f32> = output("score").and_then(Tensor::to_vec).context("scores")?;
    Ok((String::from_utf8_lossy(label).into_owned(), *scores.first().context("a score")?))
}
