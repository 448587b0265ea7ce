//! Values of one request: which rows have one, and what it is.

use std::sync::Arc;

use bytes::BytesMut;
use half::{bf16, f16};
use salver_core::{Constant, DataType, Element, Elements, Error, Result, Shape, Tensor};

use super::rows;

/// Rows for which something holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mask {
    /// Every row.
    All,
    /// These; neither all nor none.
    Some(Arc<[bool]>),
    /// No row.
    None,
}

impl Mask {
    pub(crate) fn new(rows: Vec<bool>) -> Self {
        match rows.iter().filter(|holds| **holds).count() {
            // Of no rows, everything holds: models are asked as they would be alone.
            _ if rows.is_empty() => Self::All,
            0 => Self::None,
            count if count == rows.len() => Self::All,
            _ => Self::Some(rows.into()),
        }
    }

    pub(crate) fn holds(&self, row: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(rows) => rows.get(row).copied().unwrap_or(false),
            Self::None => false,
        }
    }

    pub(crate) fn and(&self, other: &Self, n_rows: usize) -> Self {
        match (self, other) {
            (Self::All, other) | (other, Self::All) => other.clone(),
            (Self::None, _) | (_, Self::None) => Self::None,
            _ => Self::new((0..n_rows).map(|row| self.holds(row) && other.holds(row)).collect()),
        }
    }

    pub(crate) fn or(&self, other: &Self, n_rows: usize) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, other) | (other, Self::None) => other.clone(),
            _ => Self::new((0..n_rows).map(|row| self.holds(row) || other.holds(row)).collect()),
        }
    }

    /// Whether it holds wherever `other` does.
    fn covers(&self, other: &Self, n_rows: usize) -> bool {
        *self == Self::All || (0..n_rows).all(|row| self.holds(row) || !other.holds(row))
    }

    /// Returns the rows in which it holds.
    pub(crate) fn rows(&self, n_rows: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        (0..n_rows).filter(|row| self.holds(*row))
    }
}

/// A value: only the rows that have one are in the tensor. In an ensemble without rows, a request
/// is one row and its tensors have no dimension for it.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    tensor: Option<Tensor>,
    pub(crate) mask: Mask,
}

impl Value {
    /// Nothing, in every row.
    pub(crate) const ABSENT: Self = Self { tensor: None, mask: Mask::None };

    /// A value in all rows of `mask`.
    pub(crate) fn new(tensor: Tensor, mask: Mask) -> Self {
        match mask {
            Mask::None => Self::ABSENT,
            mask => Self { tensor: Some(tensor), mask },
        }
    }

    /// Returns the tensor of the rows that have a value.
    pub(crate) fn tensor(&self) -> Option<&Tensor> {
        self.tensor.as_ref()
    }

    /// Returns where row `row` lies in the tensor.
    fn place(&self, row: usize) -> usize {
        match &self.mask {
            Mask::Some(rows) => rows.iter().take(row).filter(|holds| **holds).count(),
            Mask::All | Mask::None => row,
        }
    }
}

/// Where a row of an input may come from.
pub(crate) enum Candidate<'a> {
    /// A value, in the rows that have it.
    Value(&'a Value),
    /// The same in every row.
    Constant(&'a Constant),
}

/// What a tensor has to look like.
pub(crate) struct Form<'a> {
    /// Its name.
    pub(crate) name: &'a Arc<str>,
    /// Its element type.
    pub(crate) dtype: DataType,
    /// Its extents, without rows where there are rows; free ones are 1 where nothing else says.
    pub(crate) row: Shape,
    /// Whether the first dimension is rows.
    pub(crate) has_rows: bool,
}

/// Puts together, for each row of `mask`, the first of `candidates` that is there. Every row must have
/// one.
///
/// # Errors
/// `Engine` where values do not fit together; `InvalidInput` where rows of several sources differ in shape.
pub(crate) fn gather(form: &Form<'_>, candidates: &[Candidate<'_>], mask: &Mask, n_rows: usize) -> Result<Tensor> {
    match candidates.first() {
        Some(Candidate::Value(value)) if value.mask.covers(mask, n_rows) => {
            let Some(tensor) = value.tensor() else {
                return Err(Error::engine(format!("no value for '{}'", form.name)));
            };
            if value.mask == *mask || !form.has_rows {
                return Ok(named(tensor, form.name));
            }
            let places: Vec<usize> = mask.rows(n_rows).map(|row| value.place(row)).collect();
            Ok(rows::select(tensor, places.into_iter())?.rename(form.name.clone()))
        }
        Some(Candidate::Constant(constant)) => {
            let shape: Shape = match form.has_rows {
                true => std::iter::once(mask.rows(n_rows).count()).chain(form.row.iter().copied()).collect(),
                false => form.row.clone(),
            };
            fill(form.name, form.dtype, shape, constant)
        }
        Some(Candidate::Value(value)) if !form.has_rows => match &value.mask {
            Mask::None => gather(form, candidates.get(1..).unwrap_or_default(), mask, n_rows),
            Mask::All | Mask::Some(_) => Err(Error::engine(format!("no value for '{}'", form.name))),
        },
        Some(Candidate::Value(_)) => mix(form, candidates, mask, n_rows),
        None => Err(Error::engine(format!("no value for '{}'", form.name))),
    }
}

