//! Brings versions up and takes them down.
//!
//! States run one way: Pending → Loading → Warming → Ready → Draining → Gone, or Failed; only an
//! outage of instances that run elsewhere (`restore.rs`) goes from Ready to Failed and back. Ready is
//! shown after it is true. A newer slot is in the table before the older one drains, so that a
//! swap loses nothing. Changes of one model happen one after the other; different models load
//! side by side, except under a memory limit, where each load is measured. What a memory limit
//! adds is in `on_demand.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use salver_core::{
    Backing, BatchRule, DataType, Dim, DynamicBatching, Engine, Error, ErrorKind, Instance, Model, ModelEntry,
    ModelInfo, ModelName, ModelSpec, ModelState, OnMiss, Result, TaskMaker, TaskSpec, TensorSpec,
};
use salver_telemetry::Metrics;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::asynchronous;
use crate::board::Board;
use crate::cache::{Loading, ResponseCache};
use crate::checksum;
use crate::ensemble::{Dependants, EnsembleEngine, Members};
use crate::instances;
use crate::interface::Interface;
use crate::observer::Observer;
use crate::reconcile::{Actual, Extent, reconcile};
use crate::residency::Residency;
use crate::sequence::Leaving;
use crate::slot::{Slot, SlotOptions, default_instances};
use crate::table::{Served, Table};
use crate::task;
use crate::tune::{self, Tuned};
use crate::warmup;

/// Owns the table; everybody else reads it.
pub(crate) struct Lifecycle {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) board: Board,
    pub(crate) residency: Arc<Residency>,
    engines: Vec<Arc<dyn Engine>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: TaskTracker,
    options: LifecycleOptions,
    cache: Option<Arc<ResponseCache>>,
    pub(crate) leaving: Leaving,
    pub(crate) dependants: Dependants,
    /// How many models load at a time.
    pub(crate) loads: Semaphore,
    turns: Mutex<HashMap<ModelName, Turn>>,
    failures: Mutex<HashMap<ModelName, HashMap<u64, u64>>>,
    /// Whether the first look at the source is over; before it, nobody knows what should serve.
    pub(crate) started: AtomicBool,
    stopping: AtomicBool,
}

/// Settings that hold for every model.
#[derive(Debug, Clone, Default)]
pub(crate) struct LifecycleOptions {
    pub(crate) slot: SlotOptions,
    /// Whether a model without warm-up requests of its own runs one of zeros.
    pub(crate) generated_warmup: bool,
    /// Makes the tasks of models.
    pub(crate) tasks: Option<Arc<dyn TaskMaker>>,
    /// The longest that a load may take.
    pub(crate) load_timeout: Option<Duration>,
    /// Why no job can compute what is not in the cache.
    pub(crate) no_jobs: Option<String>,
}

/// Who changes a model, one at a time, and the latest reading of the source that was applied to it.
pub(crate) type Turn = Arc<tokio::sync::Mutex<u64>>;

/// Why a version is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What is wanted has changed: other versions of the model serve on until this one does.
    Change,
    /// A request is waiting for it.
    Request,
}

/// A slot whose workers run and which nobody can reach yet. Dropped, it lets its workers end: who
/// waited for the load may have gone.
pub(crate) struct Fresh(pub(crate) Option<Arc<Slot>>);

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.close();
        }
    }
}

