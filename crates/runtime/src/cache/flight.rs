//! Identical requests in flight: one computes, the others wait for its answer.
//!
//! The turn to compute is a permit of a semaphore. Whoever holds it and leaves without an answer,
//! because its own caller went away or its own time was up, gives it back, and the next one in line
//! computes: nobody hangs, and nobody fails for another's sake. Closing the semaphore publishes the
//! outcome to all who wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

/// The flights under way, by what they compute.
pub(crate) struct Flights<K, T> {
    under_way: Mutex<HashMap<K, UnderWay<T>>>,
}

struct UnderWay<T> {
    flight: Arc<Flight<T>>,
    seats: usize,
}

struct Flight<T> {
    turn: Semaphore,
    outcome: OnceLock<T>,
}

/// What a seat may do next.
pub(crate) enum Next<'a, T> {
    /// Compute; the permit goes back when this is dropped.
    Compute(SemaphorePermit<'a>),
    /// Take the outcome.
    Landed(T),
}

/// A place on a flight. The last one to leave ends it.
pub(crate) struct Seat<'a, K: Eq + Hash, T> {
    flights: &'a Flights<K, T>,
    key: K,
    flight: Arc<Flight<T>>,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash + Copy, T: Clone> Flights<K, T> {
    /// Takes a seat on the flight for `key`, a new one where there is none.
    pub(crate) fn join(&self, key: K) -> Seat<'_, K, T> {
        let mut under_way = self.under_way.lock();
        let entry = under_way.entry(key).or_insert_with(|| UnderWay {
            flight: Arc::new(Flight { turn: Semaphore::new(1), outcome: OnceLock::new() }),
            seats: 0,
        });
        entry.seats += 1;
        Seat { flights: self, key, flight: entry.flight.clone() }
    }
}

impl<K: Eq + Hash + Copy, T: Clone> Seat<'_, K, T> {
    /// Returns what to do now; none: somebody computes.
    pub(crate) fn look(&self) -> Option<Next<'_, T>> {
        match self.flight.turn.try_acquire() {
            Ok(turn) => Some(Next::Compute(turn)),
            Err(TryAcquireError::NoPermits) => None,
            Err(TryAcquireError::Closed) => Some(self.landed()),
        }
    }

    /// Waits for the outcome, or for the turn to compute it.
    pub(crate) async fn wait(&self) -> Next<'_, T> {
        match self.flight.turn.acquire().await {
            Ok(turn) => Next::Compute(turn),
            Err(_) => self.landed(),
        }
    }

    fn landed(&self) -> Next<'_, T> {
        Next::Landed(self.flight.outcome.get().cloned().expect("`land` sets it before it closes the semaphore"))
    }

    /// Gives the outcome to all on this flight; who comes later starts a new one.
    pub(crate) fn land(&self, outcome: T) {
        // Only the holder of the turn lands, so there is no earlier outcome.
        let _ = self.flight.outcome.set(outcome);
        let mut under_way = self.flights.under_way.lock();
        if let Entry::Occupied(entry) = under_way.entry(self.key)
            && Arc::ptr_eq(&entry.get().flight, &self.flight)
        {
            entry.remove();
        }
        drop(under_way);
        self.flight.turn.close();
    }
}

impl<K: Eq + Hash, T> Drop for Seat<'_, K, T> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock();
        let Some(entry) = under_way.get_mut(&self.key).filter(|entry| Arc::ptr_eq(&entry.flight, &self.flight)) else {
            return;
        };
        entry.seats -= 1;
        if entry.seats == 0 {
            under_way.remove(&self.key);
        }
    }
}
