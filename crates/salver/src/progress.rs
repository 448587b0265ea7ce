//! Signs of life on a terminal while something takes longer than a moment.
//!
//! Drawn on standard error, and only where that is a terminal; gone when the work is over.

use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the sign moves.
const TICK: Duration = Duration::from_millis(200);

/// How far some work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The steps that are done.
    pub done: u64,
    /// All steps.
    pub all: u64,
}

/// A sign that goes away with this value.
pub(crate) struct Progress {
    /// Nothing is ever sent: what is told is the end.
    working: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows `message` beside a wheel, for work whose end is not known.
    pub(crate) fn spinner(message: impl Into<String>) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        Self::start(message.into(), style, |bar| bar.tick())
    }

    /// Shows `message` beside a bar that is as long as `position` says.
    pub(crate) fn bar(message: impl Into<String>, position: impl Fn() -> Position + Send + 'static) -> Self {
        Self::with_end(message.into(), "{msg} [{bar:30}] {pos} of {len}", position)
    }

    /// Shows `message` beside a bar of bytes.
    pub(crate) fn bytes(message: impl Into<String>, position: impl Fn() -> Position + Send + 'static) -> Self {
        Self::with_end(message.into(), "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}", position)
    }

    fn with_end(message: String, template: &str, position: impl Fn() -> Position + Send + 'static) -> Self {
        Self::start(message, ProgressStyle::with_template(template), move |bar| {
            let Position { done, all } = position();
            bar.set_length(all);
            bar.set_position(done);
        })
    }

    fn start<E>(
        message: String,
        style: Result<ProgressStyle, E>,
        update: impl Fn(&ProgressBar) + Send + 'static,
    ) -> Self {
        // A template that is not understood is a fault of this file, and no reason to stop.
        let (Ok(style), true) = (style, std::io::stderr().is_terminal()) else {
            return Self { working: None, thread: None };
        };
        let (working, told) = sync_channel::<()>(1);
        let thread = thread::spawn(move || {
            if told.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.set_message(message);
            update(&bar);
            while told.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                update(&bar);
            }
            bar.finish_and_clear();
        });
        Self { working: Some(working), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.working.take());
        if let Some(thread) = self.thread.take() {
            // A sign that broke down takes nothing with it.
            let _ = thread.join();
        }
    }
}
