//! The level that servers share, seen from one of them: never waited for long, and passed by while
//! it does not answer.
//!
//! Reads happen on the way of a request, within [`GET_LIMIT`]. Writes go through a bounded queue
//! and are dropped, and counted, where that is full. After a few failures in a row nobody asks any
//! more; one task finds out when the place answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use salver_core::{CacheKey, Error, ErrorKind, Result, SharedCache, SharedEntry};
use salver_telemetry::CacheMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The longest that a request waits for the shared level.
const GET_LIMIT: Duration = Duration::from_millis(50);
/// The longest that anything else takes.
const SLOW_LIMIT: Duration = Duration::from_secs(1);
/// Failures in a row after which the shared level is passed by.
const PATIENCE: u32 = 3;
/// How often a shared level that is passed by is asked whether it answers again.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Answers that may wait to be written, and their bytes.
const MAX_WRITES: usize = 1024;
const MAX_WRITE_BYTES: usize = 64 << 20;
/// Answers written side by side.
const WRITES_AT_ONCE: usize = 32;

/// See the module's description.
pub(crate) struct SharedLevel {
    cache: Arc<dyn SharedCache>,
    /// Failures since the last success.
    failures: AtomicU32,
    writes: mpsc::Sender<Write>,
    /// Until [`SharedLevel::run`] takes it.
    queue: Mutex<Option<mpsc::Receiver<Write>>>,
    room: Arc<Semaphore>,
    metrics: CacheMetrics,
}

struct Write {
    model: Arc<str>,
    key: CacheKey,
    entry: SharedEntry,
    _room: OwnedSemaphorePermit,
}

impl SharedLevel {
    pub(crate) fn new(cache: Arc<dyn SharedCache>, metrics: CacheMetrics) -> Self {
        let (writes, queue) = mpsc::channel(MAX_WRITES);
        metrics.set_shared_in_use(true);
        Self {
            cache,
            failures: AtomicU32::new(0),
            writes,
            queue: Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(MAX_WRITE_BYTES)),
            metrics,
        }
    }

    /// Looks an answer up; whatever goes wrong is a miss.
    pub(crate) async fn get(&self, model: &str, key: &CacheKey) -> Option<SharedEntry> {
        if !self.is_in_use() {
            return None;
        }
        let found = timeout(GET_LIMIT, self.cache.get(model, key)).await;
        self.note(found.unwrap_or_else(|_| Err(late()))).flatten()
    }

    /// Counts a value that was there but is not what it should be.
    pub(crate) fn count_broken(&self, error: &Error) {
        self.metrics.count_shared_error();
        tracing::warn!(?error, "an answer of the shared cache is not used");
    }

    /// Has an answer written when there is time for it.
    pub(crate) fn put(&self, model: &Arc<str>, key: CacheKey, value: Bytes, time_to_live: Duration) {
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(len);
        let written = self.is_in_use()
            && room.is_ok_and(|room| {
                let entry = SharedEntry { value, time_to_live };
                self.writes.try_send(Write { model: model.clone(), key, entry, _room: room }).is_ok()
            });
        if !written {
            self.metrics.count_shared_dropped();
        }
    }

    /// Forgets the answers of a model, or all.
    ///
    /// # Errors
    /// `NotReady` where the place cannot be reached.
    pub(crate) async fn purge(&self, model: Option<&str>) -> Result<()> {
        let purged = timeout(SLOW_LIMIT, self.cache.purge(model)).await;
        purged.unwrap_or_else(|_| Err(late()))
    }

    /// Writes what is queued, and watches a place that does not answer, until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let Some(mut queue) = self.queue.lock().take() else {
            return;
        };
        if let Err(error) = self.probe().await {
            self.pass_by(&error);
        }
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut writes = Vec::with_capacity(WRITES_AT_ONCE);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = queue.recv_many(&mut writes, WRITES_AT_ONCE) => {
                    futures::future::join_all(writes.drain(..).map(|write| self.write(write))).await;
                }
                _ = ticks.tick() => {
                    if !self.is_in_use() && self.probe().await.is_ok() {
                        self.note(Ok(()));
                    }
                }
            }
        }
    }

    async fn write(&self, write: Write) {
        if !self.is_in_use() {
            return self.metrics.count_shared_dropped();
        }
        let put = timeout(SLOW_LIMIT, self.cache.put(&write.model, &write.key, write.entry)).await;
        if self.note(put.unwrap_or_else(|_| Err(late()))).is_none() {
            self.metrics.count_shared_dropped();
        }
    }

    async fn probe(&self) -> Result<()> {
        timeout(SLOW_LIMIT, self.cache.ping()).await.unwrap_or_else(|_| Err(late()))
    }

    fn is_in_use(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < PATIENCE
    }

    /// Counts how a call went and returns what it gave. A bad value is no sign of a bad place.
    fn note<T>(&self, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(found) => {
                if self.failures.swap(0, Ordering::Relaxed) >= PATIENCE {
                    self.metrics.set_shared_in_use(true);
                    tracing::info!("the shared cache answers again");
                }
                Some(found)
            }
            Err(error) if error.kind() == ErrorKind::NotReady => {
                self.metrics.count_shared_error();
                // Those that were on their way when it was passed by say nothing new.
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 == PATIENCE {
                    self.pass_by(&error);
                }
                None
            }
            Err(error) => {
                self.count_broken(&error);
                None
            }
        }
    }

    fn pass_by(&self, error: &Error) {
        self.failures.fetch_max(PATIENCE, Ordering::Relaxed);
        self.metrics.set_shared_in_use(false);
        tracing::warn!(?error, "the shared cache does not answer; it is passed by until it does");
    }
}