/// Takes each row from where it is.
fn mix(form: &Form<'_>, candidates: &[Candidate<'_>], mask: &Mask, n_rows: usize) -> Result<Tensor> {
    let shape_of = |candidate: &Candidate<'_>| match candidate {
        Candidate::Value(value) => value.tensor().map(|tensor| tensor.shape().with_rows(1)),
        Candidate::Constant(_) => None,
    };
    let row: Shape = std::iter::once(1).chain(form.row.iter().copied()).collect();
    let like = candidates.iter().find_map(shape_of).unwrap_or(row);
    let tensor = |candidate: &Candidate<'_>| match candidate {
        Candidate::Value(value) => Ok(value.tensor().cloned()),
        Candidate::Constant(constant) => fill(form.name, form.dtype, like.clone(), constant).map(Some),
    };
    let tensors: Vec<Option<Tensor>> = candidates.iter().map(tensor).collect::<Result<_>>()?;
    let present: Vec<&Tensor> = tensors.iter().flatten().collect();
    let source = |row: usize| {
        let is_there = |candidate: &Candidate<'_>| match candidate {
            Candidate::Value(value) => value.mask.holds(row),
            Candidate::Constant(_) => true,
        };
        let idx = candidates.iter().position(is_there)?;
        let place = match &candidates[idx] {
            Candidate::Value(value) => value.place(row),
            Candidate::Constant(_) => 0,
        };
        Some((tensors[..idx].iter().flatten().count(), place))
    };
    let which: Option<Vec<(usize, usize)>> = mask.rows(n_rows).map(source).collect();
    let which = which.ok_or_else(|| Error::engine(format!("a row has no value for '{}'", form.name)))?;
    rows::pick(form.name, &present, which.into_iter())
}

fn named(tensor: &Tensor, name: &Arc<str>) -> Tensor {
    if tensor.name() == name { tensor.clone() } else { tensor.clone().rename(name.clone()) }
}

/// Whether a constant can be an element of this type.
pub(crate) fn fits(dtype: DataType, constant: &Constant) -> bool {
    let is_float = matches!(dtype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64);
    match constant {
        Constant::Text(_) => dtype == DataType::Bytes,
        Constant::Bool(_) => dtype == DataType::Bool,
        Constant::Float(_) => is_float,
        Constant::Int(value) => is_float || whole(dtype, *value).is_some(),
    }
}

/// Makes a tensor of one value.
fn fill(name: &Arc<str>, dtype: DataType, shape: Shape, constant: &Constant) -> Result<Tensor> {
    let count = shape.element_count().unwrap_or(0);
    if let Constant::Text(text) = constant {
        let elements: Elements = std::iter::repeat_n(text.as_bytes(), count).collect();
        return Tensor::from_elements(name.clone(), shape, elements);
    }
    let wrong = || Error::engine(format!("{constant:?} is no {dtype} for '{name}'"));
    let element = element(dtype, constant).ok_or_else(wrong)?;
    let mut data = BytesMut::with_capacity(count * element.len());
    (0..count).for_each(|_| data.extend_from_slice(&element));
    Tensor::new(name.clone(), dtype, shape, data.freeze())
}

fn bytes<T: Element>(value: T) -> Vec<u8> {
    let mut data = Vec::with_capacity(size_of::<T>());
    value.put(&mut data);
    data
}

fn element(dtype: DataType, constant: &Constant) -> Option<Vec<u8>> {
    let number = match constant {
        Constant::Bool(value) => return (dtype == DataType::Bool).then(|| vec![u8::from(*value)]),
        Constant::Int(value) => match whole(dtype, *value) {
            Some(element) => return Some(element),
            None => real(*value),
        },
        Constant::Float(value) => *value,
        Constant::Text(_) => return None,
    };
    match dtype {
        DataType::Fp64 => Some(bytes(number)),
        DataType::Fp32 => Some(bytes(single(number))),
        DataType::Fp16 => Some(f16::from_f64(number).to_le_bytes().to_vec()),
        DataType::Bf16 => Some(bf16::from_f64(number).to_le_bytes().to_vec()),
        _ => None,
    }
}

/// Returns the bytes of a whole number of this type, if it fits.
fn whole(dtype: DataType, value: i64) -> Option<Vec<u8>> {
    match dtype {
        DataType::Int8 => i8::try_from(value).ok().map(bytes),
        DataType::Int16 => i16::try_from(value).ok().map(bytes),
        DataType::Int32 => i32::try_from(value).ok().map(bytes),
        DataType::Int64 => Some(bytes(value)),
        DataType::Uint8 => u8::try_from(value).ok().map(bytes),
        DataType::Uint16 => u16::try_from(value).ok().map(bytes),
        DataType::Uint32 => u32::try_from(value).ok().map(bytes),
        DataType::Uint64 => u64::try_from(value).ok().map(bytes),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a constant of a real type is rounded to it")]
fn real(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a constant of a real type is rounded to it")]
fn single(value: f64) -> f32 {
    value as f32
}
