//! How instances of the fake come about and end, where they stand for something that runs elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use salver_core::{Error, Result};

use super::FakeEngine;
use crate::Gate;

/// What a test decides about instances.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) is_elsewhere: bool,
    gate: Gate,
    /// How many are still refused, and why.
    refusals: Mutex<Option<(usize, Error)>>,
    /// How often everything was killed.
    kills: AtomicUsize,
}

/// Whether what an instance stands for still runs.
pub(super) struct Process {
    born: usize,
    has_ended: bool,
}

impl Fate {
    /// Makes what an instance stands for, or refuses, as the test said.
    pub(super) fn start(&self) -> Result<Process> {
        self.gate.pass();
        let mut refusals = self.refusals.lock();
        if let Some((left, error)) = refusals.as_mut().filter(|(left, _)| *left > 0) {
            *left -= 1;
            return Err(error.clone());
        }
        Ok(Process { born: self.kills.load(Ordering::SeqCst), has_ended: false })
    }

    pub(super) fn runs(&self, process: &Process) -> bool {
        !process.has_ended && process.born == self.kills.load(Ordering::SeqCst)
    }

    /// Fails as a run does whose process is gone.
    pub(super) fn check(&self, process: &Process) -> Result<()> {
        if self.runs(process) { Ok(()) } else { Err(Error::not_ready("its worker ended by signal 9")) }
    }
}

impl Process {
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }
}

impl FakeEngine {
    /// Makes its instances stand for processes of their own, which can end.
    #[must_use]
    pub fn elsewhere(self) -> Self {
        self.configure(|shared| shared.fate.is_elsewhere = true)
    }

    /// Ends what computes for every instance that there is.
    pub fn kill(&self) {
        self.shared.fate.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes the next `count` instances fail to be made.
    pub fn fail_instances(&self, count: usize, error: Error) {
        *self.shared.fate.refusals.lock() = Some((count, error));
    }

    /// Returns the gate before every new instance; open at first.
    pub fn instance_gate(&self) -> &Gate {
        &self.shared.fate.gate
    }
}
