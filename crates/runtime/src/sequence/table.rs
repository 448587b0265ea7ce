//! Which sequences there are, where each has its seat, and which of their requests may run.
//!
//! Pure: time comes in as an argument and nothing here waits; `line.rs` puts it behind a lock.
//! Invariants: of a sequence at most one request runs, and its requests run in the order in which
//! they came; a sequence that has begun stays on its seat until it ends, rests for too long, or its
//! instance is gone with what it knew. A seat is a row of one instance. Sequences without one wait,
//! each with a request, so what is kept is bounded by the seats and by what may be in flight.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the requests of a sequence have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SequenceId {
    Number(u64),
    Text(Arc<str>),
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "'{}'", text.escape_debug()),
        }
    }
}

/// Where in its sequence a request stands, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) starts: bool,
    pub(crate) ends: bool,
}

/// How many sequences there may be at a time, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) instances: usize,
    /// Of one instance.
    pub(crate) seats: usize,
    pub(crate) max_idle: Duration,
    /// Whether what a sequence needs to go on is kept here, and not in its instance.
    pub(crate) keeps_state: bool,
}

/// All sequences of one served version. `T` is a request, `S` what is kept between two of them.
#[derive(Debug)]
pub(crate) struct Table<T, S> {
    limits: Limits,
    /// By serial number, which is never used again.
    sequences: HashMap<u64, Sequence<T, S>>,
    by_id: HashMap<SequenceId, u64>,
    /// Who sits there, by instance and row.
    seats: Vec<Vec<Option<u64>>>,
    /// Who waits for a seat.
    backlog: VecDeque<u64>,
    n_begun: u64,
}

#[derive(Debug)]
struct Sequence<T, S> {
    id: SequenceId,
    seat: Option<(usize, usize)>,
    waiting: VecDeque<Waiting<T>>,
    is_running: bool,
    /// Whether it ends with the request that runs.
    ends_with_run: bool,
    /// Whether a request may follow the last one that came without starting anew.
    is_open: bool,
    state: Option<S>,
    last_used: Instant,
}

#[derive(Debug)]
struct Waiting<T> {
    place: Place,
    /// Whether the sequence ends with it, which another request may have said.
    is_last: bool,
    arrived: Instant,
    request: T,
}

/// A request that may run now.
#[derive(Debug)]
pub(crate) struct Taken<T, S> {
    pub(crate) request: T,
    pub(crate) step: Step<S>,
}

/// What is known of a request that runs.
#[derive(Debug, Clone)]
pub(crate) struct Step<S> {
    pub(crate) serial: u64,
    pub(crate) id: SequenceId,
    pub(crate) row: usize,
    pub(crate) place: Place,
    is_last: bool,
    arrived: Instant,
    /// What was kept; none: it starts.
    pub(crate) state: Option<S>,
}

/// Requests that were taken out.
#[derive(Debug)]
pub(crate) struct Removed<T> {
    /// Those that were meant.
    pub(crate) meant: Vec<T>,
    /// Those that came after a start that never ran.
    pub(crate) orphans: Vec<T>,
}

impl<T, S: Clone> Table<T, S> {
    pub(crate) fn new(limits: Limits) -> Self {
        let seats = vec![vec![None; limits.seats]; limits.instances];
        Self { limits, sequences: HashMap::new(), by_id: HashMap::new(), seats, backlog: VecDeque::new(), n_begun: 0 }
    }

    /// Whether there is no sequence.
    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Whether a request may go on with a sequence of this id.
    pub(crate) fn is_open(&self, id: &SequenceId, now: Instant) -> bool {
        let sequence = self.by_id.get(id).and_then(|serial| self.sequences.get(serial));
        sequence.is_some_and(|sequence| sequence.is_open && !sequence.is_over(&self.limits, now))
    }

