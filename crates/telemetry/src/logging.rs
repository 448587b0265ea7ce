//! Structured logs on standard error: for people on a terminal, JSON lines elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// [`LogFormat::Human`] on a terminal, else [`LogFormat::Json`].
    #[default]
    Auto,
    /// One readable line per event.
    Human,
    /// One JSON object per event.
    Json,
}

/// Starts logging for the whole process.
///
/// `filter` is a level (`info`) or a list of directives (`info,salver_runtime=debug`).
///
/// # Errors
/// A sentence saying what is wrong with `filter`, or that logging was started before.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    let directives = EnvFilter::builder().parse(filter).map_err(|error| {
        format!("log level '{filter}' is not understood ({error}); try error, warn, info, debug or trace")
    })?;
    let human = match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder =
        tracing_subscriber::fmt().with_env_filter(directives).with_timer(SystemTime).with_writer(std::io::stderr);
    let started = if human {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    started.map_err(|error| format!("logging was started before: {error}"))
}
