//! `salver runtime`: where ONNX Runtime is, and how it gets here.

use std::process::ExitCode;

use anyhow::Result;
use salver_engine_onnx::{OnnxEngine, PlaceStatus};
use serde_json::json;

use crate::cli::{EngineArgs, RuntimeAction};
use crate::progress::Progress;
use crate::{out, wiring};

/// Runs the command. `status` fails where no library would be used.
///
/// # Errors
/// Where the library cannot be installed.
pub(crate) fn run(action: &RuntimeAction) -> Result<ExitCode> {
    match action {
        RuntimeAction::Status { json, engine } => status(&wiring::onnx_engine(engine), *json),
        RuntimeAction::Install { from } => {
            let installing = Progress::spinner("installing ONNX Runtime");
            let path = wiring::onnx_engine(&EngineArgs::default()).install(from.as_deref())?;
            drop(installing);
            out::line(format!("ONNX Runtime is installed: {}", path.display()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn status(engine: &OnnxEngine, as_json: bool) -> Result<ExitCode> {
    let status = engine.status();
    let code = if status.chosen.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if as_json {
        let place = |place: &PlaceStatus| {
            json!({
                "place": place.place.to_string(),
                "path": place.path,
                "version": place.found.as_ref().ok().and_then(|found| found.version.clone()),
                "problem": place.found.as_ref().err(),
            })
        };
        out::json(&json!({
            "places": status.places.iter().map(place).collect::<Vec<_>>(),
            "chosen": status.chosen.as_ref().map(|found| &found.path),
            "installs_version": status.pinned_version,
        }))?;
        return Ok(code);
    }
    let mut table = out::Rows::new(&["place", "path", "found"]);
    for place in &status.places {
        let found = match &place.found {
            Ok(found) => found.version.clone().unwrap_or_else(|| "a library of unknown version".to_owned()),
            Err(reason) => reason.clone(),
        };
        let path = place.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        table.push([place.place.to_string(), path, found]);
    }
    table.print();
    match &status.chosen {
        Some(found) => out::line(format!("Used: {}", found.path.display())),
        None => out::line(format!("None is used. {}", status.instructions)),
    }
    Ok(code)
}