    /// Takes a request in; gives it back where its sequence is not there.
    pub(crate) fn arrive(&mut self, id: &SequenceId, place: Place, now: Instant, request: T) -> Result<(), T> {
        if let Some(&serial) = self.by_id.get(id)
            && self.sequences[&serial].is_over(&self.limits, now)
        {
            self.forget(serial);
        }
        if !place.starts && !self.is_open(id, now) {
            return Err(request);
        }
        let serial = self.by_id.get(id).copied().unwrap_or_else(|| self.begin(id, now));
        if let Some(sequence) = self.sequences.get_mut(&serial) {
            sequence.is_open = !place.ends;
            sequence.last_used = now;
            sequence.waiting.push_back(Waiting { place, is_last: place.ends, arrived: now, request });
        }
        Ok(())
    }

    fn begin(&mut self, id: &SequenceId, now: Instant) -> u64 {
        let serial = self.n_begun;
        self.n_begun += 1;
        let sequence = Sequence {
            id: id.clone(),
            seat: None,
            waiting: VecDeque::new(),
            is_running: false,
            ends_with_run: false,
            is_open: true,
            state: None,
            last_used: now,
        };
        self.sequences.insert(serial, sequence);
        self.by_id.insert(id.clone(), serial);
        self.backlog.push_back(serial);
        self.fill_seats();
        serial
    }

    /// Gives free seats to those who wait: lower rows first, so that batches stay small.
    fn fill_seats(&mut self) {
        while let Some(&serial) = self.backlog.front() {
            let free = |(instance, rows): (usize, &Vec<Option<u64>>)| {
                rows.iter().position(Option::is_none).map(|row| (row, instance))
            };
            let Some((row, instance)) = self.seats.iter().enumerate().filter_map(free).min() else {
                return;
            };
            self.backlog.pop_front();
            if let Some(sequence) = self.sequences.get_mut(&serial) {
                sequence.seat = Some((instance, row));
                self.seats[instance][row] = Some(serial);
            }
        }
    }

    fn leave_seat(&mut self, serial: u64) {
        match self.sequences.get_mut(&serial).and_then(|sequence| sequence.seat.take()) {
            Some((instance, row)) => self.seats[instance][row] = None,
            None => self.backlog.retain(|waiting| *waiting != serial),
        }
    }

    fn forget(&mut self, serial: u64) {
        self.leave_seat(serial);
        if let Some(sequence) = self.sequences.remove(&serial) {
            self.by_id.remove(&sequence.id);
        }
        self.fill_seats();
    }

    /// Who may run on an instance, the longest waiting first.
    fn ready(&self, instance: usize) -> Vec<(Instant, u64)> {
        let seated = self.seats.get(instance).into_iter().flatten().flatten();
        let front = |serial: &u64| {
            let sequence = self.sequences.get(serial).filter(|sequence| !sequence.is_running)?;
            sequence.waiting.front().map(|waiting| (waiting.arrived, *serial))
        };
        let mut ready: Vec<_> = seated.filter_map(front).collect();
        ready.sort_unstable();
        ready
    }

    /// Returns how many requests may run on an instance, and when the oldest of them came.
    pub(crate) fn view(&self, instance: usize) -> (usize, Option<Instant>) {
        let ready = self.ready(instance);
        (ready.len(), ready.first().map(|(arrived, _)| *arrived))
    }

    /// Takes up to `most` requests of different sequences that may run on an instance together, the
    /// oldest and those that `fit` to it, in the order of their rows.
    pub(crate) fn take(
        &mut self,
        instance: usize,
        most: usize,
        fit: impl Fn(&T, Option<&S>, &T, Option<&S>) -> bool,
    ) -> Vec<Taken<T, S>> {
        let next = |serial: u64| {
            let sequence = self.sequences.get(&serial)?;
            let waiting = sequence.waiting.front()?;
            Some((&waiting.request, sequence.state.as_ref().filter(|_| !waiting.place.starts)))
        };
        let ready = self.ready(instance);
        let Some((first, first_state)) = ready.first().and_then(|(_, serial)| next(*serial)) else {
            return Vec::new();
        };
        let fits = |serial: &u64| next(*serial).is_some_and(|(other, state)| fit(first, first_state, other, state));
        let chosen: Vec<u64> = ready.iter().map(|(_, serial)| *serial).filter(fits).take(most.max(1)).collect();
        let mut taken: Vec<_> = chosen.into_iter().filter_map(|serial| self.start(serial)).collect();
        taken.sort_unstable_by_key(|taken| taken.step.row);
        taken
    }