impl Lifecycle {
    pub(crate) fn new(
        engines: Vec<Arc<dyn Engine>>,
        metrics: Arc<Metrics>,
        options: LifecycleOptions,
        residency: Arc<Residency>,
        cache: Option<Arc<ResponseCache>>,
        tasks: TaskTracker,
    ) -> Self {
        // One at a time where each is measured.
        let loads = if residency.is_on_demand() { 1 } else { default_instances().max(2) };
        Self {
            table: ArcSwap::default(),
            board: Board::new(metrics.clone()),
            residency,
            engines,
            metrics,
            tasks,
            options,
            cache,
            leaving: Leaving::default(),
            dependants: Dependants::default(),
            started: AtomicBool::new(false),
            loads: Semaphore::new(loads),
            turns: Mutex::default(),
            failures: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Makes what serves equal to `entry`, as far as `extent` goes. Returns the first failure;
    /// whatever could be loaded serves nevertheless. An entry of an earlier reading of the source
    /// than the last one applied changes nothing.
    pub(crate) async fn apply(self: &Arc<Self>, entry: ModelEntry, extent: Extent, reading: u64) -> Result<()> {
        let _coming = self.announce(&entry.name);
        let turn = self.turn(&entry.name);
        let mut turn = turn.lock().await;
        if reading < *turn {
            return Ok(());
        }
        *turn = reading;
        let desired = match entry.versions {
            Ok(desired) => desired,
            Err(error) if error.kind() == ErrorKind::Gone => {
                self.withdraw(&entry.name, &error);
                return Err(error);
            }
            Err(error) => {
                // Whatever served before goes on serving.
                if self.board.set_problem(&entry.name, Some(error.message().to_owned())) {
                    match error.kind() {
                        // Somebody asked for what this server does not do; nothing is broken.
                        ErrorKind::Unsupported => {
                            tracing::warn!(model = %entry.name, %error, "model cannot be served");
                        }
                        _ => tracing::error!(model = %entry.name, %error, "model cannot be read"),
                    }
                }
                return Err(error);
            }
        };
        self.board.set_problem(&entry.name, None);
        self.forget_failures(&entry.name, &desired);
        self.forget_orphans(&entry.name, &desired);
        let plan = reconcile(&desired, &self.actual(&entry.name), &self.failed(&entry.name), extent);
        for spec in plan.load.iter().filter(|spec| !self.serves(&spec.name, spec.version)) {
            self.board.set(&entry.name, spec.version, ModelState::Pending, "");
        }
        let loads = plan.load.into_iter().map(|spec| self.load(spec, Cause::Change));
        let results = futures::future::join_all(loads).await;
        let failure = results.into_iter().find_map(Result::err);
        let served = desired.iter().any(|spec| self.serves(&entry.name, spec.version));
        let is_refused = extent == Extent::Instead && failure.is_some();
        if (served || desired.is_empty()) && !is_refused {
            for version in plan.unload {
                self.take_down(&entry.name, version);
            }
        }
        if self.residency.is_on_demand() {
            self.keep_in_mind(&entry.name, &desired);
        }
        self.publish(&entry.name, |served| served.labels.clone_from(&entry.labels));
        self.revisit(&entry.name);
        failure.map_or(Ok(()), Err)
    }

    /// Takes down what served of a model that is known on and has no version any more.
    fn withdraw(self: &Arc<Self>, name: &ModelName, why: &Error) {
        if self.board.set_absent(name, why.message()) {
            tracing::warn!(model = %name, reason = why.message(), "model has no version to serve");
        }
        self.forget_failures(name, &[]);
        self.publish(name, |served| *served = Served { slots: served.slots.clone(), ..Served::default() });
        for actual in self.actual(name) {
            self.take_down(name, actual.version);
        }
    }

    /// Forgets a model that its source no longer has, unless a later reading of it has.
    pub(crate) async fn forget(self: &Arc<Self>, name: &str, reading: u64) {
        if let Ok(name) = ModelName::new(name) {
            let turn = self.turn(&name);
            let mut turn = turn.lock().await;
            if reading < *turn {
                return;
            }
            *turn = reading;
            self.take_all_down(&name);
            self.forget_here(&name);
        } else {
            self.forget_here(name);
        }
    }

    fn forget_here(&self, name: &str) {
        self.board.forget(name);
        self.residency.forget(name);
        self.metrics.model_forgotten(name);
    }

    /// Forgets what a refused load left in the index; all of a model that nothing else knows.
    pub(crate) fn forget_refused(&self, name: &ModelName, is_known: bool) {
        self.forget_failures(name, &[]);
        let serves = self.table.load().served(name).is_some_and(|served| !served.slots.is_empty());
        if !is_known && !serves {
            self.forget_here(name);
        }
    }

    /// Takes every version of a model down; what is in flight is finished in the background.
    pub(crate) async fn unload(self: &Arc<Self>, name: &ModelName) {
        let turn = self.turn(name);
        let _turn = turn.lock().await;
        self.take_all_down(name);
    }

    fn take_all_down(self: &Arc<Self>, name: &ModelName) {
        self.publish(name, |served| served.dormant.clear());
        for actual in self.actual(name) {
            self.take_down(name, actual.version);
        }
        self.set_pinned(name, false);
    }

    /// Takes everything down and waits until nothing is in flight.
    pub(crate) async fn shut_down(&self) {
        self.stopping.store(true, Ordering::Release);
        // What is in flight in an ensemble still needs the models that it calls.
        loop {
            let outermost = self.outermost();
            if outermost.is_empty() {
                break;
            }
            for slot in &outermost {
                self.leaving.add(slot);
                self.publish(&slot.spec.name, |served| {
                    served.slots.remove(&slot.spec.version);
                });
            }
            futures::future::join_all(outermost.iter().map(Slot::retire)).await;
        }
        let table = self.table.swap(Arc::default());
        table.slots().for_each(|slot| self.leaving.add(slot));
        self.leaving.hurry();
        futures::future::join_all(table.slots().map(Slot::retire)).await;
    }

    /// Describes the engines, in the order in which they are tried.
    pub(crate) fn engines(&self) -> Vec<String> {
        self.engines.iter().map(|engine| format!("{}: {}", engine.name(), engine.describe())).collect()
    }

    /// Whether nothing is loaded any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Returns the right to change a model.
    pub(crate) fn turn(&self, name: &ModelName) -> Turn {
        self.turns.lock().entry(name.clone()).or_default().clone()
    }

    /// Pins or unpins a model.
    pub(crate) fn set_pinned(&self, name: &ModelName, pinned: bool) {
        if self.residency.set_pinned(name, pinned) {
            self.metrics.model_pinned(name, pinned);
        }
    }

    fn actual(&self, name: &str) -> Vec<Actual> {
        let table = self.table.load();
        let slots = table.served(name).into_iter().flat_map(|served| served.slots.iter());
        slots.map(|(version, slot)| Actual { version: *version, fingerprint: slot.spec.fingerprint }).collect()
    }

    /// Versions whose files did not load as they are: polling leaves them alone until they change.
    fn failed(&self, name: &str) -> Vec<Actual> {
        let failures = self.failures.lock();
        let of_model = failures.get(name).into_iter().flatten();
        of_model.map(|(version, fingerprint)| Actual { version: *version, fingerprint: *fingerprint }).collect()
    }

    /// Drops failed versions that are not wanted any more from the index.
    fn forget_failures(&self, name: &str, desired: &[Arc<ModelSpec>]) {
        let mut failures = self.failures.lock();
        let Some(of_model) = failures.get_mut(name) else {
            return;
        };
        of_model.retain(|version, _| {
            let wanted = desired.iter().any(|spec| spec.version == *version);
            if !wanted && !self.serves(name, *version) {
                self.board.forget_version(name, *version);
            }
            wanted
        });
    }

    pub(crate) fn serves(&self, name: &str, version: u64) -> bool {
        self.table.load().served(name).is_some_and(|served| served.slots.contains_key(&version))
    }

    /// Changes of different models race for the table: compare and swap.
    pub(crate) fn publish(&self, name: &ModelName, change: impl Fn(&mut Served) + Clone) {
        self.table.rcu(|table| table.with(name, change.clone()));
    }

    /// Loads one version and lets it serve. The caller has the model's turn.
    pub(crate) async fn load(self: &Arc<Self>, spec: Arc<ModelSpec>, cause: Cause) -> Result<()> {
        let (name, version) = (spec.name.clone(), spec.version);
        let replaces = self.table.load().served(&name).and_then(|served| served.slots.get(&version).cloned());
        let show = |state, reason: &str| {
            if replaces.is_none() {
                self.board.set(&name, version, state, reason);
            }
        };
        // Before the permit is taken: members need one themselves.
        let members = self.members(&spec).await;
        // Never closed, so this cannot fail.
        let _permit = self.loads.acquire().await;
        show(ModelState::Loading, "");
        let started = Instant::now();
        let fitted = match members {
            Ok(members) => self.fitted(&spec, members, cause).await,
            Err(error) => {
                self.note_refused(&spec, &error);
                Err(error)
            }
        };
        let slot = match fitted {
            Ok(slot) => slot,
            Err(error) => {
                // What is not offered here is a matter of settings, not a fault.
                match error.kind() {
                    ErrorKind::Unsupported => tracing::warn!(model = %name, version, %error, "model is not loaded"),
                    _ => tracing::error!(model = %name, version, %error, "model failed to load"),
                }
                show(ModelState::Failed, error.message());
                self.metrics.model_loaded(&name, false);
                return Err(error);
            }
        };
        let took = started.elapsed();
        replaces.iter().for_each(|old| self.leaving.add(old));
        self.publish(&name, |served| {
            served.dormant.remove(&version);
            served.slots.insert(version, slot.clone());
        });
        self.board.set(&name, version, ModelState::Ready, "");
        self.show_standing(&slot);
        if let Some(of_model) = self.failures.lock().get_mut(&name) {
            of_model.remove(&version);
        }
        slot.metrics.loaded(took);
        self.metrics.model_loaded(&name, true);
        self.metrics.model_memory(&name, version, Some(self.residency.size(&spec).resident));
        tracing::info!(model = %name, version, engine = &*slot.info.engine, took_ms = took.as_millis() as u64, "model ready");
        if let Some(old) = replaces {
            self.give_back(old).await;
        }
        self.keep_limit().await;
        self.revisit(&name);
        self.review(&slot);
        Ok(())
    }

    /// Makes room, brings the version up and measures it.
    async fn fitted(
        self: &Arc<Self>,
        spec: &Arc<ModelSpec>,
        members: Option<Arc<Members>>,
        cause: Cause,
    ) -> Result<Arc<Slot>> {
        self.make_room(spec, cause).await?;
        let before = self.residency.used();
        match self.bring_up_in_time(spec, members).await {
            Ok(mut fresh) => {
                self.measure(spec, &fresh, before).await;
                let wanted = fresh.0.take_if(|_| !self.is_stopping());
                wanted.ok_or_else(|| Error::not_ready("the server is stopping"))
            }
            Err(error) => {
                self.note_refused(spec, &error);
                Err(error)
            }
        }
    }

    /// Remembers that a version did not load as it is.
    fn note_refused(&self, spec: &ModelSpec, error: &Error) {
        self.note_failed(spec, error);
        self.failures.lock().entry(spec.name.clone()).or_default().insert(spec.version, spec.fingerprint);
    }

    /// Brings a version up on a thread of its own. A load that hangs keeps that thread and nothing
    /// else; if it comes to an end after all, what it made is dropped.
    async fn bring_up_in_time(self: &Arc<Self>, spec: &Arc<ModelSpec>, members: Option<Arc<Members>>) -> Result<Fresh> {
        let (this, own) = (self.clone(), spec.clone());
        let loading =
            tokio::task::spawn_blocking(move || this.bring_up(&own, members.as_ref()).map(|slot| Fresh(Some(slot))));
        let limit = self.options.load_timeout.unwrap_or(Duration::MAX);
        match tokio::time::timeout(limit, loading).await {
            Ok(loaded) => loaded.unwrap_or_else(|panic| Err(Error::engine(format!("loading ended early: {panic}")))),
            Err(_) => Err(Error::engine(format!("loading took longer than {} ms", limit.as_millis()))),
        }
    }

    /// Drains a slot that was replaced in the background. Where room is measured, the next load
    /// waits until its memory is back.
    async fn give_back(self: &Arc<Self>, old: Arc<Slot>) {
        let retired = self.tasks.spawn(async move { old.retire().await });
        if let Some(options) = self.residency.options() {
            let _ = tokio::time::timeout(options.load_wait, retired).await;
            self.release_memory().await;
        }
    }

    /// Removes a version from the table, then drains it in the background.
    fn take_down(self: &Arc<Self>, name: &ModelName, version: u64) {
        let Some(slot) = self.table.load().served(name).and_then(|served| served.slots.get(&version).cloned()) else {
            return;
        };
        self.board.set(name, version, ModelState::Draining, "");
        self.leaving.add(&slot);
        self.publish(name, |served| {
            served.slots.remove(&version);
        });
        let (this, name) = (self.clone(), name.clone());
        self.tasks.spawn(async move {
            slot.retire().await;
            this.board.drained(&name, version);
            if !this.serves(&name, version) {
                this.metrics.model_memory(&name, version, None);
            }
            this.release_memory().await;
            tracing::info!(model = %name, version, "model unloaded");
        });
    }

    /// Refuses a model that hands out jobs where there can be none.
    fn check_jobs(&self, spec: &ModelSpec) -> Result<()> {
        match &self.options.no_jobs {
            Some(why) if spec.config.on_miss == OnMiss::Job => Err(Error::unsupported(format!(
                "[cache] on_miss = \"job\" of model '{}' has no place here: {why}",
                spec.name
            ))),
            _ => Ok(()),
        }
    }

    /// Loads, warms up and starts workers. Blocking.
    fn bring_up(self: &Arc<Self>, spec: &Arc<ModelSpec>, members: Option<&Arc<Members>>) -> Result<Arc<Slot>> {
        checksum::check(&spec.checksums)?;
        self.check_jobs(spec)?;
        let of_members = members.map(|members| members.files.as_slice()).unwrap_or_default();
        let cached = Loading::begin(self.cache.as_ref(), spec, of_members);
        let (engine, model, ensemble) = match members {
            None => self.open(spec).map(|(engine, model)| (engine, model, None))?,
            Some(members) => {
                let (model, served) = self.assemble(spec, members)?;
                (Arc::new(EnsembleEngine) as Arc<dyn Engine>, Arc::new(model) as Arc<dyn Model>, Some(served))
            }
        };
        let interface = self.interface(spec, model.as_ref())?;
        let metrics = self.metrics.model(&spec.name, spec.version);
        let info = describe(spec, engine.as_ref(), &interface);
        let info = Arc::new(ModelInfo { observer: Some(Arc::new(Observer(metrics.clone()))), ..info });
        let mut instances = match model.asynchronous() {
            Some(_) => Vec::new(),
            None => instances::make(model.as_ref(), &interface.config.instance_groups)?,
        };
        let is_elsewhere = instances.iter().any(|(instance, _)| !instance.computes_here());
        if let Some((first, _)) = instances.first_mut() {
            self.warm_up(spec, &interface, first.as_mut())?;
        }
        let tuned =
            instances.first_mut().and_then(|(first, _)| self.tune(spec, engine.as_ref(), &interface, first.as_mut()));
        let slot = Slot::new(spec.clone(), info, interface, model, metrics, &self.options.slot, tuned);
        let slot = slot.in_sequences(instances.len());
        let slot = Arc::new(if is_elsewhere { slot.elsewhere(instances.len()) } else { slot });
        let this = Arc::downgrade(self);
        let show = move |slot: &Slot| this.upgrade().into_iter().for_each(|this| this.show_standing(slot));
        // Set nowhere else, so neither of these can fail.
        let _ = ensemble.map(|served| slot.ensemble.set(served));
        let _ = slot.show_standing.set(Box::new(show));
        if let Some(cached) = cached {
            cached.finish(&slot);
        }
        slot.start(instances)?;
        Ok(slot)
    }

    /// Shows whether the version that a slot serves is available.
    fn show_standing(&self, slot: &Slot) {
        let (name, version) = (&slot.spec.name, slot.spec.version);
        self.board.show_outage(name, version, || {
            let table = self.table.load();
            let serves = table.served(name)?.slots.get(&version)?;
            std::ptr::eq(&raw const **serves, slot).then(|| slot.outage())
        });
    }

    /// Joins the graph with what the model's files say.
    fn interface(&self, spec: &ModelSpec, model: &dyn Model) -> Result<Interface> {
        let mut interface = Interface::new(model.signature(), &spec.config)?;
        if model.asynchronous().is_some() {
            asynchronous::check(spec)?;
        }
        if model.is_decoupled() {
            interface.decouple(&spec.task)?;
        }
        let task = match (&self.options.tasks, &spec.task) {
            (_, TaskSpec::Tensor | TaskSpec::Rows) => None,
            (Some(tasks), _) => tasks.make(spec, &interface.wire)?,
            (None, task) => return Err(Error::unsupported(format!("task '{}' is not offered here", task.name()))),
        };
        match task {
            None => Ok(interface),
            Some(task) => interface.with_task(task),
        }
    }

    /// Finds the model's best batch, where its settings leave that open, and how long a run takes.
    fn tune(
        &self,
        spec: &ModelSpec,
        engine: &dyn Engine,
        interface: &Interface,
        instance: &mut dyn Instance,
    ) -> Option<Tuned> {
        let tuning = self.options.slot.tuning.as_ref()?;
        let is_open =
            |batching: &DynamicBatching| batching.max_rows.is_none() && batching.preferred_batch_size.is_empty();
        let is_open = spec.config.batch == (BatchRule::Derive { limit: None })
            && interface.wire.is_batched()
            && spec.config.dynamic_batching.as_ref().is_some_and(is_open);
        if !is_open {
            return tune::lone_run(interface, instance);
        }
        let key = tuning.key(spec, engine);
        tuning.notes.read(&key).or_else(|| {
            let started = Instant::now();
            let tuned = tune::sweep(interface, instance, tuning.budget)?;
            let took_ms = started.elapsed().as_millis() as u64;
            tracing::info!(model = %spec.name, version = spec.version, max_rows = tuned.max_rows, took_ms, "best batch found");
            tuning.notes.write(&key, tuned);
            Some(tuned)
        })
    }

    /// Runs the model's own warm-up requests; without any, one that is made up, which may fail.
    fn warm_up(&self, spec: &ModelSpec, interface: &Interface, instance: &mut dyn Instance) -> Result<()> {
        if let Some(task) = &interface.task {
            self.note_warming(spec);
            task::try_example(task.as_ref(), interface, instance)?;
        }
        let own = &spec.config.warmup;
        // A function has nothing to warm up, and zeros may be no text or picture.
        let is_wanted = self.options.generated_warmup && !matches!(spec.backing, Backing::Builtin(_));
        let generated = is_wanted.then(|| warmup::generate(interface)).flatten();
        if own.is_empty() && generated.is_none() {
            return Ok(());
        }
        self.note_warming(spec);
        if !own.is_empty() {
            return warmup::run(&spec.name, interface, own, instance);
        }
        if let Err(error) = warmup::run(&spec.name, interface, generated.as_slice(), instance) {
            tracing::warn!(model = %spec.name, version = spec.version, %error, "a run with zeros failed");
        }
        Ok(())
    }

    fn note_warming(&self, spec: &ModelSpec) {
        if !self.serves(&spec.name, spec.version) {
            self.board.set(&spec.name, spec.version, ModelState::Warming, "");
        }
    }

    /// Opens the artifact with the engine asked for, or with the first one that is available.
    fn open(&self, spec: &ModelSpec) -> Result<(Arc<dyn Engine>, Arc<dyn Model>)> {
        if let Some(name) = &spec.engine {
            let Some(engine) = self.engines.iter().find(|engine| engine.name() == name) else {
                let known: Vec<&str> = self.engines.iter().map(|engine| engine.name()).collect();
                return Err(Error::unsupported(format!("engine '{name}' is unknown; there are {}", known.join(", "))));
            };
            engine.prepare()?;
            return Ok((engine.clone(), engine.load(spec)?));
        }
        let mut skipped: Option<Error> = None;
        for engine in &self.engines {
            if let Err(error) = engine.prepare() {
                tracing::warn!(model = %spec.name, engine = engine.name(), %error, "engine is not available, trying the next");
                skipped = Some(error);
                continue;
            }
            return match (engine.load(spec), skipped) {
                (Ok(model), _) => Ok((engine.clone(), model)),
                (Err(error), None) => Err(error),
                (Err(error), Some(skipped)) => {
                    Err(Error::new(error.kind(), format!("{error}. A better engine is not available: {skipped}")))
                }
            };
        }
        Err(skipped.unwrap_or_else(|| Error::unsupported("no engine is built in")))
    }
}

pub(crate) fn describe(spec: &ModelSpec, engine: &dyn Engine, interface: &Interface) -> ModelInfo {
    let wire = interface.shown();
    let columns = |input: &TensorSpec| {
        let own = spec.columns.get(&*input.name);
        let of_only =
            || spec.columns.get("").filter(|columns| wire.inputs.len() == 1 && is_row_of(input, columns.len()));
        own.or_else(of_only).cloned().unwrap_or_default()
    };
    let labels = |output: &TensorSpec| {
        let own = spec.labels.get(&*output.name);
        let shared = || spec.labels.get("").filter(|labels| fits(output, wire.is_batched(), labels.len()));
        own.or_else(shared).cloned().unwrap_or_default()
    };
    ModelInfo {
        name: spec.name.shared().clone(),
        version: spec.version,
        engine: engine.name().into(),
        platform: engine.platform().to_owned(),
        signature: wire.clone(),
        task: spec.task.name().to_owned(),
        columns: wire.inputs.iter().map(columns).collect(),
        labels: wire.outputs.iter().map(labels).collect(),
        metrics: spec.metrics.clone(),
        example: interface.task.as_ref().map(|task| task.example()).unwrap_or_default(),
        observer: None,
    }
}

/// Whether a row of an input is this many values.
fn is_row_of(input: &TensorSpec, columns: usize) -> bool {
    matches!(*input.shape, [_, last] if last == Dim::Fixed(columns) || last == Dim::Free)
}

/// Whether an output looks like one score per class.
fn fits(output: &TensorSpec, batched: bool, classes: usize) -> bool {
    let scores = matches!(output.dtype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64);
    let inner = output.shape.get(usize::from(batched)..).unwrap_or_default();
    scores && inner.last().is_some_and(|dim| *dim == Dim::Fixed(classes) || *dim == Dim::Free)
}
