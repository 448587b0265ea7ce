//! One served version: its interface, its waiting requests, its runners.
//!
//! A permit is taken at the door and covers the whole stay, so a later push cannot fail, and
//! "all permits are back" means that nothing is in flight: that is how a slot drains. Batches are
//! run by worker threads (`worker.rs`), or where the model takes microseconds by the request that
//! finds nobody else at it (`inline.rs`); both take from the one queue here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use salver_core::{
    Class, Context, Error, ErrorKind, InferRequest, InferResponse, Model, ModelInfo, ModelSpec, ModelStatistics,
    Placement, Result, Tensor,
};
use salver_telemetry::{ModelMetrics, Outcome, Replaced};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::cache::CachedVersion;
use crate::desk::Due;
use crate::inline::Inline;
use crate::interface::Interface;
use crate::levels::Levels;
use crate::order::Order;
use crate::policy::{BatchOptions, Decision, decide};
use crate::queue::{BatchKey, Entry, Expiry, Lane, Queue};
use crate::run::{self, Answer, Job, Reply, Runner};
use crate::shared::Shared;
use crate::statistics::Counters;
use crate::tune::{Tuned, Tuning};
use crate::usage::Usage;
use crate::worker::Workers;

/// The fewest places of a model's queue.
const MIN_PLACES: usize = 128;
/// About how long a called worker takes to arrive.
const ARRIVAL: Duration = Duration::from_micros(50);
/// Requests with less time than this have a timer of their own. The others are answered by the
/// watch, which looks around more often than that: a timer costs as much as reading a number.
pub(crate) const NEAR: Duration = Duration::from_millis(250);
/// How often background work looks for a core that online traffic left free.
const BACKGROUND_RETRY: Duration = Duration::from_millis(1);

/// Settings of a slot that come from the server, not from the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotOptions {
    /// Places of the queue; none: derived from batch size and instances.
    pub(crate) max_queue: Option<usize>,
    /// Inferences slower than this are logged.
    pub(crate) slow: Option<Duration>,
    /// What all slots share.
    pub(crate) shared: Arc<Shared>,
    /// How the best batch of a model is found; none: it is not looked for.
    pub(crate) tuning: Option<Arc<Tuning>>,
}

/// One served version of a model.
pub(crate) struct Slot {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) interface: Interface,
    pub(crate) batching: BatchOptions,
    pub(crate) counters: Counters,
    pub(crate) metrics: ModelMetrics,
    /// Set for a version whose answers are kept.
    pub(crate) cache: OnceLock<CachedVersion>,
    pub(crate) inline: Inline,
    levels: Levels,
    order: Option<Order>,
    pub(crate) usage: Usage,
    fixed_rows: bool,
    /// Batches that may run at a time.
    instances: usize,
    run_timeout: Option<Duration>,
    options: SlotOptions,
    pub(crate) places: usize,
    permits: Arc<Semaphore>,
    draining: AtomicBool,
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Taken out when the slot retires, so that weights are freed there and not on a serving thread.
    model: Mutex<Option<Arc<dyn Model>>>,
    workers: Workers,
}

struct Waiting {
    queue: Queue<Job>,
    next_id: u64,
    closed: bool,
    /// Workers that sleep.
    idle: usize,
    /// Batches that run.
    busy: usize,
    /// How long a batch takes of late; none: nothing ran yet.
    run_time: Option<Duration>,
    /// Whether a sleeping worker was called and has not arrived yet. Requests that come meanwhile
    /// join its batch; calling a second worker for them would cost more than it brings.
    called: bool,
    /// Whether a request is about to run what waits, itself included.
    led: bool,
}

impl Waiting {
    fn new(run_time: Option<Duration>) -> Self {
        Self { queue: Queue::new(), next_id: 0, closed: false, idle: 0, busy: 0, run_time, called: false, led: false }
    }

    /// Whether a worker has to be called for what is in the queue; notes that it is. Where a busy
    /// one will be back sooner than a called one arrives, the request is left to it.
    fn calls(&mut self, max_rows: usize) -> bool {
        let is_quick = self.run_time.is_some_and(|run_time| run_time < ARRIVAL);
        let returns_soon = self.busy > 0 && is_quick && self.queue.rows() < max_rows;
        let calls = self.idle > 0 && !self.called && self.queue.len() > 0 && !returns_soon;
        self.called |= calls;
        calls
    }

    /// Follows the run time with a weight of an eighth for the latest.
    fn ran(&mut self, took: Duration) {
        self.busy -= 1;
        self.run_time = Some(self.run_time.map_or(took, |run_time| (run_time * 7 + took) / 8));
    }
}

