//! `[features]` and `[[feature]]`: which rows of a store a model looks up, and what is in them.

use std::collections::BTreeSet;
use std::time::Duration;

use salver_core::{Constant, DataType, FeatureRows, FeatureSpec, FeaturesSpec};
use serde::Deserialize;
use toml::Spanned;

use super::fault::Fault;
use super::number::Whole;
use super::schema::File;
use super::{FEATURES, batching, check_new};

/// The store that is meant where none is named.
const DEFAULT_STORE: &str = "default";
/// How long the store may take where nothing is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Requests that may wait for the store where nothing is said.
const DEFAULT_MAX_IN_FLIGHT: usize = 1024;
/// The most features of a model.
const MAX_FEATURES: usize = 1024;
/// The longest name of a field, and the longest template of a key.
const MAX_NAME_BYTES: usize = 512;
/// The longest name in PostgreSQL; it cuts longer ones off.
const MAX_IDENTIFIER_BYTES: usize = 63;
/// What the key stands for in `redis_key`.
const PLACE: &str = "{key}";

/// `[features]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Features {
    /// The store's name among those of the server; none: `default`.
    store: Option<Spanned<String>>,
    /// The input that holds keys.
    key: Spanned<String>,
    /// What a key is.
    #[serde(default)]
    key_type: KeyType,
    /// The hash of Redis that holds a row.
    redis_key: Option<Spanned<String>>,
    /// The table of PostgreSQL that holds the rows.
    table: Option<Spanned<String>>,
    /// Its column of keys; none: called like the input.
    key_column: Option<Spanned<String>>,
    /// What a key without a row means.
    #[serde(default)]
    missing: Missing,
    /// How long the store may take.
    timeout_ms: Option<Whole<1, 10_000>>,
    /// The most requests that may wait for it.
    max_in_flight: Option<Whole<1, 65_536>>,
    /// The output that holds all features; none: each has its own.
    output: Option<Spanned<String>>,
}

