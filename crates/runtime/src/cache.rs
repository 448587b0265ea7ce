//! Answers that are kept: the same question to the same loaded version is computed once.
//!
//! The path of a request to a model with `response_cache`: digest of the question → memory → a
//! flight with identical requests → the level that servers share → the slot. Only good answers are
//! kept. What a cache does wrong is at worst a miss: no request fails for it, none waits long.

pub(crate) mod codec;
mod digest;
#[cfg(test)]
mod fake;
mod flight;
mod local;
mod question;
mod shared;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use salver_core::{
    CacheKey, CacheOutcome, CacheUse, Class, Context, Deferred, DurationStat, Error, ErrorKind, InferRequest,
    InferResponse, Inferred, ModelSpec, ModelStatistics, OnMiss, Result, SharedCache, Tensor, Timings,
};
use salver_telemetry::{CacheResult, Metrics, ModelCacheMetrics, Outcome, Timing};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::flight::{Flights, Next, Seat};
use self::local::{Entry, Key, LocalCache};
pub(crate) use self::question::CountedParameters;
use self::question::{Digest, Question};
use self::shared::SharedLevel;
use crate::slot::{Refusal, Slot};

/// How long answers of a model without a time to live are shared.
const SHARED_TTL: Duration = Duration::from_secs(24 * 3600);

/// Data from this size on is not gone over on the async threads.
const OFFLOAD_BYTES: u64 = 1 << 20;

/// Settings of the response cache. Off where there are no bytes.
#[derive(Debug, Clone, Default)]
pub struct CacheOptions {
    /// The memory that answers may take; 0: nothing is kept.
    pub bytes: u64,
    /// The level that several servers share.
    pub shared: Option<Arc<dyn SharedCache>>,
}

/// Requests that one computation answers. Those of different classes fly apart: an interactive one
/// must not wait until a background one finds room.
type Flight = (Key, Class);
type Landing = Result<Arc<Entry>>;

/// The answers of every model.
pub(crate) struct ResponseCache {
    local: LocalCache,
    flights: Flights<Flight, Landing>,
    shared: Option<SharedLevel>,
    n_loads: AtomicU64,
}

impl ResponseCache {
    /// Makes the cache that the settings want; none where it is off.
    pub(crate) fn new(options: &CacheOptions, metrics: &Metrics) -> Option<Arc<Self>> {
        let shared = options.shared.clone().map(|place| SharedLevel::new(place, metrics.cache()));
        (options.bytes > 0).then(|| {
            Arc::new(Self {
                local: LocalCache::new(options.bytes, metrics.cache()),
                flights: Flights::default(),
                shared,
                n_loads: AtomicU64::new(0),
            })
        })
    }

    /// Looks after the shared level until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        if let Some(shared) = &self.shared {
            shared.run(stop).await;
        }
    }

    /// Forgets the answers of these slots, and shared ones of `model` (none: of all models);
    /// returns how many were here.
    ///
    /// # Errors
    /// `NotReady` where the shared level cannot be reached.
    pub(crate) async fn purge(&self, slots: &[Arc<Slot>], model: Option<&str>) -> Result<u64> {
        let loads: HashSet<u64> = slots.iter().filter_map(|slot| Some(slot.cache.get()?.load)).collect();
        let gone = self.local.forget(&loads);
        match &self.shared {
            Some(shared) => shared.purge(model).await.map(|()| gone),
            None => Ok(gone),
        }
    }
}

/// What is known of a version's files before the engine reads them.
pub(crate) struct Loading {
    cache: Arc<ResponseCache>,
    /// The version's own, then those of the models that it calls; none where answers are neither
    /// shared nor left to jobs.
    files: Option<Vec<digest::Files>>,
}

impl Loading {
    /// Looks at the files of a version whose answers are to be kept, and of the models that it calls;
    /// none for any other version. Blocking.
    pub(crate) fn begin(
        cache: Option<&Arc<ResponseCache>>,
        spec: &ModelSpec,
        members: &[Arc<ModelSpec>],
    ) -> Option<Self> {
        let cache = cache.filter(|_| spec.config.response_cache)?.clone();
        let is_told_apart = cache.shared.is_some() || spec.config.on_miss == OnMiss::Job;
        let read = |spec: &ModelSpec| {
            let beside = spec.task.file().or(spec.backing.file());
            digest::Files::read(&spec.name, &spec.artifact, beside)
        };
        let all = || std::iter::once(spec).chain(members.iter().map(Arc::as_ref));
        let files = is_told_apart.then(|| all().map(read).collect::<std::io::Result<Vec<_>>>());
        let files = files.and_then(|read| {
            let warn =
                |error: &_| tracing::warn!(model = %spec.name, %error, "answers are not shared, nor left to jobs");
            read.inspect_err(warn).ok()
        });
        Some(Self { cache, files })
    }

