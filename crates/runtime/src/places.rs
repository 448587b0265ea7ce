//! The places of a slot: whoever has one is served, and a slot has drained when all are free.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use salver_telemetry::{stripe, stripes};
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::shared::Shared;

/// The places of one slot.
#[derive(Debug)]
pub(crate) struct Places {
    inner: Arc<Inner>,
    /// One for each stripe, so that the count of holders is not shared between cores either.
    doors: Box<[Arc<Door>]>,
}

#[derive(Debug)]
struct Inner {
    budget: Budget,
    shared: Arc<Shared>,
    is_draining: AtomicBool,
    /// Those that wait for a place.
    waiters: AtomicUsize,
    room: Notify,
    /// Places that came back while draining; they are never taken again.
    returned: AtomicUsize,
    drained: Notify,
}

type Door = CachePadded<(Arc<Inner>, usize)>;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    Full,
    /// None will ever be free again.
    Draining,
    /// The deadline passed first.
    Late,
}

impl Places {
    pub(crate) fn new(total: usize, shared: Arc<Shared>) -> Self {
        let inner = Arc::new(Inner {
            budget: Budget::new(total),
            shared,
            is_draining: AtomicBool::new(false),
            waiters: AtomicUsize::new(0),
            room: Notify::new(),
            returned: AtomicUsize::new(0),
            drained: Notify::new(),
        });
        let doors = (0..stripes()).map(|stripe| Arc::new(CachePadded::new((inner.clone(), stripe)))).collect();
        Self { inner, doors }
    }

    /// Takes a place if one is free.
    pub(crate) fn take(&self) -> Result<Place, NoPlace> {
        let stripe = stripe();
        if !self.inner.budget.take(1, stripe) {
            return Err(if self.inner.is_draining.load(Ordering::SeqCst) { NoPlace::Draining } else { NoPlace::Full });
        }
        // Goes back by itself if the slot began to drain meanwhile.
        let place = Place { door: self.doors[stripe].clone(), bytes: 0 };
        if self.inner.is_draining.load(Ordering::SeqCst) { Err(NoPlace::Draining) } else { Ok(place) }
    }

    /// Waits for a place, for work that nobody waits for: who does may take one first.
    pub(crate) async fn wait(&self, deadline: Option<Instant>) -> Result<Place, NoPlace> {
        let _waiter = Waiter::new(&self.inner);
        let wait = async {
            loop {
                let mut room = std::pin::pin!(self.inner.room.notified());
                room.as_mut().enable();
                match self.take() {
                    Err(NoPlace::Full) => room.await,
                    taken => return taken,
                }
            }
        };
        match deadline {
            None => wait.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), wait).await.unwrap_or(Err(NoPlace::Late)),
        }
    }

    /// Returns how many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.inner.budget.taken().saturating_sub(self.inner.returned.load(Ordering::SeqCst))
    }

    pub(crate) fn total(&self) -> usize {
        self.inner.budget.total()
    }

    /// Gives no more places away, and returns once all are free. May be called again.
    pub(crate) async fn drain(&self) {
        let inner = &*self.inner;
        inner.is_draining.store(true, Ordering::SeqCst);
        inner.room.notify_waiters();
        loop {
            let mut drained = std::pin::pin!(inner.drained.notified());
            drained.as_mut().enable();
            inner.returned.fetch_add(inner.budget.take_all(), Ordering::SeqCst);
            if inner.returned.load(Ordering::SeqCst) == inner.budget.total() {
                // Another drain may be waiting for what this one took.
                inner.drained.notify_waiters();
                return;
            }
            drained.await;
        }
    }
}

/// One place, and the room in memory that its request takes. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    door: Arc<Door>,
    bytes: usize,
}

impl Place {
    /// Takes room for the inputs of the request; false: there is none.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let (inner, stripe) = &**self.door;
        let holds = inner.shared.waiting.take(bytes, *stripe);
        self.bytes += if holds { bytes } else { 0 };
        holds
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (inner, stripe) = &**self.door;
        inner.shared.waiting.give(self.bytes, *stripe);
        inner.budget.give(1, *stripe);
        if inner.is_draining.load(Ordering::SeqCst) {
            inner.drained.notify_waiters();
        } else if inner.waiters.load(Ordering::SeqCst) > 0 {
            inner.room.notify_one();
        }
    }
}

/// Counts somebody who waits.
struct Waiter<'a>(&'a Inner);

impl<'a> Waiter<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.waiters.fetch_add(1, Ordering::SeqCst);
        Self(inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn places_run_out_and_come_back() {
        let places = Places::new(2, Shared::new(10));
        let (mut first, second) = (places.take().unwrap(), places.take().unwrap());
        assert_eq!(places.take().unwrap_err(), NoPlace::Full);
        assert!(first.hold(10) && !first.hold(1));
        drop(first);
        assert_eq!((places.taken(), places.inner.shared.waiting.taken()), (1, 0));
        drop((second, places.take().unwrap()));
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_gets_a_place_or_hears_that_time_is_up() {
        let places = Arc::new(Places::new(1, Shared::new(0)));
        let held = places.take().unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(places.wait(soon).await.unwrap_err(), NoPlace::Late);
        let waiting = (0..50).map(|_| {
            let places = places.clone();
            tokio::spawn(async move { places.wait(None).await.map(drop) })
        });
        let waiting: Vec<_> = waiting.collect();
        drop(held);
        assert!(join_all(waiting).await.into_iter().all(|taken| taken.unwrap().is_ok()));
        assert_eq!((places.taken(), places.inner.waiters.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_drain_ends_with_the_last_place_and_lets_nobody_in() {
        for _ in 0..50 {
            let places = Arc::new(Places::new(64, Shared::new(0)));
            let held: Vec<_> = (0..5).map(|_| places.take().unwrap()).collect();
            let drains: Vec<_> = (0..2)
                .map(|_| {
                    let places = places.clone();
                    tokio::spawn(async move { places.drain().await })
                })
                .collect();
            let waiting = {
                let places = places.clone();
                tokio::spawn(async move { while places.take().is_ok() {} })
            };
            waiting.await.unwrap();
            assert_eq!(places.take().unwrap_err(), NoPlace::Draining);
            assert_eq!(places.wait(None).await.unwrap_err(), NoPlace::Draining);
            assert!(drains.iter().any(|drain| !drain.is_finished()) && places.taken() == 5);
            drop(held);
            assert!(join_all(drains).await.into_iter().all(|drained| drained.is_ok()));
            assert_eq!(places.taken(), 0);
            places.drain().await;
        }
    }
}
