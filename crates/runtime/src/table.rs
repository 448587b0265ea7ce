//! Name and version to slot: a snapshot that readers take without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use salver_core::{ModelName, ModelRef, Selector};

use crate::slot::Slot;

/// Every version that serves. Replaced as a whole, never changed in place.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    models: HashMap<ModelName, Served>,
}

/// The serving versions of one model.
#[derive(Debug, Default, Clone)]
pub(crate) struct Served {
    pub(crate) slots: BTreeMap<u64, Arc<Slot>>,
    pub(crate) labels: BTreeMap<String, u64>,
}

impl Table {
    pub(crate) fn find(&self, model: &ModelRef) -> Option<&Arc<Slot>> {
        let served = self.models.get(&model.name)?;
        match &model.selector {
            Selector::Latest => served.slots.last_key_value().map(|(_, slot)| slot),
            Selector::Version(version) => served.slots.get(version),
            Selector::Label(label) => served.slots.get(served.labels.get(label)?),
        }
    }

    pub(crate) fn served(&self, name: &str) -> Option<&Served> {
        self.models.get(name)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.models.values().flat_map(|served| served.slots.values())
    }

    /// Returns a table in which `name` serves what `change` makes of it; nothing left: no entry.
    pub(crate) fn with(&self, name: &ModelName, change: impl FnOnce(&mut Served)) -> Self {
        let mut next = self.clone();
        let served = next.models.entry(name.clone()).or_default();
        change(served);
        if served.slots.is_empty() {
            next.models.remove(name);
        }
        next
    }
}