/// `[[feature]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feature {
    /// The name of its output.
    name: Spanned<String>,
    /// Its field or column; none: called like the output.
    field: Option<Spanned<String>>,
    /// What its values are.
    dtype: Spanned<Dtype>,
    /// Values in a row; none: one.
    size: Option<Whole<1, 65_536>>,
    /// How the field holds them.
    encoding: Option<Spanned<Encoding>>,
    /// What stands for a field that is missing.
    default: Option<Spanned<Given>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyType {
    #[default]
    Int64,
    Text,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Missing {
    #[default]
    Default,
    Skip,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Dtype {
    Fp32,
    Fp64,
    Int32,
    Int64,
    Bool,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Text,
    Packed,
}

/// A default: for every value of the row, or one for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "must be a number, true, false or a text, or a list of such values")]
enum Given {
    One(Scalar),
    Each(Vec<Scalar>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// Puts the tables together; none: the model looks nothing up.
pub(super) fn spec(file: &File) -> Result<Option<FeaturesSpec>, Fault> {
    let is_meant = file.engine.as_ref().map_or(file.features.is_some(), |engine| engine.get_ref() == FEATURES);
    if !is_meant {
        return check_absent(file).map(|()| None);
    }
    let Some(table) = &file.features else {
        // The engine is named, or this would look nothing up.
        let place = file.engine.clone().unwrap_or_else(|| Spanned::new(0..0, String::new()));
        return Err(Fault::invalid(&place, "a model that looks features up needs [features]"));
    };
    check_alone(file, table)?;
    let rows = rows(table.get_ref())?;
    let features = features(file, table, &rows)?;
    let table = table.get_ref();
    check_name(&table.key)?;
    Ok(Some(FeaturesSpec {
        store: table.store.as_ref().map_or(DEFAULT_STORE, |store| store.get_ref()).into(),
        key: table.key.get_ref().as_str().into(),
        key_type: match table.key_type {
            KeyType::Int64 => salver_core::KeyType::Int64,
            KeyType::Text => salver_core::KeyType::Text,
        },
        rows,
        missing: match table.missing {
            Missing::Default => salver_core::MissingRow::Default,
            Missing::Skip => salver_core::MissingRow::Skip,
            Missing::Error => salver_core::MissingRow::Error,
        },
        joined: table.output.as_ref().map(|output| output.get_ref().as_str().into()),
        timeout: table.timeout_ms.map_or(DEFAULT_TIMEOUT, Whole::milliseconds),
        max_in_flight: table.max_in_flight.map_or(DEFAULT_MAX_IN_FLIGHT, Whole::count),
        features,
    }))
}

/// Both tables belong to such models only.
fn check_absent(file: &File) -> Result<(), Fault> {
    let needs = format_args!("needs engine = \"{FEATURES}\" at the top of the file").to_string();
    if let Some(table) = &file.features {
        return Err(Fault::invalid(table, needs));
    }
    file.feature.first().map_or(Ok(()), |feature| Err(Fault::invalid(feature, needs)))
}

/// Nothing else has a say in what is looked up.
fn check_alone(file: &File, table: &Spanned<Features>) -> Result<(), Fault> {
    if let Some(task) = &file.task {
        return Err(Fault::invalid(task, "has no place in a model that looks features up, leave it out"));
    }
    if file.artifact.is_some() {
        return Err(Fault::invalid(table, "stands beside artifact; the store holds all there is, leave it out"));
    }
    if file.instances.is_some() {
        return Err(Fault::invalid(table, "stands beside [instances]; nothing computes here, leave it out"));
    }
    batching::check_absent(file.batching.as_ref(), "all keys of a request are looked up together")?;
    if let Some(step) = file.step.first() {
        return Err(Fault::invalid(step, "stands beside [features]; make a model of its own of each, and call it"));
    }
    match file.input.first() {
        Some(input) => Err(Fault::invalid(&input.name, "is not needed: key in [features] names the only input")),
        None => Ok(()),
    }
}

fn rows(table: &Features) -> Result<FeatureRows, Fault> {
    match (&table.redis_key, &table.table) {
        (Some(template), None) => {
            if let Some(column) = &table.key_column {
                return Err(Fault::invalid(column, "belongs to a table of PostgreSQL, and redis_key stands here"));
            }
            hash(template)
        }
        (None, Some(place)) => in_table(place, table),
        (Some(_), Some(place)) => Err(Fault::invalid(
            place,
            "stands beside redis_key: a row is a hash of Redis or in a table of PostgreSQL, keep one of the two",
        )),
        (None, None) => Err(Fault::invalid(
            &table.key,
            "needs redis_key = \"NAME:{key}\" (Redis) or table = \"NAME\" (PostgreSQL) beside it",
        )),
    }
}

fn hash(template: &Spanned<String>) -> Result<FeatureRows, Fault> {
    let text = template.get_ref();
    let parts: Vec<&str> = text.split(PLACE).collect();
    match parts.as_slice() {
        [before, after] if text.len() <= MAX_NAME_BYTES => {
            Ok(FeatureRows::Hash { before: (*before).to_owned(), after: (*after).to_owned() })
        }
        _ => {
            let what = format_args!("must be at most {MAX_NAME_BYTES} bytes that hold {PLACE} once, got").to_string();
            Err(Fault::invalid(template, format_args!("{what} '{}'", shown(text))))
        }
    }
}

fn in_table(place: &Spanned<String>, table: &Features) -> Result<FeatureRows, Fault> {
    let (schema, name) = match place.get_ref().split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, place.get_ref().as_str()),
    };
    if !schema.is_none_or(is_identifier) || !is_identifier(name) {
        let what = "must be TABLE or SCHEMA.TABLE, each of letters, digits and '_', no digit first, got";
        return Err(Fault::invalid(place, format_args!("{what} '{}'", shown(place.get_ref()))));
    }
    let key_column = table.key_column.as_ref().unwrap_or(&table.key);
    check_column(key_column, if table.key_column.is_none() { "; name the column as key_column" } else { "" })?;
    Ok(FeatureRows::Table {
        schema: schema.map(str::to_owned),
        table: name.to_owned(),
        key_column: key_column.get_ref().clone(),
    })
}

/// Whether the text is a name of PostgreSQL that needs no thought: letters of ASCII, digits and `_`.
fn is_identifier(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins_well = !text.is_empty() && !text.starts_with(|first: char| first.is_ascii_digit());
    begins_well && text.len() <= MAX_IDENTIFIER_BYTES && text.bytes().all(is_part)
}

fn check_column(place: &Spanned<String>, instead: &str) -> Result<(), Fault> {
    if is_identifier(place.get_ref()) {
        return Ok(());
    }
    let what = "must be a column of PostgreSQL: letters, digits and '_', no digit first";
    Err(Fault::invalid(place, format_args!("{what}{instead}, got '{}'", shown(place.get_ref()))))
}

fn check_name(place: &Spanned<String>) -> Result<(), Fault> {
    match place.get_ref().len() {
        1..=MAX_NAME_BYTES => Ok(()),
        got => Err(Fault::invalid(place, format_args!("must be from 1 to {MAX_NAME_BYTES} bytes, got {got}"))),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}

fn features(file: &File, table: &Spanned<Features>, rows: &FeatureRows) -> Result<Vec<FeatureSpec>, Fault> {
    if !(1..=MAX_FEATURES).contains(&file.feature.len()) {
        let got = file.feature.len();
        let what = format_args!("needs from 1 to {MAX_FEATURES} [[feature]], got {got}").to_string();
        return Err(Fault::invalid(table, what));
    }
    let mut names = BTreeSet::from([FeaturesSpec::FOUND.to_owned()]);
    if let Some(output) = &table.get_ref().output {
        check_output(output, &mut names)?;
    }
    let mut specs = Vec::with_capacity(file.feature.len());
    for feature in &file.feature {
        let feature = feature.get_ref();
        check_output(&feature.name, &mut names)?;
        let spec = one(feature, rows)?;
        if table.get_ref().missing == Missing::Default && spec.default.is_none() {
            let what = "needs default beside it, because [features] missing is \"default\"; or say missing = \"error\" \
                        or \"skip\" there";
            return Err(Fault::invalid(&feature.name, what));
        }
        if table.get_ref().output.is_some() && spec.dtype == DataType::Bytes {
            let what = "is text, which cannot be joined with numbers; leave output out of [features]";
            return Err(Fault::invalid(&feature.dtype, what));
        }
        specs.push(spec);
    }
    Ok(specs)
}

fn check_output(name: &Spanned<String>, seen: &mut BTreeSet<String>) -> Result<(), Fault> {
    if name.get_ref() == FeaturesSpec::FOUND {
        let what = "is the output that says for each key whether there is a row; give the feature another name, and \
                    this one as its field";
        return Err(Fault::invalid(name, what));
    }
    check_name(name)?;
    check_new(name, seen)
}

fn one(feature: &Feature, rows: &FeatureRows) -> Result<FeatureSpec, Fault> {
    let field = feature.field.as_ref().unwrap_or(&feature.name);
    match rows {
        FeatureRows::Hash { .. } => check_name(field)?,
        FeatureRows::Table { .. } => {
            check_column(field, if feature.field.is_none() { "; name the column as field" } else { "" })?;
        }
    }
    let dtype = match feature.dtype.get_ref() {
        Dtype::Fp32 => DataType::Fp32,
        Dtype::Fp64 => DataType::Fp64,
        Dtype::Int32 => DataType::Int32,
        Dtype::Int64 => DataType::Int64,
        Dtype::Bool => DataType::Bool,
        Dtype::Text => DataType::Bytes,
    };
    let size = feature.size.map_or(1, Whole::count);
    Ok(FeatureSpec {
        name: feature.name.get_ref().as_str().into(),
        field: field.get_ref().clone(),
        dtype,
        size,
        is_packed: is_packed(feature, rows)?,
        default: feature.default.as_ref().map(|given| default(given, dtype, size)).transpose()?,
    })
}

fn is_packed(feature: &Feature, rows: &FeatureRows) -> Result<bool, Fault> {
    let Some(place) = feature.encoding.as_ref().filter(|encoding| *encoding.get_ref() == Encoding::Packed) else {
        return Ok(false);
    };
    if matches!(rows, FeatureRows::Table { .. }) {
        return Err(Fault::invalid(
            place,
            "packed is for fields of Redis; columns of PostgreSQL have types, leave it out",
        ));
    }
    if *feature.dtype.get_ref() == Dtype::Text {
        return Err(Fault::invalid(place, "packed is for numbers; text is its bytes anyway, leave it out"));
    }
    Ok(true)
}

/// A single value stands for all.
fn default(given: &Spanned<Given>, dtype: DataType, size: usize) -> Result<Vec<Constant>, Fault> {
    let read = |value: &Scalar| {
        constant(value, dtype).ok_or_else(|| {
            let expected = match dtype {
                DataType::Bool => "true or false",
                DataType::Bytes => "text",
                DataType::Int32 | DataType::Int64 => "a whole number in the range of its dtype",
                _ => "a number in the range of its dtype",
            };
            Fault::invalid(given, format_args!("must be {expected}"))
        })
    };
    match given.get_ref() {
        Given::One(value) => read(value).map(|value| vec![value; size]),
        Given::Each(values) if values.len() == size => values.iter().map(read).collect(),
        Given::Each(values) => {
            let got = values.len();
            Err(Fault::invalid(given, format_args!("must have as many values as size says, {size}, got {got}")))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a feature of floating point takes the nearest number there is")]
fn constant(value: &Scalar, dtype: DataType) -> Option<Constant> {
    let is_in_range =
        |number: f64| !number.is_finite() || dtype == DataType::Fp64 || number.abs() <= f64::from(f32::MAX);
    match (dtype, value) {
        (DataType::Bool, Scalar::Bool(value)) => Some(Constant::Bool(*value)),
        (DataType::Bytes, Scalar::Text(text)) => Some(Constant::Text(text.as_str().into())),
        (DataType::Int32, Scalar::Int(number)) => {
            i32::try_from(*number).ok().map(|number| Constant::Int(number.into()))
        }
        (DataType::Int64, Scalar::Int(number)) => Some(Constant::Int(*number)),
        (DataType::Fp32 | DataType::Fp64, Scalar::Int(number)) => Some(Constant::Float(*number as f64)),
        (DataType::Fp32 | DataType::Fp64, Scalar::Float(number)) if is_in_range(*number) => {
            Some(Constant::Float(*number))
        }
        _ => None,
    }
}
