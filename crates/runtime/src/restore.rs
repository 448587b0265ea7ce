//! Instances that run elsewhere and end: a worker thread makes its own again, and what its slot tells
//! others meanwhile.
//!
//! A thread whose instance is gone takes no batch, so other instances serve what waits. When and
//! how often it tries is decided in `recovery.rs`. Instances that compute on the threads of this
//! process are made again as well, without any of that: they end because of a request, not by
//! themselves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use salver_core::{Error, ErrorKind, Instance, Placement, Result};
use salver_telemetry::Replaced;

use crate::queue::Entry;
use crate::recovery::Outage;
use crate::run::{self, Job};
use crate::sequence::Sequences;
use crate::slot::Slot;
use crate::waiting::State;

/// When to try again while an instance is being made.
const SHORTLY: Duration = Duration::from_secs(1);

/// What a runner runs batches on.
pub(crate) struct Held {
    /// Its number among the instances of the slot's workers.
    idx: usize,
    pub(crate) placement: Placement,
    /// Empty after its end, until a new one could be made.
    instance: Option<Box<dyn Instance>>,
    /// How the one before ended, until that is noted.
    end: Option<String>,
    /// Whether it was made in place of another one and has yet to come back from a run.
    is_unproven: bool,
}

impl Held {
    pub(crate) fn new(idx: usize, placement: Placement, instance: Box<dyn Instance>) -> Self {
        Self { idx, placement, instance: Some(instance), end: None, is_unproven: false }
    }

    /// Holds nothing yet: the instance before it ended, and how.
    pub(crate) fn nothing(idx: usize, placement: Placement, end: String) -> Self {
        Self { idx, placement, instance: None, end: Some(end), is_unproven: false }
    }

    pub(crate) fn idx(&self) -> usize {
        self.idx
    }

    /// Returns the instance. One that computes here is made on the spot where it is missing.
    pub(crate) fn instance(&mut self, slot: &Slot) -> Result<&mut dyn Instance> {
        match &mut self.instance {
            Some(instance) => Ok(instance.as_mut()),
            empty => Ok(empty.insert(slot.instance(&self.placement)?).as_mut()),
        }
    }

    /// Whether the instance runs elsewhere and is gone.
    pub(crate) fn is_gone(&self, slot: &Slot) -> bool {
        slot.is_elsewhere && self.instance.is_none()
    }

    /// Looks whether an instance that runs elsewhere still does.
    pub(crate) fn look(&mut self, slot: &Slot) -> bool {
        if slot.is_elsewhere && self.instance.as_mut().is_some_and(|instance| !instance.is_sound(false)) {
            self.lose(slot, Replaced::Died, "it ended while it had nothing to do".to_owned());
        }
        !self.is_gone(slot)
    }

    /// Asks the instance whether it can go on after a run that failed while `alone`, or not.
    pub(crate) fn review(&mut self, slot: &Slot, error: &Error, alone: bool) {
        let in_doubt = alone && error.kind() == ErrorKind::Engine;
        let Some(instance) = &mut self.instance else {
            return;
        };
        if instance.is_sound(in_doubt) {
            self.prove(slot);
        } else {
            let reason = if slot.is_elsewhere { Replaced::Died } else { Replaced::Error };
            self.lose(slot, reason, error.message().to_owned());
        }
    }

    /// Notes that the instance came back from a run.
    pub(crate) fn prove(&mut self, slot: &Slot) {
        if std::mem::take(&mut self.is_unproven) {
            slot.proved(self.idx);
        }
    }

    pub(crate) fn lose(&mut self, slot: &Slot, reason: Replaced, why: String) {
        self.instance = None;
        self.end = Some(why);
        slot.metrics.instance_replaced(reason);
        slot.sequences.iter().for_each(|sequences| sequences.lost(slot, self.idx));
    }

    /// Makes the instance again if it is gone, however long that takes; false: the slot closed.
    pub(crate) fn restore(&mut self, slot: &Slot) -> bool {
        while self.instance.is_none() {
            if let Some(why) = self.end.take()
                && !slot.await_turn(self.idx, why)
            {
                return false;
            }
            match make(slot, &self.placement) {
                Ok(instance) => {
                    self.instance = Some(instance);
                    self.is_unproven = true;
                    slot.is_back(self.idx);
                }
                Err(error) if slot.is_elsewhere => {
                    slot.metrics.restart_failed();
                    self.end = Some(error.message().to_owned());
                }
                Err(error) => {
                    // The next batch tries again, and its requests hear why not.
                    tracing::error!(model = &*slot.info.name, %error, "no instance in place of the one before");
                    return true;
                }
            }
        }
        true
    }
}

