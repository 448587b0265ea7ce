//! What a memory limit adds to the lifecycle: loading at first use, and making room.
//!
//! One load at a time holds the lifecycle's only permit; it makes room, loads and measures before
//! the next one begins, so the budget has one owner. Making room never waits for another model's
//! turn (a model that is being changed counts as in use), so nobody waits in a circle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use salver_core::{Error, ErrorKind, ModelName, ModelRef, ModelSpec, ModelState, ResidentModel, Result};
use tokio::sync::OwnedSemaphorePermit;

use crate::lifecycle::{Cause, Fresh, Lifecycle};
use crate::residency::{Claim, Decision, Key, Occupant, Room, Size, decide};
use crate::slot::Slot;
use crate::table::{Dormant, Found, Known};

/// How often a load that has to wait for room looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long before its deadline a request stops waiting, so that it can still be told why.
const LAST_WORDS: Duration = Duration::from_millis(5);
/// When to try again where no better time is known.
const SHORTLY: Duration = Duration::from_secs(1);

/// A slot to ask. One that was loaded for this request stays in memory until this is dropped.
pub(crate) struct Access {
    pub(crate) slot: Arc<Slot>,
    _stay: Option<Stay>,
}

/// What a request holds that waited for its model.
struct Stay {
    _claim: Claim,
    _entry: OwnedSemaphorePermit,
}

impl Lifecycle {
    /// Returns the slot that answers `model`, loading it first where that is how it is served.
    ///
    /// # Errors
    /// `NotFound` for what there is not, `NotReady` for what cannot be loaded in time.
    pub(crate) async fn slot(self: &Arc<Self>, model: &ModelRef, deadline: Option<Instant>) -> Result<Access> {
        if let Some(slot) = self.table.load().resident(model) {
            return Ok(Access { slot: slot.clone(), _stay: None });
        }
        Box::pin(self.bring_in(model, deadline)).await
    }