    /// Has the answers of a slot kept, now that it is loaded.
    pub(crate) fn finish(self, slot: &Slot) {
        let files = self.files.filter(|files| {
            let unchanged = files.iter().all(digest::Files::are_unchanged);
            if !unchanged {
                tracing::warn!(
                    model = &*slot.info.name,
                    "files changed during the load: answers are not shared, nor left to jobs"
                );
            }
            unchanged
        });
        let version = CachedVersion {
            load: self.cache.n_loads.fetch_add(1, Ordering::Relaxed),
            digest: files.map(|files| digest::version(&files, slot)),
            ttl: slot.spec.config.cache_ttl,
            on_miss: slot.spec.config.on_miss,
            places: Semaphore::new(slot.places.total()),
            metrics: slot.metrics.cache(),
            answered: Stopwatch::default(),
            in_vain: Stopwatch::default(),
            cache: self.cache,
        };
        // A slot is loaded once.
        let _ = slot.cache.set(version);
    }
}

/// What the cache knows of one loaded version. When it goes, its answers go.
pub(crate) struct CachedVersion {
    cache: Arc<ResponseCache>,
    load: u64,
    /// Of the version; none: its answers are not shared, nor left to jobs.
    digest: Option<[u8; 32]>,
    ttl: Option<Duration>,
    on_miss: OnMiss,
    /// For those who wait for another's computation.
    places: Semaphore,
    metrics: ModelCacheMetrics,
    answered: Stopwatch,
    in_vain: Stopwatch,
}

impl CachedVersion {
    /// Answers a request from the cache, or by the slot. All but the hit is boxed: every request of
    /// the runtime carries the room for this future, also those to models without a cache.
    pub(crate) async fn infer(
        &self,
        slot: &Slot,
        request: &mut InferRequest,
        ctx: &Context,
    ) -> Result<InferResponse, Refusal> {
        if ctx.cache == CacheUse::Bypass {
            return Box::pin(self.compute(slot, request, ctx, CacheOutcome::Bypass)).await;
        }
        let timing = slot.metrics.start(ctx.deadline);
        slot.usage.touch(timing.started());
        let question = digest_of(slot, request).await.map_err(Refusal::Error)?;
        let Some(question) = question else {
            // Refused by the slot, in the same words as without a cache.
            timing.hand_over();
            return Box::pin(slot.infer(request, ctx)).await;
        };
        let key = Key { load: self.load, question };
        if ctx.cache == CacheUse::Refresh {
            timing.hand_over();
            return Box::pin(self.refresh(slot, key, request, ctx)).await;
        }
        match self.cache.local.get(&key, Instant::now()) {
            Some(entry) => Ok(self.answer(slot, request, &entry, CacheOutcome::Hit, timing)),
            None => Box::pin(self.fly(slot, key, request, ctx, timing)).await,
        }
    }

    /// Answers a request from the cache, or leaves it to a job. None: it is to be computed now, because
    /// the model or the request wants it so, the files of the version are not known for sure, or the
    /// request contradicts the model and is to be refused by the slot, in the same words as any.
    pub(crate) async fn find_or_defer(
        &self,
        slot: &Slot,
        request: &mut InferRequest,
        ctx: &Context,
    ) -> Result<Option<Inferred>> {
        if self.on_miss == OnMiss::Compute || self.digest.is_none() || ctx.cache != CacheUse::Use {
            return Ok(None);
        }
        let timing = slot.metrics.start(ctx.deadline);
        slot.usage.touch(timing.started());
        let fits = || slot.interface.shown().check(&slot.info.name, request.inputs.clone()).is_ok();
        let Some(question) = digest_of(slot, request).await?.filter(|_| fits()) else {
            timing.hand_over();
            return Ok(None);
        };
        let key = Key { load: self.load, question };
        if let Some((entry, outcome)) = self.look(slot, key).await {
            return Ok(Some(Inferred::Now(self.answer(slot, request, &entry, outcome, timing))));
        }
        self.in_vain.add(timing.hand_over());
        self.metrics.count(CacheResult::Deferred);
        let later = |question| Inferred::Later(Deferred { model: slot.info.clone(), question, ttl: self.ttl });
        Ok(self.shared_key(&question).map(later))
    }

    async fn refresh(
        &self,
        slot: &Slot,
        key: Key,
        request: &mut InferRequest,
        ctx: &Context,
    ) -> Result<InferResponse, Refusal> {
        let response = self.compute(slot, request, ctx, CacheOutcome::Miss).await?;
        self.keep(key, &response).await;
        Ok(response)
    }

