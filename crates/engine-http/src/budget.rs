//! Decides how often a call may be tried again. Pure: the time is passed in.
//!
//! Each call earns a fifth of another try, and each second ten more tries; neither is saved up for long.
//! So a server that is down gets little more than it would without tries, however many calls there are.

use std::time::{Duration, Instant};

/// Thousandths of a try.
const TRY: u64 = 1000;
/// What a call earns.
const PER_CALL: u64 = TRY / 5;
/// The most that calls may save up.
const MOST_FROM_CALLS: u64 = 100 * TRY;
/// What a millisecond earns: ten tries a second.
const PER_MS: u64 = 10;
/// The most that time may save up: a second's worth.
const MOST_FROM_TIME: u64 = 10 * TRY;
/// The first wait, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What may be spent on further tries.
#[derive(Debug)]
pub(crate) struct Budget {
    from_calls: u64,
    from_time: u64,
    /// Until when time was counted.
    counted: Instant,
}

impl Budget {
    /// Begins with a second's worth of tries.
    pub(crate) fn new(now: Instant) -> Self {
        Self { from_calls: 0, from_time: MOST_FROM_TIME, counted: now }
    }

    /// Notes a call.
    pub(crate) fn earn(&mut self) {
        self.from_calls = (self.from_calls + PER_CALL).min(MOST_FROM_CALLS);
    }

    /// Takes a try out, if there is one.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        let passed = u64::try_from(now.saturating_duration_since(self.counted).as_millis()).unwrap_or(u64::MAX);
        self.from_time = self.from_time.saturating_add(passed.saturating_mul(PER_MS)).min(MOST_FROM_TIME);
        self.counted += Duration::from_millis(passed);
        let purse = if self.from_time >= TRY { &mut self.from_time } else { &mut self.from_calls };
        let is_there = *purse >= TRY;
        if is_there {
            *purse -= TRY;
        }
        is_there
    }
}

/// Returns how long to wait before the try after `tries` others. `chance` spreads the waits of calls
/// that failed together: any number will do.
pub(crate) fn wait(tries: u32, chance: u64) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << tries.min(16)).min(LONGEST_WAIT);
    let spread = u32::try_from(chance % 1000).unwrap_or(0);
    longest / 2 + longest / 2 * spread / 1000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lone_call_may_be_tried_again() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        budget.earn();
        assert!(budget.spend(now) && budget.spend(now));
    }

    #[test]
    fn waits_grow_and_differ() {
        let ms = |tries, chance| wait(tries, chance).as_millis();
        assert_eq!((ms(0, 0), ms(0, 999), ms(1, 500), ms(3, 0)), (50, 99, 150, 400));
        assert_eq!((ms(60, 0), wait(u32::MAX, 999) < LONGEST_WAIT), (2500, true));
    }

    proptest! {
        /// Whatever comes when: there are at most 1.2 attempts for each call, and ten more in each second
        /// that has begun.
        #[test]
        fn tries_never_amplify(steps in prop::collection::vec((0u64..400, 0u32..40), 1..200)) {
            let start = Instant::now();
            let (mut budget, mut now) = (Budget::new(start), start);
            let (mut calls, mut tries) = (0u64, 0u64);
            for (ms, burst) in steps {
                now += Duration::from_millis(ms);
                for _ in 0..burst {
                    budget.earn();
                    calls += 1;
                    tries += (0..10).filter(|_| budget.spend(now)).count() as u64;
                }
                let bound = calls as f64 * 0.2 + 10.0 * ((now - start).as_secs_f64() + 1.0);
                prop_assert!(tries as f64 <= bound, "{} tries of {} calls after {:?}", tries, calls, now - start);
            }
        }
    }
}
