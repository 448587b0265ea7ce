//! An ensemble's steps, checked against the models that they call.
//!
//! Every input finds its source here, types and shapes of both ends are compared, and the steps are
//! put into an order in which each follows what it reads. Nothing is left to find out by name while
//! a request runs.

mod certainty;
mod check;
mod resolve;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use salver_core::{
    BatchRule, Batching, Constant, EnsembleSpec, Error, IoConfig, ModelConfig, ModelInfo, ModelRef, OnFailure, Result,
    Signature, TensorSpec,
};

use self::resolve::Resolver;
use super::condition::Test;
use super::counters::Counters;

/// The models that steps call, as they are now.
pub(crate) type Members = HashMap<ModelRef, Arc<ModelInfo>>;

/// Steps that fit together.
#[derive(Debug)]
pub(crate) struct Graph {
    /// In an order in which each follows what it reads.
    pub(crate) steps: Vec<Node>,
    /// The outputs, and where they come from.
    pub(crate) outputs: Vec<Wanted>,
    /// What requests see.
    pub(crate) signature: Signature,
    /// Whether the first dimension of every input is rows, which may go different ways.
    pub(crate) has_rows: bool,
    /// How many values a request has: its inputs, then the outputs of the steps.
    pub(crate) n_values: usize,
    /// Whether each step waits for the one before.
    pub(crate) is_chain: bool,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// What it calls.
    pub(crate) model: ModelRef,
    /// The model's interface, as it was when the ensemble was loaded.
    pub(crate) info: Arc<ModelInfo>,
    /// What the model is given.
    pub(crate) inputs: Vec<Wanted>,
    /// The outputs that are asked for; each has a place among the values.
    pub(crate) outputs: Vec<(Arc<str>, usize)>,
    /// The rows that it runs for.
    pub(crate) when: Option<Test>,
    /// The place of the output that says which rows have an answer.
    pub(crate) present: Option<usize>,
    /// Whether it runs for each item of a list.
    pub(crate) is_each: bool,
    /// The most rows that the model and its fallback take; none: any number.
    pub(crate) limit: Option<NonZeroUsize>,
    /// The longest that one call may take.
    pub(crate) timeout: Option<Duration>,
    /// What is called where the model fails.
    pub(crate) fallback: Option<ModelRef>,
    /// What becomes of the request where that fails too.
    pub(crate) on_failure: OnFailure,
    /// The steps that it waits for, by their place in `Graph::steps`.
    pub(crate) needs: Vec<usize>,
    /// Whether it reads nothing but inputs of the ensemble.
    pub(crate) is_first: bool,
    /// What it did so far.
    pub(crate) counters: Counters,
}

/// An input of a step, or an output of the ensemble.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// What it has to look like, with the dimensions of lists.
    pub(crate) spec: TensorSpec,
    /// Where it comes from: the first that is there.
    pub(crate) from: Vec<From>,
    /// Whether it holds a list of what the step is run for.
    pub(crate) is_list: bool,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(crate) enum From {
    /// This place among the values.
    Place(usize),
    /// The model's file.
    Constant(Constant),
}

impl Graph {
    /// Puts an ensemble together.
    ///
    /// # Errors
    /// `InvalidInput` naming the two ends that do not fit, a cycle, or what is missing.
    pub(crate) fn new(spec: &EnsembleSpec, members: &Members, has_rows: Option<bool>) -> Result<Self> {
        let steps: Vec<_> = spec.steps.iter().map(|step| member(members, &step.model)).collect::<Result<_>>()?;
        let is_open = spec.steps.iter().zip(&steps).filter(|(step, _)| step.each.is_empty());
        let may_have_rows = is_open.clone().count() > 0 && is_open.clone().all(|(_, info)| info.signature.is_batched());
        let mut resolver = Resolver::new(spec, &steps, has_rows.unwrap_or(true) && may_have_rows);
        let mut graph = resolver.graph()?;
        check::fallbacks(&mut graph, members)?;
        let limits = graph.steps.iter().filter(|step| !step.is_each).filter_map(|step| step.limit);
        graph.signature.batching = match graph.has_rows {
            true => Batching::Rows { limit: limits.min() },
            false => Batching::Fixed,
        };
        Ok(graph)
    }

    /// Puts the ensemble together that a configuration belongs to.
    ///
    /// # Errors
    /// As [`Graph::new`], and where the configuration declares more rows than a model takes.
    pub(crate) fn of(spec: &EnsembleSpec, members: &Members, config: &ModelConfig) -> Result<Self> {
        let has_rows = (config.batch == BatchRule::Never).then_some(false);
        let mut graph = Self::new(spec, members, has_rows)?;
        graph.declare(config)?;
        Ok(graph)
    }

    /// Takes over what Triton's configuration of an ensemble leaves open, though its models do not:
    /// dimensions of any extent, which the step that reads them then checks.
    ///
    /// # Errors
    /// `InvalidInput` naming the step whose model does not take as many rows as are declared.
    fn declare(&mut self, config: &ModelConfig) -> Result<()> {
        if let BatchRule::Max(rows) = config.batch {
            check::rows(self, rows)?;
        }
        let declared = |specs: &mut [TensorSpec], declared: &[IoConfig]| {
            for spec in specs {
                let found = declared.iter().find(|io| *io.name == *spec.name && io.reshape.is_none());
                let dims = found.and_then(|io| io.dims.as_deref()).unwrap_or_default();
                let own = &mut spec.shape[usize::from(self.has_rows)..];
                if own.len() == dims.len() {
                    check::widen_free(own, dims);
                }
            }
        };
        declared(&mut self.signature.inputs, &config.inputs);
        declared(&mut self.signature.outputs, &config.outputs);
        Ok(())
    }
}

/// Returns the member that `model` means.
fn member(members: &Members, model: &ModelRef) -> Result<Arc<ModelInfo>> {
    members.get(model).cloned().ok_or_else(|| Error::engine(format!("model '{model}' was not looked up")))
}

#[cfg(test)]
mod tests;
