//! Notices workers that are gone: their jobs give no sign of life.
//!
//! Signs are counted, not timed: each look at the queue adds to a job's silence what has passed on
//! this process's steady clock since the look before, and a sign ends it. A wall clock that jumps
//! plays no part. How long a job may be silent, its own worker has said: who watches may have another
//! lease. A process that stood still itself counts its own standstill as two looks at most, and as less
//! than half of a lease, so it does not take everybody else for gone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::types::{Held, Hold};

/// What was seen of the jobs that are held.
#[derive(Debug)]
pub(crate) struct Silence {
    interval: Duration,
    last_look: Option<Instant>,
    seen: HashMap<Hold, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    beats: i64,
    silent: Duration,
}

impl Silence {
    /// Looks are meant to be `interval` apart.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, last_look: None, seen: HashMap::new() }
    }

    /// Takes note of what is held at `now`; returns what is lost: silent for longer than its lease.
    pub(crate) fn look(&mut self, held: &[Held], now: Instant) -> Vec<Held> {
        let passed = self.last_look.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let passed = passed.min(2 * self.interval);
        self.last_look = Some(now);
        let before = std::mem::take(&mut self.seen);
        let mut lost = Vec::new();
        for held in held {
            let known = before.get(&held.hold).filter(|seen| seen.beats == held.beats);
            let silent = known.map_or(Duration::ZERO, |seen| seen.silent + passed.min(2 * held.lease / 5));
            if silent > held.lease {
                lost.push(*held);
            }
            self.seen.insert(held.hold, Seen { beats: held.beats, silent });
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::JobId;

    const LEASE: Duration = Duration::from_secs(10);
    const INTERVAL: Duration = Duration::from_secs(2);

    fn held(id: JobId, token: i64, beats: i64) -> Held {
        Held { hold: Hold { id, token }, beats, lease: LEASE }
    }

    #[test]
    fn silence_ends_a_hold_and_a_sign_ends_silence() {
        let (mut silence, start) = (Silence::new(INTERVAL), Instant::now());
        let (quiet, alive) = (JobId::random(), JobId::random());
        for second in (0..=10).step_by(2) {
            let now = start + Duration::from_secs(second);
            let beats = i64::try_from(second).unwrap();
            assert_eq!(silence.look(&[held(quiet, 1, 7), held(alive, 1, beats)], now), [], "after {second} s");
        }
        let now = start + Duration::from_secs(12);
        assert_eq!(silence.look(&[held(quiet, 1, 7), held(alive, 1, 12)], now), [held(quiet, 1, 7)]);
    }

    #[test]
    fn another_hold_of_the_same_job_begins_anew() {
        let (mut silence, start, id) = (Silence::new(INTERVAL), Instant::now(), JobId::random());
        for second in 0..30u32 {
            let token = i64::from(second / 6);
            let now = start + Duration::from_secs(second.into());
            assert_eq!(silence.look(&[held(id, token, 0)], now), []);
        }
    }

    #[test]
    fn who_stood_still_does_not_take_others_for_gone() {
        let (mut silence, start, id) = (Silence::new(INTERVAL), Instant::now(), JobId::random());
        assert_eq!(silence.look(&[held(id, 1, 3)], start), []);
        let later = start + Duration::from_secs(3600);
        assert_eq!(silence.look(&[held(id, 1, 3)], later), [], "an hour is one look");
        assert_eq!(silence.look(&[held(id, 1, 4)], later + INTERVAL), []);
    }

    #[test]
    fn each_job_has_the_lease_of_its_own_worker() {
        let (mut silence, start) = (Silence::new(INTERVAL), Instant::now());
        let [long, short] = [60, 1].map(|seconds| {
            let lease = Duration::from_secs(seconds);
            Held { lease, ..held(JobId::random(), 1, 0) }
        });
        let mut lost = Vec::new();
        for second in (0..=62).step_by(2) {
            let now = start + Duration::from_secs(second);
            lost.extend(silence.look(&[long, short], now).into_iter().map(|held| (second, held.lease.as_secs())));
        }
        // Not at the second look, which may come after a standstill of this process.
        assert_eq!(lost[..2], [(6, 1), (8, 1)]);
        assert_eq!(lost.iter().find(|(_, lease)| *lease == 60), Some(&(62, 60)));
    }
}