    /// Loads `model` if it is known and not in memory. An older version stands in for the latest
    /// one where that does not load.
    pub(crate) async fn bring_in(self: &Arc<Self>, model: &ModelRef, deadline: Option<Instant>) -> Result<Access> {
        let until = self.wait_until(deadline);
        let candidates = match self.table.load().served(&model.name) {
            Some(served) => served.candidates(&model.selector),
            None => Vec::new(),
        };
        let mut refused = None;
        for version in candidates {
            match self.version_in_memory((model.name.clone(), version), until).await {
                Ok(access) => return Ok(access),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| self.explain(model)))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Instant {
        let now = Instant::now();
        let wait = self.residency.options().map_or(Duration::ZERO, |options| options.load_wait);
        let latest = deadline.map(|deadline| deadline.checked_sub(LAST_WORDS).unwrap_or(now));
        latest.map_or(now + wait, |latest| latest.min(now + wait))
    }

    async fn version_in_memory(self: &Arc<Self>, key: Key, until: Instant) -> Result<Access> {
        let model = ModelRef::version(key.0.clone(), key.1);
        let claim = self.residency.claim(&key)?;
        let spec = match self.table.load().find(&model) {
            Found::Resident(slot) => {
                slot.usage.touch(Instant::now());
                return Ok(Access { slot: slot.clone(), _stay: None });
            }
            Found::Dormant(dormant) => dormant.spec.clone(),
            Found::Missing => return Err(self.explain(&model)),
        };
        if let Some(refusal) = self.residency.refusal(&spec) {
            return Err(refusal);
        }
        let late = |_| {
            Error::not_ready(format!("model '{model}' is still loading; try again shortly")).with_retry_after(SHORTLY)
        };
        let flight = self.residency.flight(&key, || self.tasks.spawn(self.clone().load_dormant(key.clone())));
        tokio::time::timeout_at(until.into(), flight).await.map_err(late)??;
        let slot = self.table.load().resident(&model).cloned();
        let slot = slot.ok_or_else(|| {
            Error::not_ready(format!("model '{model}' is being replaced; try again")).with_retry_after(SHORTLY)
        })?;
        let entry = tokio::time::timeout_at(until.into(), slot.usage.entrance.clone().acquire_owned()).await;
        let entry = entry.map_err(late)?.map_err(|_| self.explain(&model))?;
        Ok(Access { slot, _stay: Some(Stay { _claim: claim, _entry: entry }) })
    }

    /// Loads a version that somebody asks for. Runs as a task of its own: the request that began it
    /// may go away while others wait for it too.
    async fn load_dormant(self: Arc<Self>, key: Key) -> Result<()> {
        let _landing = Landing { lifecycle: &self, key: &key };
        let turn = self.turn(&key.0);
        let _turn = turn.lock().await;
        let model = ModelRef::version(key.0.clone(), key.1);
        let spec = match self.table.load().find(&model) {
            Found::Resident(_) => return Ok(()),
            Found::Dormant(dormant) => dormant.spec.clone(),
            Found::Missing => return Err(self.explain(&model)),
        };
        let loaded = self.load(spec.clone(), Cause::Request).await;
        // Whatever is wrong with the model, the request itself is not at fault.
        loaded.map_err(|error| match self.residency.refusal(&spec) {
            Some(refusal) => refusal,
            None => Error::not_ready(format!("model '{model}' failed to load: {error}")).with_retry_after(SHORTLY),
        })
    }

    /// Waits until `spec` fits below the limit; versions that are not needed now leave for it.
    ///
    /// # Errors
    /// `NotReady` where it does not fit in time.
    pub(crate) async fn make_room(self: &Arc<Self>, spec: &ModelSpec, cause: Cause) -> Result<()> {
        let Some(options) = self.residency.options() else {
            return Ok(());
        };
        let until = Instant::now() + options.load_wait;
        let (size, least) = (self.residency.size(spec), self.residency.least(spec));
        let (mut needed, mut released) = (size.loading.max(least), false);
        loop {
            let room = Room { used: self.residency.used(), needed, limit: options.memory_limit };
            let (slots, occupants) = self.occupants(Some((&spec.name, cause)));
            match decide(&occupants, room) {
                Decision::Load => return Ok(()),
                // What was freed earlier may not be back yet.
                _ if !released => {
                    self.release_memory().await;
                    released = true;
                }
                Decision::Evict(idx) => self.evict(&slots[idx], until).await,
                // Rather beyond the limit for the moment of loading than not at all.
                Decision::Wait | Decision::Refuse if needed > least => needed = least,
                Decision::Wait if Instant::now() < until && !self.is_stopping() => tokio::time::sleep(LOOK_AGAIN).await,
                Decision::Wait | Decision::Refuse => return Err(self.no_room(spec, room)),
            }
        }
    }

    fn no_room(&self, spec: &ModelSpec, room: Room) -> Error {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let reason = format!(
            "no room in memory: about {} MiB are needed, {} MiB of {} MiB are taken, and what could leave does not \
             suffice; see --memory-limit",
            mib(room.needed),
            mib(room.used),
            mib(room.limit)
        );
        self.residency.history(spec, |history| history.found_no_room(&reason, Instant::now()));
        Error::not_ready(reason).with_retry_after(SHORTLY)
    }

    /// Lets versions leave that are not in use, oldest first, until the process is below its limit.
    /// The caller holds the permit to load.
    pub(crate) async fn keep_limit(self: &Arc<Self>) {
        let Some(options) = self.residency.options() else {
            return;
        };
        let mut released = false;
        loop {
            let room = Room { used: self.residency.used(), needed: 0, limit: options.memory_limit };
            let (slots, occupants) = self.occupants(None);
            match decide(&occupants, room) {
                Decision::Load => {
                    self.residency.set_over(false);
                    return;
                }
                _ if !released => {
                    self.release_memory().await;
                    released = true;
                }
                Decision::Evict(idx) => self.evict(&slots[idx], Instant::now() + options.load_wait).await,
                Decision::Wait | Decision::Refuse => {
                    if self.residency.set_over(true) {
                        let (used, limit) = (room.used, room.limit);
                        tracing::warn!(used, limit, "the process holds more than its memory limit");
                    }
                    return;
                }
            }
        }
    }

    /// Does that from time to time: models also grow while they serve.
    pub(crate) async fn watch_limit(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Whoever is loading looks at the limit too.
            if let Ok(_permit) = self.loads.try_acquire() {
                self.keep_limit().await;
            }
        }
    }

    /// Lists what is in memory, as the plan sees it. `for_whom` has its model's turn already.
    fn occupants(&self, for_whom: Option<(&ModelName, Cause)>) -> (Vec<Arc<Slot>>, Vec<Occupant>) {
        let slots: Vec<Arc<Slot>> = self.table.load().slots().cloned().collect();
        let occupant = |slot: &Arc<Slot>| {
            let name = &slot.spec.name;
            let own = for_whom.filter(|(own, _)| *own == name).map(|(_, cause)| cause);
            let is_changing = own.is_none() && self.turn(name).try_lock().is_err();
            Occupant {
                bytes: self.residency.size(&slot.spec).resident.max(1),
                last_used: slot.usage.last(),
                in_use: is_changing
                    || slot.in_flight() > 0
                    || slot.has_sequences()
                    || self.residency.is_claimed(&key_of(slot)),
                // A version serves on until the one that takes its place does.
                pinned: own == Some(Cause::Change) || self.residency.is_pinned(name),
            }
        };
        let occupants = slots.iter().map(occupant).collect();
        (slots, occupants)
    }

    /// Takes an idle version out of memory; it is loaded again at its next use.
    async fn evict(self: &Arc<Self>, slot: &Arc<Slot>, until: Instant) {
        let (name, version) = key_of(slot);
        let known = Known { info: slot.info.clone(), config: slot.interface.config.clone() };
        let dormant = Dormant { spec: slot.spec.clone(), known: Some(Arc::new(known)) };
        self.leaving.add(slot);
        self.publish(&name, |served| {
            served.slots.remove(&version);
            served.dormant.insert(version, dormant.clone());
        });
        let retired = slot.clone();
        let retired = self.tasks.spawn(async move { retired.retire().await });
        // A request may have come in at the last moment; it is answered first.
        let _ = tokio::time::timeout_at(until.into(), retired).await;
        self.release_memory().await;
        self.board.set(&name, version, ModelState::Gone, "left memory to make room; the next request loads it");
        self.metrics.model_memory(&name, version, None);
        self.metrics.model_evicted(&name);
        tracing::info!(model = %name, version, "model left memory to make room");
    }

