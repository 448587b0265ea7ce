//! Name and version to slot: a snapshot that readers take without a lock.
//!
//! Under a memory limit the table also holds versions that are known and not in memory. They count
//! when the latest version is asked for: a request never gets an older version only because the
//! newer one is not in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use salver_core::{ModelConfig, ModelInfo, ModelName, ModelRef, ModelSpec, Selector};

use crate::slot::Slot;

/// Every version that serves, and every version that is loaded at first use. Replaced as a whole,
/// never changed in place.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    models: HashMap<ModelName, Served>,
}

/// The versions of one model.
#[derive(Debug, Default, Clone)]
pub(crate) struct Served {
    pub(crate) slots: BTreeMap<u64, Arc<Slot>>,
    /// Not in memory; no version is in both maps.
    pub(crate) dormant: BTreeMap<u64, Dormant>,
    pub(crate) labels: BTreeMap<String, u64>,
}

/// A version that is loaded at first use.
#[derive(Debug, Clone)]
pub(crate) struct Dormant {
    pub(crate) spec: Arc<ModelSpec>,
    /// What is known of it; none: it was not in memory yet.
    pub(crate) known: Option<Arc<Known>>,
}

/// What clients may know of a version, in memory or not.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) config: ModelConfig,
}

/// What a reference means at this moment.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// It serves.
    Resident(&'a Arc<Slot>),
    /// It is loaded at first use.
    Dormant(&'a Dormant),
    /// There is no such version.
    Missing,
}

impl Table {
    pub(crate) fn find(&self, model: &ModelRef) -> Found<'_> {
        let Some(served) = self.models.get(&model.name) else {
            return Found::Missing;
        };
        match &model.selector {
            Selector::Latest => served.latest(),
            Selector::Version(version) => served.version(*version),
            Selector::Label(label) => match served.labels.get(label) {
                Some(version) => served.version(*version),
                None => Found::Missing,
            },
        }
    }

    /// Returns the slot that serves `model`, if it is in memory.
    pub(crate) fn resident(&self, model: &ModelRef) -> Option<&Arc<Slot>> {
        match self.find(model) {
            Found::Resident(slot) => Some(slot),
            Found::Dormant(_) | Found::Missing => None,
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
        if served.slots.is_empty() && served.dormant.is_empty() {
            next.models.remove(name);
        }
        next
    }
}

impl Served {
    fn latest(&self) -> Found<'_> {
        match (self.slots.last_key_value(), self.dormant.last_key_value()) {
            (Some((resident, _)), Some((version, dormant))) if version > resident => Found::Dormant(dormant),
            (Some((_, slot)), _) => Found::Resident(slot),
            (None, Some((_, dormant))) => Found::Dormant(dormant),
            (None, None) => Found::Missing,
        }
    }

    fn version(&self, version: u64) -> Found<'_> {
        match (self.slots.get(&version), self.dormant.get(&version)) {
            (Some(slot), _) => Found::Resident(slot),
            (None, Some(dormant)) => Found::Dormant(dormant),
            (None, None) => Found::Missing,
        }
    }

    /// Returns the versions that may answer `selector`, the best one first: an older version stands
    /// in for the latest one while that does not load.
    pub(crate) fn candidates(&self, selector: &Selector) -> Vec<u64> {
        match selector {
            Selector::Version(version) => vec![*version],
            Selector::Label(label) => self.labels.get(label).copied().into_iter().collect(),
            Selector::Latest => {
                let mut all: Vec<u64> = self.slots.keys().chain(self.dormant.keys()).copied().collect();
                all.sort_unstable_by(|a, b| b.cmp(a));
                all
            }
        }
    }
}
