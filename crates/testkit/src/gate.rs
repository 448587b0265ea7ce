//! A gate that runs wait at until the test opens it, and that tells the test who has arrived.
//!
//! It takes the place of sleeping: a test closes the gate, waits until the runs stand before it,
//! looks at the world, and opens it again.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// How long anything here waits before it calls the test stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Open at first. Whoever passes is counted before it waits.
#[derive(Debug)]
pub struct Gate {
    /// How many may still pass; none: open.
    permits: Mutex<Option<usize>>,
    changed: Condvar,
    arrived: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { permits: Mutex::new(None), changed: Condvar::new(), arrived: watch::Sender::new(0) }
    }
}

impl Gate {
    /// Makes a gate that lets nobody through yet.
    pub fn closed() -> Self {
        let gate = Self::default();
        gate.close();
        gate
    }

    /// Lets nobody through from now on.
    pub fn close(&self) {
        *self.permits.lock() = Some(0);
    }

    /// Lets everybody through, those who wait included.
    pub fn open(&self) {
        *self.permits.lock() = None;
        self.changed.notify_all();
    }

    /// Lets `count` more through a closed gate.
    pub fn let_through(&self, count: usize) {
        if let Some(permits) = self.permits.lock().as_mut() {
            *permits += count;
        }
        self.changed.notify_all();
    }

    /// Returns how many have arrived since the beginning, those who wait included.
    pub fn arrivals(&self) -> usize {
        *self.arrived.borrow()
    }

    /// Waits until `count` have arrived since the beginning.
    ///
    /// # Panics
    /// If that takes a minute: the test is stuck.
    pub async fn arrived(&self, count: usize) {
        let mut arrivals = self.arrived.subscribe();
        let reached = tokio::time::timeout(PATIENCE, arrivals.wait_for(|&arrived| arrived >= count)).await;
        assert!(reached.is_ok(), "the gate waited for {count} arrivals and saw {}", self.arrivals());
    }

    /// Waits for permission, on the thread of the one who wants through.
    ///
    /// # Panics
    /// If that takes a minute: the test is stuck.
    pub fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        let deadline = Instant::now() + PATIENCE;
        let mut permits = self.permits.lock();
        while *permits == Some(0) {
            let timeout = self.changed.wait_until(&mut permits, deadline).timed_out();
            assert!(!timeout || *permits != Some(0), "the test never opened the gate");
        }
        if let Some(left) = permits.as_mut() {
            *left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_closed_gate_lets_through_as_many_as_the_test_says() {
        let gate = Arc::new(Gate::closed());
        let done = Arc::new(watch::Sender::new(0));
        let walkers: Vec<_> = (0..3)
            .map(|_| {
                let (gate, done) = (gate.clone(), done.clone());
                std::thread::spawn(move || {
                    gate.pass();
                    done.send_modify(|done| *done += 1);
                })
            })
            .collect();
        gate.arrived(3).await;
        assert_eq!(*done.borrow(), 0);
        gate.let_through(2);
        done.subscribe().wait_for(|&done| done == 2).await.unwrap();
        gate.open();
        for walker in walkers {
            walker.join().unwrap();
        }
        assert_eq!((*done.borrow(), gate.arrivals()), (3, 3));
    }
}
