//! `salver demo`: trained models predict rows, pictures and sentences that they have never seen.
//!
//! Served by the very path that `salver serve` takes, and asked over real sockets. Nothing is
//! trained or downloaded, except ONNX Runtime where it is missing.

mod ask;
mod examples;
mod pictures;
mod questions;
mod show;
mod texts;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use salver_client::{Form, GrpcClient, HttpClient};
use salver_core::{Infer as _, ModelInfo, ModelRef};

use crate::cli::DemoOptions;
use crate::progress::Progress;
use crate::serve::Serving;
use crate::settings::{ControlMode, GrpcAddr, ServeOptions};
use crate::{curl, out};
use ask::Round;
use examples::{EXAMPLES, Example, HeldOut};

/// Runs the command.
///
/// # Errors
/// Where a model does not load, a request fails, or the accuracy is not that of the training.
pub(crate) async fn run(options: &DemoOptions) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("salver-demo-").tempdir().context("make a temporary folder")?;
    for example in &EXAMPLES {
        example.write(folder.path())?;
    }
    pictures::write(folder.path())?;
    let encoder = texts::encoder(options.encoder.as_deref())?;
    if let Some(encoder) = &encoder {
        texts::write(folder.path(), encoder)?;
    }
    let settings = settings(options, folder.path())?;
    crate::serve::init_logging(&settings)?;
    let serving = Serving::bind(&settings).await?;
    let stop = serving.stopping();
    let shown = async {
        let loading = Progress::spinner("loading the models; the first time, ONNX Runtime is fetched");
        serving.load().await?;
        drop(loading);
        present(&serving, encoder.is_some()).await
    };
    let verdict = tokio::select! {
        shown = shown => shown,
        () = stop.cancelled() => Ok(Vec::new()),
    };
    if verdict.is_ok() && !options.exit && !stop.is_cancelled() {
        addresses(&serving, folder.path(), encoder.is_some())?;
        stop.cancelled().await;
    }
    serving.finish().await?;
    match verdict?.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

/// The settings of `serve` with what the demo needs to be itself.
fn settings(options: &DemoOptions, folder: &Path) -> Result<ServeOptions> {
    let defaults = ServeOptions::defaults()?;
    let http = options.http.unwrap_or_else(|| free_or(defaults.http));
    let own_port = || defaults.grpc.addr().map_or(GrpcAddr::Off, |addr| GrpcAddr::At(free_or(addr)));
    Ok(ServeOptions {
        paths: vec![folder.to_owned()],
        http,
        grpc: options.grpc.unwrap_or_else(own_port),
        engine: options.engine.clone(),
        model_control: ControlMode::None,
        load_model: Vec::new(),
        default_model: None,
        registry: false,
        log_level: "warn".to_owned(),
        ..defaults
    })
}

/// Asks for every row of every model and prints what came; returns what is not as it should be.
async fn present(serving: &Serving, has_texts: bool) -> Result<Vec<String>> {
    out::line("Salver demo: trained models predict what they have never seen.\n");
    let http = format!("http://{}", serving.http_addr());
    let grpc = serving.grpc_addr().map_or_else(|| http.clone(), |addr| format!("http://{addr}"));
    let clients = (
        HttpClient::new(&http)?.with_form(Form::Json),
        HttpClient::new(&http)?.with_form(Form::Binary),
        GrpcClient::new(&grpc)?,
    );
    let mut problems = Vec::new();
    for example in &EXAMPLES {
        let rows = example.held_out()?;
        let info = describe(serving, example)?;
        let rounds = [
            ask::ask("HTTP JSON", &clients.0, example, &info, &rows).await?,
            ask::ask("HTTP binary", &clients.1, example, &info, &rows).await?,
            ask::ask("gRPC", &clients.2, example, &info, &rows).await?,
        ];
        out::line(example.about);
        show::sample(example, &rows, &rounds);
        show::summary(&info, &rows, &rounds);
        out::line("");
        problems.extend(rounds.iter().filter_map(|round| judge(&info, &rows, round)));
    }
    let about_pictures = || serving.problem(pictures::NAME).unwrap_or_else(|| "the demo's pictures".to_owned());
    problems.extend(pictures::present(&clients.1).await.with_context(about_pictures)?);
    if has_texts {
        let about = || serving.problem(texts::NAME).unwrap_or_else(|| "the demo's sentences".to_owned());
        problems.extend(texts::present(&clients.1).await.with_context(about)?);
    } else {
        texts::hint();
    }
    for problem in &problems {
        out::error(format!("error: {problem}"));
    }
    Ok(problems)
}

fn describe(serving: &Serving, example: &Example) -> Result<Arc<ModelInfo>> {
    let model = ModelRef::latest(example.model()?);
    let info = serving.runtime().describe(&model);
    info.with_context(|| serving.problem(example.name).unwrap_or_else(|| format!("the demo model {}", example.name)))
}

/// Compares the accuracy with the one measured at training, within one row.
fn judge(info: &ModelInfo, rows: &[HeldOut], round: &Round) -> Option<String> {
    let trained = *info.metrics.get("accuracy")?;
    let expected = (trained * rows.len() as f64).round();
    let correct = round.correct(rows);
    ((correct as f64 - expected).abs() > 1.0).then(|| {
        format!(
            "model {} got {correct} of {} rows right over {}, but {expected:.0} when it was trained",
            info.name,
            rows.len(),
            round.protocol
        )
    })
}

/// Prints where the server can be asked.
fn addresses(serving: &Serving, folder: &Path, has_texts: bool) -> Result<()> {
    let http = format!("http://{}", serving.http_addr());
    out::line("Try it:");
    for example in &EXAMPLES {
        out::line(format!("  {}", curl::predict(&http, &*describe(serving, example)?)));
    }
    out::line(format!("  {}", pictures::curl(&http, folder)));
    if has_texts {
        out::line(format!("  {}", texts::curl(&http)));
    }
    out::line(format!("  page, API and metrics: {http}/  {http}/openapi.json  {http}/metrics"));
    if let Some(grpc) = serving.grpc_addr() {
        out::line(format!("  gRPC (Open Inference Protocol, reflection): {grpc}, and on the HTTP port"));
    }
    out::line("Serving until Ctrl-C.");
    Ok(())
}

/// Returns `wanted` if nobody listens there, else a free port of the same machine.
fn free_or(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::new(wanted.ip(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_row_off_is_luck_and_two_are_a_fault() {
        let rows: Vec<HeldOut> = (0..45).map(|_| HeldOut { features: vec![], truth: "a".to_owned() }).collect();
        let signature =
            salver_core::Signature { inputs: vec![], outputs: vec![], batching: salver_core::Batching::Fixed };
        let info = ModelInfo {
            name: "iris".into(),
            version: 1,
            engine: "onnx".into(),
            platform: String::new(),
            signature,
            task: String::new(),
            columns: vec![],
            labels: vec![],
            metrics: [("accuracy".to_owned(), 0.9778)].into(),
            example: Vec::new(),
            observer: None,
        };
        let round = |right: usize| {
            let label = |idx: usize| if idx < right { "a" } else { "b" }.to_owned();
            let answer = |idx| ask::Answer { label: label(idx), probability: 1.0, took: Duration::ZERO };
            Round { protocol: "gRPC", answers: (0..45).map(answer).collect() }
        };
        for (right, fine) in [(44, true), (43, true), (45, true), (42, false)] {
            assert_eq!(judge(&info, &rows, &round(right)).is_none(), fine, "{right}");
        }
    }
}
