//! The threads that serve connections, each with an event loop of its own.
//!
//! A connection stays on the thread that it was given when it was accepted, and so does all that its
//! requests need until a model takes over. Threads that share their connections wake each other with
//! every request instead, which costs more than a small request itself, in a virtual machine most of
//! all. What may keep its thread busy goes to the runtime in which the server was started, whose
//! threads take work from each other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads for connections. They end when this is dropped, so it has to outlive whatever a request
/// may have left behind: a database's connection belongs to the thread that opened it.
#[derive(Debug, Default)]
pub struct EventLoops {
    loops: Box<[EventLoop]>,
    /// How many connections came so far.
    n_came: AtomicUsize,
}

#[derive(Debug)]
struct EventLoop {
    handle: Handle,
    /// How many connections it serves.
    n_open: Arc<AtomicUsize>,
    /// Which was the last that it got.
    last: AtomicUsize,
    /// Its thread ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

impl EventLoops {
    /// Starts none: connections are served by the runtime in which the server runs.
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts `count` threads.
    ///
    /// # Errors
    /// Where the system gives no thread or no event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let loops = (0..count).map(EventLoop::start).collect::<io::Result<_>>()?;
        Ok(Self { loops, n_came: AtomicUsize::new(0) })
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.loops.is_empty()
    }

    /// Gives a connection to the thread that has the fewest; none: there are no threads.
    pub(crate) fn seat(&self) -> Option<Seat> {
        // Of those with as few, the one that has waited longest: some connections may never ask.
        let load = |event_loop: &&EventLoop| {
            (event_loop.n_open.load(Ordering::Relaxed), event_loop.last.load(Ordering::Relaxed))
        };
        let event_loop = self.loops.iter().min_by_key(load)?;
        event_loop.last.store(self.n_came.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        event_loop.n_open.fetch_add(1, Ordering::Relaxed);
        Some(Seat { handle: event_loop.handle.clone(), n_open: event_loop.n_open.clone() })
    }
}

impl EventLoop {
    fn start(idx: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        let run = move || {
            // Nothing is ever sent.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name(format!("connections-{idx}")).spawn(run)?;
        Ok(Self { handle, n_open: Arc::default(), last: AtomicUsize::new(0), _alive: alive })
    }
}

/// A connection's place on a thread.
#[derive(Debug)]
pub(crate) struct Seat {
    handle: Handle,
    n_open: Arc<AtomicUsize>,
}

impl Seat {
    /// Returns where tasks of the connection run.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.n_open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(loops: &EventLoops) -> Vec<usize> {
        loops.loops.iter().map(|event_loop| event_loop.n_open.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn each_thread_gets_as_many_connections() {
        let loops = EventLoops::start(3).unwrap();
        let mut seats: Vec<Seat> = (0..9).map(|_| loops.seat().unwrap()).collect();
        assert_eq!(counts(&loops), [3, 3, 3]);
        // Those of one thread end: it gets the next three.
        let first = seats[0].n_open.clone();
        let (ended, kept): (Vec<Seat>, Vec<Seat>) = seats.drain(..).partition(|seat| Arc::ptr_eq(&seat.n_open, &first));
        drop(ended);
        seats = kept;
        seats.extend((0..3).map(|_| loops.seat().unwrap()));
        assert!(seats.iter().rev().take(3).all(|seat| Arc::ptr_eq(&seat.n_open, &first)));
        assert_eq!(counts(&loops), [3, 3, 3]);
    }

    #[test]
    fn connections_that_come_one_after_the_other_go_to_all_threads() {
        let loops = EventLoops::start(2).unwrap();
        let ids: Vec<_> = (0..4).map(|_| loops.seat().unwrap().handle().id()).collect();
        assert_eq!((ids[0], ids[1]), (ids[2], ids[3]));
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn a_connection_that_rests_does_not_bring_two_others_together() {
        let loops = EventLoops::start(2).unwrap();
        for _ in 0..3 {
            let _resting = loops.seat().unwrap();
            let busy = [loops.seat().unwrap(), loops.seat().unwrap()];
            assert_ne!(busy[0].handle().id(), busy[1].handle().id());
        }
    }

    #[test]
    fn without_threads_there_is_no_place() {
        assert!(EventLoops::none().seat().is_none());
    }

    #[tokio::test]
    async fn a_thread_ends_with_its_event_loop() {
        let loops = EventLoops::start(1).unwrap();
        let seat = loops.seat().unwrap();
        let name = seat.handle().spawn(async { std::thread::current().name().map(str::to_owned) });
        assert_eq!(name.await.unwrap().as_deref(), Some("connections-0"));
        let task = seat.handle().spawn(std::future::pending::<()>());
        drop(loops);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
