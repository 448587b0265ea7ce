//! The language of MLflow's searches: filters, orders and pages.
//!
//! Text comes in, checked values come out; turning them into SQL is the store's business, the rules
//! about rows without a tag or metric included. Source of the language: MLflow's documentation of
//! `search_runs` and its like, and what the parsers of its release 3.17 accept. Every text is bounded:
//! [`MAX_TEXT_BYTES`], [`MAX_CLAUSES`] and [`MAX_LIST_VALUES`]; nothing here recurses.

mod field;
mod filter;
mod lexer;
mod order;
mod page;
mod path;

pub use filter::parse_filter;
pub use order::{order_field, parse_order};
pub use page::{Page, PageLimits};

/// The most bytes of a filter or of one order.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// The most clauses of a filter.
pub const MAX_CLAUSES: usize = 100;
/// The most values of one `IN` list.
pub const MAX_LIST_VALUES: usize = 10_000;

/// What a search looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Runs of experiments.
    Runs,
    /// Experiments.
    Experiments,
    /// Registered models.
    RegisteredModels,
    /// Versions of registered models.
    ModelVersions,
    /// Models that runs logged, registered or not.
    LoggedModels,
}

impl Subject {
    /// All subjects.
    pub const ALL: [Self; 5] =
        [Self::Runs, Self::Experiments, Self::RegisteredModels, Self::ModelVersions, Self::LoggedModels];
}

/// What a clause tests or an order sorts by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    /// A column of the subject itself.
    Attribute(Attribute),
    /// The latest value of the metric with this key.
    Metric(String),
    /// The parameter with this key.
    Param(String),
    /// The tag with this key.
    Tag(String),
    /// A column of the data sets that a run read.
    Dataset(DatasetField),
}

/// The attributes of all subjects; a subject has some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// Id of a run; for a model version, of the run that made it.
    RunId,
    /// Name of a run.
    RunName,
    /// Status of a run or of a logged model.
    Status,
    /// Who began the run.
    UserId,
    /// Where a run keeps its artifacts.
    ArtifactUri,
    /// When a run began, in milliseconds.
    StartTime,
    /// When a run ended, in milliseconds; absent while it goes on.
    EndTime,
    /// Name of an experiment or of a model.
    Name,
    /// Id of an experiment.
    ExperimentId,
    /// When the subject was created, in milliseconds.
    CreationTime,
    /// When the subject last changed, in milliseconds.
    LastUpdated,
    /// Where the files of a model version came from.
    SourcePath,
    /// Number of a model version.
    VersionNumber,
    /// Id of a logged model.
    ModelId,
    /// Type of a logged model.
    ModelType,
    /// The run that logged the model.
    SourceRunId,
}

/// The columns of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatasetField {
    /// Its name.
    Name,
    /// Its digest.
    Digest,
    /// What the run read it for: the input tag `mlflow.data.context`.
    Context,
}

/// Comparisons of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `LIKE`: a pattern with `%` and `_`; case matters.
    Like,
    /// `ILIKE`: the same where case does not matter.
    ILike,
}

/// Comparisons of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NumberOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

/// What must hold of a field. An absent field passes `Null { negated: false }` only.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// A comparison with a text.
    Text {
        /// How.
        op: TextOp,
        /// With what; for `LIKE` and `ILIKE` a pattern.
        value: String,
    },
    /// A comparison with a number.
    Number {
        /// How.
        op: NumberOp,
        /// With what; always finite.
        value: f64,
    },
    /// `IN`, or `NOT IN` where negated.
    In {
        /// The list: never empty, may repeat values.
        values: Vec<String>,
        /// Whether the value must be missing from the list.
        negated: bool,
    },
    /// `IS NULL`, or `IS NOT NULL` where negated.
    Null {
        /// Whether the field must be there.
        negated: bool,
    },
}

/// One condition of a filter; a row must pass all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// What is tested.
    pub field: Field,
    /// What must hold of it; its variant fits the field.
    pub test: Test,
}

/// One key of a sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What to sort by.
    pub field: Field,
    /// Whether small values come first.
    pub ascending: bool,
}

#[cfg(test)]
mod tests;
