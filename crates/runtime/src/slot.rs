//! One served version: its interface, its waiting requests, its workers.
//!
//! A permit is taken at the door and covers the whole stay, so a later push cannot fail, and
//! "all permits are back" means that nothing is in flight: that is how a slot drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use salver_core::{
    Class, Context, Error, ErrorKind, InferRequest, InferResponse, Model, ModelInfo, ModelSpec, ModelStatistics,
    Placement, Result, Tensor, Timings,
};
use salver_telemetry::{ModelMetrics, Outcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::interface::Interface;
use crate::policy::{BatchOptions, Decision, decide};
use crate::queue::{BatchKey, Entry, Queue};
use crate::statistics::Counters;

/// The fewest places of a model's queue.
const MIN_PLACES: usize = 128;

/// A request that waits for a worker, with the place that it takes.
pub(crate) struct Job {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reply: oneshot::Sender<Result<Answer>>,
    _permit: OwnedSemaphorePermit,
}

/// What a worker answers: the graph's outputs.
pub(crate) struct Answer {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) timings: Timings,
}

/// Settings of a slot that come from the server, not from the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotOptions {
    /// Places of the queue; none: derived from batch size and instances.
    pub(crate) max_queue: Option<usize>,
    /// Inferences slower than this are logged.
    pub(crate) slow: Option<Duration>,
}

/// One served version of a model.
pub(crate) struct Slot {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) interface: Interface,
    pub(crate) batching: BatchOptions,
    pub(crate) counters: Counters,
    pub(crate) metrics: ModelMetrics,
    fixed_rows: bool,
    slow: Option<Duration>,
    places: usize,
    permits: Arc<Semaphore>,
    draining: AtomicBool,
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Taken out when the slot retires, so that weights are freed there and not on a serving thread.
    model: Mutex<Option<Arc<dyn Model>>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// About how long a called worker takes to arrive.
const ARRIVAL: Duration = Duration::from_micros(50);

struct Waiting {
    queue: Queue<Job>,
    closed: bool,
    /// Workers that sleep.
    idle: usize,
    /// Workers that run a batch.
    busy: usize,
    /// How long a batch takes of late.
    run_time: Duration,
    /// Whether a sleeping worker was called and has not arrived yet. Requests that come meanwhile
    /// join its batch; calling a second worker for them would cost more than it brings.
    called: bool,
}

impl Waiting {
    fn new() -> Self {
        Self { queue: Queue::new(), closed: false, idle: 0, busy: 0, run_time: Duration::ZERO, called: false }
    }

    /// Whether a worker has to be called for what is in the queue; notes that it is. Where a busy
    /// one will be back sooner than a called one arrives, the request is left to it.
    fn calls(&mut self, max_rows: usize) -> bool {
        let returns_soon = self.busy > 0 && self.run_time < ARRIVAL && self.queue.rows() < max_rows;
        let calls = self.idle > 0 && !self.called && self.queue.len() > 0 && !returns_soon;
        self.called |= calls;
        calls
    }

    /// Follows the run time with a weight of an eighth for the latest.
    fn ran(&mut self, took: Duration) {
        self.run_time = (self.run_time * 7 + took) / 8;
    }
}

