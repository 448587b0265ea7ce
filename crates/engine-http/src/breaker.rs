//! Decides whether a server is asked at all. Pure: the time is passed in.
//!
//! After five failures in a row within ten seconds the circuit is open: calls are refused at once. When
//! it has been open for a while one call is let through; its success closes the circuit, its failure
//! opens it for twice as long. What was asked before the circuit changed says nothing about it now.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Failures in a row that open the circuit, and how close together they must be.
const FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// How long the circuit is open at first, and at most.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Looks after one server.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    /// Changes with the state.
    generation: u64,
    /// When the last failures in a row were.
    failures: VecDeque<Instant>,
    /// How long the circuit is open when it opens next.
    rest: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    OpenUntil(Instant),
    /// One call finds out how things are.
    Probing,
}

/// The right to ask once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// What a call said about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Somebody is there and answers.
    Alive,
    /// Nobody answers, or not what can be understood.
    Failing,
    /// Nothing: the call was given up.
    Unknown,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, generation: 0, failures: VecDeque::new(), rest: FIRST_REST }
    }
}

impl Breaker {
    /// Says for how long nobody is let through, if so.
    pub(crate) fn refusal(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::OpenUntil(until) => Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero()),
            State::Probing => Some(FIRST_REST),
        }
    }

    /// Lets a call through, or says for how long nobody is.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        if let Some(left) = self.refusal(now) {
            return Err(left);
        }
        if self.state != State::Closed {
            self.enter(State::Probing);
        }
        Ok(Ticket(self.generation))
    }

    /// Takes note of how a call went.
    pub(crate) fn record(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        if ticket.0 != self.generation {
            return;
        }
        match (self.state, verdict) {
            (State::Closed, Verdict::Alive) => self.failures.clear(),
            (State::Closed, Verdict::Failing) => self.failed(now),
            (State::Closed, Verdict::Unknown) | (State::OpenUntil(_), _) => {}
            (State::Probing, Verdict::Alive) => {
                self.failures.clear();
                self.rest = FIRST_REST;
                self.enter(State::Closed);
            }
            (State::Probing, Verdict::Failing) => self.open(now),
            // The next one finds out.
            (State::Probing, Verdict::Unknown) => self.enter(State::OpenUntil(now)),
        }
    }

    /// Whether calls are refused, or one of them finds out whether they still have to be.
    pub(crate) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    fn failed(&mut self, now: Instant) {
        self.failures.push_back(now);
        if self.failures.len() < FAILURES {
            return;
        }
        let first = self.failures.pop_front();
        if first.is_some_and(|first| now.saturating_duration_since(first) <= WINDOW) {
            self.open(now);
        }
    }

    fn open(&mut self, now: Instant) {
        self.failures.clear();
        self.enter(State::OpenUntil(now + self.rest));
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Lets calls fail until the circuit opens; returns how many it took.
    fn fail(breaker: &mut Breaker, now: Instant, most: usize) -> usize {
        for count in 0..most {
            let Ok(ticket) = breaker.admit(now) else { return count };
            breaker.record(ticket, Verdict::Failing, now);
        }
        most
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(fail(&mut breaker, now, 4), 4);
        let ticket = breaker.admit(now).unwrap();
        breaker.record(ticket, Verdict::Alive, now);
        assert_eq!(fail(&mut breaker, now, 99), 5);
        assert_eq!(breaker.admit(now), Err(second(1)));
        assert!(breaker.is_open());
    }

    #[test]
    fn failures_far_apart_do_not() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for n in 0..100 {
            assert_eq!(fail(&mut breaker, start + second(3 * n), 1), 1);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn one_call_finds_out_whether_the_server_is_back() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        fail(&mut breaker, now, 9);
        let later = now + second(1);
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err());
        breaker.record(probe, Verdict::Failing, later);
        assert_eq!(breaker.admit(later), Err(second(2)));
        let later = later + second(2);
        let given_up = breaker.admit(later).unwrap();
        breaker.record(given_up, Verdict::Unknown, later);
        let probe = breaker.admit(later).unwrap();
        breaker.record(probe, Verdict::Alive, later);
        assert!(!breaker.is_open());
        assert_eq!(fail(&mut breaker, later, 9), 5);
        assert_eq!(breaker.admit(later), Err(second(1)));
    }

    #[test]
    fn rests_grow_to_half_a_minute() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        fail(&mut breaker, now, 9);
        let rests: Vec<u64> = (0..7)
            .map(|_| {
                let rest = breaker.refusal(now).unwrap();
                now += rest;
                assert_eq!(fail(&mut breaker, now, 9), 1);
                rest.as_secs()
            })
            .collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn what_was_asked_before_says_nothing_now() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let old = breaker.admit(now).unwrap();
        fail(&mut breaker, now, 9);
        breaker.record(old, Verdict::Alive, now);
        assert!(breaker.is_open());
        let probe = breaker.admit(now + second(1)).unwrap();
        breaker.record(old, Verdict::Failing, now + second(1));
        breaker.record(probe, Verdict::Alive, now + second(1));
        breaker.record(old, Verdict::Failing, now + second(1));
        assert!(!breaker.is_open());
    }
}
