//! Which fields each subject has, how they are called, and what they may be compared with.
//!
//! The tables are the whole of it: a new attribute is a row.

use salver_core::{Error, Result};

use super::lexer::excerpt;
use super::path::Path;
use super::{Attribute, DatasetField, Field, Subject};

/// What a field may be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text that is always there.
    Text,
    /// A text that may be tested for being there at all.
    OptionalText,
    /// A text that may be looked up in a list.
    ListedText,
    /// A text that is compared as a whole or looked up in a list, without patterns.
    Id,
    /// A number.
    Number,
}

impl Kind {
    /// Whether `LIKE` and `ILIKE` may be used.
    pub(super) fn takes_patterns(self) -> bool {
        matches!(self, Self::Text | Self::OptionalText | Self::ListedText)
    }

    /// Whether `IN` and `NOT IN` may be used.
    pub(super) fn takes_lists(self) -> bool {
        matches!(self, Self::ListedText | Self::Id)
    }

    /// Returns the operators, for messages.
    pub(super) fn operators(self) -> &'static str {
        match self {
            Self::Text => "=, !=, LIKE or ILIKE",
            Self::OptionalText => "=, !=, LIKE, ILIKE, IS NULL or IS NOT NULL",
            Self::ListedText => "=, !=, LIKE, ILIKE, IN or NOT IN",
            Self::Id => "=, !=, IN or NOT IN",
            Self::Number => "=, !=, >, >=, < or <=",
        }
    }
}

/// Where an attribute may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Both,
    OrderOnly,
}

/// One attribute of a subject.
pub(super) struct Row {
    /// The name to show, then its aliases.
    pub(super) names: &'static [&'static str],
    pub(super) attribute: Attribute,
    pub(super) kind: Kind,
    pub(super) allowed: Use,
}

const fn row(names: &'static [&'static str], attribute: Attribute, kind: Kind) -> Row {
    Row { names, attribute, kind, allowed: Use::Both }
}

const fn order_only(names: &'static [&'static str], attribute: Attribute) -> Row {
    Row { names, attribute, kind: Kind::Number, allowed: Use::OrderOnly }
}

const RUNS: &[Row] = &[
    row(&["run_id"], Attribute::RunId, Kind::ListedText),
    row(&["run_name", "run name", "Run name", "Run Name"], Attribute::RunName, Kind::Text),
    row(&["status"], Attribute::Status, Kind::Text),
    row(&["user_id"], Attribute::UserId, Kind::Text),
    row(&["artifact_uri"], Attribute::ArtifactUri, Kind::Text),
    row(&["start_time", "created", "Created"], Attribute::StartTime, Kind::Number),
    row(&["end_time"], Attribute::EndTime, Kind::Number),
];

const EXPERIMENTS: &[Row] = &[
    row(&["name"], Attribute::Name, Kind::Text),
    row(&["experiment_id"], Attribute::ExperimentId, Kind::Id),
    row(&["creation_time"], Attribute::CreationTime, Kind::Number),
    row(&["last_update_time"], Attribute::LastUpdated, Kind::Number),
];

const REGISTERED_MODELS: &[Row] = &[
    row(&["name"], Attribute::Name, Kind::ListedText),
    order_only(&["last_updated_timestamp", "timestamp"], Attribute::LastUpdated),
];

const MODEL_VERSIONS: &[Row] = &[
    row(&["name"], Attribute::Name, Kind::ListedText),
    row(&["run_id"], Attribute::RunId, Kind::ListedText),
    row(&["source_path"], Attribute::SourcePath, Kind::Text),
    row(&["version_number"], Attribute::VersionNumber, Kind::Number),
    order_only(&["creation_timestamp"], Attribute::CreationTime),
    order_only(&["last_updated_timestamp"], Attribute::LastUpdated),
];

const LOGGED_MODELS: &[Row] = &[
    row(&["name"], Attribute::Name, Kind::ListedText),
    row(&["model_id"], Attribute::ModelId, Kind::ListedText),
    row(&["model_type"], Attribute::ModelType, Kind::ListedText),
    row(&["status"], Attribute::Status, Kind::ListedText),
    row(&["source_run_id"], Attribute::SourceRunId, Kind::ListedText),
    row(&["creation_timestamp", "creation_time", "creation_timestamp_ms"], Attribute::CreationTime, Kind::Number),
    row(&["last_updated_timestamp", "last_updated_timestamp_ms"], Attribute::LastUpdated, Kind::Number),
];

/// Returns the attributes of a subject.
pub(super) fn attributes(subject: Subject) -> &'static [Row] {
    match subject {
        Subject::Runs => RUNS,
        Subject::Experiments => EXPERIMENTS,
        Subject::RegisteredModels => REGISTERED_MODELS,
        Subject::ModelVersions => MODEL_VERSIONS,
        Subject::LoggedModels => LOGGED_MODELS,
    }
}

/// What may stand before the dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entity {
    Attribute,
    Metric,
    Param,
    Tag,
    Dataset,
}

const RUN_PREFIXES: &[(&str, Entity)] = &[
    ("metrics", Entity::Metric),
    ("metric", Entity::Metric),
    ("params", Entity::Param),
    ("param", Entity::Param),
    ("parameters", Entity::Param),
    ("parameter", Entity::Param),
    ("tags", Entity::Tag),
    ("tag", Entity::Tag),
    ("attributes", Entity::Attribute),
    ("attribute", Entity::Attribute),
    ("attr", Entity::Attribute),
    ("run", Entity::Attribute),
    ("dataset", Entity::Dataset),
    ("datasets", Entity::Dataset),
];

