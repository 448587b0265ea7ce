//! Models made of other models, as their files say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ModelRef;

/// Steps, and how values flow between them. A value is an input of the ensemble, an output of a
/// step, or a constant.
#[derive(Debug, Clone, PartialEq)]
pub struct EnsembleSpec {
    /// What runs. Order says nothing but whose outputs a step may read without naming them.
    pub steps: Vec<StepSpec>,
    /// What is answered; empty: every output that no step reads.
    pub outputs: Vec<EnsembleOutput>,
}

/// One step: a call of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSpec {
    /// The step's name.
    pub name: Arc<str>,
    /// Which model it calls.
    pub model: ModelRef,
    /// Where the model's inputs come from. One that is not named is read from the only step before
    /// that has an output of its name, else from the ensemble's input of its name.
    pub inputs: BTreeMap<String, Vec<Source>>,
    /// The rows that it runs for; none: all.
    pub when: Option<Condition>,
    /// The BOOL output that says which rows the step has an answer for; none: all.
    pub present: Option<String>,
    /// The inputs that hold lists: the step runs for each item. Empty: it runs once.
    pub each: Vec<String>,
    /// The longest that it may take, with its fallback; none: as long as the request has.
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
