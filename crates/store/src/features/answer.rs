//! Puts rows together to the outputs of a request.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use salver_core::{
    Constant, DataType, Element as _, ElementsBuilder, Error, FeatureSpec, FeaturesSpec, MissingRow, Result, Tensor,
};

use super::key::{Key, shown};
use super::value::{self, Value};

/// The most values of one answer.
const MAX_VALUES: usize = 1 << 22;
/// The most bytes of text in one answer.
const MAX_TEXT_BYTES: usize = 256 << 20;

/// The fields of one key, in the order of the features; none: the field is missing.
pub(super) type Row = Vec<Option<Bytes>>;

/// Returns the outputs of a model: a tensor for each feature or one for all, and `found`. The sizes
/// stand for the values of one row.
pub(super) fn outputs(spec: &FeaturesSpec) -> Vec<(Arc<str>, DataType, usize)> {
    let found = (FeaturesSpec::FOUND.into(), DataType::Bool, 1);
    let features: Vec<_> = match &spec.joined {
        Some(name) => vec![(name.clone(), DataType::Fp32, width(spec))],
        None => spec.features.iter().map(|one| (one.name.clone(), one.dtype, one.size)).collect(),
    };
    features.into_iter().chain([found]).collect()
}

/// Returns the values of one row.
pub(super) fn width(spec: &FeaturesSpec) -> usize {
    spec.features.iter().map(|feature| feature.size).sum()
}

/// An answer in the making.
pub(super) struct Answer<'a> {
    spec: &'a FeaturesSpec,
    columns: Vec<Column>,
    found: Vec<u8>,
    text_bytes: usize,
}

/// The values of one output.
enum Column {
    Fixed(Vec<u8>),
    Text(ElementsBuilder),
}

impl<'a> Answer<'a> {
    /// Begins the answer for as many rows.
    ///
    /// # Errors
    /// `TooLarge` where that is too much for one answer.
    pub(super) fn new(spec: &'a FeaturesSpec, rows: usize) -> Result<Self> {
        if rows.saturating_mul(width(spec)) > MAX_VALUES {
            let most = MAX_VALUES / width(spec).max(1);
            return Err(Error::too_large(format!(
                "input '{}': a request may look up at most {most} keys of this model, got {rows}",
                spec.key
            )));
        }
        let column = |(_, dtype, size): (_, DataType, usize)| match dtype.size() {
            Some(bytes) => Column::Fixed(Vec::with_capacity(rows * size * bytes)),
            None => Column::Text(ElementsBuilder::default()),
        };
        let mut columns: Vec<Column> = outputs(spec).into_iter().map(column).collect();
        // The last one is `found`.
        columns.pop();
        Ok(Self { spec, columns, found: Vec::with_capacity(rows), text_bytes: 0 })
    }

    /// Returns how many keys had a row so far.
    pub(super) fn n_found(&self) -> usize {
        self.found.iter().filter(|&&found| found != 0).count()
    }

    /// Appends the row of a key.
    ///
    /// # Errors
    /// `NotFound` where something is missing and the model says that it must not be, `Engine` for a
    /// field that is none of its feature.
    pub(super) fn push(&mut self, key: &Key, row: Option<&Row>) -> Result<()> {
        let row = self.complete(key, row)?;
        self.found.push(row.is_some().into());
        for (idx, feature) in self.spec.features.iter().enumerate() {
            match row.and_then(|row| row.get(idx)?.as_ref()) {
                Some(field) => self.push_field(idx, key, feature, field)?,
                None => self.push_default(idx, feature, row.is_some())?,
            }
        }
        Ok(())
    }

