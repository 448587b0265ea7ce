//! Which place a request takes in its model's queue: its urgency, and how long it may wait.
//!
//! Names and meaning are Triton's (`priority_levels`, `ModelQueuePolicy`). Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use salver_core::{Class, DynamicBatching, Parameter, Parameters, QueuePolicy};

use crate::queue::{Expiry, Lane};

/// The rules of one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Levels {
    count: u32,
    default: u32,
    policy: QueuePolicy,
    own: BTreeMap<u32, QueuePolicy>,
}

impl Levels {
    pub(crate) fn new(batching: Option<&DynamicBatching>) -> Self {
        let Some(batching) = batching else {
            return Self { default: 1, ..Self::default() };
        };
        Self {
            count: batching.priority_levels,
            default: batching.default_priority_level.max(1),
            policy: batching.default_queue_policy.clone().unwrap_or_default(),
            own: batching.priority_queue_policy.clone(),
        }
    }

    /// Returns the lane of a request, and what happens when it waits too long. A priority that
    /// the model does not have means the default one, as in Triton.
    pub(crate) fn place(&self, class: Class, parameters: &Parameters, now: Instant) -> (Lane, Expiry) {
        let lane = match class {
            Class::Background => Lane::Background,
            Class::Interactive => {
                let asked = number(parameters, "priority").and_then(|level| u32::try_from(level).ok());
                Lane::Level(asked.filter(|level| (1..=self.count).contains(level)).unwrap_or(self.default))
            }
        };
        let policy = self.policy(lane);
        let asked = number(parameters, "timeout").filter(|&micros| micros > 0 && policy.allow_timeout_override);
        let default = Some(policy.default_timeout_microseconds).filter(|&micros| micros > 0);
        // A request may only shorten a wait that has an end, as in Triton.
        let micros = default.map(|default| asked.map_or(default, |asked| asked.min(default)));
        let due = micros.and_then(|micros| now.checked_add(Duration::from_micros(micros)));
        let expiry = match due {
            None => Expiry::Never,
            Some(due) if policy.delay_on_timeout => Expiry::Delay(due),
            Some(due) => Expiry::Reject(due),
        };
        (lane, expiry)
    }

    /// Returns how many requests may wait in a lane; none: as many as the model has places.
    pub(crate) fn max_queue(&self, lane: Lane) -> Option<usize> {
        let most = self.policy(lane).max_queue_size;
        (most > 0 && lane != Lane::Background).then_some(most as usize)
    }

    /// Whether the number of those that wait is bounded at any level.
    pub(crate) fn has_bounds(&self) -> bool {
        self.own.values().chain([&self.policy]).any(|policy| policy.max_queue_size > 0)
    }

    fn policy(&self, lane: Lane) -> &QueuePolicy {
        match lane {
            Lane::Level(level) => self.own.get(&level).unwrap_or(&self.policy),
            Lane::Background => &self.policy,
        }
    }
}

fn number(parameters: &Parameters, name: &str) -> Option<u64> {
    if parameters.is_empty() {
        return None;
    }
    match parameters.get(name)? {
        Parameter::Int(value) => u64::try_from(*value).ok(),
        Parameter::Uint(value) => Some(*value),
        Parameter::Text(text) => text.parse().ok(),
        Parameter::Bool(_) | Parameter::Float(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Levels {
        let policy = |ms: u64, delay: bool| QueuePolicy {
            delay_on_timeout: delay,
            default_timeout_microseconds: ms * 1000,
            allow_timeout_override: true,
            max_queue_size: 4,
        };
        Levels::new(Some(&DynamicBatching {
            priority_levels: 3,
            default_priority_level: 2,
            default_queue_policy: Some(policy(0, false)),
            priority_queue_policy: BTreeMap::from([(1, policy(10, true)), (3, policy(20, false))]),
            ..DynamicBatching::default()
        }))
    }

    #[track_caller]
    fn check(parameters: &[(&str, i64)], lane: Lane, expiry: impl Fn(Instant) -> Expiry) {
        let parameters =
            parameters.iter().map(|&(name, value)| (name.to_owned(), Parameter::Int(value))).collect::<Parameters>();
        let now = Instant::now();
        assert_eq!(levels().place(Class::Interactive, &parameters, now), (lane, expiry(now)));
    }

    #[test]
    fn a_request_names_its_level_or_gets_the_default() {
        let never = |_| Expiry::Never;
        check(&[], Lane::Level(2), never);
        check(&[("priority", 3)], Lane::Level(3), |now| Expiry::Reject(now + Duration::from_millis(20)));
        check(&[("priority", 0)], Lane::Level(2), never);
        check(&[("priority", 9)], Lane::Level(2), never);
        check(&[("priority", -1)], Lane::Level(2), never);
    }

    #[test]
    fn a_request_may_only_shorten_its_wait() {
        let delay = |ms| move |now: Instant| Expiry::Delay(now + Duration::from_millis(ms));
        check(&[("priority", 1)], Lane::Level(1), delay(10));
        check(&[("priority", 1), ("timeout", 3_000)], Lane::Level(1), delay(3));
        check(&[("priority", 1), ("timeout", 90_000)], Lane::Level(1), delay(10));
        check(&[("priority", 1), ("timeout", 0)], Lane::Level(1), delay(10));
        check(&[("priority", 1), ("timeout", -5)], Lane::Level(1), delay(10));
        check(&[("priority", 3), ("timeout", 5_000)], Lane::Level(3), |now| {
            Expiry::Reject(now + Duration::from_millis(5))
        });
    }

    #[test]
    fn a_wait_without_an_end_or_an_override_is_not_the_requests_to_shorten() {
        check(&[("timeout", 5_000)], Lane::Level(2), |_| Expiry::Never);
        let policy = QueuePolicy { default_timeout_microseconds: 9_000, ..QueuePolicy::default() };
        let fixed =
            Levels::new(Some(&DynamicBatching { default_queue_policy: Some(policy), ..DynamicBatching::default() }));
        let (asked, now) = (Parameters::from([("timeout".to_owned(), Parameter::Int(1))]), Instant::now());
        let expected = (Lane::Level(1), Expiry::Reject(now + Duration::from_millis(9)));
        assert_eq!(fixed.place(Class::Interactive, &asked, now), expected);
    }

    #[test]
    fn without_priorities_there_is_one_level() {
        let one = Levels::new(None);
        let parameters = Parameters::from([("priority".to_owned(), Parameter::Int(1))]);
        let now = Instant::now();
        assert_eq!(one.place(Class::Interactive, &parameters, now), (Lane::Level(1), Expiry::Never));
        assert_eq!(one.place(Class::Background, &parameters, now), (Lane::Background, Expiry::Never));
        assert_eq!((one.max_queue(Lane::Level(1)), levels().max_queue(Lane::Level(1))), (None, Some(4)));
    }
}
