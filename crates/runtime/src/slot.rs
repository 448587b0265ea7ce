//! One served version: its interface, its waiting requests, its runners.
//!
//! A place is taken at the door and covers the whole stay, so a later push cannot fail, and "all
//! places are free" means that nothing is in flight: that is how a slot drains. Requests wait in
//! lines (`waiting.rs`) for worker threads (`worker.rs`), or where the model takes microseconds for
//! the one among them that runs it (`inline.rs`).

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use salver_core::{
    AsyncModel, Backing, Class, Context, Error, ErrorKind, InferRequest, InferResponse, Model, ModelInfo, ModelSpec,
    ModelStatistics, Parameters, Placement, Result, Tensor,
};
use salver_telemetry::{ModelMetrics, Outcome, Replaced, TaskMetrics};
use tokio::sync::oneshot;

use crate::cache::{CachedVersion, CountedParameters};
use crate::ensemble;
use crate::inline::{Crew, Inline};
use crate::interface::{self, Interface};
use crate::levels::Levels;
use crate::order::Order;
use crate::pieces::Inlet;
use crate::places::{NoPlace, Place, Places};
use crate::policy::BatchOptions;
use crate::queue::{BatchKey, Entry, Expiry};
use crate::recovery::{Backoff, Recovery};
use crate::restore::Held;
use crate::run::{self, Answer, Job, Outlet, Reply, Runner, Seat};
use crate::sequence::{self, Sequences};
use crate::shared::Shared;
use crate::statistics::Counters;
use crate::tune::{Tuned, Tuning};
use crate::usage::Usage;
use crate::waiter::Waiter;
use crate::waiting::Waiting;
use crate::worker::Workers;

/// The fewest places of a model's queue.
const MIN_PLACES: usize = 128;
/// Requests with less time than this have a timer of their own. The others are answered by the
/// watch, which looks around more often than that: a timer costs as much as reading a number.
pub(crate) const NEAR: Duration = Duration::from_millis(250);

/// Settings of a slot that come from the server, not from the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotOptions {
    /// Places of the queue; none: derived from batch size and instances.
    pub(crate) max_queue: Option<usize>,
    /// Inferences slower than this are logged.
    pub(crate) slow: Option<Duration>,
    /// Whether models of microseconds may run on the threads that bring their requests.
    pub(crate) may_run_inline: bool,
    /// What all slots share.
    pub(crate) shared: Arc<Shared>,
    /// How the best batch of a model is found; none: it is not looked for.
    pub(crate) tuning: Option<Arc<Tuning>>,
    /// How long instances that end again and again stay away.
    pub(crate) backoff: Backoff,
}

/// One served version of a model.
pub(crate) struct Slot {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) interface: Interface,
    pub(crate) batching: BatchOptions,
    pub(crate) counters: Counters,
    pub(crate) metrics: ModelMetrics,
    /// Of a model with a task.
    pub(crate) task_metrics: Option<TaskMetrics>,
    /// Set for a version whose answers are kept.
    pub(crate) cache: OnceLock<CachedVersion>,
    pub(crate) inline: Inline,
    /// The most bytes of a request that may run where it is; none: any number.
    pub(crate) quick_bytes: Option<usize>,
    pub(crate) levels: Levels,
    pub(crate) order: Option<Order>,
    pub(crate) usage: Usage,
    fixed_rows: bool,
    /// Whether a request may have any number of answers.
    pub(crate) is_decoupled: bool,
    /// Whether its instances run elsewhere, where they may end by themselves.
    pub(crate) is_elsewhere: bool,
    /// Tells others that the version became unavailable, or available again.
    pub(crate) show_standing: OnceLock<ShowStanding>,
    /// Batches that may run at a time.
    pub(crate) instances: usize,
    pub(crate) run_timeout: Option<Duration>,
    options: SlotOptions,
    pub(crate) places: Places,
    pub(crate) waiting: Waiting,
    /// Set for an ensemble.
    pub(crate) ensemble: OnceLock<ensemble::Served>,
    /// What answers where no instance computes.
    asynchronous: Option<Arc<dyn AsyncModel>>,
    /// Of a stateful model, whose requests wait there.
    pub(crate) sequences: Option<Sequences>,
    /// Taken out when the slot retires, so that weights are freed there and not on a serving thread.
    model: Mutex<Option<Arc<dyn Model>>>,
    pub(crate) workers: Workers,
}