    /// Computes the answer, or waits for an identical request that does.
    async fn fly(
        &self,
        slot: &Slot,
        key: Key,
        request: &mut InferRequest,
        ctx: &Context,
        mut timing: Timing<'_>,
    ) -> Result<InferResponse, Refusal> {
        let seat = self.cache.flights.join((key, ctx.class));
        let next = match seat.look() {
            Some(next) => next,
            None => match self.wait(slot, &seat, ctx).await {
                Ok(next) => next,
                Err(error) => {
                    timing.finish(outcome_of(&error));
                    return Err(Refusal::Error(error));
                }
            },
        };
        match next {
            Next::Landed(Ok(entry)) => Ok(self.answer(slot, request, &entry, CacheOutcome::Joined, timing)),
            Next::Landed(Err(error)) => {
                timing.finish(outcome_of(&error));
                // What it cost is on the bill of the request that was computed.
                Err(Refusal::Error(error.with_cost(None)))
            }
            Next::Compute(turn) => self.lead(slot, key, request, ctx, timing, (&seat, turn)).await,
        }
    }

    /// Waits for what another computes, within this request's own time.
    async fn wait<'a>(
        &self,
        slot: &Slot,
        seat: &'a Seat<'_, Flight, Landing>,
        ctx: &Context,
    ) -> Result<Next<'a, Landing>> {
        let waiting = async {
            let _place =
                match ctx.class {
                    // Never closed, so this cannot fail.
                    Class::Background => self.places.acquire().await.ok(),
                    Class::Interactive => Some(self.places.try_acquire().map_err(|_| {
                        slot.full(format_args!("{} requests waiting for an answer", slot.places.total()))
                    })?),
                };
            Ok(seat.wait().await)
        };
        match ctx.deadline {
            None => waiting.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), waiting).await.unwrap_or_else(|_| {
                let message = format!("the deadline passed while model '{}' computed the answer", slot.info.name);
                Err(Error::new(ErrorKind::Deadline, message))
            }),
        }
    }

    /// Finds or computes the answer for everybody on the flight. Where this ends early, the turn goes
    /// on to the next.
    async fn lead(
        &self,
        slot: &Slot,
        key: Key,
        request: &mut InferRequest,
        ctx: &Context,
        timing: Timing<'_>,
        (seat, _turn): (&Seat<'_, Flight, Landing>, SemaphorePermit<'_>),
    ) -> Result<InferResponse, Refusal> {
        // Somebody may have landed between the look into the memory and taking the seat.
        if let Some((entry, outcome)) = self.look(slot, key).await {
            seat.land(Ok(entry.clone()));
            return Ok(self.answer(slot, request, &entry, outcome, timing));
        }
        self.in_vain.add(timing.hand_over());
        let computed = self.compute(slot, request, ctx, CacheOutcome::Miss).await;
        match &computed {
            Ok(response) => seat.land(Ok(self.keep(key, response).await)),
            Err(Refusal::Error(error)) if concerns_all(error) => seat.land(Err(error.clone())),
            Err(Refusal::Error(_) | Refusal::Draining) => {}
        }
        computed
    }

    async fn compute(
        &self,
        slot: &Slot,
        request: &mut InferRequest,
        ctx: &Context,
        outcome: CacheOutcome,
    ) -> Result<InferResponse, Refusal> {
        let response = slot.infer(request, ctx).await?;
        self.metrics.count(result_of(outcome));
        Ok(InferResponse { cache: Some(outcome), ..response })
    }

    /// Keeps an answer, unless it is too large; returns it for those who wait for it.
    async fn keep(&self, key: Key, response: &InferResponse) -> Arc<Entry> {
        let expires = self.ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let (outputs, weight) = (response.outputs.clone(), local::weight(&response.outputs));
        if !self.cache.local.takes(weight) {
            return Arc::new(Entry { outputs, expires });
        }
        let Ok(Ok(outputs)) = offload(weight, move || local::detach(&outputs)).await else {
            return Arc::new(Entry { outputs: response.outputs.clone(), expires });
        };
        let entry = Arc::new(Entry { outputs, expires });
        self.cache.local.insert(key, entry.clone());
        if let (Some(shared), Some(shared_key)) = (&self.cache.shared, self.shared_key(&key.question))
            && let Some(value) = codec::encode(&entry.outputs)
        {
            shared.put(&response.model.name, shared_key, value, self.ttl.unwrap_or(SHARED_TTL));
        }
        entry
    }

    /// Looks the answer up on both levels.
    async fn look(&self, slot: &Slot, key: Key) -> Option<(Arc<Entry>, CacheOutcome)> {
        match self.cache.local.get(&key, Instant::now()) {
            Some(entry) => Some((entry, CacheOutcome::Hit)),
            None => self.fetch(slot, key).await.map(|entry| (entry, CacheOutcome::Shared)),
        }
    }

    /// Looks the answer up in the shared level, and keeps it here from then on.
    async fn fetch(&self, slot: &Slot, key: Key) -> Option<Arc<Entry>> {
        let (shared, shared_key) = (self.cache.shared.as_ref()?, self.shared_key(&key.question)?);
        let found = shared.get(&slot.info.name, &shared_key).await?;
        let decoded = codec::decode_answer(&found.value, slot.interface.shown());
        let outputs = decoded.inspect_err(|error| shared.count_broken(error)).ok()?;
        let left = self.ttl.map(|ttl| ttl.min(found.time_to_live));
        let expires = left.and_then(|left| Instant::now().checked_add(left));
        let entry = Arc::new(Entry { outputs, expires });
        if self.cache.local.takes(local::weight(&entry.outputs)) {
            self.cache.local.insert(key, entry.clone());
        }
        Some(entry)
    }

    /// Returns the name of a question on every server.
    fn shared_key(&self, question: &Question) -> Option<CacheKey> {
        let mut digest = Digest::default();
        digest.bytes(&self.digest?);
        digest.bytes(question);
        Some(digest.finish())
    }

    fn answer(
        &self,
        slot: &Slot,
        request: &mut InferRequest,
        entry: &Entry,
        outcome: CacheOutcome,
        mut timing: Timing<'_>,
    ) -> InferResponse {
        self.metrics.count(result_of(outcome));
        self.answered.add(timing.finish(Outcome::Success));
        InferResponse {
            model: slot.info.clone(),
            id: request.id.take(),
            outputs: entry.outputs.clone(),
            timings: Timings::default(),
            cache: Some(outcome),
            cost: None,
        }
    }

    /// Adds what never came to the slot's own counters.
    pub(crate) fn add_to(&self, statistics: &mut ModelStatistics) {
        statistics.cache_hit = self.answered.read();
        statistics.cache_miss = self.in_vain.read();
        statistics.success.count += statistics.cache_hit.count;
        statistics.success.total += statistics.cache_hit.total;
    }
}

