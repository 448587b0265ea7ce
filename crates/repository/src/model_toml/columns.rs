//! `[[column]]`: columns of a table with types, missing values and categories.

use std::collections::BTreeSet;

use salver_core::{CategoryEncoding, ColumnKind, ColumnSpec, Filling, TabularSpec, UnknownCategory};
use serde::Deserialize;
use toml::Spanned;

use super::fault::Fault;

/// `[[column]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    /// Its name in requests.
    name: Spanned<String>,
    /// What its values are.
    #[serde(rename = "type")]
    kind: Spanned<Type>,
    /// What stands for a missing value.
    missing: Option<Spanned<Missing>>,
    /// The texts of a category.
    categories: Option<Spanned<Vec<Spanned<String>>>>,
    /// How a category becomes numbers.
    encoding: Option<Spanned<Encoding>>,
    /// What any other text becomes.
    unknown: Option<Spanned<Unknown>>,
    /// The graph's input that it goes into.
    input: Option<Spanned<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Float,
    Int,
    Bool,
    Text,
    Category,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "must be a number, true, false or a text")]
enum Missing {
    Bool(bool),
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Encoding {
    Index,
    OneHot,
    Text,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "must be a whole number, \"zeros\" or \"pass\"")]
enum Unknown {
    Index(i64),
    Word(Word),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Zeros,
    Pass,
}

/// Checks the columns one by one, and their names against each other.
pub(super) fn table(columns: &[Spanned<Column>]) -> Result<TabularSpec, Fault> {
    let mut names = BTreeSet::new();
    let mut specs = Vec::with_capacity(columns.len());
    for column in columns {
        let column = column.get_ref();
        super::check_new(&column.name, &mut names)?;
        let kind = kind(column)?;
        let missing = column.missing.as_ref().map(|missing| filling(missing, &kind)).transpose()?;
        if let Some(input) = column.input.as_ref().filter(|input| input.get_ref().is_empty()) {
            return Err(Fault::invalid(input, "must be the name of an input of the graph, got ''"));
        }
        let input = column.input.as_ref().map(|input| input.get_ref().clone());
        specs.push(ColumnSpec { name: column.name.get_ref().clone(), kind, missing, input });
    }
    Ok(TabularSpec { columns: specs })
}

fn kind(column: &Column) -> Result<ColumnKind, Fault> {
    let plain = match column.kind.get_ref() {
        Type::Category => return category(column),
        Type::Float => ColumnKind::Float,
        Type::Int => ColumnKind::Int,
        Type::Bool => ColumnKind::Bool,
        Type::Text => ColumnKind::Text,
    };
    only_of_category(column.categories.as_ref())?;
    only_of_category(column.encoding.as_ref())?;
    only_of_category(column.unknown.as_ref())?;
    Ok(plain)
}

fn only_of_category<T>(key: Option<&Spanned<T>>) -> Result<(), Fault> {
    match key {
        Some(place) => Err(Fault::invalid(place, "belongs to a column of type = \"category\" only; leave it out")),
        None => Ok(()),
    }
}

fn category(column: &Column) -> Result<ColumnKind, Fault> {
    let Some(categories) = column.categories.as_ref().filter(|categories| !categories.get_ref().is_empty()) else {
        return Err(Fault::invalid(
            &column.kind,
            "category needs categories beside it: the texts, in the order of training",
        ));
    };
    let mut values = Vec::new();
    let mut seen = BTreeSet::new();
    for category in categories.get_ref() {
        if !seen.insert(category.get_ref()) {
            let got = category.get_ref().escape_debug();
            return Err(Fault::invalid(category, format_args!("must not name a category twice, got '{got}'")));
        }
        values.push(category.get_ref().clone());
    }
    let encoding = match column.encoding.as_ref().map(Spanned::get_ref) {
        None | Some(Encoding::Index) => CategoryEncoding::Index,
        Some(Encoding::OneHot) => CategoryEncoding::OneHot,
        Some(Encoding::Text) => CategoryEncoding::Text,
    };
    let unknown = column.unknown.as_ref().map(|unknown| self::unknown(unknown, encoding)).transpose()?;
    Ok(ColumnKind::Category { values, encoding, unknown })
}

/// Each encoding has its own way to write what it does not know.
fn unknown(unknown: &Spanned<Unknown>, encoding: CategoryEncoding) -> Result<UnknownCategory, Fault> {
    let expected = match (encoding, unknown.get_ref()) {
        (CategoryEncoding::Index, Unknown::Index(index)) => return Ok(UnknownCategory::Index(*index)),
        (CategoryEncoding::OneHot, Unknown::Word(Word::Zeros)) => return Ok(UnknownCategory::Zeros),
        // The text goes through; its index is never looked at.
        (CategoryEncoding::Text, Unknown::Word(Word::Pass)) => return Ok(UnknownCategory::Index(-1)),
        (CategoryEncoding::Index, _) => "must be a whole number where encoding = \"index\"",
        (CategoryEncoding::OneHot, _) => "must be \"zeros\" where encoding = \"one-hot\"",
        (CategoryEncoding::Text, _) => "must be \"pass\" where encoding = \"text\"",
    };
    let got = match unknown.get_ref() {
        Unknown::Index(index) => index.to_string(),
        Unknown::Word(Word::Zeros) => "\"zeros\"".to_owned(),
        Unknown::Word(Word::Pass) => "\"pass\"".to_owned(),
    };
    Err(Fault::invalid(unknown, format_args!("{expected}, got {got}")))
}

/// What stands for a missing value is a value of the column, or nan.
fn filling(missing: &Spanned<Missing>, kind: &ColumnKind) -> Result<Filling, Fault> {
    let expected = match (kind, missing.get_ref()) {
        (ColumnKind::Float, Missing::Number(number)) if !number.is_infinite() => return Ok(Filling::Number(*number)),
        (ColumnKind::Int, Missing::Number(number)) if number.is_nan() || number.fract() == 0.0 => {
            return Ok(Filling::Number(*number));
        }
        (ColumnKind::Bool, Missing::Bool(value)) => return Ok(Filling::Number(f64::from(u8::from(*value)))),
        (ColumnKind::Bool, Missing::Number(number)) if number.is_nan() || [0.0, 1.0].contains(number) => {
            return Ok(Filling::Number(*number));
        }
        (ColumnKind::Text, Missing::Text(text)) => return Ok(Filling::Text(text.clone())),
        (ColumnKind::Category { values, unknown, .. }, Missing::Text(text))
            if values.contains(text) || unknown.is_some() =>
        {
            return Ok(Filling::Text(text.clone()));
        }
        (ColumnKind::Category { encoding: CategoryEncoding::Index, .. }, Missing::Number(number))
            if !number.is_infinite() =>
        {
            return Ok(Filling::Number(*number));
        }
        (ColumnKind::Float, _) => "a number or nan",
        (ColumnKind::Int, _) => "a whole number or nan",
        (ColumnKind::Bool, _) => "true, false or nan",
        (ColumnKind::Text, _) => "a text",
        (ColumnKind::Category { .. }, _) => "one of the column's categories",
    };
    let got = match missing.get_ref() {
        Missing::Bool(value) => value.to_string(),
        Missing::Number(number) => number.to_string(),
        Missing::Text(text) => format!("'{}'", text.escape_debug()),
    };
    Err(Fault::invalid(missing, format_args!("must be {expected}, got {got}")))
}