pub(crate) type ShowStanding = Box<dyn Fn(&Slot) + Send + Sync>;

/// Why a slot did not answer.
pub(crate) enum Refusal {
    /// It is on its way out: look the model up again.
    Draining,
    /// For good.
    Error(Error),
}

/// Returns the instances of a model that names no number: as many as there are cores.
pub(crate) fn default_instances() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Slot {
    pub(crate) fn new(
        spec: Arc<ModelSpec>,
        info: Arc<ModelInfo>,
        interface: Interface,
        model: Arc<dyn Model>,
        metrics: ModelMetrics,
        options: &SlotOptions,
        tuned: Option<Tuned>,
    ) -> Self {
        let config = &interface.config;
        let merged = config.dynamic_batching.as_ref().filter(|_| interface.wire.is_batched());
        let alone = match config.sequence_batching {
            Some(_) if interface.wire.is_batched() => {
                BatchOptions { max_rows: max_rows(&interface).max(1), ..BatchOptions::SINGLE }
            }
            _ => BatchOptions::SINGLE,
        };
        let batching = merged.map_or(alone, |batching| BatchOptions {
            max_rows: batching
                .max_rows
                .or(tuned.and_then(|tuned| tuned.max_rows))
                .unwrap_or_else(|| max_rows(&interface))
                .max(1),
            preferred: batching.preferred_batch_size.clone(),
            max_delay: Duration::from_micros(batching.max_queue_delay_microseconds),
        });
        let instances: usize = config.instance_groups.iter().map(|group| group.count).sum();
        let asynchronous = model.asynchronous();
        let places = options.max_queue.unwrap_or_else(|| match &asynchronous {
            Some(model) => model.max_in_flight(),
            None => (4 * batching.max_rows * instances).max(MIN_PLACES),
        });
        let places = places.clamp(1, 1 << 20);
        let levels = Levels::new(config.dynamic_batching.as_ref());
        let keeps_order = merged.is_some_and(|batching| batching.preserve_ordering) || sequence::keeps_order(config);
        let order = keeps_order.then(Order::default);
        let run_time = tuned.map(|tuned| tuned.lone_run);
        // What keeps an order, or counts who waits at each level, needs one line for all.
        let has_one_line = order.is_some() || levels.has_bounds() || config.decoupled;
        let inline = match has_one_line || !options.may_run_inline {
            true => Inline::never(),
            false => Inline::new(&config.instance_groups, batching.max_delay, run_time),
        };
        let task_metrics = interface.task.as_ref().map(|_| metrics.task());
        let quick_bytes = match &spec.backing {
            Backing::Builtin(builtin) => Some(builtin.quick_bytes()),
            Backing::Artifact | Backing::Ensemble(_) | Backing::Features(_) | Backing::Remote(_) => None,
        };
        Self {
            fixed_rows: interface.has_fixed_rows(),
            quick_bytes,
            is_elsewhere: false,
            is_decoupled: config.decoupled,
            show_standing: OnceLock::new(),
            levels,
            order,
            inline,
            instances: instances.max(1),
            run_timeout: config.run_timeout,
            options: options.clone(),
            places: Places::new(places, options.shared.clone()),
            usage: Usage::new(places),
            waiting: Waiting::new(run_time),
            ensemble: OnceLock::new(),
            asynchronous,
            sequences: None,
            model: Mutex::new(Some(model)),
            workers: Workers::default(),
            counters: Counters::default(),
            cache: OnceLock::new(),
            spec,
            info,
            interface,
            batching,
            task_metrics,
            metrics,
        }
    }

    /// Expects instances that run elsewhere: nothing else may wait for them but workers, and those
    /// make them again when they end.
    #[must_use]
    pub(crate) fn elsewhere(mut self, instances: usize) -> Self {
        self.is_elsewhere = true;
        self.inline = Inline::never();
        self.waiting.state.get_mut().recovery = Some(Recovery::new(instances, self.options.backoff));
        self
    }

    /// Expects requests that belong to sequences, where the model's settings say so; each worker
    /// serves those of its own instance.
    #[must_use]
    pub(crate) fn in_sequences(mut self, instances: usize) -> Self {
        if let Some(config) = &self.interface.config.sequence_batching {
            self.sequences = Some(Sequences::new(config, self.batching.max_rows, instances));
            self.inline = Inline::never();
        }
        self
    }

    /// Starts a worker for each instance, and puts the slot under watch.
    ///
    /// # Errors
    /// `Full` where no more threads can be started.
    pub(crate) fn start(self: &Arc<Self>, instances: Vec<(Box<dyn salver_core::Instance>, Placement)>) -> Result<()> {
        for (idx, (instance, placement)) in instances.into_iter().enumerate() {
            if let Err(error) = self.workers.start(self, Runner::new(Held::new(idx, placement, instance))) {
                self.close();
                return Err(error);
            }
        }
        self.options.shared.watch(self);
        Ok(())
    }

    /// Runs one request: place, check, line, answer. The request is not touched where the slot drains.
    pub(crate) async fn infer(&self, request: &mut InferRequest, ctx: &Context) -> Result<InferResponse, Refusal> {
        if self.is_decoupled {
            return Err(Refusal::Error(Error::invalid_input(format!(
                "this end point doesn't support models with decoupled transaction policy, such as '{}'; ask it over \
                 ModelStreamInfer or generate_stream",
                self.info.name
            ))));
        }
        let place = self.admit(ctx).await.map_err(|why| self.turned_away(why))?;
        let mut timing = self.metrics.start(ctx.deadline);
        self.usage.touch(timing.started());
        let result = match &self.sequences {
            None => self.admitted(request, ctx, place, timing.started()).await.map_err(Refusal::Error),
            // Boxed: the others need not carry its states along.
            Some(sequences) => Box::pin(self.infer_step(sequences, request, ctx, place, timing.started())).await,
        };
        let took = timing.finish(outcome(&result));
        self.look_at(took, ctx);
        result
    }

    /// Logs a request that took too long.
    fn look_at(&self, took: Duration, ctx: &Context) {
        if let Some(limit) = self.options.slow.filter(|limit| took > *limit) {
            tracing::warn!(
                model = &*self.info.name,
                version = self.info.version,
                request_id = &*ctx.id,
                traceparent = ctx.traceparent.as_deref(),
                took_ms = took.as_millis() as u64,
                limit_ms = limit.as_millis() as u64,
                "slow inference"
            );
        }
    }

    /// Runs one request of a decoupled model; its answers go to `inlet`. The request is not touched
    /// where the slot drains.
    pub(crate) async fn infer_pieces(
        &self,
        request: &mut InferRequest,
        ctx: &Context,
        inlet: Inlet,
    ) -> Result<(), Refusal> {
        let mut place = self.admit(ctx).await.map_err(|why| self.turned_away(why))?;
        let mut timing = self.metrics.start(ctx.deadline);
        let arrived = timing.started();
        self.usage.touch(arrived);
        let run = async {
            let wanted = interface::select(&self.info.name, &self.interface.wire.outputs, &request.outputs)?;
            let inputs = self.interface.accept(&self.info.name, std::mem::take(&mut request.inputs))?;
            if !place.hold(inputs.iter().map(Tensor::payload_len).sum()) {
                return Err(self.no_memory());
            }
            let outlet = Some(Box::new(Outlet { inlet, id: request.id.take(), wanted }));
            let (mut waiter, _, expiry) =
                self.line_up(inputs, outlet, &request.parameters, ctx, Seat::Own(place), arrived)?;
            waiter.answer(ctx.deadline, expiry, arrived).await.map(drop)
        };
        let result = run.await.map_err(Refusal::Error);
        timing.finish(outcome(&result));
        result
    }

    fn turned_away(&self, why: NoPlace) -> Refusal {
        match why {
            NoPlace::Draining => Refusal::Draining,
            NoPlace::Full => self.rejected(self.full(format_args!("{} requests in flight", self.places.total()))),
            NoPlace::Late => {
                self.rejected(Error::new(ErrorKind::Deadline, "the deadline passed before there was room"))
            }
        }
    }

    fn rejected(&self, error: Error) -> Refusal {
        self.metrics.start(None).finish(Outcome::Rejected);
        Refusal::Error(error)
    }

    /// Says which parameters of a request may change its answer: those of a model that waits for others
    /// go on to them.
    pub(crate) fn parameters_that_count(&self) -> CountedParameters {
        if self.asynchronous.is_some() { CountedParameters::All } else { CountedParameters::None }
    }

    async fn admit(&self, ctx: &Context) -> Result<Place, NoPlace> {
        match ctx.class {
            // Boxed, as it is rare: the others need not carry its timer along.
            Class::Background => Box::pin(self.places.wait(ctx.deadline)).await,
            Class::Interactive => self.places.take(),
        }
    }

    /// Says that there is no place left.
    pub(crate) fn full(&self, what: std::fmt::Arguments<'_>) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            format!("Exceeds maximum queue size: model '{}' has {what}; try again later", self.info.name),
        )
        .with_retry_after(Duration::from_secs(1))
    }

    async fn admitted(
        &self,
        request: &mut InferRequest,
        ctx: &Context,
        mut place: Place,
        arrived: Instant,
    ) -> Result<InferResponse> {
        if let Some(task) = &self.interface.task {
            // Boxed: requests of tensors need not carry its states along.
            return Box::pin(self.infer_task(task, request, ctx, place, arrived)).await;
        }
        if let Some(model) = &self.asynchronous {
            return Box::pin(self.infer_async(model.as_ref(), request, ctx, place, arrived)).await;
        }
        let wanted = interface::select(&self.info.name, &self.interface.wire.outputs, &request.outputs)?;
        let inputs = self.interface.accept(&self.info.name, std::mem::take(&mut request.inputs))?;
        if !place.hold(inputs.iter().map(Tensor::payload_len).sum()) {
            return Err(self.no_memory());
        }
        let (mut waiter, crew, expiry) =
            self.line_up(inputs, None, &request.parameters, ctx, Seat::Own(place), arrived)?;
        if let Some(crew) = crew {
            crew.lead(self).await;
        }
        let Answer { outputs, timings } = waiter.answer(ctx.deadline, expiry, arrived).await?;
        let outputs = self.interface.present(&wanted, outputs)?;
        Ok(InferResponse { model: self.info.clone(), id: request.id.take(), outputs, timings, cache: None, cost: None })
    }

    /// Puts accepted inputs into a line. Where a crew is returned, the caller leads it.
    pub(crate) fn line_up(
        &self,
        inputs: Vec<Tensor>,
        outlet: Option<Box<Outlet>>,
        parameters: &Parameters,
        ctx: &Context,
        seat: Seat,
        arrived: Instant,
    ) -> Result<(Waiter<'_>, Option<&Crew>, Expiry)> {
        let length = self.interface.padding.as_ref().map_or(Ok(0), |padding| padding.length(&inputs))?;
        let rows = if self.interface.wire.is_batched() { inputs.first().map_or(1, Tensor::rows) } else { 1 };
        let (lane, expiry) = self.levels.place(ctx.class, parameters, arrived);
        let (sender, answer) = oneshot::channel();
        let reply = Reply { id: 0, deadline: ctx.deadline, sender, seat };
        let key = self.key(&inputs, length);
        let payload = Job { inputs, length, deadline: ctx.deadline, outlet, reply: Some(reply) };
        let (id, crew) = self.push(Entry { id: 0, rows, lane, arrived, expiry, key, payload })?;
        Ok((Waiter { slot: self, id, answer }, crew, expiry))
    }

    pub(crate) fn no_memory(&self) -> Error {
        self.full(format_args!("no memory left for requests that wait"))
    }

    /// Merged requests have equal keys. Where the signature fixes all row shapes, all keys are empty.
    pub(crate) fn key(&self, inputs: &[Tensor], length: usize) -> BatchKey {
        if self.fixed_rows {
            return BatchKey::default();
        }
        let padding = self.interface.padding.as_ref();
        let of = |spec: &salver_core::TensorSpec| {
            let tensor = inputs.iter().find(|tensor| *tensor.name() == spec.name)?;
            if self.interface.is_flat(&spec.name) {
                return None;
            }
            match padding.filter(|padding| padding.of_input(&spec.name).is_some()) {
                None => Some(tensor.shape().with_rows(0)),
                Some(padding) => {
                    let extents = tensor.shape().iter().skip(2).copied();
                    Some([0, padding.bucket(length)].into_iter().chain(extents).collect())
                }
            }
        };
        self.interface.wire.inputs.iter().map(of).collect()
    }

    /// Notes that a request will never be answered: its caller has left.
    pub(crate) fn left(&self, id: u64) {
        if let Some(order) = &self.order {
            order.left(id);
        }
    }

    /// Answers a request, in its turn where the model keeps the order.
    pub(crate) fn deliver(&self, reply: Reply, result: Result<Answer>) {
        match &self.order {
            None => reply.send(result),
            Some(order) => order.deliver(reply, result),
        }
    }

    /// Says that a request waited longer than the model's queue policy lets it.
    pub(crate) fn queue_time_over(&self, waited: Duration) -> Error {
        let (waited, model) = (waited.as_millis(), &self.info.name);
        let text = format!("Request timeout expired: it waited {waited} ms in the queue of model '{model}'");
        Error::new(ErrorKind::Overloaded, text)
    }

    /// Says that a request was not taken up in time.
    pub(crate) fn waited_too_long(&self, waited: Duration) -> Error {
        let (waited, model) = (waited.as_millis(), &self.info.name);
        Error::new(
            ErrorKind::Deadline,
            format!("the deadline passed while the request waited {waited} ms in the queue of model '{model}'"),
        )
    }

    /// Says that a request was taken up, but not answered in time.
    pub(crate) fn ran_too_long(&self) -> Error {
        let text = format!("the deadline passed while the request ran on model '{}'", self.info.name);
        Error::new(ErrorKind::Deadline, text)
    }

    /// Makes an instance, or says why not.
    pub(crate) fn instance(&self, placement: &Placement) -> Result<Box<dyn salver_core::Instance>> {
        let model = self.model.lock().clone();
        model.ok_or_else(|| Error::not_ready(format!("model '{}' is unloaded", self.info.name)))?.instance(placement)
    }

    pub(crate) fn close_model(&self) {
        if let Some(model) = self.model.lock().as_ref() {
            model.close();
        }
    }

    /// Returns what all slots share.
    pub(crate) fn shared(&self) -> &Shared {
        &self.options.shared
    }

    /// Whether runs have a time limit.
    pub(crate) fn watches(&self) -> bool {
        self.run_timeout.is_some()
    }

    pub(crate) fn give_up(self: &Arc<Self>, limit: Duration, now: Instant) {
        let of_crews = self.inline.give_up(limit, now);
        of_crews.iter().for_each(|_| self.gave_up());
        for replies in self.workers.give_up(self, limit, now).into_iter().chain(of_crews) {
            tracing::error!(
                model = &*self.info.name,
                version = self.info.version,
                requests = replies.len(),
                limit_ms = limit.as_millis() as u64,
                "the engine did not come back; its instance is replaced"
            );
            self.metrics.instance_replaced(Replaced::Timeout);
            let error = run::given_up(self, limit, replies.len());
            for reply in replies {
                self.counters.failed(limit);
                self.deliver(reply, Err(error.clone()));
            }
        }
    }

    /// Waits until nothing is in flight, ends the workers and frees the model. Call it after the
    /// slot has left the table.
    pub(crate) async fn retire(self: &Arc<Self>) {
        if let Some(sequences) = &self.sequences {
            sequences.leave(&self.info.name).await;
        }
        self.places.drain().await;
        self.close();
        let slot = self.clone();
        let joined = tokio::task::spawn_blocking(move || {
            slot.workers.join();
            slot.inline.clear();
            drop(slot.model.lock().take());
        });
        let _ = joined.await;
    }

    pub(crate) fn statistics(&self) -> ModelStatistics {
        let mut statistics = self.counters.snapshot(&self.info.name, self.info.version);
        if let Some(cache) = self.cache.get() {
            cache.add_to(&mut statistics);
        }
        statistics
    }

    /// Whether sequences have begun that may go on.
    pub(crate) fn has_sequences(&self) -> bool {
        self.sequences.as_ref().is_some_and(Sequences::has_any)
    }

    /// Returns how many requests wait or run.
    pub(crate) fn in_flight(&self) -> usize {
        self.places.taken()
    }

    /// Returns the engine's estimate of what the model takes.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        self.model.lock().as_ref().map_or(0, |model| model.memory_bytes())
    }
}

/// What the metrics call the end of a request.
fn outcome<T>(result: &Result<T, Refusal>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(Refusal::Draining) => Outcome::Rejected,
        Err(Refusal::Error(error)) => match error.kind() {
            ErrorKind::Deadline => Outcome::Timeout,
            ErrorKind::Overloaded => Outcome::Rejected,
            _ => Outcome::Error,
        },
    }
}

fn max_rows(interface: &Interface) -> usize {
    match interface.config.batch {
        salver_core::BatchRule::Max(rows) => rows,
        salver_core::BatchRule::Never | salver_core::BatchRule::Derive { .. } => crate::interface::DEFAULT_MAX_ROWS,
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({}/{})", self.info.name, self.info.version)
    }
}