/// Why a slot did not answer.
pub(crate) enum Refusal {
    /// It is on its way out: look the model up again.
    Draining(InferRequest),
    /// For good.
    Error(Error),
}

/// What a runner finds when it asks for work.
pub(crate) enum Next {
    /// A batch; say [`Slot::ran`] afterwards.
    Batch,
    /// Nothing at the moment, or nothing that may run yet; look again then, if it says when.
    Wait(Option<Instant>),
    /// Never again.
    Closed,
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
        let batching = merged.map_or(BatchOptions::SINGLE, |batching| BatchOptions {
            max_rows: batching
                .max_rows
                .or(tuned.and_then(|tuned| tuned.max_rows))
                .unwrap_or_else(|| max_rows(&interface))
                .max(1),
            preferred: batching.preferred_batch_size.clone(),
            max_delay: Duration::from_micros(batching.max_queue_delay_microseconds),
        });
        let instances: usize = config.instance_groups.iter().map(|group| group.count).sum();
        let places = options.max_queue.unwrap_or_else(|| (4 * batching.max_rows * instances).max(MIN_PLACES));
        let places = places.clamp(1, Semaphore::MAX_PERMITS.min(1 << 20));
        Self {
            fixed_rows: interface.has_fixed_rows(),
            levels: Levels::new(config.dynamic_batching.as_ref()),
            order: merged.is_some_and(|batching| batching.preserve_ordering).then(Order::default),
            inline: Inline::new(&config.instance_groups, batching.max_delay),
            instances: instances.max(1),
            run_timeout: config.run_timeout,
            options: options.clone(),
            places,
            usage: Usage::new(places),
            permits: Arc::new(Semaphore::new(places)),
            draining: AtomicBool::new(false),
            waiting: Mutex::new(Waiting::new(tuned.map(|tuned| tuned.lone_run))),
            wake: Condvar::new(),
            model: Mutex::new(Some(model)),
            workers: Workers::default(),
            counters: Counters::default(),
            cache: OnceLock::new(),
            spec,
            info,
            interface,
            batching,
            metrics,
        }
    }

    /// Starts a worker for each instance, and puts the slot under watch.
    ///
    /// # Errors
    /// `Full` where no more threads can be started.
    pub(crate) fn start(self: &Arc<Self>, instances: Vec<(Box<dyn salver_core::Instance>, Placement)>) -> Result<()> {
        for (instance, placement) in instances {
            if let Err(error) = self.workers.start(self, Runner::new(placement, instance)) {
                self.close();
                return Err(error);
            }
        }
        self.options.shared.watch(self);
        Ok(())
    }

    /// Runs one request: permit, check, queue, answer.
    pub(crate) async fn infer(&self, mut request: InferRequest, ctx: &Context) -> Result<InferResponse, Refusal> {
        let permit = match self.admit(ctx).await {
            Ok(permit) => permit,
            Err(None) => return Err(Refusal::Draining(request)),
            Err(Some(error)) => {
                self.metrics.start(None).finish(Outcome::Rejected);
                return Err(Refusal::Error(error));
            }
        };
        let mut timing = self.metrics.start(ctx.deadline);
        let result = self.admitted(&mut request, ctx, permit, timing.started()).await;
        let outcome = match &result {
            Ok(_) => Outcome::Success,
            Err(error) if error.kind() == ErrorKind::Deadline => Outcome::Timeout,
            Err(error) if error.kind() == ErrorKind::Overloaded => Outcome::Rejected,
            Err(_) => Outcome::Error,
        };
        let took = timing.finish(outcome);
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
        result.map_err(Refusal::Error)
    }

    /// Takes a place; `Err(None)` means that the slot is draining.
    async fn admit(&self, ctx: &Context) -> Result<OwnedSemaphorePermit, Option<Error>> {
        let permits = self.permits.clone();
        match ctx.class {
            // Boxed, as it is rare: the others need not carry its timer along.
            Class::Background => Box::pin(wait_for_place(permits, ctx.deadline)).await,
            Class::Interactive => permits.try_acquire_owned().map_err(|error| match error {
                TryAcquireError::NoPermits if !self.draining.load(Ordering::Acquire) => {
                    Some(self.full(format_args!("{} requests in flight", self.places)))
                }
                TryAcquireError::NoPermits | TryAcquireError::Closed => None,
            }),
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
        permit: OwnedSemaphorePermit,
        arrived: Instant,
    ) -> Result<InferResponse> {
        let wanted = self.interface.select(&self.info.name, &request.outputs)?;
        let inputs = self.interface.accept(&self.info.name, std::mem::take(&mut request.inputs))?;
        let held = self.options.shared.hold(inputs.iter().map(Tensor::payload_len).sum());
        let memory = held.ok_or_else(|| self.full(format_args!("no memory left for requests that wait")))?;
        let length = self.interface.padding.as_ref().map_or(Ok(0), |padding| padding.length(&inputs))?;
        let rows = if self.interface.wire.is_batched() { inputs.first().map_or(1, Tensor::rows) } else { 1 };
        let (lane, expiry) = self.levels.place(ctx.class, &request.parameters, arrived);
        let (sender, answer) = oneshot::channel();
        let reply = Reply { id: 0, deadline: ctx.deadline, sender, place: permit, memory };
        let key = self.key(&inputs, length);
        let payload = Job { inputs, length, deadline: ctx.deadline, reply: Some(reply) };
        let (id, leads) = self.push(Entry { id: 0, rows, lane, arrived, expiry, key, payload })?;
        let mut waiter = Waiter { slot: self, id, answer };
        if leads {
            self.lead().await;
        }
        let Answer { outputs, timings } = waiter.answer(ctx.deadline, expiry, arrived).await?;
        let outputs = self.interface.present(&wanted, outputs)?;
        Ok(InferResponse { model: self.info.clone(), id: request.id.take(), outputs, timings, cache: None })
    }

    /// Merged requests have equal keys. Where the signature fixes all row shapes, all keys are empty.
    fn key(&self, inputs: &[Tensor], length: usize) -> BatchKey {
        if self.fixed_rows {
            return BatchKey::default();
        }
        let padding = self.interface.padding.as_ref();
        let of = |spec: &salver_core::TensorSpec| {
            let tensor = inputs.iter().find(|tensor| *tensor.name() == spec.name)?;
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

    /// Puts a request into the queue; returns its id, and whether it is to run what waits.
    fn push(&self, mut entry: Entry<Job>) -> Result<(u64, bool)> {
        let mut waiting = self.waiting.lock();
        if let Some(most) = self.levels.max_queue(entry.lane)
            && waiting.queue.len_of(entry.lane) >= most
        {
            return Err(self.full(format_args!("{most} requests waiting")));
        }
        let id = waiting.next_id;
        waiting.next_id += 1;
        entry.id = id;
        if let Some(reply) = &mut entry.payload.reply {
            reply.id = id;
        }
        if let Some(order) = &self.order {
            order.arrived(id);
        }
        let is_online = entry.lane != Lane::Background && entry.rows <= self.batching.max_rows;
        waiting.queue.push(entry);
        self.metrics.set_queue(waiting.queue.len());
        if is_online && self.inline.is_worth(waiting.run_time) {
            let leads = !waiting.led;
            waiting.led = true;
            return Ok((id, leads));
        }
        let calls = waiting.calls(self.batching.max_rows);
        drop(waiting);
        if calls {
            self.wake.notify_one();
        }
        Ok((id, false))
    }

    /// Takes a request back that nobody waits for any more; false: a runner has it already.
    fn withdraw(&self, id: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let entry = waiting.queue.remove(id);
        self.metrics.set_queue(waiting.queue.len());
        drop(waiting);
        if entry.is_some() {
            self.left(id);
        }
        entry.is_some()
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

    /// Moves the next batch into `batch`, if there is one that may run now.
    fn take(&self, waiting: &mut Waiting, batch: &mut Vec<Entry<Job>>) -> Next {
        let now = Instant::now();
        for entry in waiting.queue.expire(now) {
            let waited = now.saturating_duration_since(entry.arrived);
            self.counters.failed(waited);
            if let Some(reply) = entry.payload.reply {
                self.deliver(reply, Err(self.waited_too_long(waited)));
            }
        }
        let rows = match decide(&waiting.queue.view(), &self.batching, now) {
            Decision::Idle if waiting.closed => return Next::Closed,
            Decision::Idle => return Next::Wait(None),
            Decision::WaitUntil(due) if !waiting.closed => return Next::Wait(Some(due)),
            Decision::WaitUntil(_) => self.batching.max_rows,
            Decision::Run(rows) => rows,
        };
        if waiting.queue.is_background_only() && !self.options.shared.has_free_core() {
            return Next::Wait(Some(now + BACKGROUND_RETRY));
        }
        waiting.queue.take(rows, batch);
        waiting.busy += 1;
        self.metrics.set_queue(waiting.queue.len());
        Next::Batch
    }

    /// Blocks until there is a batch to run and moves it into `batch`; false: the slot is closed
    /// and nothing is left.
    pub(crate) fn next_batch(&self, batch: &mut Vec<Entry<Job>>) -> bool {
        let mut waiting = self.waiting.lock();
        loop {
            let next = if waiting.busy < self.instances || waiting.closed {
                self.take(&mut waiting, batch)
            } else {
                Next::Wait(None)
            };
            match next {
                Next::Closed => return false,
                Next::Batch => {
                    if waiting.calls(self.batching.max_rows) {
                        self.wake.notify_one();
                    }
                    return true;
                }
                Next::Wait(until) => {
                    waiting.idle += 1;
                    match until {
                        Some(due) => drop(self.wake.wait_until(&mut waiting, due)),
                        None => self.wake.wait(&mut waiting),
                    }
                    waiting.idle -= 1;
                    waiting.called = false;
                }
            }
        }
    }

    /// Takes a batch for the request that leads; false: there is nothing to lead any more.
    pub(crate) fn next_inline(&self, batch: &mut Vec<Entry<Job>>) -> bool {
        let mut waiting = self.waiting.lock();
        // A runner that is done looks for more by itself.
        let next = if waiting.busy < self.instances { self.take(&mut waiting, batch) } else { Next::Wait(None) };
        waiting.led = false;
        let is_batch = matches!(next, Next::Batch);
        if !is_batch {
            self.call_worker(&mut waiting);
        }
        is_batch
    }

    /// Notes that a worker is done with its batch.
    pub(crate) fn ran(&self, took: Duration) {
        self.waiting.lock().ran(took);
    }

    /// Notes that the leading request is done with a batch; true: it has to lead another.
    pub(crate) fn ran_inline(&self, took: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.ran(took);
        let leads = waiting.queue.len() > 0 && !waiting.led;
        waiting.led |= leads;
        leads
    }

    /// Leaves what waits to a worker.
    pub(crate) fn hand_over(&self) {
        let mut waiting = self.waiting.lock();
        waiting.led = false;
        self.call_worker(&mut waiting);
    }

    /// Calls a worker for what waits, if one sleeps; a busy one looks for more by itself.
    fn call_worker(&self, waiting: &mut Waiting) {
        if waiting.queue.len() > 0 && waiting.idle > 0 {
            waiting.called = true;
            self.wake.notify_one();
        }
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
    fn ran_too_long(&self) -> Error {
        let text = format!("the deadline passed while the request ran on model '{}'", self.info.name);
        Error::new(ErrorKind::Deadline, text)
    }

    /// Makes an instance, or says why not.
    pub(crate) fn instance(&self, placement: &Placement) -> Result<Box<dyn salver_core::Instance>> {
        let model = self.model.lock().clone();
        model.ok_or_else(|| Error::not_ready(format!("model '{}' is unloaded", self.info.name)))?.instance(placement)
    }

    /// Returns what all slots share.
    pub(crate) fn shared(&self) -> &Shared {
        &self.options.shared
    }

    /// Whether runs have a time limit.
    pub(crate) fn watches(&self) -> bool {
        self.run_timeout.is_some()
    }

    /// Answers what has no time left at `now`, and fails the batches that have run for too long.
    /// Returns the next deadline.
    pub(crate) fn check(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        if let Some(limit) = self.run_timeout {
            self.give_up(limit, now);
        }
        let mut due = Due::new(now);
        self.workers.expire(&mut due);
        self.inline.expire(&mut due);
        let mut waiting = self.waiting.lock();
        let late = waiting.queue.remove_if(|job| due.is_over(job.deadline));
        self.metrics.set_queue(waiting.queue.len());
        drop(waiting);
        for entry in late {
            let waited = now.saturating_duration_since(entry.arrived);
            self.counters.failed(waited);
            if let Some(reply) = entry.payload.reply {
                self.deliver(reply, Err(self.waited_too_long(waited)));
            }
        }
        for reply in due.replies {
            self.deliver(reply, Err(self.ran_too_long()));
        }
        due.next
    }

    fn give_up(self: &Arc<Self>, limit: Duration, now: Instant) {
        let replaced = self.workers.give_up(self, limit, now);
        for replies in replaced.into_iter().chain(self.inline.give_up(limit, now)) {
            tracing::error!(
                model = &*self.info.name,
                version = self.info.version,
                requests = replies.len(),
                limit_ms = limit.as_millis() as u64,
                "the engine did not come back; its instance is replaced"
            );
            self.metrics.instance_replaced(Replaced::Timeout);
            for reply in replies {
                self.counters.failed(limit);
                self.deliver(reply, Err(run::given_up(self, limit)));
            }
        }
    }

    /// Notes that a batch was given up.
    pub(crate) fn gave_up(&self) {
        let mut waiting = self.waiting.lock();
        waiting.busy -= 1;
        drop(waiting);
        self.wake.notify_one();
    }

    /// Waits until nothing is in flight, ends the workers and frees the model. Call it after the
    /// slot has left the table.
    pub(crate) async fn retire(self: &Arc<Self>) {
        self.draining.store(true, Ordering::Release);
        let places = u32::try_from(self.places).unwrap_or(u32::MAX);
        // An error means that the slot retires a second time: then there is nothing to wait for.
        let everything = self.permits.acquire_many(places).await;
        self.permits.close();
        drop(everything);
        self.close();
        let slot = self.clone();
        let joined = tokio::task::spawn_blocking(move || {
            slot.workers.join();
            slot.inline.clear();
            drop(slot.model.lock().take());
        });
        let _ = joined.await;
    }

    /// Lets workers end once the queue is empty.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_all();
    }

    pub(crate) fn statistics(&self) -> ModelStatistics {
        let mut statistics = self.counters.snapshot(&self.info.name, self.info.version);
        if let Some(cache) = self.cache.get() {
            cache.add_to(&mut statistics);
        }
        statistics
    }

    /// Returns how many requests wait or run.
    pub(crate) fn in_flight(&self) -> usize {
        self.places.saturating_sub(self.permits.available_permits())
    }

    /// Returns the engine's estimate of what the model takes.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        self.model.lock().as_ref().map_or(0, |model| model.memory_bytes())
    }
}

/// A caller that waits. Dropped before its answer came, it takes its request back.
struct Waiter<'a> {
    slot: &'a Slot,
    id: u64,
    answer: oneshot::Receiver<Result<Answer>>,
}

impl Waiter<'_> {
    /// Waits for the answer, no longer than until `deadline`, and for a runner no longer than
    /// `expiry` says.
    async fn answer(&mut self, deadline: Option<Instant>, expiry: Expiry, arrived: Instant) -> Result<Answer> {
        let is_near = deadline.is_some_and(|deadline| deadline < arrived + NEAR);
        if is_near || matches!(expiry, Expiry::Reject(_)) {
            return Box::pin(self.answer_in_time(deadline, expiry, arrived)).await;
        }
        let answer = (&mut self.answer).await;
        self.unpack(answer)
    }

    async fn answer_in_time(&mut self, deadline: Option<Instant>, expiry: Expiry, arrived: Instant) -> Result<Answer> {
        if let Expiry::Reject(due) = expiry
            && deadline.is_none_or(|deadline| due < deadline)
        {
            match tokio::time::timeout_at(due.into(), &mut self.answer).await {
                Ok(answer) => return self.unpack(answer),
                Err(_) if self.slot.withdraw(self.id) => return Err(self.slot.waited_too_long(arrived.elapsed())),
                // A runner has it: from here on only the caller's own deadline counts.
                Err(_) => {}
            }
        }
        let answer = match deadline {
            None => (&mut self.answer).await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), &mut self.answer).await {
                Ok(answer) => answer,
                Err(_) if self.slot.withdraw(self.id) => return Err(self.slot.waited_too_long(arrived.elapsed())),
                Err(_) => return Err(self.slot.ran_too_long()),
            },
        };
        self.unpack(answer)
    }

    fn unpack(&self, answer: Result<Result<Answer>, oneshot::error::RecvError>) -> Result<Answer> {
        answer.map_err(|_| Error::engine(format!("a worker of model '{}' ended early", self.slot.info.name)))?
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            self.slot.withdraw(self.id);
        }
    }
}

/// Waits for a place; `Err(None)` means that the slot is draining.
async fn wait_for_place(
    permits: Arc<Semaphore>,
    deadline: Option<Instant>,
) -> Result<OwnedSemaphorePermit, Option<Error>> {
    let place = permits.acquire_owned();
    let Some(deadline) = deadline else {
        return place.await.map_err(|_| None);
    };
    match tokio::time::timeout_at(deadline.into(), place).await {
        Ok(place) => place.map_err(|_| None),
        Err(_) => Err(Some(Error::new(ErrorKind::Deadline, "the deadline passed before there was room"))),
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
