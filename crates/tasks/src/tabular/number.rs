//! One value on its way into a tensor, with every conversion checked.

use std::fmt;

use half::{bf16, f16};
use salver_core::{DataType, Element, Error};

/// A value of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
        }
    }
}

/// Returns the whole number that `value` is.
pub(super) fn whole(value: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    let is_whole = value.fract() == 0.0 && (-BEYOND..BEYOND).contains(&value);
    #[expect(clippy::cast_possible_truncation, reason = "a whole number within the range")]
    is_whole.then_some(value as i64)
}

/// An element of a graph's input.
pub(super) trait Cell: Element {
    /// Converts a value; none where it does not fit. Floats round to the nearest, as everywhere.
    fn of(number: Number) -> Option<Self>;
    /// Writes the little-endian bytes; `slot` is exactly one element long.
    fn store(self, slot: &mut [u8]);
}

macro_rules! integer_cells {
    ($($type:ty),*) => {$(
        impl Cell for $type {
            fn of(number: Number) -> Option<Self> {
                let value = match number {
                    Number::Int(value) => value,
                    Number::Float(value) => whole(value)?,
                };
                Self::try_from(value).ok()
            }
            fn store(self, slot: &mut [u8]) {
                slot.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

macro_rules! float_cells {
    ($($type:ty: $round:expr),*) => {$(
        impl Cell for $type {
            fn of(number: Number) -> Option<Self> {
                #[expect(clippy::cast_precision_loss, reason = "rounds to the nearest")]
                let value = match number {
                    Number::Int(value) => value as f64,
                    Number::Float(value) => value,
                };
                let rounded: Self = $round(value);
                (rounded.is_finite() || !value.is_finite()).then_some(rounded)
            }
            fn store(self, slot: &mut [u8]) {
                slot.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

integer_cells!(i8, i16, i32, i64, u8, u16, u32, u64);
float_cells!(f64: std::convert::identity, f32: single, f16: f16::from_f64, bf16: bf16::from_f64);

#[expect(clippy::cast_possible_truncation, reason = "what is too large becomes infinite, which is looked at")]
fn single(value: f64) -> f32 {
    value as f32
}

impl Cell for bool {
    fn of(number: Number) -> Option<Self> {
        match number {
            Number::Int(0) => Some(false),
            Number::Int(1) => Some(true),
            Number::Float(value) => Self::of(Number::Int(whole(value)?)),
            Number::Int(_) => None,
        }
    }
    fn store(self, slot: &mut [u8]) {
        slot.fill(u8::from(self));
    }
}

/// Calls a generic function with the type of a fixed-size element; BYTES gives `$none`.
macro_rules! with_cell {
    ($dtype:expr, $cell:ident => $then:expr, $none:expr) => {
        match $dtype {
            salver_core::DataType::Bool => {
                type $cell = bool;
                $then
            }
            salver_core::DataType::Int8 => {
                type $cell = i8;
                $then
            }
            salver_core::DataType::Int16 => {
                type $cell = i16;
                $then
            }
            salver_core::DataType::Int32 => {
                type $cell = i32;
                $then
            }
            salver_core::DataType::Int64 => {
                type $cell = i64;
                $then
            }
            salver_core::DataType::Uint8 => {
                type $cell = u8;
                $then
            }
            salver_core::DataType::Uint16 => {
                type $cell = u16;
                $then
            }
            salver_core::DataType::Uint32 => {
                type $cell = u32;
                $then
            }
            salver_core::DataType::Uint64 => {
                type $cell = u64;
                $then
            }
            salver_core::DataType::Fp16 => {
                type $cell = half::f16;
                $then
            }
            salver_core::DataType::Bf16 => {
                type $cell = half::bf16;
                $then
            }
            salver_core::DataType::Fp32 => {
                type $cell = f32;
                $then
            }
            salver_core::DataType::Fp64 => {
                type $cell = f64;
                $then
            }
            salver_core::DataType::Bytes => $none,
        }
    };
}
pub(super) use with_cell;

/// Whether a graph's input of this type can hold `number`.
pub(super) fn fits(number: Number, dtype: DataType) -> bool {
    with_cell!(dtype, C => C::of(number).is_some(), false)
}

/// Says why `number` is none of the graph's.
#[cold]
pub(super) fn misfit(number: Number, dtype: DataType) -> Error {
    Error::invalid_input(match number {
        Number::Float(value) if value.is_nan() => format!("NaN does not fit into {dtype}, which the model takes"),
        Number::Float(value) if value.fract() != 0.0 && !dtype.is_float() => format!("{value} is not a whole number"),
        _ => format!("{number} does not fit into {dtype}, which the model takes"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_stay_what_they_are() {
        let below = 9_223_372_036_854_774_784.0;
        assert_eq!(whole(below), Some(9_223_372_036_854_774_784));
        assert_eq!(whole(-9_223_372_036_854_775_808.0), Some(i64::MIN));
        for odd in [9_223_372_036_854_775_808.0, 0.5, f64::NAN, f64::INFINITY] {
            assert_eq!(whole(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_apart_from_what_rounds() {
        assert_eq!(f32::of(Number::Float(0.1)), Some(0.1));
        assert_eq!(f32::of(Number::Float(1e39)), None);
        assert_eq!(f32::of(Number::Float(f64::INFINITY)), Some(f32::INFINITY));
        assert_eq!(u8::of(Number::Int(256)), None);
        assert_eq!(i32::of(Number::Float(3.0)), Some(3));
        assert_eq!(bool::of(Number::Float(2.0)), None);
        assert!(fits(Number::Int(65_504), DataType::Fp16) && !fits(Number::Int(65_536), DataType::Fp16));
        assert!(!fits(Number::Int(1), DataType::Bytes));
    }
}
