//! The graph of an ensemble: what the server tells of it as JSON, and how it is drawn.
//!
//! `figures` makes rates and times of what the steps have counted, `svg` draws. Nothing here takes
//! what it reads for granted: a graph may come from any server.

mod figures;
pub mod svg;

use std::collections::HashMap;

use salver_core::{EnsembleGraph, GraphStep, OnFailure, StepStatistics};
use serde::{Deserialize, Serialize};

pub use self::figures::{Figures, Look};

/// An ensemble, and what its steps did since it was loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The ensemble's name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The names of its inputs.
    pub inputs: Vec<String>,
    /// Its steps, each after those that it waits for.
    pub steps: Vec<Step>,
    /// What it answers, and where that comes from.
    pub outputs: Vec<Value>,
}

/// A value of a model, or of the ensemble, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// The name of an input, `STEP.OUTPUT`, or a constant: for each row, the first that is there.
    pub from: Vec<String>,
}

/// A step: a call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// `NAME`, `NAME/VERSION` or `NAME@ALIAS`.
    pub model: String,
    /// The inputs of the model.
    pub inputs: Vec<Value>,
    /// The steps that it waits for.
    pub after: Vec<String>,
    /// The rows that it runs for; none: all.
    pub when: Option<String>,
    /// Whether it runs for each item of a list.
    pub each: bool,
    /// The model that is called in its place where it fails.
    pub fallback: Option<String>,
    /// The longest that one call may take.
    pub timeout_ms: Option<u64>,
    /// What becomes of the request where the step fails: `fail` or `skip`.
    pub on_failure: String,
    /// What it did since the ensemble was loaded.
    pub statistics: Statistics,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// How often it ran, for one row or many.
    pub runs: u64,
    /// How many of those failed.
    pub failed: u64,
    /// For how many requests it did not run.
    pub skipped: u64,
    /// How often its fallback was called.
    pub fallbacks: u64,
    /// How long it ran in all, in milliseconds.
    pub total_ms: f64,
}

/// What stands at the other end of an arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// An input of the ensemble.
    Input(&'a str),
    /// An output of a step, which is named by its place.
    Step(usize, &'a str),
    /// A constant.
    Constant(&'a str),
}

/// What the names in a graph mean.
pub(crate) struct Names<'a> {
    inputs: &'a [String],
    steps: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    pub(crate) fn of(graph: &'a Graph) -> Self {
        let steps = graph.steps.iter().enumerate().map(|(idx, step)| (step.name.as_str(), idx)).collect();
        Self { inputs: &graph.inputs, steps }
    }

    /// Returns where a value comes from. As in the model's file: before the first dot stands a step,
    /// unless the whole is an input.
    pub(crate) fn origin(&self, from: &'a str) -> Origin<'a> {
        if self.inputs.iter().any(|input| input == from) {
            return Origin::Input(from);
        }
        let step = from.split_once('.').and_then(|(step, output)| Some((*self.steps.get(step)?, output)));
        step.map_or(Origin::Constant(from), |(step, output)| Origin::Step(step, output))
    }
}

impl Graph {
    /// Puts the steps into levels by their place: each is behind all that it waits for, as near to
    /// the front as that allows. Steps of a level do not wait for each other.
    pub fn levels(&self) -> Vec<Vec<usize>> {
        let mut level_of: HashMap<&str, usize> = HashMap::new();
        let mut levels: Vec<Vec<usize>> = Vec::new();
        for (idx, step) in self.steps.iter().enumerate() {
            let behind = step.after.iter().filter_map(|name| level_of.get(name.as_str())).max();
            let level = behind.map_or(0, |level| level + 1);
            level_of.insert(&step.name, level);
            if levels.len() == level {
                levels.push(Vec::new());
            }
            levels[level].push(idx);
        }
        levels
    }
}

impl From<&EnsembleGraph> for Graph {
    fn from(graph: &EnsembleGraph) -> Self {
        Self {
            name: graph.name.to_string(),
            version: graph.version,
            inputs: graph.inputs.iter().map(ToString::to_string).collect(),
            steps: graph.steps.iter().map(Step::from).collect(),
            outputs: values(&graph.outputs),
        }
    }
}

impl From<&GraphStep> for Step {
    fn from(step: &GraphStep) -> Self {
        Self {
            name: step.name.to_string(),
            model: step.model.to_string(),
            inputs: values(&step.inputs),
            after: step.after.iter().map(ToString::to_string).collect(),
            when: step.when.clone(),
            each: step.is_each,
            fallback: step.fallback.as_ref().map(ToString::to_string),
            timeout_ms: step.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            on_failure: match step.on_failure {
                OnFailure::Fail => "fail".to_owned(),
                OnFailure::Skip => "skip".to_owned(),
            },
            statistics: Statistics::from(&step.statistics),
        }
    }
}

impl From<&StepStatistics> for Statistics {
    fn from(statistics: &StepStatistics) -> Self {
        Self {
            runs: statistics.runs,
            failed: statistics.failed,
            skipped: statistics.skipped,
            fallbacks: statistics.fallbacks,
            total_ms: statistics.total.as_secs_f64() * 1e3,
        }
    }
}

/// Returns what a step runs under, as people read it: `when`, `each`, `within`, `else`.
pub fn terms(step: &Step) -> Vec<(&'static str, String)> {
    let mut terms = Vec::new();
    terms.extend(step.when.clone().map(|when| ("when", when)));
    terms.extend(step.each.then(|| ("each", "item of a list".to_owned())));
    terms.extend(step.timeout_ms.map(|limit| ("within", format!("{limit} ms"))));
    terms.extend(match (&step.fallback, step.on_failure == "skip") {
        (Some(fallback), true) => Some(("else", format!("{fallback}, else nothing"))),
        (Some(fallback), false) => Some(("else", fallback.clone())),
        (None, true) => Some(("else", "nothing".to_owned())),
        (None, false) => None,
    });
    terms
}

/// Returns how many columns of a font of fixed width a text takes; most letters of East Asia and
/// pictographs take two.
pub fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

fn column(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{ffdc}' | '\u{1f300}'.. => 2,
        _ => 1,
    }
}

/// Returns a text that takes at most so many columns; one that is cut ends in `…`.
pub fn clipped(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |c: &char| {
        let fits = column(*c) <= left;
        left = left.saturating_sub(column(*c));
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

fn values(values: &[(std::sync::Arc<str>, Vec<String>)]) -> Vec<Value> {
    values.iter().map(|(name, from)| Value { name: name.to_string(), from: from.clone() }).collect()
}

#[cfg(test)]
pub(crate) mod tests;
