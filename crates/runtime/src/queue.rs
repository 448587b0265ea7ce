//! Requests that wait for a runner, in order of urgency and arrival.
//!
//! Pure and single-threaded: `slot.rs` puts it behind a lock. More urgent levels go first, then
//! what waited too long but may run late, then background requests, which fill what is left of a
//! batch. Only requests that can be merged (`Entry::key`) share a batch; whole requests are taken,
//! never parts of one.

use std::collections::VecDeque;
use std::time::Instant;

use salver_core::Shape;

use crate::policy::QueueView;

/// What must be equal for two requests to share a batch: the shape of one row of each input, in
/// signature order, and `None` for inputs left out.
pub(crate) type BatchKey = Box<[Option<Shape>]>;

/// How urgent a request is, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Somebody waits; 1 is the most urgent level.
    Level(u32),
    /// Fills what the others leave free.
    Background,
}

/// What happens to a request when its time in the queue is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It may wait for as long as its caller does.
    Never,
    /// It is refused at that time.
    Reject(Instant),
    /// From then on it lets the others of its level pass.
    Delay(Instant),
}

/// What the queue needs to know of a request; the rest (`payload`) is carried along.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// Ascends in the order of arrival.
    pub(crate) id: u64,
    pub(crate) rows: usize,
    pub(crate) lane: Lane,
    pub(crate) arrived: Instant,
    pub(crate) expiry: Expiry,
    pub(crate) key: BatchKey,
    pub(crate) payload: T,
}

impl Entry<crate::run::Job> {
    /// Gives the request its id.
    pub(crate) fn set_id(&mut self, id: u64) {
        self.id = id;
        if let Some(reply) = &mut self.payload.reply {
            reply.id = id;
        }
    }
}

/// The requests of one lane: in time, and late.
#[derive(Debug)]
struct Line<T> {
    lane: Lane,
    in_time: VecDeque<Entry<T>>,
    late: VecDeque<Entry<T>>,
    /// Whether any request of the lane ever had a time limit.
    has_limits: bool,
}

/// Waiting requests. Bounded from outside: a permit is taken before `push`.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// Ascending by lane; a line stays once it was needed.
    lines: Vec<Line<T>>,
    rows: usize,
    len: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { lines: Vec::new(), rows: 0, len: 0 }
    }

    pub(crate) fn push(&mut self, entry: Entry<T>) {
        self.line_for(&entry).in_time.push_back(entry);
    }

    /// Puts a request back that was taken, before those that came later.
    pub(crate) fn put_back(&mut self, entry: Entry<T>) {
        let in_time = &mut self.line_for(&entry).in_time;
        in_time.insert(in_time.partition_point(|waiting| waiting.id < entry.id), entry);
    }

    /// Counts a request in; returns where it waits.
    fn line_for(&mut self, entry: &Entry<T>) -> &mut Line<T> {
        self.rows += entry.rows;
        self.len += 1;
        let idx = match self.lines.binary_search_by_key(&entry.lane, |line| line.lane) {
            Ok(idx) => idx,
            Err(idx) => {
                let line =
                    Line { lane: entry.lane, in_time: VecDeque::new(), late: VecDeque::new(), has_limits: false };
                self.lines.insert(idx, line);
                idx
            }
        };
        let line = &mut self.lines[idx];
        line.has_limits |= entry.expiry != Expiry::Never;
        line
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns how many requests wait in `lane`.
    pub(crate) fn len_of(&self, lane: Lane) -> usize {
        let line = self.lines.iter().find(|line| line.lane == lane);
        line.map_or(0, |line| line.in_time.len() + line.late.len())
    }

    /// Whether only background requests wait.
    pub(crate) fn is_background_only(&self) -> bool {
        self.len > 0 && self.len == self.len_of(Lane::Background)
    }

    pub(crate) fn view(&self) -> QueueView {
        let heads = self.lines.iter().flat_map(|line| [line.in_time.front(), line.late.front()]);
        let oldest = heads.flatten().map(|entry| entry.arrived).min();
        QueueView { rows: self.rows, oldest }
    }

    /// Takes the request `id` out, wherever it waits.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Entry<T>> {
        for line in &mut self.lines {
            for waiting in [&mut line.in_time, &mut line.late] {
                if let Some(idx) = waiting.iter().position(|entry| entry.id == id) {
                    let entry = waiting.remove(idx)?;
                    self.rows -= entry.rows;
                    self.len -= 1;
                    return Some(entry);
                }
            }
        }
        None
    }

    /// Takes out every request whose payload fits.
    pub(crate) fn remove_if(&mut self, mut fits: impl FnMut(&T) -> bool) -> Vec<Entry<T>> {
        let mut removed = Vec::new();
        for waiting in self.lines.iter_mut().flat_map(|line| [&mut line.in_time, &mut line.late]) {
            let mut idx = 0;
            while let Some(entry) = waiting.get(idx) {
                if !fits(&entry.payload) {
                    idx += 1;
                } else if let Some(entry) = waiting.remove(idx) {
                    self.rows -= entry.rows;
                    self.len -= 1;
                    removed.push(entry);
                }
            }
        }
        removed
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<Entry<T>> {
        self.remove_if(|_| true)
    }

    /// Moves what may run late behind the others of its level, and returns what is to be refused.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Entry<T>> {
        let mut refused = Vec::new();
        for line in self.lines.iter_mut().filter(|line| line.has_limits) {
            let is_over = |entry: &Entry<T>| match entry.expiry {
                Expiry::Never => false,
                Expiry::Reject(at) | Expiry::Delay(at) => at <= now,
            };
            let mut idx = 0;
            while let Some(entry) = line.in_time.get(idx) {
                if !is_over(entry) {
                    idx += 1;
                    continue;
                }
                let Some(entry) = line.in_time.remove(idx) else {
                    break;
                };
                match entry.expiry {
                    Expiry::Delay(_) | Expiry::Never => line.late.push_back(entry),
                    Expiry::Reject(_) => {
                        self.rows -= entry.rows;
                        self.len -= 1;
                        refused.push(entry);
                    }
                }
            }
        }
        refused
    }

    /// Takes the next batch into `batch`: the first request, and as many later ones of the same
    /// key as fit within `max_rows`. Requests that do not fit keep their place.
    pub(crate) fn take(&mut self, max_rows: usize, batch: &mut Vec<Entry<T>>) {
        let mut rows = 0;
        let Self { lines, rows: waiting, len } = self;
        for line in lines.iter_mut().flat_map(|line| [&mut line.in_time, &mut line.late]) {
            let mut idx = 0;
            while idx < line.len() && (rows < max_rows || batch.is_empty()) {
                let candidate = &line[idx];
                let fits = match batch.first() {
                    None => true,
                    Some(first) => rows + candidate.rows <= max_rows && first.key == candidate.key,
                };
                // The front is cheap to take; a later one costs a move of those before it.
                let taken = if fits { line.remove(idx) } else { None };
                match taken {
                    Some(entry) => {
                        rows += entry.rows;
                        *waiting -= entry.rows;
                        *len -= 1;
                        batch.push(entry);
                    }
                    None => idx += 1,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
