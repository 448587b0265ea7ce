//! What is remembered of a version between its stays in memory: its size, and how its loads went.

use std::time::{Duration, Instant};

use salver_core::{Error, ModelRef};

/// The wait after a first failed load.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after a failed load.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What a version takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Once it is loaded.
    pub(crate) resident: u64,
    /// While it is being loaded, at least as much.
    pub(crate) loading: u64,
}

impl Size {
    /// Returns a size that is the same during and after the load.
    pub(crate) fn of(bytes: u64) -> Self {
        Self { resident: bytes, loading: bytes }
    }
}

/// One version's history, as long as its files are the same.
#[derive(Debug, Default)]
pub(crate) struct History {
    fingerprint: u64,
    /// What it took when it was last measured; none: these files were never loaded.
    pub(crate) size: Option<Size>,
    /// Whether that was its first load, which may have brought the engine's library in as well.
    pub(crate) is_first_impression: bool,
    /// How often the version was loaded, whatever its files were.
    pub(crate) loads: u64,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    failures: u32,
    until: Instant,
    reason: String,
}

impl History {
    /// Forgets everything if the files are not those that this is about: another file may be of
    /// another size, and deserves its own first try.
    pub(crate) fn about(&mut self, fingerprint: u64) -> &mut Self {
        if self.fingerprint != fingerprint {
            *self = Self { fingerprint, loads: self.loads, ..Self::default() };
        }
        self
    }

    /// Whether these very files were loaded before.
    pub(crate) fn is_proven(&self) -> bool {
        self.size.is_some()
    }

    /// Notes a load.
    pub(crate) fn loaded(&mut self, size: Size) {
        self.is_first_impression = self.size.is_none();
        self.size = Some(size);
        self.loads += 1;
        self.trouble = None;
    }

    /// Notes a load that failed, and returns how long to leave it alone.
    pub(crate) fn failed(&mut self, reason: &str, now: Instant) -> Duration {
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
        let wait = backoff(failures);
        self.trouble = Some(Trouble { failures, until: now + wait, reason: reason.to_owned() });
        wait
    }

    /// Notes that there was no room: the files are not to blame, so the wait does not grow.
    pub(crate) fn found_no_room(&mut self, reason: &str, now: Instant) {
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        self.trouble = Some(Trouble { failures, until: now + FIRST_WAIT, reason: reason.to_owned() });
    }

    /// Returns why the version is left alone at `now`, with the time that is left.
    pub(crate) fn refusal(&self, model: &ModelRef, now: Instant) -> Option<Error> {
        let trouble = self.trouble.as_ref().filter(|trouble| now < trouble.until)?;
        Some(refusal(model, &trouble.reason, trouble.until - now))
    }
}

fn refusal(model: &ModelRef, reason: &str, wait: Duration) -> Error {
    let seconds = wait.as_secs() + 1;
    Error::not_ready(format!("model '{model}' failed to load: {reason}; it is tried again in {seconds} s"))
        .with_retry_after(wait)
}

/// Doubles from a second to five minutes.
fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<u64> = [1, 2, 3, 8, 9, 10, 4_000_000_000].map(|failures| backoff(failures).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 128, 256, 300, 300]);
    }

    #[test]
    fn a_version_is_left_alone_for_its_wait_and_changed_files_are_not() {
        let (mut history, start) = (History::default(), Instant::now());
        let model: ModelRef = "m/3".parse().unwrap();
        let at = |ms| start + Duration::from_millis(ms);
        history.about(7).failed("truncated", start);
        let error = history.refusal(&model, at(400)).unwrap();
        assert_eq!(error.retry_after(), Some(Duration::from_millis(600)));
        assert!(error.message().contains("truncated"), "{error}");
        assert!(history.refusal(&model, at(1000)).is_none());
        history.failed("truncated", at(1000));
        assert!(history.refusal(&model, at(2999)).is_some());
        assert!(history.about(8).refusal(&model, at(1001)).is_none());
        assert_eq!(history.failed("again", start), FIRST_WAIT);
        history.found_no_room("full", start);
        assert!(history.refusal(&model, at(1000)).is_none());
        assert_eq!(history.failed("again", start), 2 * FIRST_WAIT);
        history.loaded(Size::of(10));
        assert!(history.refusal(&model, start).is_none());
    }
}
