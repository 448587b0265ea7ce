//! What requests cost where somebody charges for them.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// An amount in the currency that prices are written in, exact to its millionth of a millionth:
/// sums of any order and length agree to the last digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cost(u64);

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Decimal places that are kept.
    const PLACES: usize = 12;
    const ONE: u64 = 1_000_000_000_000;

    /// Makes an amount of so many millionths of a millionth.
    pub const fn from_picos(picos: u64) -> Self {
        Self(picos)
    }

    /// Returns the amount in millionths of a millionth.
    pub const fn as_picos(self) -> u64 {
        self.0
    }

    /// Returns the amount as a number, for metrics.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a double")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::ONE as f64
    }

    /// Returns the price of `count` things of which 1,000 cost this, rounded up to the last place.
    #[must_use]
    pub const fn per_thousand(self, count: u64) -> Self {
        let picos = (self.0 as u128 * count as u128).div_ceil(1000);
        Self(if picos > u64::MAX as u128 { u64::MAX } else { picos as u64 })
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::ZERO, Add::add)
    }
}

/// Writes a decimal number without an exponent: `0.00015`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = format!("{:0width$}", self.0 % Self::ONE, width = Self::PLACES);
        match places.trim_end_matches('0') {
            "" => write!(f, "{}", self.0 / Self::ONE),
            places => write!(f, "{}.{places}", self.0 / Self::ONE),
        }
    }
}

impl FromStr for Cost {
    type Err = Error;

    /// Reads a decimal number without sign or exponent.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
            Error::invalid_input(format!(
                "'{shown}' is not an amount: expected a decimal number such as 0.00015, of at most {} places",
                Self::PLACES
            ))
        };
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(places) || places.len() > Self::PLACES {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let places: u64 = format!("{places:0<width$}", width = Self::PLACES).parse().map_err(|_| wrong())?;
        let picos = whole.checked_mul(Self::ONE).and_then(|picos| picos.checked_add(places));
        picos.map(Self).ok_or_else(wrong)
    }
}

/// Sums up what one request costs while it runs. It outlives calls that fail or are given up, so
/// nothing that was charged is lost.
#[derive(Debug, Default)]
pub struct Bill {
    sum: AtomicU64,
    /// Of the request that this one is a part of.
    whole: Option<Arc<Bill>>,
}

impl Bill {
    /// Makes the bill of a request that may be a part of another, whose bill is `whole`.
    pub fn part_of(whole: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { sum: AtomicU64::new(0), whole })
    }

    /// Adds a charge, here and to every request that this one is a part of.
    pub fn add(&self, cost: Cost) {
        // The sum guards nothing else. It saturates, as every sum of costs does.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| Some(sum.saturating_add(cost.0)));
        if let Some(whole) = &self.whole {
            whole.add(cost);
        }
    }

    /// Returns what was charged so far.
    pub fn total(&self) -> Cost {
        Cost(self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back_as_written() {
        for text in ["0", "1", "0.00015", "12.5", "0.000000000001", "18446744.073709551615"] {
            assert_eq!(text.parse::<Cost>().unwrap().to_string(), text);
        }
        for text in ["", ".5", "5.", "-1", "1e-3", "0.0000000000001", "18446744.073709551616", "1,5", " 1", "NaN"] {
            assert!(text.parse::<Cost>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn prices_of_single_tokens_are_exact() {
        let price: Cost = "0.0000375".parse().unwrap();
        assert_eq!(price.per_thousand(1).to_string(), "0.0000000375");
        assert_eq!(price.per_thousand(1_000_000).to_string(), "0.0375");
        let sum: Cost = (0..1000).map(|_| price.per_thousand(7)).sum();
        assert_eq!(sum, price.per_thousand(7000));
    }

    #[test]
    fn a_bill_keeps_every_charge_and_never_wraps() {
        let whole = Bill::part_of(None);
        let (one, other) = (Bill::part_of(Some(whole.clone())), Bill::part_of(Some(whole.clone())));
        one.add(Cost::from_picos(5));
        other.add(Cost::from_picos(7));
        assert_eq!((one.total(), whole.total()), (Cost::from_picos(5), Cost::from_picos(12)));
        one.add(Cost::from_picos(u64::MAX));
        assert_eq!(whole.total(), Cost::from_picos(u64::MAX));
    }
}
