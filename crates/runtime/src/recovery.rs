//! When an instance that ended is made again, and when its version is better called unavailable.
//!
//! Pure: time comes in as an argument; the runners do the waiting (`restore.rs`). An instance counts
//! how often it ended in a row without coming back from a run in between; one that could not be made
//! counts too. The first time it is made again at once, then after a pause that doubles. A version
//! is unavailable while all of its instances are gone and each has ended [`MANY`] times.

use std::fmt;
use std::time::{Duration, Instant};

/// From so many ends in a row on, an instance is not expected to be back soon.
const MANY: u32 = 5;

/// How long an instance that ended again and again stays away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After its second end in a row; doubles with each further one.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    fn pause(&self, n_ends: u32) -> Duration {
        let Some(doublings) = n_ends.checked_sub(2) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// What is known of the instances of one version.
#[derive(Debug)]
pub(crate) struct Recovery {
    backoff: Backoff,
    instances: Box<[Standing]>,
}

#[derive(Debug, Clone, Default)]
struct Standing {
    /// Ends in a row.
    n_ends: u32,
    /// Set while there is no instance.
    gone: Option<Gone>,
}

#[derive(Debug, Clone)]
struct Gone {
    why: String,
    next_try: Instant,
}

/// Why a version is unavailable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outage {
    n_ends: u32,
    why: String,
    /// When the next instance is made; zero: it is being made.
    pub(crate) next_try_in: Duration,
}

impl Recovery {
    /// All of `instances` are there.
    pub(crate) fn new(instances: usize, backoff: Backoff) -> Self {
        Self { backoff, instances: vec![Standing::default(); instances].into() }
    }

    /// Notes that an instance ended, or could not be made again.
    pub(crate) fn ended(&mut self, idx: usize, why: String, now: Instant) {
        let standing = &mut self.instances[idx];
        standing.n_ends = standing.n_ends.saturating_add(1);
        standing.gone = Some(Gone { why, next_try: now + self.backoff.pause(standing.n_ends) });
    }

    /// Returns when an instance that is gone may be made again.
    pub(crate) fn next_try(&self, idx: usize) -> Option<Instant> {
        self.instances[idx].gone.as_ref().map(|gone| gone.next_try)
    }

    /// Notes that an instance is there again. It has yet to show that it stays.
    pub(crate) fn is_back(&mut self, idx: usize) {
        self.instances[idx].gone = None;
    }

    /// Notes that an instance came back from a run.
    pub(crate) fn proved(&mut self, idx: usize) {
        self.instances[idx].n_ends = 0;
    }

    /// Says why the version is unavailable, if it is.
    pub(crate) fn outage(&self, now: Instant) -> Option<Outage> {
        if !self.instances.iter().all(Standing::is_hopeless) {
            return None;
        }
        let gone = self.instances.iter().filter_map(|standing| Some((standing.gone.as_ref()?, standing.n_ends)));
        let (first, n_ends) = gone.min_by_key(|(gone, _)| gone.next_try)?;
        Some(Outage { n_ends, why: first.why.clone(), next_try_in: first.next_try.saturating_duration_since(now) })
    }
}

impl Standing {
    fn is_hopeless(&self) -> bool {
        self.gone.is_some() && self.n_ends >= MANY
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its worker ended or did not start {} times in a row, last: {}; ", self.n_ends, self.why)?;
        match self.next_try_in {
            Duration::ZERO => f.write_str("it is being started again"),
            pause => write!(f, "next try in {:.1} s", pause.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_pauses_double_up_to_half_a_minute() {
        let pauses: Vec<u128> = (1..=12).map(|n_ends| Backoff::default().pause(n_ends).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(Backoff::default().pause(u32::MAX), Duration::from_secs(30));
    }

    /// Plays events, `instance` + `e`nded, `b`ack or `p`roved, and says what a caller hears.
    #[track_caller]
    fn check(instances: usize, events: &str, expected: Option<&str>) {
        let (start, mut recovery) = (Instant::now(), Recovery::new(instances, Backoff::default()));
        for event in events.split_whitespace() {
            let (idx, what) = event.split_at(1);
            let idx = idx.parse().unwrap();
            match what {
                "e" => recovery.ended(idx, format!("signal {idx}"), start),
                "b" => recovery.is_back(idx),
                _ => recovery.proved(idx),
            }
        }
        let said = recovery.outage(start).map(|outage| outage.to_string());
        assert_eq!(said.as_deref(), expected, "{events}");
    }

    #[test]
    fn a_version_is_unavailable_when_its_last_instance_ended_many_times_in_a_row() {
        let five = "its worker ended or did not start 5 times in a row, last: signal 0; next try in 0.8 s";
        let six = "its worker ended or did not start 6 times in a row, last: signal 0; next try in 1.6 s";
        check(1, "", None);
        check(1, "0e 0e 0e 0e", None);
        check(1, "0e 0b 0e 0b 0e 0e 0e", Some(five));
        check(1, "0e 0e 0e 0e 0e 0b", None);
        check(1, "0e 0e 0e 0e 0e 0b 0e", Some(six));
        check(1, "0e 0e 0e 0e 0e 0b 0p 0e", None);
        // As long as another instance is there, or just ended, the version serves.
        check(2, "0e 0e 0e 0e 0e 0e", None);
        check(2, "0e 0e 0e 0e 0e 1e", None);
        check(2, "1e 1e 1e 1e 1e 1e 0e 0e 0e 0e 0e", Some(five));
        // All ended at once: one event, not many.
        check(8, "0e 1e 2e 3e 4e 5e 6e 7e", None);
    }

    #[test]
    fn whoever_asks_after_the_pause_hears_that_it_is_over() {
        let (start, mut recovery) = (Instant::now(), Recovery::new(1, Backoff::default()));
        (0..5).for_each(|_| recovery.ended(0, "no such package".to_owned(), start));
        let later = recovery.outage(start + Duration::from_secs(1)).unwrap();
        assert_eq!(
            later.to_string(),
            "its worker ended or did not start 5 times in a row, last: no such package; it is being started again"
        );
    }

    proptest! {
        #[test]
        fn one_that_is_there_or_has_proved_itself_keeps_its_version_available(
            events in prop::collection::vec((0usize..3, 0u8..3), 0..60),
        ) {
            let (start, mut recovery) = (Instant::now(), Recovery::new(3, Backoff::default()));
            let (mut n_ends, mut is_gone) = ([0u32; 3], [false; 3]);
            for (idx, event) in events {
                // As with real ones: only what is there answers, and only what is gone comes back.
                match event {
                    0 => {
                        recovery.ended(idx, String::new(), start);
                        (n_ends[idx], is_gone[idx]) = (n_ends[idx] + 1, true);
                        let pause = recovery.next_try(idx).unwrap() - start;
                        prop_assert!(pause <= Backoff::default().longest);
                        prop_assert_eq!(pause.is_zero(), n_ends[idx] == 1);
                    }
                    1 => {
                        recovery.is_back(idx);
                        is_gone[idx] = false;
                    }
                    _ if !is_gone[idx] => {
                        recovery.proved(idx);
                        n_ends[idx] = 0;
                    }
                    _ => {}
                }
                let is_out = (0..3).all(|idx| is_gone[idx] && n_ends[idx] >= MANY);
                prop_assert_eq!(recovery.outage(start).is_some(), is_out);
                prop_assert_eq!(recovery.next_try(idx).is_some(), is_gone[idx]);
            }
        }
    }
}