    fn start(&mut self, serial: u64) -> Option<Taken<T, S>> {
        let sequence = self.sequences.get_mut(&serial)?;
        let Waiting { place, is_last, arrived, request } = sequence.waiting.pop_front()?;
        if place.starts {
            sequence.state = None;
        }
        sequence.is_running = true;
        sequence.ends_with_run = is_last;
        let (_, row) = sequence.seat.unwrap_or_default();
        let (id, state) = (sequence.id.clone(), sequence.state.clone());
        Some(Taken { request, step: Step { serial, id, row, place, is_last, arrived, state } })
    }

    /// Notes that the request of a sequence ran; what is kept of it, if it went well.
    pub(crate) fn ran(&mut self, serial: u64, state: Option<S>, now: Instant) {
        let Some(sequence) = self.sequences.get_mut(&serial) else {
            return;
        };
        sequence.is_running = false;
        sequence.last_used = now;
        if let Some(state) = state {
            sequence.state = Some(state);
        }
        if std::mem::take(&mut sequence.ends_with_run) {
            self.end(serial);
        }
    }

    /// Ends a sequence; if it starts anew already, it waits for a seat behind the others.
    fn end(&mut self, serial: u64) {
        let Some(sequence) = self.sequences.get_mut(&serial) else {
            return;
        };
        sequence.state = None;
        if sequence.waiting.is_empty() && !sequence.is_running {
            self.forget(serial);
        } else if !sequence.is_running {
            self.leave_seat(serial);
            self.backlog.push_back(serial);
            self.fill_seats();
        }
    }

    /// Puts a request back that was taken and did not run; returns it where its sequence has ended
    /// meanwhile.
    pub(crate) fn put_back(&mut self, taken: Taken<T, S>) -> Option<T> {
        let Taken { request, step } = taken;
        let Step { serial, place, is_last, arrived, .. } = step;
        let Some(sequence) = self.sequences.get_mut(&serial) else {
            return Some(request);
        };
        sequence.is_running = false;
        let has_ended = std::mem::take(&mut sequence.ends_with_run) && !is_last;
        if has_ended && !place.starts {
            self.end(serial);
            return Some(request);
        }
        if has_ended && sequence.waiting.is_empty() {
            sequence.is_open = !is_last;
        }
        sequence.waiting.push_front(Waiting { place, is_last, arrived, request });
        None
    }

    /// Takes out the waiting requests that are `meant`. Where that is the first one of a sequence,
    /// those that were to follow it go as well.
    pub(crate) fn remove(&mut self, mut meant: impl FnMut(&T) -> bool) -> Removed<T> {
        let mut removed = Removed { meant: Vec::new(), orphans: Vec::new() };
        let mut over = Vec::new();
        for (&serial, sequence) in &mut self.sequences {
            if sequence.waiting.iter().any(|waiting| meant(&waiting.request))
                && sequence.remove(&mut meant, &mut removed)
            {
                over.push(serial);
            }
        }
        over.into_iter().for_each(|serial| self.forget(serial));
        removed
    }

    /// Takes out every waiting request; what has begun goes on afterwards.
    pub(crate) fn remove_all(&mut self) -> Vec<T> {
        let removed = self.remove(|_| true);
        removed.meant.into_iter().chain(removed.orphans).collect()
    }