    /// Gives what was freed back to the system, where there is a limit to keep.
    pub(crate) async fn release_memory(&self) {
        let Some(options) = self.residency.options() else {
            return;
        };
        let meter = options.meter.clone();
        if let Err(panic) = tokio::task::spawn_blocking(move || meter.release()).await {
            tracing::error!(%panic, "giving memory back");
        }
    }

    /// Notes what a load took, where loads come one by one: the growth of the process while it
    /// loaded, and what is left of that once memory is given back; never less than the weights.
    pub(crate) async fn measure(&self, spec: &ModelSpec, fresh: &Fresh, before: u64) {
        let mut size = Size::of(fresh.0.as_ref().map_or(0, |slot| slot.estimated_bytes()));
        if self.residency.is_on_demand() {
            let growth = || self.residency.used().saturating_sub(before);
            let loading = growth();
            self.release_memory().await;
            let resident = growth().max(size.resident);
            size = Size { resident, loading: loading.max(resident) };
        }
        self.residency.history(spec, |history| history.loaded(size));
    }

    /// Notes a load that failed.
    pub(crate) fn note_failed(&self, spec: &ModelSpec, error: &Error) {
        self.residency.history(spec, |history| history.failed(error.message(), Instant::now()));
    }

    /// Makes the desired versions that are not in memory known to the table. Others are forgotten
    /// as soon as one of the desired has shown that it can be loaded. The caller has the turn.
    pub(crate) fn keep_in_mind(&self, name: &ModelName, desired: &[Arc<ModelSpec>]) {
        let has_loaded = |spec: &Arc<ModelSpec>| self.residency.history(spec, |history| history.is_proven());
        let proven = desired.is_empty() || desired.iter().any(has_loaded);
        self.publish(name, |served| {
            let wanted = |version: &u64| desired.iter().any(|spec| spec.version == *version);
            served.dormant.retain(|version, _| wanted(version) || !proven);
            for spec in desired.iter().filter(|spec| !served.slots.contains_key(&spec.version)) {
                let earlier = served.dormant.get(&spec.version);
                if earlier.is_none_or(|earlier| earlier.spec.fingerprint != spec.fingerprint) {
                    served.dormant.insert(spec.version, Dormant { spec: spec.clone(), known: None });
                }
            }
        });
    }

    /// Whether a request to `model` would be answered, as far as is known.
    pub(crate) fn would_answer(&self, model: &ModelRef) -> bool {
        let table = self.table.load();
        let Some(served) = table.served(&model.name) else {
            return false;
        };
        if let Found::Resident(slot) = table.find(model) {
            return slot.outage().is_none();
        }
        served.candidates(&model.selector).into_iter().any(|version| {
            let dormant = served.dormant.get(&version);
            served.slots.get(&version).is_some_and(|slot| slot.outage().is_none())
                || dormant.is_some_and(|dormant| self.residency.refusal(&dormant.spec).is_none())
        })
    }

    /// Explains why `model` is not in memory.
    pub(crate) fn explain(&self, model: &ModelRef) -> Error {
        if let Found::Dormant(dormant) = self.table.load().find(model) {
            return self.residency.refusal(&dormant.spec).unwrap_or_else(|| {
                let message = format!("model '{model}' is not in memory; the next inference request loads it");
                Error::not_ready(message).with_retry_after(SHORTLY)
            });
        }
        let error = self.board.explain(model);
        if self.is_stopping() && error.kind() == ErrorKind::NotFound {
            return Error::not_ready("the server is stopping").with_retry_after(SHORTLY);
        }
        error
    }

    /// Lists what is in memory, for people.
    pub(crate) fn resident(&self) -> Vec<ResidentModel> {
        let table = self.table.load();
        let row = |slot: &Arc<Slot>| ResidentModel {
            name: slot.spec.name.to_string(),
            version: slot.spec.version,
            memory_bytes: self.residency.size(&slot.spec).resident,
            pinned: self.residency.is_pinned(&slot.spec.name),
            in_flight: slot.in_flight(),
            last_used_ms_ago: u64::try_from(slot.usage.idle_for().as_millis()).unwrap_or(u64::MAX),
            loads: self.residency.history(&slot.spec, |history| history.loads),
        };
        let mut all: Vec<ResidentModel> = table.slots().map(row).collect();
        all.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        all
    }
}

/// Ends the flight of a load, also if it panics.
struct Landing<'a> {
    lifecycle: &'a Lifecycle,
    key: &'a Key,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.lifecycle.residency.landed(self.key);
    }
}

fn key_of(slot: &Slot) -> Key {
    (slot.spec.name.clone(), slot.spec.version)
}