impl Drop for CachedVersion {
    /// Going over all entries takes its time, and this may be a serving thread.
    fn drop(&mut self) {
        let (cache, load) = (self.cache.clone(), self.load);
        let forget = move || cache.local.forget(&HashSet::from([load]));
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => drop(handle.spawn_blocking(forget)),
            Err(_) => drop(forget()),
        }
    }
}

/// Digests a request; none: it contradicts the signature.
async fn digest_of(slot: &Slot, request: &InferRequest) -> Result<Option<Question>> {
    let (model, with) = (&slot.info, slot.parameters_that_count());
    let len: usize = request.inputs.iter().map(Tensor::payload_len).sum();
    if (len as u64) < OFFLOAD_BYTES {
        return Ok(question::question(&model.signature, request, with));
    }
    // A clone shares the tensors' bytes.
    let (model, request) = (model.clone(), request.clone());
    offload(len as u64, move || question::question(&model.signature, &request, with)).await
}

/// Goes over much data away from the async threads.
async fn offload<T: Send + 'static>(bytes: u64, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if bytes < OFFLOAD_BYTES {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::engine("the response cache ended early").with_source(error))
}

/// Whether an identical request would fail alike. A caller who left, whose time was up or who
/// waited in the queue longer than it wished says nothing about the others.
fn concerns_all(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Cancelled | ErrorKind::Overloaded)
}

fn result_of(outcome: CacheOutcome) -> CacheResult {
    match outcome {
        CacheOutcome::Hit => CacheResult::Hit,
        CacheOutcome::Shared => CacheResult::Shared,
        CacheOutcome::Joined => CacheResult::Joined,
        CacheOutcome::Miss => CacheResult::Miss,
        CacheOutcome::Bypass => CacheResult::Bypass,
    }
}

fn outcome_of(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Deadline => Outcome::Timeout,
        ErrorKind::Overloaded => Outcome::Rejected,
        _ => Outcome::Error,
    }
}

/// Sums up durations without a lock.
#[derive(Default)]
struct Stopwatch {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Stopwatch {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self) -> DurationStat {
        let total = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        DurationStat { count: self.count.load(Ordering::Relaxed), total }
    }
}

#[cfg(test)]
mod tests;
