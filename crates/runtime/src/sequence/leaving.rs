//! Slots that are on their way out and still serve the sequences that have begun there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use salver_core::{InferRequest, ModelRef, Selector};

use super::continued;
use super::table::SequenceId;
use crate::lifecycle::Lifecycle;
use crate::slot::Slot;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    slots: Mutex<Vec<Weak<Slot>>>,
    /// Whether there ever was one: most servers have no stateful model.
    is_used: AtomicBool,
}

impl Leaving {
    /// Notes that a slot is about to leave the table, before it does.
    pub(crate) fn add(&self, slot: &Arc<Slot>) {
        if slot.sequences.is_some() {
            let mut slots = self.slots.lock();
            slots.retain(|slot| slot.strong_count() > 0);
            slots.push(Arc::downgrade(slot));
            self.is_used.store(true, Ordering::Release);
        }
    }

    /// Lets no sequence go on.
    pub(crate) fn hurry(&self) {
        let slots: Vec<_> = self.slots.lock().iter().filter_map(Weak::upgrade).collect();
        slots.iter().filter_map(|slot| slot.sequences.as_ref()).for_each(super::Sequences::hurry);
    }

    fn find(&self, fits: impl Fn(&Slot) -> bool) -> Option<Arc<Slot>> {
        if !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.slots.lock().iter().filter_map(Weak::upgrade).find(|slot| fits(slot))
    }
}

impl Lifecycle {
    /// Returns the slot where the sequence of a request has begun. Also where that is the one which
    /// the request would get now: a newer one may be there by the time it looks.
    pub(crate) fn begun(&self, request: &InferRequest) -> Option<Arc<Slot>> {
        let id = continued(&request.parameters)?;
        let (table, now) = (self.table.load(), Instant::now());
        let ModelRef { name, selector } = &request.model;
        let goes_on = |slot: &Slot| has(slot, &id, now);
        if let Some(slot) = table.resident(&request.model).filter(|slot| goes_on(slot)) {
            return Some(slot.clone());
        }
        let may_be = |slot: &Slot| *slot.spec.name == **name && is_meant(slot, selector) && goes_on(slot);
        let mut in_table = table.served(name).into_iter().flat_map(|served| served.slots.values());
        in_table.rfind(|slot| may_be(slot)).cloned().or_else(|| self.leaving.find(may_be))
    }
}

fn has(slot: &Slot, id: &SequenceId, now: Instant) -> bool {
    slot.sequences.as_ref().is_some_and(|sequences| sequences.goes_on(id, now))
}

/// Which version a name or a label stood for when the sequence began is not known any more.
fn is_meant(slot: &Slot, selector: &Selector) -> bool {
    match selector {
        Selector::Version(version) => slot.spec.version == *version,
        Selector::Latest | Selector::Label(_) => true,
    }
}
