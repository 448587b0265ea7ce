//! Which versions are in memory, and what is known of those that are not.
//!
//! Holds what the lifecycle needs to keep a memory limit: sizes as they were measured, failed
//! loads, pins, who waits for which version, and the one load of a version that all of them wait
//! for. What leaves to make room is decided in [`plan`]; the doing is in `on_demand.rs`.

mod history;
mod meter;
mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt as _, Shared};
use parking_lot::Mutex;
use salver_core::{Error, ModelName, ModelRef, ModelSpec, Result};

pub(crate) use self::history::{History, Size};
pub use self::meter::Meter;
pub(crate) use self::plan::{Decision, Occupant, Room, decide};

/// The most requests that wait for one version to be loaded.
const MOST_WAITING: usize = 4096;

/// Settings of models that are loaded at first use.
#[derive(Debug, Clone)]
pub struct ResidencyOptions {
    /// The most memory that the process should hold, in bytes.
    pub memory_limit: u64,
    /// How long a request waits for its model to be loaded, and a load for room.
    pub load_wait: Duration,
    /// Measures the process.
    pub meter: Arc<dyn Meter>,
}

/// A model and one of its versions.
pub(crate) type Key = (ModelName, u64);

/// A load under way; everybody who wants the version waits for the same one.
pub(crate) type Flight = Shared<BoxFuture<'static, Result<()>>>;

/// What is remembered of every version.
#[derive(Debug)]
pub(crate) struct Residency {
    options: Option<ResidencyOptions>,
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    histories: HashMap<Key, History>,
    pinned: HashSet<ModelName>,
    claims: HashMap<Key, usize>,
    flights: HashMap<Key, Flight>,
}

impl Residency {
    /// Without options, nothing is loaded at first use and nothing leaves to make room.
    pub(crate) fn new(options: Option<ResidencyOptions>) -> Arc<Self> {
        Arc::new(Self { options, is_over: AtomicBool::new(false), state: Mutex::default() })
    }

    /// Returns the settings, if models are loaded at first use.
    pub(crate) fn options(&self) -> Option<&ResidencyOptions> {
        self.options.as_ref()
    }

    pub(crate) fn is_on_demand(&self) -> bool {
        self.options.is_some()
    }

    /// Returns the resident bytes of the process.
    pub(crate) fn used(&self) -> u64 {
        match &self.options {
            Some(options) => options.meter.resident_bytes(),
            None => salver_telemetry::resident_bytes().unwrap_or_default(),
        }
    }

    /// Notes whether the process holds more than its limit; returns whether that is news.
    pub(crate) fn set_over(&self, is_over: bool) -> bool {
        self.is_over.swap(is_over, Ordering::Relaxed) != is_over
    }

    /// Returns what a version takes: measured, or else guessed from its files.
    pub(crate) fn size(&self, spec: &ModelSpec) -> Size {
        let measured = self.history(spec, |history| history.size);
        measured.unwrap_or_else(|| meter::guess(&spec.artifact))
    }

    /// Returns the least that a version takes as far as is known. The growth of a first load is that of
    /// the whole process and may hold more than the version, so its files are believed as well.
    pub(crate) fn least(&self, spec: &ModelSpec) -> u64 {
        let measured = self.size(spec).resident;
        let is_vague = self.history(spec, |history| history.is_first_impression);
        let least = if is_vague { measured.min(meter::guess(&spec.artifact).resident) } else { measured };
        least.max(1)
    }

    /// Reads or changes what is remembered of a version with these files.
    pub(crate) fn history<T>(&self, spec: &ModelSpec, look: impl FnOnce(&mut History) -> T) -> T {
        let key = (spec.name.clone(), spec.version);
        look(self.state.lock().histories.entry(key).or_default().about(spec.fingerprint))
    }

    /// Returns why a version is left alone for the moment, if it is.
    pub(crate) fn refusal(&self, spec: &ModelSpec) -> Option<Error> {
        let model = ModelRef::version(spec.name.clone(), spec.version);
        self.history(spec, |history| history.refusal(&model, Instant::now()))
    }

    /// Keeps a version in memory for as long as the claim lives: somebody waits for it or uses it.
    ///
    /// # Errors
    /// `NotReady` where too many wait already.
    pub(crate) fn claim(self: &Arc<Self>, key: &Key) -> Result<Claim> {
        let mut state = self.state.lock();
        let claims = state.claims.entry(key.clone()).or_default();
        if *claims >= MOST_WAITING {
            let error = format!("{MOST_WAITING} requests wait for model '{}/{}' to be loaded already", key.0, key.1);
            return Err(Error::not_ready(error).with_retry_after(Duration::from_secs(1)));
        }
        *claims += 1;
        drop(state);
        Ok(Claim { residency: self.clone(), key: key.clone() })
    }

    pub(crate) fn is_claimed(&self, key: &Key) -> bool {
        self.state.lock().claims.contains_key(key)
    }

    /// Returns the load of a version that is under way, or begins one. `start` must not block, and
    /// its task must call [`Residency::landed`] at its end.
    pub(crate) fn flight(&self, key: &Key, start: impl FnOnce() -> tokio::task::JoinHandle<Result<()>>) -> Flight {
        let mut state = self.state.lock();
        if let Some(flight) = state.flights.get(key) {
            return flight.clone();
        }
        let task = start();
        let flight = async move {
            let ended_early = |panic| Err(Error::engine(format!("loading ended early: {panic}")));
            task.await.unwrap_or_else(ended_early)
        };
        let flight = flight.boxed().shared();
        state.flights.insert(key.clone(), flight.clone());
        flight
    }

    /// Notes that no load of the version is under way any more.
    pub(crate) fn landed(&self, key: &Key) {
        self.state.lock().flights.remove(key);
    }

    /// Pins or unpins a model; returns whether that changed anything.
    pub(crate) fn set_pinned(&self, name: &ModelName, pinned: bool) -> bool {
        let mut state = self.state.lock();
        if pinned { state.pinned.insert(name.clone()) } else { state.pinned.remove(name) }
    }

    pub(crate) fn is_pinned(&self, name: &str) -> bool {
        self.state.lock().pinned.contains(name)
    }

    /// Forgets a model that its source no longer has.
    pub(crate) fn forget(&self, name: &str) {
        let mut state = self.state.lock();
        state.histories.retain(|key, _| *key.0 != *name);
        state.pinned.remove(name);
    }
}

/// Keeps a version in memory; see [`Residency::claim`].
#[derive(Debug)]
pub(crate) struct Claim {
    residency: Arc<Residency>,
    key: Key,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.residency.state.lock();
        if let Some(claims) = state.claims.get_mut(&self.key) {
            *claims -= 1;
            if *claims == 0 {
                state.claims.remove(&self.key);
            }
        }
    }
}