    /// Returns the row if it counts as one.
    fn complete<'r>(&self, key: &Key, row: Option<&'r Row>) -> Result<Option<&'r Row>> {
        let missing = |what: String| {
            Error::not_found(format!("there is no {what} key {key} in the feature store '{}'", self.spec.store))
        };
        let Some(row) = row else {
            return match self.spec.missing {
                MissingRow::Error => Err(missing("row for".to_owned())),
                MissingRow::Default | MissingRow::Skip => Ok(None),
            };
        };
        let lacks = |(feature, field): &(&FeatureSpec, &Option<Bytes>)| field.is_none() && feature.default.is_none();
        match (self.spec.features.iter().zip(row).find(lacks), self.spec.missing) {
            (None, _) | (_, MissingRow::Default) => Ok(Some(row)),
            (Some(_), MissingRow::Skip) => Ok(None),
            (Some((feature, _)), MissingRow::Error) => {
                Err(missing(format!("field '{}' in the row for", feature.field.escape_debug())))
            }
        }
    }

    fn push_field(&mut self, idx: usize, key: &Key, feature: &FeatureSpec, field: &Bytes) -> Result<()> {
        let mut ended = Ok(());
        let read = value::read(feature, field, |value| {
            if ended.is_ok() {
                ended = self.put(idx, value);
            }
        });
        read.map_err(|expected| {
            Error::engine(format!(
                "field '{}' of key {key} in the feature store '{}': expected {expected}, found '{}'",
                feature.field.escape_debug(),
                self.spec.store,
                shown(field, 64)
            ))
        })?;
        ended
    }

    /// What stands for a row that is to be passed by means nothing, also where there are defaults.
    fn push_default(&mut self, idx: usize, feature: &FeatureSpec, is_found: bool) -> Result<()> {
        let is_meant = is_found || self.spec.missing == MissingRow::Default;
        let default = feature.default.as_ref().filter(|_| is_meant);
        for value_idx in 0..feature.size {
            self.put(idx, constant(feature.dtype, default.and_then(|values| values.get(value_idx))))?;
        }
        Ok(())
    }

    fn put(&mut self, idx: usize, value: Value<'_>) -> Result<()> {
        let idx = if self.spec.joined.is_some() { 0 } else { idx };
        match (&mut self.columns[idx], value) {
            (Column::Fixed(data), value) if self.spec.joined.is_some() => as_fp32(&value).put(data),
            (Column::Fixed(data), Value::Bool(value)) => data.push(value.into()),
            (Column::Fixed(data), Value::Fp32(number)) => number.put(data),
            (Column::Fixed(data), Value::Fp64(number)) => number.put(data),
            (Column::Fixed(data), Value::Int(number)) => match self.spec.features[idx].dtype {
                // Those that do not fit were refused where they were read.
                DataType::Int32 => i32::try_from(number).unwrap_or_default().put(data),
                _ => number.put(data),
            },
            (Column::Text(elements), Value::Text(text)) => {
                self.text_bytes += text.len();
                if self.text_bytes > MAX_TEXT_BYTES {
                    return Err(Error::too_large(format!(
                        "an answer may hold at most {MAX_TEXT_BYTES} bytes of text; ask for fewer keys"
                    )));
                }
                elements.push(text.as_bytes());
            }
            // Values are read by the feature's type, which made the column.
            (Column::Text(_), _) | (Column::Fixed(_), Value::Text(_)) => {
                return Err(Error::engine("a feature is not of its own type"));
            }
        }
        Ok(())
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// Never, as long as each row has all of its values.
    pub(super) fn finish(self) -> Result<Vec<Tensor>> {
        let rows = self.found.len();
        let columns = self.columns.into_iter().chain([Column::Fixed(self.found)]);
        let tensor = |((name, dtype, size), column): ((Arc<str>, DataType, usize), Column)| match column {
            Column::Fixed(data) => Tensor::new(name, dtype, [rows, size], data.into()),
            Column::Text(elements) => Tensor::from_elements(name, [rows, size], elements.finish()),
        };
        outputs(self.spec).into_iter().zip(columns).map(tensor).collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked where the model's file was read: it fits FP32")]
fn constant(dtype: DataType, given: Option<&Constant>) -> Value<'_> {
    match (dtype, given) {
        (DataType::Fp32, Some(Constant::Float(number))) => Value::Fp32(*number as f32),
        (_, Some(Constant::Float(number))) => Value::Fp64(*number),
        (_, Some(Constant::Int(number))) => Value::Int(*number),
        (_, Some(Constant::Bool(value))) => Value::Bool(*value),
        (_, Some(Constant::Text(text))) => Value::Text(Cow::Borrowed(text)),
        (DataType::Bool, None) => Value::Bool(false),
        (DataType::Bytes, None) => Value::Text("".into()),
        (DataType::Fp32, None) => Value::Fp32(0.0),
        (DataType::Fp64, None) => Value::Fp64(0.0),
        (_, None) => Value::Int(0),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a joined output takes the nearest FP32"
)]
fn as_fp32(value: &Value<'_>) -> f32 {
    match value {
        Value::Bool(value) => f32::from(u8::from(*value)),
        Value::Int(number) => *number as f32,
        Value::Fp32(number) => *number,
        Value::Fp64(number) => *number as f32,
        Value::Text(_) => 0.0,
    }
}
