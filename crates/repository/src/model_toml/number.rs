//! Numbers of a `model.toml` that carry their bounds in their type.
//!
//! A value outside of them is refused while the file is read, so that its line is known.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Whole<MIN, MAX> {
    /// Returns the number.
    pub(super) fn get(self) -> u32 {
        self.0
    }

    /// Returns the number as a count.
    pub(super) fn count(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Returns that many milliseconds.
    pub(super) fn milliseconds(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(WholeVisitor)
    }
}

struct WholeVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Visitor<'_> for WholeVisitor<MIN, MAX> {
    type Value = Whole<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Self::Value, E> {
        let fitting = u32::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
        fitting.map(Whole).ok_or_else(|| E::custom(format_args!("must be from {MIN} to {MAX}, got {number}")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_i128(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_i128(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Err(E::custom(format_args!("must be a whole number from {MIN} to {MAX}, got {number}")))
    }
}

/// Milliseconds from 0 to `MAX`, fractions allowed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Milliseconds<const MAX: u32>(f64);

impl<const MAX: u32> Milliseconds<MAX> {
    /// Returns whole microseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be small and positive")]
    pub(super) fn microseconds(self) -> u64 {
        (self.0 * 1000.0) as u64
    }
}

impl<'de, const MAX: u32> Deserialize<'de> for Milliseconds<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if (0.0..=f64::from(MAX)).contains(&number) {
            return Ok(Self(number));
        }
        Err(D::Error::custom(format_args!("must be from 0 to {MAX}, got {number}")))
    }
}
