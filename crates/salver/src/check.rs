//! `salver check`: loads every model once and says which do not work.

use std::process::ExitCode;

use anyhow::Result;
use salver_core::{ModelControl as _, ModelStatus};
use salver_runtime::RuntimeOptions;
use salver_telemetry::Metrics;
use serde_json::json;

use crate::cli::CheckOptions;
use crate::serve::{failures, print_index};
use crate::{out, wiring};

/// Runs the command; the exit code tells whether every model loads.
///
/// # Errors
/// Where a path does not exist or holds no models.
pub(crate) async fn run(options: &CheckOptions) -> Result<ExitCode> {
    let runtime = wiring::runtime(&options.paths, &options.engine, &Metrics::new(), RuntimeOptions::default())?;
    runtime.start().await?;
    let index = runtime.index();
    let failed = failures(&index).len();
    if options.json {
        let entry = |status: &ModelStatus| {
            json!({
                "model": status.name,
                "version": status.version,
                "state": status.state.map(|state| format!("{state:?}").to_lowercase()),
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
