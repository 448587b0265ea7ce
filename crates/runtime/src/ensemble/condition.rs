//! Conditions: which rows a step runs for.

use std::cmp::Ordering;

use half::{bf16, f16};
use salver_core::{Comparison, Constant, DataType, Error, Result, Tensor};

use super::value::{Mask, Value};

/// A condition whose values were looked up.
#[derive(Debug)]
pub(crate) enum Test {
    /// The value in this place compares so.
    Compare { place: usize, shown: String, comparison: Comparison, with: Constant },
    /// All of them.
    All(Vec<Test>),
    /// At least one of them.
    Any(Vec<Test>),
    /// It does not hold.
    Not(Box<Test>),
}

impl Test {
    /// Returns the rows in which it holds. What compares a value that is not there does not hold.
    ///
    /// # Errors
    /// `InvalidInput` where a value has not one element for each row.
    pub(crate) fn rows(&self, values: &[Value], n_rows: usize) -> Result<Mask> {
        match self {
            Self::Compare { place, shown, comparison, with } => {
                compare(values.get(*place).unwrap_or(&Value::ABSENT), shown, *comparison, with, n_rows)
            }
            Self::All(parts) => {
                parts.iter().try_fold(Mask::All, |mask, part| Ok(mask.and(&part.rows(values, n_rows)?, n_rows)))
            }
            Self::Any(parts) => {
                parts.iter().try_fold(Mask::None, |mask, part| Ok(mask.or(&part.rows(values, n_rows)?, n_rows)))
            }
            Self::Not(part) => {
                let mask = part.rows(values, n_rows)?;
                Ok(Mask::new((0..n_rows).map(|row| !mask.holds(row)).collect()))
            }
        }
    }
}

/// Whether values of this type compare so with a constant.
pub(crate) fn is_comparable(dtype: DataType, with: &Constant) -> bool {
    match with {
        Constant::Text(_) => dtype == DataType::Bytes,
        Constant::Bool(_) => dtype == DataType::Bool,
        Constant::Int(_) | Constant::Float(_) => !matches!(dtype, DataType::Bytes | DataType::Bool),
    }
}

fn compare(value: &Value, shown: &str, comparison: Comparison, with: &Constant, n_rows: usize) -> Result<Mask> {
    let Some(tensor) = value.tensor() else {
        return Ok(Mask::None);
    };
    let expected = value.mask.rows(n_rows).count();
    if tensor.element_count() != expected {
        return Err(Error::invalid_input(format!(
            "the condition reads '{shown}', which has {} values ({}) for {expected} rows: it needs one for each",
            tensor.element_count(),
            tensor.shape()
        )));
    }
    let mut orders = (0..expected).map(|idx| order(tensor, idx, with));
    let holds = (0..n_rows)
        .map(|row| value.mask.holds(row) && orders.next().flatten().is_some_and(|order| is_so(comparison, order)));
    Ok(Mask::new(holds.collect()))
}

/// A value that cannot be ordered, such as NaN, is unequal to everything and nothing else.
pub(super) fn is_so(comparison: Comparison, order: Option<Ordering>) -> bool {
    match (comparison, order) {
        (Comparison::Unequal, order) => order != Some(Ordering::Equal),
        (_, None) => false,
        (Comparison::Equal, Some(order)) => order.is_eq(),
        (Comparison::Less, Some(order)) => order.is_lt(),
        (Comparison::AtMost, Some(order)) => order.is_le(),
        (Comparison::Greater, Some(order)) => order.is_gt(),
        (Comparison::AtLeast, Some(order)) => order.is_ge(),
    }
}

/// Orders an element and a constant. None: there is no such element, or the two do not compare.
fn order(tensor: &Tensor, idx: usize, with: &Constant) -> Option<Option<Ordering>> {
    if let (Some(elements), Constant::Text(text)) = (tensor.elements(), with) {
        return Some(Some(elements.get(idx)?.cmp(text.as_bytes())));
    }
    let width = tensor.dtype().size()?;
    let bytes = tensor.bytes()?.get(idx * width..(idx + 1) * width)?;
    match (number(tensor.dtype(), bytes)?, with) {
        (Number::Bool(value), Constant::Bool(with)) => Some(Some(value.cmp(with))),
        (Number::Whole(value), Constant::Int(with)) => Some(Some(value.cmp(&i128::from(*with)))),
        (Number::Whole(value), Constant::Float(with)) => Some(real(value).partial_cmp(with)),
        (Number::Real(value), Constant::Int(with)) => Some(value.partial_cmp(&real(i128::from(*with)))),
        (Number::Real(value), Constant::Float(with)) => Some(value.partial_cmp(with)),
        _ => None,
    }
}

