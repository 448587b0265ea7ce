//! `salver predict`: predictions from a running server, or from a model loaded right here.

use std::path::Path;

use anyhow::{Context as _, Result};
use salver_client::{HttpClient, SubmittedJob};
use salver_core::{Context, Infer as _, ModelRef};
use salver_protocol::{Limits, plain};
use serde_json::Value;

use crate::cli::PredictOptions;
use crate::input::Input;
use crate::{jobs, out, wiring};

/// Columns of a table that is still readable.
const MOST_COLUMNS: usize = 12;

/// Runs the command.
///
/// # Errors
/// What the input, the model or the server says.
pub(crate) async fn run(options: &PredictOptions) -> Result<()> {
    let input = Input::read(&options.input)?;
    let answer = match local_path(&options.model) {
        Some(path) => in_process(path, input, options).await?,
        None => match from_server(input, options).await? {
            FromServer::Answer(answer) => answer,
            FromServer::Job(job) if options.json => return out::json(&job),
            FromServer::Job(job) => {
                let id = out::printable(&job.id);
                out::line(format!("The answer is not in the cache, and job {id} computes it: ask again, or"));
                out::line(format!("  salver jobs wait {id}"));
                return Ok(());
            }
        },
    };
    let answer: Value = serde_json::from_slice(&answer).context("read the answer")?;
    if options.json {
        return out::json(&answer);
    }
    match table(&answer) {
        Some(table) => table.print(),
        None => out::json(&answer)?,
    }
    Ok(())
}

/// A path is what exists or looks like a file; everything else is a model's name.
fn local_path(model: &str) -> Option<&Path> {
    let path = Path::new(model);
    let is_ref = model.parse::<ModelRef>().is_ok();
    let is_file_name = path.extension().is_some_and(|ext| ext == "onnx");
    (is_file_name || !is_ref || path.exists()).then_some(path)
}

async fn in_process(path: &Path, input: Input, options: &PredictOptions) -> Result<Vec<u8>> {
    let local = wiring::open_local(path, &options.engine, wiring::for_a_moment()).await?;
    let model = ModelRef::latest(local.name.clone());
    let info = local.runtime.describe(&model)?;
    let columns = info.columns.iter().find(|columns| !columns.is_empty()).cloned().unwrap_or_default();
    let content_type = input.content_type();
    let body = input.body(&columns)?;
    let request = plain::decode_predict(body, Some(content_type), model, &info, &Limits::default())?;
    let response = local.runtime.infer(request, Context::new("predict")).await?;
    let reply = plain::encode_predict(&response)?;
    local.runtime.shutdown().await;
    Ok(reply.body.to_vec())
}

/// What a server has for a question.
enum FromServer {
    Answer(Vec<u8>),
    /// It computes the answer in the background.
    Job(SubmittedJob),
}

async fn from_server(input: Input, options: &PredictOptions) -> Result<FromServer> {
    let client = HttpClient::new(&options.server.server)?;
    let model: ModelRef = options.model.parse()?;
    let columns = match &input {
        Input::Csv(_) => columns(&client.description(&model).await?),
        Input::Json(_) | Input::Npy(_) => Vec::new(),
    };
    let content_type = input.content_type();
    let reply = client.predict(&model, content_type, input.body(&columns)?).await;
    let reply = reply.with_context(|| format!("model {model} at {}", options.server.server))?;
    match reply.job()? {
        None => Ok(FromServer::Answer(reply.body.to_vec())),
        Some(job) if options.wait => Ok(FromServer::Answer(jobs::answer(client, &job.id).await?.to_vec())),
        Some(job) => Ok(FromServer::Job(job)),
    }
}

/// The column names in a model's description.
pub(crate) fn columns(description: &Value) -> Vec<String> {
    let inputs = description.get("inputs").and_then(Value::as_array).into_iter().flatten();
    let named = inputs.filter_map(|input| input.get("columns")?.as_array()).find(|columns| !columns.is_empty());
    named.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Lays predictions out as a table, if they are rows of short values.
pub(crate) fn table(answer: &Value) -> Option<out::Rows> {
    let predictions = answer.get("predictions")?.as_array()?;
    let first = predictions.first()?.as_object()?;
    let by_label = |name: &str| name == "probabilities" && first[name].is_object();
    let names: Vec<&String> = first.keys().filter(|name| !by_label(name)).collect();
    let probabilities: Vec<&String> =
        first.get("probabilities").and_then(Value::as_object).into_iter().flat_map(|all| all.keys()).collect();
    if names.len() + probabilities.len() > MOST_COLUMNS {
        return None;
    }
    let headers: Vec<&str> =
        std::iter::once(">row").chain(names.iter().chain(&probabilities).map(|name| name.as_str())).collect();
    let mut table = out::Rows::new(&headers);
    for (idx, prediction) in predictions.iter().enumerate() {
        let own = names.iter().map(|name| prediction.get(name.as_str()));
        let all = prediction.get("probabilities");
        let shares = probabilities.iter().map(|name| all.and_then(|all| all.get(name.as_str())));
        let cells: Option<Vec<String>> = own.chain(shares).map(|value| short(value?)).collect();
        table.push(std::iter::once(idx.to_string()).chain(cells?));
    }
    Some(table)
}

/// A value that fits a cell.
fn short(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_f64() => Some(format!("{:.4}", number.as_f64()?)),
        Value::Array(items) if items.len() <= MOST_COLUMNS => {
            let items: Option<Vec<String>> = items.iter().map(short).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_paths_are_told_apart() {
        for name in ["iris", "iris/3", "iris@stable"] {
            assert_eq!(local_path(name), None, "{name}");
        }
        for path in ["model.onnx", "./iris", "/tmp/iris", "models/iris", env!("CARGO_MANIFEST_DIR")] {
            assert!(local_path(path).is_some(), "{path}");
        }
    }

    #[test]
    fn rows_of_short_values_become_a_table_and_tensors_do_not() {
        let labelled =
            json!({ "predictions": [{ "label": "a", "score": 0.9, "probabilities": { "a": 0.9, "b": 0.1 } }] });
        assert!(table(&labelled).is_some());
        let shown = table(&json!({ "predictions": [{ "y": 0, "probabilities": [0.25, 0.75] }] })).unwrap();
        assert!(shown.to_string().contains("[0.2500, 0.7500]"), "{shown}");
        assert!(table(&json!({ "predictions": [{ "y": vec![0; 13] }] })).is_none());
        assert!(table(&json!({ "predictions": [{ "y": { "a": 1 } }] })).is_none());
        assert!(table(&json!({ "outputs": { "y": [1] } })).is_none());
        assert!(table(&json!({ "predictions": [] })).is_none());
    }
}
