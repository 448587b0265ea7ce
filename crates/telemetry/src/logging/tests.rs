//! Which lines pass the filter and the mask together.

use std::sync::Arc;

use tracing::subscriber::with_default;

use super::*;

/// Counts what reaches the writer.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Seen {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        self.0.lock().push(format!("{} {}", metadata.target(), metadata.level()).to_lowercase());
    }
}

fn log_everything() {
    tracing::error!(target: "salver_runtime", "e");
    tracing::warn!(target: "salver_runtime", "w");
    tracing::info!(target: "salver_runtime", "i");
    tracing::debug!(target: "salver_runtime", "d");
    tracing::trace!(target: "salver_runtime", "t");
    tracing::info!(target: "h2", "i");
    tracing::debug!(target: "h2", "d");
    tracing::error!(target: MUTED, "e");
    tracing::info!(target: TRACE_TARGET, "traced");
}

/// Which of all lines are logged with these directives and levels; `None` for those of the start.
#[track_caller]
fn check(start: &str, levels: Option<LogLevels>, expected: &[&str]) {
    let directives = Directives::parse(start).unwrap();
    let levels = levels.unwrap_or_else(|| LogLevels::of(directives.most));
    let seen = Seen::default();
    let subscriber =
        tracing_subscriber::registry().with(directives.filter(levels)).with(Mask(levels)).with(seen.clone());
    with_default(subscriber, log_everything);
    assert_eq!(*seen.0.lock(), expected, "{start} {levels:?}");
}

const ALL: LogLevels = LogLevels { error: true, warn: true, info: true, verbose: 2 };
const NONE: LogLevels = LogLevels { error: false, warn: false, info: false, verbose: 0 };

#[test]
fn at_the_start_the_directives_decide() {
    let three = ["salver_runtime error", "salver_runtime warn", "salver_runtime info", "h2 info", "salver::trace info"];
    check("info", None, &three);
    check("error", None, &["salver_runtime error", "salver::trace info"]);
    check("off", None, &["salver::trace info"]);
    check(
        &format!("error,{MUTED}=error"),
        None,
        &["salver_runtime error", "rustls_platform_verifier error", "salver::trace info"],
    );
    check(
        "warn,h2=debug",
        None,
        &["salver_runtime error", "salver_runtime warn", "h2 info", "h2 debug", "salver::trace info"],
    );
}

#[test]
fn single_levels_can_be_taken_away() {
    check(
        "trace",
        Some(LogLevels { verbose: 0, error: false, ..ALL }),
        &["salver_runtime warn", "salver_runtime info", "h2 info", "salver::trace info"],
    );
    check("info", Some(LogLevels { warn: true, ..NONE }), &["salver_runtime warn", "salver::trace info"]);
    check("info", Some(NONE), &["salver::trace info"]);
}

#[test]
fn more_is_added_for_our_own_lines_only() {
    check(
        "error",
        Some(LogLevels { verbose: 1, ..ALL }),
        &[
            "salver_runtime error",
            "salver_runtime warn",
            "salver_runtime info",
            "salver_runtime debug",
            "salver::trace info",
        ],
    );
    check(
        "info",
        Some(ALL),
        &[
            "salver_runtime error",
            "salver_runtime warn",
            "salver_runtime info",
            "salver_runtime debug",
            "salver_runtime trace",
            "h2 info",
            "salver::trace info",
        ],
    );
}

#[test]
fn levels_read_back_what_the_start_said() {
    let of = |text: &str| LogLevels::of(Directives::parse(text).unwrap().most);
    assert_eq!(of("info"), LogLevels { verbose: 0, ..ALL });
    assert_eq!(of("warn"), LogLevels { verbose: 0, info: false, ..ALL });
    assert_eq!(of("trace"), ALL);
    assert_eq!(of("off"), NONE);
    assert!(Directives::parse("info,salver=loud").is_err());
}