fn late() -> Error {
    Error::not_ready("the shared cache did not answer in time")
}

#[cfg(test)]
mod tests {
    use salver_telemetry::Metrics;

    use super::super::fake::FakeShared;
    use super::*;

    struct Fixture {
        place: Arc<FakeShared>,
        level: Arc<SharedLevel>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    }

    impl Fixture {
        fn new() -> Self {
            let (place, metrics) = (Arc::new(FakeShared::default()), Metrics::new());
            let level = Arc::new(SharedLevel::new(place.clone(), metrics.cache()));
            Self { place, level, metrics, stop: CancellationToken::new() }
        }

        fn run(&self) -> tokio::task::JoinHandle<()> {
            let (level, stop) = (self.level.clone(), self.stop.clone());
            tokio::spawn(async move { level.run(stop).await })
        }

        #[track_caller]
        fn check(&self, line: &str) {
            let text = self.metrics.render();
            assert!(text.contains(&format!("{line}\n")), "no {line} in {text}");
        }

        fn put(&self) {
            self.level.put(&"m".into(), [1; 32], Bytes::from_static(b"value"), Duration::from_secs(9));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_fails_is_passed_by_until_it_answers() {
        let fixture = Fixture::new();
        let task = fixture.run();
        tokio::task::yield_now().await;
        fixture.place.set_down(true);
        for _ in 0..10 {
            assert!(fixture.level.get("m", &[1; 32]).await.is_none());
        }
        assert_eq!(fixture.place.n_gets(), 3);
        fixture.check("salver_cache_shared_errors_total 3");
        fixture.check("salver_dependency_up{dependency=\"shared_cache\"} 0");
        fixture.put();
        fixture.check("salver_cache_shared_dropped_total 1");
        fixture.place.set_down(false);
        // Paused time: this is the next probe, not a wait.
        tokio::time::sleep(PROBE_EVERY * 2).await;
        fixture.check("salver_dependency_up{dependency=\"shared_cache\"} 1");
        fixture.put();
        fixture.place.written(1).await;
        assert_eq!(fixture.level.get("m", &[1; 32]).await.unwrap().value, "value");
        fixture.stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_hangs_costs_a_request_its_limit_and_then_nothing() {
        let fixture = Fixture::new();
        fixture.place.hang();
        let started = tokio::time::Instant::now();
        for _ in 0..10 {
            assert!(fixture.level.get("m", &[1; 32]).await.is_none());
        }
        assert_eq!(started.elapsed(), GET_LIMIT * PATIENCE);
        let error = fixture.level.purge(None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_down_at_the_start_is_passed_by_at_once() {
        let fixture = Fixture::new();
        fixture.place.set_down(true);
        fixture.run();
        tokio::time::sleep(Duration::from_millis(1)).await;
        fixture.check("salver_dependency_up{dependency=\"shared_cache\"} 0");
        assert!(fixture.level.get("m", &[1; 32]).await.is_none());
        assert_eq!(fixture.place.n_gets(), 0);
    }

    #[tokio::test]
    async fn writes_beyond_the_room_are_dropped_and_counted() {
        let fixture = Fixture::new();
        for _ in 0..=MAX_WRITES {
            fixture.put();
        }
        fixture.check("salver_cache_shared_dropped_total 1");
        let large = Bytes::from(vec![0; MAX_WRITE_BYTES]);
        fixture.level.put(&"m".into(), [1; 32], large, Duration::from_secs(9));
        fixture.check("salver_cache_shared_dropped_total 2");
    }
}
