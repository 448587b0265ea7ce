//! `salver check`: loads every model once and says which do not work.

use std::process::ExitCode;

use anyhow::Result;
use salver_core::{ModelControl as _, ModelState, ModelStatus};
use salver_runtime::RuntimeOptions;
use salver_telemetry::Metrics;
use serde_json::json;

use crate::cli::CheckOptions;
use crate::progress::{Position, Progress};
use crate::serve::{failures, print_index, state_name};
use crate::{out, wiring};

/// Runs the command; the exit code tells whether every model loads.
///
/// # Errors
/// Where a path does not exist or holds no models.
pub(crate) async fn run(options: &CheckOptions) -> Result<ExitCode> {
    let runtime = wiring::runtime(&options.paths, &options.engine, &Metrics::new(), RuntimeOptions::default())?;
    let watched = runtime.clone();
    let loading = Progress::bar("loading models", move || position(&watched.index()));
    runtime.start().await?;
    drop(loading);
    let index = runtime.index();
    let failed = failures(&index).len();
    if options.json {
        let entry = |status: &ModelStatus| {
            json!({
                "model": status.name,
                "version": status.version,
                "state": state_name(status),
                "reason": status.reason,
            })
        };
        out::json(&index.iter().map(entry).collect::<Vec<_>>())?;
    } else {
        print_index(&index);
        out::line(format!("{} of {} load.", index.len() - failed, index.len()));
    }
    runtime.shutdown().await;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