    /// Notes that a run did not come back from an instance, whose requests are answered elsewhere.
    pub(crate) fn gave_up(&mut self, instance: usize, now: Instant) {
        for serial in self.seated(instance) {
            if self.sequences.get(&serial).is_some_and(|sequence| sequence.is_running) {
                self.ran(serial, None, now);
            }
        }
    }

    /// Notes that an instance is gone. Where it knew what its sequences need they end, and the
    /// requests that wait to go on with them are returned.
    pub(crate) fn lost(&mut self, instance: usize) -> Vec<T> {
        let mut orphans = Vec::new();
        if self.limits.keeps_state {
            return orphans;
        }
        for serial in self.seated(instance) {
            let Some(sequence) = self.sequences.get_mut(&serial) else {
                continue;
            };
            while sequence.waiting.front().is_some_and(|waiting| !waiting.place.starts) {
                orphans.extend(sequence.waiting.pop_front().map(|waiting| waiting.request));
            }
            if sequence.waiting.is_empty() {
                sequence.is_open = false;
            }
            if sequence.is_running {
                sequence.ends_with_run = true;
            } else if sequence.waiting.is_empty() {
                self.forget(serial);
            }
        }
        orphans
    }

    fn seated(&self, instance: usize) -> Vec<u64> {
        self.seats.get(instance).into_iter().flatten().flatten().copied().collect()
    }

    /// Forgets the sequences that have rested for too long. Returns how many there were, and when
    /// the next one will have.
    pub(crate) fn reap(&mut self, now: Instant) -> (usize, Option<Instant>) {
        let resting = self.sequences.iter().filter(|(_, sequence)| sequence.is_resting());
        let (over, rest): (Vec<_>, Vec<_>) = resting.partition(|(_, sequence)| sequence.is_over(&self.limits, now));
        let next = rest.iter().filter_map(|(_, sequence)| sequence.last_used.checked_add(self.limits.max_idle)).min();
        let over: Vec<u64> = over.into_iter().map(|(serial, _)| *serial).collect();
        let count = over.len();
        over.into_iter().for_each(|serial| self.forget(serial));
        (count, next)
    }

    /// Forgets the sequences of which no request waits or runs.
    pub(crate) fn forget_resting(&mut self) {
        let resting = self.sequences.iter().filter(|(_, sequence)| sequence.is_resting());
        let resting: Vec<u64> = resting.map(|(serial, _)| *serial).collect();
        resting.into_iter().for_each(|serial| self.forget(serial));
    }
}

impl<T, S> Sequence<T, S> {
    fn is_resting(&self) -> bool {
        !self.is_running && self.waiting.is_empty()
    }

    fn is_over(&self, limits: &Limits, now: Instant) -> bool {
        self.is_resting() && now.saturating_duration_since(self.last_used) >= limits.max_idle
    }

    /// Takes out what is meant; true: nothing is left of the sequence.
    fn remove(&mut self, meant: &mut impl FnMut(&T) -> bool, removed: &mut Removed<T>) -> bool {
        let mut kept: VecDeque<Waiting<T>> = VecDeque::new();
        let (mut is_orphaned, mut has_ended) = (false, false);
        for waiting in std::mem::take(&mut self.waiting) {
            is_orphaned &= !waiting.place.starts;
            let is_meant = meant(&waiting.request);
            if !is_meant && !is_orphaned {
                kept.push_back(waiting);
                continue;
            }
            if is_meant && (waiting.place.starts || waiting.is_last) {
                // What came before it is over as it would have been.
                match kept.back_mut() {
                    Some(before) => before.is_last = true,
                    None if self.is_running => self.ends_with_run = true,
                    None => has_ended = true,
                }
            }
            is_orphaned |= waiting.place.starts;
            if is_meant { removed.meant.push(waiting.request) } else { removed.orphans.push(waiting.request) }
        }
        self.is_open &= !is_orphaned;
        self.waiting = kept;
        if has_ended {
            self.state = None;
        }
        self.is_resting() && (has_ended || !self.is_open)
    }
}

#[cfg(test)]
mod tests;