fn make(slot: &Slot, placement: &Placement) -> Result<Box<dyn Instance>> {
    catch_unwind(AssertUnwindSafe(|| slot.instance(placement))).unwrap_or_else(|panic| {
        Err(Error::engine(format!("the engine panicked over a new instance: {}", run::panic_text(panic.as_ref()))))
    })
}

impl Slot {
    /// Notes that an instance ended, and waits until it may be made again; false: the slot closed.
    fn await_turn(&self, idx: usize, why: String) -> bool {
        if !self.is_elsewhere {
            return true;
        }
        if self.waiting.state.lock().closed {
            return false;
        }
        self.note_end(idx, why);
        let mut state = self.waiting.state.lock();
        loop {
            if state.closed {
                return false;
            }
            match state.recovery.as_ref().and_then(|recovery| recovery.next_try(idx)) {
                Some(due) if Instant::now() < due => drop(self.waiting.closing.wait_until(&mut state, due)),
                _ => return true,
            }
        }
    }

    fn note_end(&self, idx: usize, why: String) {
        tracing::warn!(
            model = &*self.info.name,
            version = self.info.version,
            reason = why,
            "an instance ended or did not start; it is made again"
        );
        self.change_standing(|state, now| {
            if let Some(recovery) = &mut state.recovery {
                recovery.ended(idx, why, now);
            }
        });
    }

    fn is_back(&self, idx: usize) {
        if self.is_elsewhere {
            self.change_standing(|state, _| {
                if let Some(recovery) = &mut state.recovery {
                    recovery.is_back(idx);
                }
            });
        }
    }

    fn proved(&self, idx: usize) {
        if let Some(recovery) = &mut self.waiting.state.lock().recovery {
            recovery.proved(idx);
        }
    }

    /// Notes what became of an instance, and tells those whom it concerns.
    fn change_standing(&self, change: impl FnOnce(&mut State, Instant)) {
        let now = Instant::now();
        let mut state = self.waiting.state.lock();
        let was_out = state.outage(now).is_some();
        change(&mut state, now);
        let outage = state.outage(now);
        self.refuse_waiting(state);
        let (model, version) = (&*self.info.name, self.info.version);
        match outage {
            Some(outage) if !was_out => tracing::error!(model, version, reason = %outage, "model is unavailable"),
            None if was_out => tracing::info!(model, version, "model is available again"),
            _ => {}
        }
        if let Some(show) = self.show_standing.get() {
            show(self);
        }
    }

    /// Puts requests back that were taken and did not run; their batch is over.
    pub(crate) fn put_back(&self, batch: &mut Vec<Entry<Job>>) {
        let mut state = self.over(None);
        self.metrics.queue_grew(batch.len());
        batch.drain(..).for_each(|entry| state.queue.put_back(entry));
        self.waiting.call(&mut state);
        self.refuse_waiting(state);
    }

    /// Answers what waits where nothing is going to take it soon.
    fn refuse_waiting(&self, mut state: MutexGuard<'_, State>) {
        let now = Instant::now();
        let Some(outage) = state.outage(now) else {
            return;
        };
        let mut waiting = state.queue.take_all();
        drop(state);
        waiting.extend(self.sequences.iter().flat_map(Sequences::take_all));
        self.metrics.queue_shrank(waiting.len());
        for entry in waiting {
            self.counters.failed(now.saturating_duration_since(entry.arrived));
            if let Some(reply) = entry.payload.reply {
                self.deliver(reply, Err(self.unavailable(&outage)));
            }
        }
    }

    /// Says why nothing is taken up.
    pub(crate) fn unavailable(&self, outage: &Outage) -> Error {
        let (name, version) = (&self.info.name, self.info.version);
        let wait = if outage.next_try_in.is_zero() { SHORTLY } else { outage.next_try_in };
        Error::not_ready(format!("model '{name}' version {version} is unavailable: {outage}")).with_retry_after(wait)
    }

    /// Says why the version is unavailable, if it is.
    pub(crate) fn outage(&self) -> Option<Outage> {
        self.is_elsewhere.then(|| self.waiting.state.lock().outage(Instant::now())).flatten()
    }
}