/// Why a slot did not answer.
pub(crate) enum Refusal {
    /// It is on its way out: look the model up again.
    Draining(InferRequest),
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
    ) -> Self {
        let merged = interface.config.dynamic_batching.as_ref().filter(|_| interface.wire.is_batched());
        let batching = merged.map_or(BatchOptions::SINGLE, |batching| BatchOptions {
            max_rows: batching.max_rows.unwrap_or_else(|| max_rows(&interface)).max(1),
            max_delay: Duration::from_micros(batching.max_queue_delay_microseconds),
        });
        let instances: usize = interface.config.instance_groups.iter().map(|group| group.count).sum();
        let places = options.max_queue.unwrap_or_else(|| (4 * batching.max_rows * instances).max(MIN_PLACES));
        let places = places.clamp(1, Semaphore::MAX_PERMITS.min(1 << 20));
        Self {
            fixed_rows: interface.has_fixed_rows(),
            slow: options.slow,
            places,
            permits: Arc::new(Semaphore::new(places)),
            draining: AtomicBool::new(false),
            waiting: Mutex::new(Waiting::new()),
            wake: Condvar::new(),
            model: Mutex::new(Some(model)),
            workers: Mutex::new(Vec::new()),
            counters: Counters::default(),
            spec,
            info,
            interface,
            batching,
            metrics,
        }
    }

    /// Runs one request: permit, check, queue, answer.
    pub(crate) async fn infer(&self, mut request: InferRequest, ctx: &Context) -> Result<InferResponse, Refusal> {
        let permit = match self.admit(ctx.class).await {
            Ok(permit) => permit,
            Err(None) => return Err(Refusal::Draining(request)),
            Err(Some(error)) => {
                self.metrics.start(None).finish(Outcome::Rejected);
                return Err(Refusal::Error(error));
            }
        };
        let mut timing = self.metrics.start(ctx.deadline);
        let result = self.admitted(&mut request, ctx, permit).await;
        let outcome = match &result {
            Ok(_) => Outcome::Success,
            Err(error) if error.kind() == ErrorKind::Deadline => Outcome::Timeout,
            Err(_) => Outcome::Error,
        };
        let took = timing.finish(outcome);
        if let Some(limit) = self.slow.filter(|limit| took > *limit) {
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
    async fn admit(&self, class: Class) -> Result<OwnedSemaphorePermit, Option<Error>> {
        let permits = self.permits.clone();
        match class {
            Class::Background => permits.acquire_owned().await.map_err(|_| None),
            Class::Interactive => permits.try_acquire_owned().map_err(|error| match error {
                TryAcquireError::NoPermits if !self.draining.load(Ordering::Acquire) => Some(self.full()),
                TryAcquireError::NoPermits | TryAcquireError::Closed => None,
            }),
        }
    }

    fn full(&self) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            format!(
                "Exceeds maximum queue size: model '{}' has {} requests in flight; try again later",
                self.info.name, self.places
            ),
        )
        .with_retry_after(Duration::from_secs(1))
    }

    async fn admitted(
        &self,
        request: &mut InferRequest,
        ctx: &Context,
        permit: OwnedSemaphorePermit,
    ) -> Result<InferResponse> {
        let wanted = self.interface.select(&self.info.name, &request.outputs)?;
        let inputs = self.interface.accept(&self.info.name, std::mem::take(&mut request.inputs))?;
        let (reply, answer) = oneshot::channel();
        let rows = if self.interface.wire.is_batched() { inputs.first().map_or(1, Tensor::rows) } else { 1 };
        self.push(Entry {
            rows,
            class: ctx.class,
            arrived: Instant::now(),
            key: self.key(&inputs),
            payload: Job { inputs, deadline: ctx.deadline, reply, _permit: permit },
        });
        let Answer { outputs, timings } = answer
            .await
            .map_err(|_| Error::engine(format!("a worker of model '{}' ended early", self.info.name)))??;
        let outputs = self.interface.present(&wanted, outputs)?;
        Ok(InferResponse { model: self.info.clone(), id: request.id.take(), outputs, timings })
    }

    /// Merged requests have equal keys. Where the signature fixes all row shapes, all keys are empty.
    fn key(&self, inputs: &[Tensor]) -> BatchKey {
        if self.fixed_rows {
            return BatchKey::default();
        }
        let of = |spec: &salver_core::TensorSpec| {
            let tensor = inputs.iter().find(|tensor| *tensor.name() == spec.name)?;
            Some(tensor.shape().with_rows(0))
        };
        self.interface.wire.inputs.iter().map(of).collect()
    }

    fn push(&self, entry: Entry<Job>) {
        let mut waiting = self.waiting.lock();
        waiting.queue.push(entry);
        self.metrics.set_queue(waiting.queue.len());
        let calls = waiting.calls(self.batching.max_rows);
        drop(waiting);
        if calls {
            self.wake.notify_one();
        }
    }

    /// Blocks until there is a batch to run and moves it into `batch`; false: the slot is closed
    /// and nothing is left. The worker counts as busy until it says [`Slot::ran`].
    pub(crate) fn next_batch(&self, batch: &mut Vec<Entry<Job>>) -> bool {
        let mut waiting = self.waiting.lock();
        loop {
            let view = waiting.queue.view();
            match decide(&view, &self.batching, Instant::now()) {
                Decision::WaitUntil(due) if !waiting.closed => self.sleep(&mut waiting, Some(due)),
                Decision::Run | Decision::WaitUntil(_) => {
                    waiting.queue.take(self.batching.max_rows, batch);
                    waiting.busy += 1;
                    self.metrics.set_queue(waiting.queue.len());
                    if waiting.calls(self.batching.max_rows) {
                        self.wake.notify_one();
                    }
                    return true;
                }
                Decision::Idle if waiting.closed => return false,
                Decision::Idle => self.sleep(&mut waiting, None),
            }
        }
    }

    /// Notes that a worker is done with its batch.
    pub(crate) fn ran(&self, took: Duration) {
        let mut waiting = self.waiting.lock();
        waiting.busy -= 1;
        waiting.ran(took);
    }

    fn sleep(&self, waiting: &mut MutexGuard<'_, Waiting>, until: Option<Instant>) {
        waiting.idle += 1;
        match until {
            Some(due) => drop(self.wake.wait_until(waiting, due)),
            None => self.wake.wait(waiting),
        }
        waiting.idle -= 1;
        waiting.called = false;
    }

    /// Makes an instance, or says why not.
    pub(crate) fn instance(&self, placement: &Placement) -> Result<Box<dyn salver_core::Instance>> {
        let model = self.model.lock().clone();
        model.ok_or_else(|| Error::not_ready(format!("model '{}' is unloaded", self.info.name)))?.instance(placement)
    }

    pub(crate) fn adopt(&self, workers: Vec<JoinHandle<()>>) {
        *self.workers.lock() = workers;
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
            for worker in std::mem::take(&mut *slot.workers.lock()) {
                // A worker catches panics of the engine; one of its own is logged by the hook.
                let _ = worker.join();
            }
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
        self.counters.snapshot(&self.info.name, self.info.version)
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
