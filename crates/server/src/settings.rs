//! Trace and log settings that clients read and change, over REST and gRPC alike.

use std::sync::atomic::Ordering;

use salver_core::{Error, ErrorKind, ModelRef, Result};
use salver_protocol::settings::{LogFormat, LogSettings, LogUpdate, TraceSettings, TraceUpdate};
use salver_telemetry::LogLevels;

use crate::app::App;

/// Changes the trace settings of a model, or those of the server, and returns them.
///
/// # Errors
/// `InvalidInput` for an unknown model, as Triton's clients expect.
pub(crate) fn trace(app: &App, model: Option<&ModelRef>, update: Option<TraceUpdate>) -> Result<TraceSettings> {
    let known = app.model_names();
    let name = model.map(|model| &*model.name);
    if let Some(name) = name.filter(|name| !known.iter().any(|known| known == name)) {
        return Err(Error::invalid_input(format!("trace settings: unknown model '{name}'")));
    }
    Ok(match update {
        None => app.traces.settings(name),
        Some(update) => app.traces.update(name, update, &known),
    })
}

/// Changes what is logged, and returns the settings.
///
/// # Errors
/// `Unsupported` where the process logs in a way of its own.
pub(crate) fn log(app: &App, update: LogUpdate) -> Result<LogSettings> {
    let changed = salver_telemetry::change_log_levels(|levels| {
        *levels = LogLevels {
            error: update.error.unwrap_or(levels.error),
            warn: update.warning.unwrap_or(levels.warn),
            info: update.info.unwrap_or(levels.info),
            verbose: update.verbose_level.unwrap_or(levels.verbose),
        };
    });
    let levels = changed.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "log settings: this process did not start its log, so it cannot change it")
    })?;
    if let Some(format) = update.format {
        app.has_iso_times.store(format == LogFormat::Iso8601, Ordering::Relaxed);
    }
    let format = match app.has_iso_times.load(Ordering::Relaxed) {
        true => LogFormat::Iso8601,
        false => LogFormat::Default,
    };
    Ok(LogSettings {
        info: levels.info,
        warning: levels.warn,
        error: levels.error,
        verbose_level: levels.verbose,
        format,
    })
}