const REGISTRY_PREFIXES: &[(&str, Entity)] =
    &[("tags", Entity::Tag), ("tag", Entity::Tag), ("attribute", Entity::Attribute)];

const LOGGED_MODEL_PREFIXES: &[(&str, Entity)] =
    &[("metrics", Entity::Metric), ("params", Entity::Param), ("tags", Entity::Tag), ("attributes", Entity::Attribute)];

/// Returns the prefixes of a subject.
pub(super) fn prefixes(subject: Subject) -> &'static [(&'static str, Entity)] {
    match subject {
        Subject::Runs => RUN_PREFIXES,
        Subject::Experiments | Subject::RegisteredModels | Subject::ModelVersions => REGISTRY_PREFIXES,
        Subject::LoggedModels => LOGGED_MODEL_PREFIXES,
    }
}

/// Returns the field of a clause and what it may be compared with.
///
/// # Errors
/// The subject has no such field, or none to filter by.
pub(super) fn to_filter(subject: Subject, path: Path<'_>) -> Result<(Field, Kind)> {
    let key = path.key;
    match entity(subject, path)? {
        Entity::Attribute => {
            let row = attribute(subject, key, &[Use::Both])?;
            Ok((Field::Attribute(row.attribute), row.kind))
        }
        Entity::Metric => Ok((Field::Metric(key.to_owned()), Kind::Number)),
        Entity::Param => Ok((Field::Param(key.to_owned()), labels(subject))),
        Entity::Tag => Ok((Field::Tag(key.to_owned()), labels(subject))),
        Entity::Dataset => Ok((Field::Dataset(dataset_field(key)?), Kind::ListedText)),
    }
}

/// Returns the field of an order.
///
/// # Errors
/// The subject has no such field, or none to sort by.
pub(super) fn to_order(subject: Subject, path: Path<'_>) -> Result<Field> {
    let key = path.key;
    match (entity(subject, path)?, subject) {
        (Entity::Attribute, _) => {
            Ok(Field::Attribute(attribute(subject, key, &[Use::Both, Use::OrderOnly])?.attribute))
        }
        (Entity::Metric, _) => Ok(Field::Metric(key.to_owned())),
        (Entity::Param, Subject::Runs) => Ok(Field::Param(key.to_owned())),
        (Entity::Tag, Subject::Runs) => Ok(Field::Tag(key.to_owned())),
        (Entity::Param | Entity::Tag | Entity::Dataset, _) => Err(Error::invalid_input(format!(
            "`{}` cannot be sorted by; sort by {}",
            excerpt(path.prefix.unwrap_or_default()),
            known(subject, &[Use::Both, Use::OrderOnly])
        ))),
    }
}

/// How params and tags may be compared: only some searches can ask whether they are there.
fn labels(subject: Subject) -> Kind {
    match subject {
        Subject::Runs | Subject::Experiments => Kind::OptionalText,
        Subject::RegisteredModels | Subject::ModelVersions | Subject::LoggedModels => Kind::Text,
    }
}

fn entity(subject: Subject, path: Path<'_>) -> Result<Entity> {
    let Some(prefix) = path.prefix else {
        return Ok(Entity::Attribute);
    };
    let known = prefixes(subject);
    let Some((_, entity)) = known.iter().find(|(name, _)| *name == prefix) else {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let message = format!("unknown prefix `{}`, expected one of {}", excerpt(prefix), names.join(", "));
        return Err(Error::invalid_input(message));
    };
    if path.key.is_empty() {
        return Err(Error::invalid_input(format!("no key follows `{prefix}.`; write one, as in {prefix}.`a key`")));
    }
    Ok(*entity)
}

fn attribute(subject: Subject, key: &str, uses: &[Use]) -> Result<&'static Row> {
    let found = attributes(subject).iter().find(|row| uses.contains(&row.allowed) && row.names.contains(&key));
    found.ok_or_else(|| {
        let key = excerpt(key);
        Error::invalid_input(format!("unknown attribute `{key}`, expected one of {}", known(subject, uses)))
    })
}

fn known(subject: Subject, uses: &[Use]) -> String {
    let rows = attributes(subject).iter().filter(|row| uses.contains(&row.allowed));
    let names: Vec<&str> = rows.filter_map(|row| row.names.first().copied()).collect();
    let prefixes = prefixes(subject).iter().filter(|(_, entity)| *entity != Entity::Attribute);
    let with_key = prefixes.filter(|_| uses.len() == 1).map(|(name, _)| format!("{name}.KEY"));
    names.into_iter().map(str::to_owned).chain(with_key).collect::<Vec<_>>().join(", ")
}

fn dataset_field(key: &str) -> Result<DatasetField> {
    match key {
        "name" => Ok(DatasetField::Name),
        "digest" => Ok(DatasetField::Digest),
        "context" => Ok(DatasetField::Context),
        _ => {
            let key = excerpt(key);
            Err(Error::invalid_input(format!("unknown data set key `{key}`, expected name, digest or context")))
        }
    }
}
