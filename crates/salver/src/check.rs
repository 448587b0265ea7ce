//! `salver check`: loads every model once and says which do not work, and what the others do.
//!
//! What is wrong with a task is said with its line of `model.toml`.

mod lines;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use salver_core::{
    Infer as _, ModelControl as _, ModelInfo, ModelName, ModelRef, ModelSource as _, ModelSpec, ModelState, ModelStatus,
};
use salver_protocol::plain;
use salver_repository::Repository;
use salver_repository::onnx::summarize;
use salver_runtime::Runtime;
use salver_telemetry::Metrics;
use serde_json::json;

use crate::cli::CheckOptions;
use crate::progress::{Position, Progress};
use crate::serve::{failures, print_index, state_name};
use crate::{curl, out, preview, wiring};

/// Where the curl lines point to: the server's default address.
const SERVER: &str = "http://127.0.0.1:8080";

const MANIFEST: &str = "model.toml";

/// Runs the command; the exit code tells whether every model loads.
///
/// # Errors
/// Where a path does not exist or holds no models.
pub(crate) async fn run(options: &CheckOptions) -> Result<ExitCode> {
    let runtime = wiring::runtime(&options.paths, &options.engine, &Metrics::new(), wiring::for_a_moment())?;
    let watched = runtime.clone();
    let loading = Progress::bar("loading models", move || position(&watched.index()));
    runtime.start().await?;
    drop(loading);
    let mut index = runtime.index();
    explain(&mut index, &options.paths)?;
    let with_task = with_task(&index, &runtime);
    let failed = failures(&index).len();
    if options.json {
        let entry = |status: &ModelStatus| {
            let is_it = |info: &&Arc<ModelInfo>| *info.name == *status.name && Some(info.version) == status.version;
            json!({
                "model": status.name,
                "version": status.version,
                "state": state_name(status),
                "reason": status.reason,
                "task": with_task.iter().find(is_it).map(|info| info.task.clone()),
                "example": with_task.iter().find(is_it).map(|info| plain::example(info)),
            })
        };
        out::json(&index.iter().map(entry).collect::<Vec<_>>())?;
    } else {
        print_index(&index);
        out::line(format!("{} of {} load.", index.len() - failed, index.len()));
        with_task.iter().for_each(|info| print_task(info));
    }
    runtime.shutdown().await;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Adds to the reasons of what failed what its files alone tell of its task, with the line.
fn explain(index: &mut [ModelStatus], paths: &[PathBuf]) -> Result<()> {
    if failures(index).is_empty() {
        return Ok(());
    }
    let entries = Repository::open(paths)?.scan();
    let specs: Vec<Arc<ModelSpec>> = entries.into_iter().filter_map(|entry| entry.versions.ok()).flatten().collect();
    for status in index.iter_mut().filter(|status| status.state == Some(ModelState::Failed)) {
        let is_it = |spec: &&Arc<ModelSpec>| *spec.name == *status.name && Some(spec.version) == status.version;
        if let Some(spec) = specs.iter().find(is_it) {
            status.reason = explained(spec, &status.reason);
        }
    }
    Ok(())
}

/// Returns the reason, with the line of `model.toml` where it is about the task.
fn explained(spec: &ModelSpec, reason: &str) -> String {
    let fault = summarize(&spec.artifact).and_then(|summary| preview::task(spec, &summary)).err();
    match fault {
        Some(fault) if !reason.contains(fault.message()) => {
            format!("{reason}; besides, {}", located(spec, fault.message()))
        }
        _ if reason.contains("task") => located(spec, reason),
        _ => reason.to_owned(),
    }
}

/// Puts the place in `model.toml` before a message about the task; as it is where there is none.
fn located(spec: &ModelSpec, message: &str) -> String {
    let manifest = spec.artifact.ancestors().skip(1).map(|folder| folder.join(MANIFEST)).find(|file| file.is_file());
    let place = manifest.and_then(|file| {
        let line = lines::locate(&std::fs::read_to_string(&file).ok()?, &spec.task, message)?;
        Some(format!("{}: line {line}: ", file.display()))
    });
    format!("{}{message}", place.unwrap_or_default())
}

/// The models that serve and have a task of their own.
fn with_task(index: &[ModelStatus], runtime: &Runtime) -> Vec<Arc<ModelInfo>> {
    let describe = |status: &ModelStatus| {
        let model = ModelRef::version(ModelName::new(&status.name).ok()?, status.version?);
        runtime.describe(&model).ok().filter(|info| !info.example.is_empty())
    };
    index.iter().filter_map(describe).collect()
}

fn print_task(info: &ModelInfo) {
    let signature = &info.signature;
    out::line(format!("\n{} version {}: {}", info.name, info.version, info.task));
    out::line(format!("  takes  {}", out::printable(&preview::tensors(&signature.inputs))));
    out::line(format!("  gives  {}", out::printable(&preview::tensors(&signature.outputs))));
    out::line(format!("  ask    {}", out::printable(&curl::predict(SERVER, info))));
}

/// Counts the versions that loaded or failed.
fn position(index: &[ModelStatus]) -> Position {
    let ready = index.iter().filter(|status| status.state == Some(ModelState::Ready)).count();
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Position { done: count(ready + failures(index).len()), all: count(index.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loaded_or_failed_is_done() {
        let status = |state: Option<ModelState>, reason: &str| ModelStatus {
            name: "m".to_owned(),
            version: Some(1),
            state,
            reason: reason.to_owned(),
        };
        let index = [
            status(Some(ModelState::Ready), ""),
            status(Some(ModelState::Failed), "no operator"),
            status(None, "unreadable"),
            status(Some(ModelState::Loading), ""),
            status(None, ""),
        ];
        assert_eq!(position(&index), Position { done: 3, all: 5 });
    }
}
