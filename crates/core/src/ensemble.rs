//! Models made of other models, as their files say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ModelRef;

/// Steps, and how values flow between them. A value is an input of the ensemble, an output of a
/// step, or a constant.
#[derive(Debug, Clone, PartialEq)]
pub struct EnsembleSpec {
    /// Inputs that are declared; each has to be read. Others are found where steps read them.
    pub inputs: Vec<Arc<str>>,
    /// What runs. Order says nothing but whose outputs a step may read without naming them.
    pub steps: Vec<StepSpec>,
    /// What is answered; empty: every output that no step reads.
    pub outputs: Vec<EnsembleOutput>,
    /// Whether inputs of steps that are not named are found by their names; else they are left out.
    pub by_name: bool,
}

impl EnsembleSpec {
    /// Returns every model that it may call, fallbacks included; some more than once.
    pub fn models(&self) -> impl Iterator<Item = &ModelRef> {
        self.steps.iter().flat_map(|step| std::iter::once(&step.model).chain(&step.fallback))
    }
}

/// One step: a call of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSpec {
    /// The step's name.
    pub name: Arc<str>,
    /// Which model it calls.
    pub model: ModelRef,
    /// Where the model's inputs come from. One that is not named is read, where the ensemble goes by
    /// name, from the only step before that has an output of its name, else from the ensemble's input
    /// of its name.
    pub inputs: BTreeMap<String, Vec<Source>>,
    /// The rows that it runs for; none: all.
    pub when: Option<Condition>,
    /// The BOOL output that says which rows the step has an answer for; none: all.
    pub present: Option<String>,
    /// The inputs that hold lists: the step runs for each item. Empty: it runs once.
    pub each: Vec<String>,
    /// The longest that one call may take; none: as long as the request has.
    pub timeout: Option<Duration>,
    /// The model that is called in its place where it fails.
    pub fallback: Option<ModelRef>,
    /// What becomes of the request where the step, and its fallback, fail.
    pub on_failure: OnFailure,
}

/// An output of an ensemble.
#[derive(Debug, Clone, PartialEq)]
pub struct EnsembleOutput {
    /// Its name.
    pub name: Arc<str>,
    /// Where it comes from: for each row, the first that is there.
    pub from: Vec<Source>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// An input of the ensemble.
    Input(Arc<str>),
    /// An output of a step.
    Step {
        /// The step's name.
        step: Arc<str>,
        /// The output of its model.
        output: Arc<str>,
    },
    /// The same for every element of every row.
    Constant(Constant),
}

/// A value that stands in the model's file.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Arc<str>),
}

/// What must hold of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A value of one element compares so with a constant. A value that is not there does not.
    Compare {
        /// The value; never a constant.
        value: Source,
        /// How.
        comparison: Comparison,
        /// With what.
        with: Constant,
    },
    /// All of them.
    All(Vec<Condition>),
    /// At least one of them.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// What becomes of a request where a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It fails.
    #[default]
    Fail,
    /// The step counts as one that did not run.
    Skip,
}

/// An ensemble that serves, and what its steps did since it was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct EnsembleGraph {
    /// The ensemble's name.
    pub name: Arc<str>,
    /// Its version.
    pub version: u64,
    /// The names of its inputs.
    pub inputs: Vec<Arc<str>>,
    /// Its steps, each after those that it reads from.
    pub steps: Vec<GraphStep>,
    /// Its outputs, and where they come from.
    pub outputs: Vec<(Arc<str>, Vec<String>)>,
}

/// A step of an ensemble that serves.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphStep {
    /// Its name.
    pub name: Arc<str>,
    /// Which model it calls.
    pub model: ModelRef,
    /// The inputs of the model, and where they come from.
    pub inputs: Vec<(Arc<str>, Vec<String>)>,
    /// The steps that it waits for: those that its inputs or its condition read from.
    pub after: Vec<Arc<str>>,
    /// The rows that it runs for; none: all.
    pub when: Option<String>,
    /// Whether it runs for each item of a list.
    pub is_each: bool,
    /// The model that is called in its place where it fails.
    pub fallback: Option<ModelRef>,
    /// The longest that one call may take.
    pub timeout: Option<Duration>,
    /// What becomes of the request where the step fails.
    pub on_failure: OnFailure,
    /// What it did.
    pub statistics: StepStatistics,
}

/// What a step did since its ensemble was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepStatistics {
    /// How often it ran, for one row or many.
    pub runs: u64,
    /// How many of those failed.
    pub failed: u64,
    /// For how many requests it did not run.
    pub skipped: u64,
    /// How often its fallback was called.
    pub fallbacks: u64,
    /// How long it ran in all.
    pub total: Duration,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(name) => f.write_str(name),
            Self::Step { step, output } => write!(f, "{step}.{output}"),
            Self::Constant(constant) => constant.fmt(f),
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) => write!(f, "'{}'", text.escape_debug()),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        })
    }
}

/// Writes what a `when` says.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            f.write_str("(")?;
            for (idx, part) in parts.iter().enumerate() {
                write!(f, "{}{part}", if idx == 0 { "" } else { word })?;
            }
            f.write_str(")")
        };
        match self {
            Self::Compare { value, comparison: Comparison::Equal, with: Constant::Bool(true) } => value.fmt(f),
            Self::Compare { value, comparison, with } => write!(f, "{value} {comparison} {with}"),
            Self::All(parts) => joined(f, parts, " and "),
            Self::Any(parts) => joined(f, parts, " or "),
            Self::Not(part) => write!(f, "not {part}"),
        }
    }
}
