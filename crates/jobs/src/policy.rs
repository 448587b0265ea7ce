//! What becomes of a job whose run went wrong. Pure.

use std::time::Duration;

/// A job that was alone with its worker this often when the worker was lost is dead.
pub const MOST_LOSSES: u32 = 5;
/// The wait before a job runs again after its first trouble; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What is next for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It runs again, after this wait.
    Again(Duration),
    /// It has failed.
    Fail,
    /// It is dead.
    Die,
}

/// After trouble that may pass: `troubles` counts this one.
pub(crate) fn after_trouble(troubles: u32, retries: u32) -> Next {
    match troubles {
        troubles if troubles > retries => Next::Fail,
        troubles => Next::Again(wait(troubles)),
    }
}

/// After a worker was lost with it: `lost_alone` counts this time, if it was alone.
pub(crate) fn after_loss(lost_alone: u32) -> Next {
    match lost_alone >= MOST_LOSSES {
        true => Next::Die,
        false => Next::Again(Duration::ZERO),
    }
}

/// The waits between attempts to deliver a message, as multiples of the first.
const MESSAGE_WAITS: [u32; 10] = [1, 6, 24, 120, 360, 720, 1440, 2880, 5760, 5760];

/// After an attempt to deliver a message: `attempts` counts this one. Returns the wait before the next;
/// none: that was the last. With a first wait of 5 s, the attempts are spread over a day.
pub(crate) fn after_message(attempts: u32, first: Duration) -> Option<Duration> {
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    MESSAGE_WAITS.get(place).map(|times| first.saturating_mul(*times))
}

fn wait(troubles: u32) -> Duration {
    let doubled = 2u32.checked_pow(troubles.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<u64> = [1, 2, 3, 9, 10, 40, u32::MAX].map(|troubles| wait(troubles).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300, 300]);
    }

    #[test]
    fn messages_are_tried_for_about_a_day() {
        let waits: Vec<u64> = (1..)
            .map_while(|attempts| after_message(attempts, Duration::from_secs(5)))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800]);
        assert_eq!(waits.iter().sum::<u64>() / 3600, 23);
        assert_eq!(after_message(u32::MAX, Duration::MAX), None);
    }

    proptest! {
        #[test]
        fn a_job_runs_once_more_than_it_may_be_retried(retries in 0..100u32) {
            let again = (1..).take_while(|troubles| after_trouble(*troubles, retries) != Next::Fail).count();
            prop_assert_eq!(again, retries as usize);
        }

        #[test]
        fn only_the_last_loss_alone_is_the_end(lost_alone in 0..100u32) {
            prop_assert_eq!(after_loss(lost_alone) == Next::Die, lost_alone >= MOST_LOSSES);
        }
    }
}
