//! Serves loaded models: the one implementation of [`Infer`] that runs an engine.
//!
//! The path of a request: table → place → check → line → runner (merge, run, split) → answer.
//! Beside it, the lifecycle brings versions up and takes them down, and swaps the table.
//! Sockets, formats and folders are other crates' business.

mod assemble;
mod asynchronous;
mod board;
mod budget;
mod cache;
mod check;
mod checksum;
mod control;
mod desk;
mod ensemble;
pub mod fuzz;
mod inline;
mod instances;
mod interface;
mod levels;
mod lifecycle;
mod observer;
mod on_demand;
mod options;
mod order;
mod overriding;
mod padding;
mod pieces;
mod places;
mod policy;
mod poll;
mod queue;
mod ragged;
mod reconcile;
mod recovery;
mod residency;
mod restore;
mod run;
mod sequence;
mod serving;
mod shared;
mod slot;
mod statistics;
mod table;
mod task;
mod tune;
mod usage;
mod waiter;
mod waiting;
mod warmup;
mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::{
    Context, Engine, Error, InferRequest, InferResponse, Inferred, ModelEntry, ModelName, ModelRef, ModelSource,
    Result, Selector,
};
use salver_telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::cache::CacheOptions;
pub use crate::check::{Unloaded, check_fits};
pub use crate::options::{ControlMode, RuntimeOptions, TuningOptions};
pub use crate::recovery::Backoff;
pub use crate::residency::{Meter, ResidencyOptions};

use crate::cache::ResponseCache;
use crate::lifecycle::{Lifecycle, LifecycleOptions};
use crate::pieces::Inlet;
use crate::poll::Looks;
use crate::reconcile::Extent;
use crate::residency::Residency;
use crate::shared::Shared;
use crate::slot::{Refusal, Slot, SlotOptions};
use crate::table::Found;
use crate::tune::Tuning;

/// How often the memory limit is looked at while nothing is loaded.
const LIMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Serves models from a source with a set of engines.
pub struct Runtime {
    lifecycle: Arc<Lifecycle>,
    cache: Option<Arc<ResponseCache>>,
    source: Arc<dyn ModelSource>,
    options: RuntimeOptions,
    shared: Arc<Shared>,
    /// Runs until everything is down: a run that hangs must not keep the server from stopping.
    watch: Mutex<Option<JoinHandle<()>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// How often the source was read. Readings overlap: of two, the one that began later counts.
    readings: AtomicU64,
    /// Models that were last loaded with a configuration or files of a client's.
    overridden: Mutex<BTreeSet<ModelName>>,
}

impl Runtime {
    /// Makes a runtime that serves nothing yet. Engines are tried in the order given. Models of
    /// microseconds run on the threads that ask, where this is made among several of them.
    pub fn new(
        engines: Vec<Arc<dyn Engine>>,
        source: Arc<dyn ModelSource>,
        metrics: Arc<Metrics>,
        options: RuntimeOptions,
    ) -> Arc<Self> {
        let tasks = TaskTracker::new();
        let shared = Shared::new(options.max_waiting_bytes.unwrap_or(usize::MAX));
        let tuning = options.tuning.as_ref().map(|options| Arc::new(Tuning::new(options)));
        let slot_options = SlotOptions {
            max_queue: options.max_queue,
            slow: options.slow,
            may_run_inline: inline::has_many_threads(),
            shared: shared.clone(),
            tuning,
            backoff: options.backoff,
        };
        let cache = ResponseCache::new(&options.cache, &metrics);
        let own = LifecycleOptions {
            slot: slot_options,
            generated_warmup: options.generated_warmup,
            tasks: options.tasks.clone(),
            load_timeout: options.load_timeout,
            no_jobs: options.no_jobs.clone(),
        };
        metrics.memory_limit(options.residency.as_ref().map_or(0, |residency| residency.memory_limit));
        let residency = Residency::new(options.residency.clone());
        let lifecycle = Arc::new(Lifecycle::new(engines, metrics, own, residency, cache.clone(), tasks.clone()));
        Arc::new(Self {
            lifecycle,
            cache,
            source,
            options,
            shared,
            watch: Mutex::default(),
            tasks,
            stop: CancellationToken::new(),
            readings: AtomicU64::new(0),
            overridden: Mutex::default(),
        })
    }

