//! Structured logs on standard error: for people on a terminal, JSON lines elsewhere.
//!
//! What is logged may change while the process runs. A filter of directives says what is wanted at
//! all; a mask of levels, which stands before it, can take single levels away.

use std::io::IsTerminal;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// Where requests that were asked to be traced are logged; whatever the level, these lines pass.
pub const TRACE_TARGET: &str = "salver::trace";

/// What verbose logging adds to: libraries stay as quiet as they were.
const OURS: &str = "salver";

/// What is not listened to unless a directive names it: the library logs an ERROR for each certificate
/// that it refuses, which is another server's fault and told where it is asked.
const MUTED: &str = "rustls_platform_verifier";

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

/// Which levels are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevels {
    /// Lines of the level ERROR.
    pub error: bool,
    /// Lines of the level WARN.
    pub warn: bool,
    /// Lines of the level INFO.
    pub info: bool,
    /// 1 adds lines of the level DEBUG, from 2 on those of TRACE too.
    pub verbose: u32,
}

impl LogLevels {
    /// Returns what a filter lets through at most.
    fn of(most: LevelFilter) -> Self {
        Self {
            error: most >= LevelFilter::ERROR,
            warn: most >= LevelFilter::WARN,
            info: most >= LevelFilter::INFO,
            verbose: u32::from(most >= LevelFilter::DEBUG) + u32::from(most >= LevelFilter::TRACE),
        }
    }

    fn has(self, level: Level) -> bool {
        match level {
            Level::ERROR => self.error,
            Level::WARN => self.warn,
            Level::INFO => self.info,
            Level::DEBUG => self.verbose >= 1,
            Level::TRACE => self.verbose >= 2,
        }
    }

    fn most(self) -> LevelFilter {
        let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        levels.into_iter().find(|level| self.has(*level)).map_or(LevelFilter::OFF, LevelFilter::from_level)
    }
}

/// Takes away the levels that are switched off.
struct Mask(LogLevels);

impl<S: Subscriber> Layer<S> for Mask {
    // Asked once for each place that logs: its answer is kept until the mask changes.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TRACE_TARGET || self.0.has(*metadata.level())
    }
}

/// Directives as the process was started with, and how to let more through.
struct Directives {
    text: String,
    most: LevelFilter,
}

impl Directives {
    fn parse(text: &str) -> Result<Self, String> {
        let filter = EnvFilter::builder().parse(text).map_err(|error| {
            format!("log level '{text}' is not understood ({error}); try error, warn, info, debug or trace")
        })?;
        // A filter without a hint has a directive for what is inside a span: it may let through all.
        Ok(Self { text: text.to_owned(), most: filter.max_level_hint().unwrap_or(LevelFilter::TRACE) })
    }

    /// Makes the filter that lets these levels through: at least what it did at the start.
    fn filter(&self, levels: LogLevels) -> EnvFilter {
        let mut directives = format!("{MUTED}=off,{},{TRACE_TARGET}=info", self.text);
        if levels.most() > self.most {
            directives.push_str(&format!(",{OURS}={}", levels.most()));
        }
        EnvFilter::builder().parse_lossy(directives)
    }
}

/// What a running process needs to log something else.
struct Control {
    directives: Directives,
    levels: Mutex<LogLevels>,
    apply: Box<dyn Fn(EnvFilter, Mask) -> Result<(), reload::Error> + Send + Sync>,
}

static CONTROL: OnceLock<Control> = OnceLock::new();

/// Starts logging for the whole process.
///
/// `filter` is a level (`info`) or a list of directives (`info,salver_runtime=debug`).
///
/// # Errors
/// A sentence saying what is wrong with `filter`, or that logging was started before.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    let directives = Directives::parse(filter)?;
    let levels = LogLevels::of(directives.most);
    let human = match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let (filter, change_filter) = reload::Layer::new(directives.filter(levels));
    let (mask, change_mask) = reload::Layer::new(Mask(levels));
    let registry = tracing_subscriber::registry().with(filter).with(mask);
    let lines = tracing_subscriber::fmt::layer().with_timer(SystemTime).with_writer(std::io::stderr);
    let started = if human {
        registry.with(lines.with_target(false).with_ansi(std::io::stderr().is_terminal())).try_init()
    } else {
        registry.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
    };
    started.map_err(|error| format!("logging was started before: {error}"))?;
    let apply = move |filter, mask| change_filter.reload(filter).and_then(|()| change_mask.reload(mask));
    let control = Control { directives, levels: Mutex::new(levels), apply: Box::new(apply) };
    CONTROL.set(control).map_err(|_| "logging was started before".to_owned())
}

/// Returns which levels are logged; none where logging was never started.
pub fn log_levels() -> Option<LogLevels> {
    CONTROL.get().map(|control| *control.levels.lock())
}

/// Changes which levels are logged from now on, and returns them; none where logging was never
/// started. A level that the start had left out is added for the server's own lines.
pub fn change_log_levels(change: impl FnOnce(&mut LogLevels)) -> Option<LogLevels> {
    let control = CONTROL.get()?;
    let mut levels = control.levels.lock();
    let before = *levels;
    change(&mut levels);
    if *levels != before && (control.apply)(control.directives.filter(*levels), Mask(*levels)).is_err() {
        // The subscriber is gone, at the end of the process.
        *levels = before;
    }
    Some(*levels)
}

#[cfg(test)]
mod tests;