enum Number {
    Bool(bool),
    Whole(i128),
    Real(f64),
}

fn number(dtype: DataType, bytes: &[u8]) -> Option<Number> {
    Some(match dtype {
        DataType::Bool => Number::Bool(*bytes.first()? != 0),
        DataType::Int8 => Number::Whole(i8::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Int16 => Number::Whole(i16::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Int32 => Number::Whole(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Int64 => Number::Whole(i64::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Uint8 => Number::Whole(u8::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Uint16 => Number::Whole(u16::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Uint32 => Number::Whole(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Uint64 => Number::Whole(u64::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Fp16 => Number::Real(f16::from_le_bytes(bytes.try_into().ok()?).to_f64()),
        DataType::Bf16 => Number::Real(bf16::from_le_bytes(bytes.try_into().ok()?).to_f64()),
        DataType::Fp32 => Number::Real(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        DataType::Fp64 => Number::Real(f64::from_le_bytes(bytes.try_into().ok()?)),
        DataType::Bytes => return None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "compared as the real number that the other side is")]
fn real(value: i128) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use salver_testkit::{tensor, text};

    use super::*;

    fn rows(value: Tensor, comparison: Comparison, with: Constant) -> Vec<bool> {
        let n_rows = value.rows();
        let test = Test::Compare { place: 0, shown: "x".to_owned(), comparison, with };
        let mask = test.rows(&[Value::new(value, Mask::All)], n_rows).unwrap();
        (0..n_rows).map(|row| mask.holds(row)).collect()
    }

    #[test]
    fn each_type_compares_with_its_constants() {
        let scores = tensor("x", &[4, 1], &[0.25f32, 0.5, 0.75, f32::NAN]);
        assert_eq!(rows(scores.clone(), Comparison::Less, Constant::Float(0.5)), [true, false, false, false]);
        assert_eq!(rows(scores.clone(), Comparison::AtLeast, Constant::Float(0.5)), [false, true, true, false]);
        assert_eq!(rows(scores, Comparison::Unequal, Constant::Int(1)), [true, true, true, true]);
        let big = tensor("x", &[2], &[u64::MAX, 7]);
        assert_eq!(rows(big, Comparison::Greater, Constant::Int(i64::MAX)), [true, false]);
        let words = text("x", &[2, 1], &[b"cat", b"dog"]);
        assert_eq!(rows(words, Comparison::Equal, Constant::Text("dog".into())), [false, true]);
        let flags = tensor("x", &[2, 1], &[true, false]);
        assert_eq!(rows(flags, Comparison::Equal, Constant::Bool(false)), [false, true]);
    }

    #[test]
    fn what_is_not_there_compares_with_nothing_and_its_opposite_holds() {
        let values = [Value::new(tensor("x", &[1, 1], &[1f32]), Mask::new(vec![false, true]))];
        let test = || Test::Compare {
            place: 0,
            shown: "x".to_owned(),
            comparison: Comparison::Greater,
            with: Constant::Float(0.),
        };
        assert_eq!(test().rows(&values, 2).unwrap(), Mask::new(vec![false, true]));
        assert_eq!(Test::Not(Box::new(test())).rows(&values, 2).unwrap(), Mask::new(vec![true, false]));
        assert_eq!(test().rows(&[Value::ABSENT], 2).unwrap(), Mask::None);
    }

    #[test]
    fn several_values_a_row_are_refused() {
        let values = [Value::new(tensor("x", &[1, 2], &[1f32, 2.]), Mask::All)];
        let test = Test::Compare {
            place: 0,
            shown: "s.x".to_owned(),
            comparison: Comparison::Less,
            with: Constant::Float(0.),
        };
        let error = test.rows(&values, 1).unwrap_err();
        assert!(error.message().contains("'s.x', which has 2 values"), "{error}");
    }
}