    /// Loads what the mode says and returns when that is done; goes on polling in the background
    /// where asked to. A model that fails to load shows in the index with its reason.
    ///
    /// # Errors
    /// `InvalidInput` if models to load are named where all are loaded anyway.
    pub async fn start(self: &Arc<Self>) -> Result<()> {
        let on_demand = self.options.residency.is_some();
        let picks = on_demand || self.options.control == ControlMode::Explicit;
        if !picks && !self.options.load.is_empty() {
            return Err(Error::invalid_input(
                "models to load are named, but all are loaded; add --model-control explicit or --memory-limit",
            ));
        }
        *self.watch.lock() = Some(tokio::spawn(watch(self.shared.clone(), self.lifecycle.metrics.clone())));
        if let Some(cache) = self.cache.clone() {
            let stop = self.stop.clone();
            self.tasks.spawn(async move { cache.run(stop).await });
        }
        let reading = self.next_reading();
        let entries = self.scan().await?;
        for entry in &entries {
            self.lifecycle.board.register(&entry.name);
        }
        let named = || self.options.load.iter().chain(&self.options.pin);
        for name in named().filter(|name| *name != "*") {
            if !entries.iter().any(|entry| *entry.name == **name) {
                tracing::error!(model = name, "no such model to load");
                self.lifecycle.board.set_problem(name, Some("no model of that name is in any of the paths".to_owned()));
            }
        }
        for entry in entries.iter().filter(|entry| self.options.pin.iter().any(|pin| *pin == *entry.name)) {
            self.lifecycle.set_pinned(&entry.name, true);
        }
        let is_named = |name: &str| !picks || named().any(|load| load == "*" || load == name);
        let wanted = ensemble::with_members(&entries, is_named);
        let looks = Looks::new(&entries);
        let (now, later): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| wanted.contains(&entry.name));
        if on_demand {
            self.apply_all(later, Extent::InUse, reading).await;
        }
        self.apply_all(now, Extent::Missing, reading).await;
        self.lifecycle.set_started();
        if let ControlMode::Poll(interval) = self.options.control {
            let this = self.clone();
            self.tasks.spawn(async move { this.poll(interval, looks).await });
        }
        if on_demand {
            let (watch, stop) = (self.lifecycle.clone().watch_limit(LIMIT_INTERVAL), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(watch).await });
        }
        Ok(())
    }

    /// Ends polling, takes every model down and waits until nothing is in flight.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.lifecycle.shut_down().await;
        self.tasks.close();
        self.tasks.wait().await;
        // A load that was under way may have come up meanwhile.
        self.lifecycle.shut_down().await;
        if let Some(watch) = self.watch.lock().take() {
            watch.abort();
        }
    }

    /// Reads the source once more and follows its changes.
    ///
    /// # Errors
    /// `Engine` if reading ended early.
    pub async fn sync(&self) -> Result<()> {
        let (reading, known) = (self.next_reading(), self.lifecycle.board.names());
        let entries = self.scan().await?;
        let present: BTreeSet<&str> = entries.iter().map(|entry| &*entry.name).collect();
        let gone: Vec<_> = known.into_iter().filter(|name| !present.contains(name.as_str())).collect();
        self.follow(entries, &gone, reading).await;
        Ok(())
    }

    /// Reads one model once more and follows its changes, whoever controls the others. Returns a task
    /// that ends when that is done.
    pub fn refresh(self: &Arc<Self>, name: ModelName) -> JoinHandle<()> {
        let this = self.clone();
        self.tasks.spawn(async move {
            // The failure is logged and on the board already.
            drop(this.reread(&name).await);
        })
    }

    /// As [`Runtime::refresh`], and returns when that is done.
    ///
    /// # Errors
    /// What the files or the engine said; `Engine` if reading ended early.
    pub async fn reread(&self, name: &ModelName) -> Result<()> {
        let reading = self.next_reading();
        match self.find(name).await {
            Ok(Some(entry)) => self.lifecycle.apply(entry, self.follows(), reading).await,
            Ok(None) => {
                self.lifecycle.forget(name, reading).await;
                Ok(())
            }
            Err(error) => {
                tracing::error!(model = %name, %error, "model cannot be read");
                Err(error)
            }
        }
    }

    /// What of a change is loaded at once.
    fn follows(&self) -> Extent {
        if self.options.residency.is_some() { Extent::InUse } else { Extent::Missing }
    }

    fn next_reading(&self) -> u64 {
        self.readings.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes on what a reading found; failures are logged and on the board already.
    async fn follow(&self, entries: Vec<ModelEntry>, gone: &[String], reading: u64) {
        for name in gone {
            self.lifecycle.forget(name, reading).await;
        }
        self.apply_all(entries, self.follows(), reading).await;
    }

    /// Failures are logged and on the board already.
    async fn apply_all(&self, entries: Vec<ModelEntry>, extent: Extent, reading: u64) {
        // All at once, before the first is applied: an ensemble waits for what it knows to be coming.
        let coming: Vec<_> = entries.iter().map(|entry| self.lifecycle.announce(&entry.name)).collect();
        let all = entries.into_iter().zip(coming).map(|(entry, coming)| async move {
            let applied = self.lifecycle.apply(entry, extent, reading).await;
            drop((applied, coming));
        });
        futures::future::join_all(all).await;
    }

    async fn scan(&self) -> Result<Vec<ModelEntry>> {
        let source = self.source.clone();
        let scan = tokio::task::spawn_blocking(move || source.scan()).await;
        scan.map_err(|panic| Error::engine(format!("reading the model paths ended early: {panic}")))
    }

    async fn find(&self, name: &str) -> Result<Option<ModelEntry>> {
        let (source, name) = (self.source.clone(), name.to_owned());
        let find = tokio::task::spawn_blocking(move || source.find(&name)).await;
        find.map_err(|panic| Error::engine(format!("reading the model paths ended early: {panic}")))
    }

    fn explicit(&self) -> Result<()> {
        match self.options.control {
            ControlMode::Explicit => Ok(()),
            ControlMode::None | ControlMode::Poll(_) => Err(Error::not_ready(
                "explicit model load / unload is not allowed; start the server with --model-control explicit",
            )),
        }
    }

    async fn load_named(&self, name: &str) -> Result<()> {
        self.explicit()?;
        let (reading, found) = (self.next_reading(), self.find(name).await?);
        let shown = shown(name);
        let entry = found.ok_or_else(|| {
            Error::not_found(format!("failed to load '{shown}', failed to poll from model repository: no such model"))
        })?;
        if let Err(error) = &entry.versions {
            return Err(error.clone().context(format_args!("failed to load '{shown}'")));
        }
        self.overridden.lock().remove(&entry.name);
        let members = self.missing_members(&entry).await?;
        // In a task of its own: a client that goes away does not leave half a load behind.
        let lifecycle = self.lifecycle.clone();
        let load = async move {
            let coming: Vec<_> = members.iter().map(|member| lifecycle.announce(&member.name)).collect();
            let members = members.into_iter().zip(coming).map(|(member, coming)| {
                let lifecycle = &lifecycle;
                async move {
                    // What is wrong with a member is said of the ensemble.
                    let applied = lifecycle.apply(member, Extent::Missing, reading).await;
                    drop((applied, coming));
                }
            });
            let own = lifecycle.apply(entry, Extent::All, reading);
            futures::join!(own, futures::future::join_all(members)).0
        };
        let applied = self.tasks.spawn(load).await;
        let applied = applied.unwrap_or_else(|panic| Err(Error::engine(format!("loading ended early: {panic}"))));
        applied.map_err(|error| error.context(format_args!("failed to load '{shown}'")))
    }

    /// Reads the models that an ensemble calls, and those that they call, where they do not serve yet.
    async fn missing_members(&self, entry: &ModelEntry) -> Result<Vec<ModelEntry>> {
        let mut seen = BTreeSet::from([entry.name.clone()]);
        let mut due = ensemble::called_by(entry);
        let mut found = Vec::new();
        while let Some(name) = due.pop_first() {
            let serves = self.lifecycle.table.load().served(&name).is_some();
            if serves || !seen.insert(name.clone()) {
                continue;
            }
            if let Some(member) = self.find(&name).await? {
                due.extend(ensemble::called_by(&member));
                found.push(member);
            }
        }
        Ok(found)
    }

    /// Returns one version, all versions of a model, or everything.
    fn slots_of(&self, model: Option<&ModelRef>) -> Result<Vec<Arc<Slot>>> {
        let table = self.lifecycle.table.load();
        let Some(model) = model else {
            return Ok(table.slots().cloned().collect());
        };
        let version = match table.find(model) {
            Found::Resident(slot) => slot.info.version,
            Found::Dormant(dormant) => dormant.spec.version,
            Found::Missing => return Err(self.explain(model)),
        };
        let of_model = table.slots().filter(|slot| *slot.info.name == *model.name);
        let meant = |slot: &&Arc<Slot>| model.selector == Selector::Latest || slot.info.version == version;
        Ok(of_model.filter(meant).cloned().collect())
    }

    async fn infer_here(&self, request: &mut InferRequest, ctx: &Context) -> Result<InferResponse> {
        self.lifecycle.infer(request, ctx).await
    }

    /// Runs one request, unless its answer is to be computed by a job.
    async fn infer_or_leave(&self, mut request: InferRequest, ctx: &Context) -> Result<Inferred> {
        let access = self.lifecycle.access(&request.model, ctx).await?;
        if let Some(cached) = self.lifecycle.cache_of(&access.slot)
            && let Some(found) = cached.find_or_defer(&access.slot, &mut request, ctx).await?
        {
            return Ok(found);
        }
        drop(access);
        self.infer_here(&mut request, ctx).await.map(Inferred::Now)
    }

    /// Runs one request to a model of either kind. The answer, where there is but one; those of a
    /// decoupled model go to `inlet`.
    async fn drive(
        self: Arc<Self>,
        mut request: InferRequest,
        ctx: Context,
        inlet: Inlet,
    ) -> Result<Option<InferResponse>> {
        for _ in 0..8 {
            let access = self.lifecycle.access(&request.model, &ctx).await?;
            if !access.slot.is_decoupled {
                break;
            }
            match access.slot.infer_pieces(&mut request, &ctx, inlet.clone()).await {
                Ok(()) => return Ok(None),
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Draining) => {}
            }
        }
        self.infer_here(&mut request, &ctx).await.map(Some)
    }

    fn explain(&self, model: &ModelRef) -> Error {
        self.lifecycle.not_yet(self.lifecycle.explain(model))
    }

    fn known(&self, name: &str) -> Result<ModelName> {
        let unknown = || Error::not_found(format!("Request for unknown model: '{}' is not found", shown(name)));
        if !self.lifecycle.board.knows(name) {
            return Err(unknown());
        }
        ModelName::new(name)
    }

    async fn pin_named(&self, name: &str) -> Result<()> {
        let name = self.known(name)?;
        self.lifecycle.set_pinned(&name, true);
        if !self.lifecycle.residency.is_on_demand() {
            return Ok(());
        }
        let latest = ModelRef::latest(name);
        let loaded = self.lifecycle.slot(&latest, None).await;
        loaded.map(drop).inspect_err(|_| self.lifecycle.set_pinned(&latest.name, false))
    }
}

/// Makes foreign text fit to be shown.
fn shown(name: &str) -> String {
    name.chars().take(ModelName::MAX_LEN).flat_map(char::escape_debug).collect()
}

/// Looks for deadlines that have passed and for runs that do not come back. A request that has
/// less time than [`slot::NEAR`] when it comes looks after itself, and shows what waits.
async fn watch(shared: Arc<Shared>, metrics: Arc<Metrics>) {
    const INTERVAL: Duration = Duration::from_millis(100);
    let mut next = Instant::now();
    loop {
        tokio::time::sleep_until(next.into()).await;
        let now = Instant::now();
        let due = shared.check(now);
        next = due.map_or(now + INTERVAL, |due| due.min(now + INTERVAL));
        metrics.set_waiting_bytes(shared.waiting.taken());
    }
}

#[cfg(test)]
mod tests;
