//! What an instance tells ONNX Runtime about a run beside its inputs: whether to stop, and whether
//! to give memory back afterwards.

use std::sync::atomic::{AtomicBool, Ordering};

use ort::session::RunOptions;
use salver_core::{Error, Result};

/// An input this many times as large as usual makes a run unusual.
const UNUSUAL: u64 = 4;
/// How many runs the usual size looks back on, about.
const MEMORY: u64 = 16;

/// The run options of one instance, shared with whoever may interrupt it.
pub(crate) struct RunControl {
    plain: RunOptions,
    shrinking: RunOptions,
    is_interrupted: AtomicBool,
}

impl RunControl {
    /// Makes the options; nothing is interrupted yet.
    pub(crate) fn new() -> Result<Self> {
        let options = || RunOptions::new().map_err(|error| Error::engine(error.to_string()));
        let mut shrinking = options()?;
        let entry = shrinking.set("memory.enable_memory_arena_shrinkage", "cpu:0");
        entry.map_err(|error| Error::engine(error.to_string()))?;
        Ok(Self { plain: options()?, shrinking, is_interrupted: AtomicBool::new(false) })
    }

    /// Begins a run and returns its options. What interrupted an earlier one is over.
    pub(crate) fn begin(&self, arena: Arena) -> &RunOptions {
        if self.is_interrupted.swap(false, Ordering::AcqRel) {
            for options in [&self.plain, &self.shrinking] {
                let _ = options.unterminate();
            }
        }
        match arena {
            Arena::Keep => &self.plain,
            Arena::Shrink => &self.shrinking,
        }
    }

    /// Makes the run in progress end soon.
    pub(crate) fn interrupt(&self) {
        for options in [&self.plain, &self.shrinking] {
            let _ = options.terminate();
        }
        // Only now: `begin` takes back what was said before this.
        self.is_interrupted.store(true, Ordering::Release);
    }

    /// Says of a failed run that it was interrupted, where it was.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if self.is_interrupted.load(Ordering::Acquire) { Error::engine("the run was interrupted") } else { error }
    }
}

/// What happens to the memory that runs compute in, once one is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arena {
    /// It stays for the next.
    Keep,
    /// What is not in use goes back to the system.
    Shrink,
}

/// Decides when to shrink: after a run with unusually large inputs, whose memory would otherwise
/// stay for good, and after the next, since the first one's outputs still held theirs.
#[derive(Debug, Default)]
pub(crate) struct InputSizes {
    usual: u64,
    was_unusual: bool,
}

impl InputSizes {
    /// Notes the next run's bytes of input.
    pub(crate) fn note(&mut self, bytes: u64) -> Arena {
        if self.usual == 0 {
            self.usual = bytes;
        }
        let is_unusual = bytes > self.usual.saturating_mul(UNUSUAL);
        let arena = if is_unusual || self.was_unusual { Arena::Shrink } else { Arena::Keep };
        self.was_unusual = is_unusual;
        let sum = u128::from(self.usual) * u128::from(MEMORY - 1) + u128::from(bytes);
        self.usual = u64::try_from(sum / u128::from(MEMORY)).unwrap_or(u64::MAX);
        arena
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sizes: &[u64], expected: &str) {
        let mut seen = InputSizes::default();
        let letter = |arena| if arena == Arena::Shrink { 's' } else { '.' };
        let got: String = sizes.iter().map(|&bytes| letter(seen.note(bytes))).collect();
        assert_eq!(got, expected, "{sizes:?}");
    }

    #[test]
    fn an_unusually_large_run_and_the_one_after_it_shrink() {
        check(&[100, 100, 400, 100, 1000, 100, 100], "....ss.");
        check(&[1600, 1600, 16000, 16000, 1600, 1600], "..sss.");
        check(&[100, u64::MAX, 100], ".ss");
    }

    #[test]
    fn what_happens_all_the_time_is_not_unusual() {
        let mut seen = InputSizes::default();
        seen.note(1 << 10);
        let shrinks = (0..64).filter(|_| seen.note(1 << 20) == Arena::Shrink).count();
        assert!((1..8).contains(&shrinks), "{shrinks}");
        check(&[0, 0, 0], "...");
    }
}
