//! Models that are made of other models.
//!
//! An ensemble is a model like any other, whose work is to wait for its steps. Each step is a request
//! of its own to the model that it calls: it takes a place there, joins batches with everybody's
//! requests, and ends with the request that it belongs to. What can be checked is checked when the
//! ensemble is loaded (`graph`); a request then goes through the steps (`run`), row by row where
//! conditions say so (`value`, `condition`) and item by item over lists (`each`).

mod condition;
mod counters;
mod each;
mod graph;
mod members;
mod rows;
mod run;
mod value;

use std::sync::Arc;

use salver_core::{
    AsyncCall, AsyncModel, BoxFuture, Engine, EnsembleGraph, EnsembleSpec, Error, GraphStep, Instance, Model,
    ModelConfig, ModelInfo, ModelSpec, Placement, Result, Signature, Source, Tensor,
};

use self::graph::Graph;
pub(crate) use self::members::{Dependants, Members, Served, called_by, is_outdated, with_members};
use self::run::Call;

/// The most requests of an ensemble that may wait or run. Each is little more than a wait; what
/// bounds them is what their steps take and the server's memory for inputs.
const MAX_IN_FLIGHT: usize = 4096;

/// Steps that fit together, and the way to their models.
pub(crate) struct Ensemble {
    graph: Graph,
    call: Arc<dyn Call>,
}

impl Ensemble {
    /// Puts an ensemble together.
    ///
    /// # Errors
    /// `InvalidInput` naming the two ends that do not fit.
    fn new(own: &EnsembleSpec, spec: &ModelSpec, members: &Members, call: Arc<dyn Call>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { graph: Graph::of(own, &members.infos, &spec.config)?, call }))
    }

    /// Describes the steps.
    pub(crate) fn describe(&self, own: &EnsembleSpec, info: &ModelInfo) -> EnsembleGraph {
        let shown = |from: &[Source]| from.iter().map(ToString::to_string).collect::<Vec<_>>();
        let places = self.places();
        let from = |from: &[graph::From]| {
            let one = |from: &graph::From| match from {
                graph::From::Place(place) => places.get(*place).cloned().unwrap_or_default(),
                graph::From::Constant(constant) => constant.to_string(),
            };
            from.iter().map(one).collect::<Vec<_>>()
        };
        let step = |node: &graph::Node| {
            let written = own.steps.iter().find(|step| step.name == node.name);
            GraphStep {
                name: node.name.clone(),
                model: node.model.clone(),
                inputs: node.inputs.iter().map(|input| (input.spec.name.clone(), from(&input.from))).collect(),
                after: node
                    .needs
                    .iter()
                    .filter_map(|&idx| self.graph.steps.get(idx))
                    .map(|need| need.name.clone())
                    .collect(),
                when: written.and_then(|step| step.when.as_ref()).map(ToString::to_string),
                is_each: node.is_each,
                fallback: node.fallback.clone(),
                timeout: node.timeout,
                on_failure: node.on_failure,
                statistics: node.counters.snapshot(),
            }
        };
        let declared = own.outputs.iter().map(|output| (output.name.clone(), shown(&output.from))).collect();
        let found = self.graph.outputs.iter().map(|output| (output.spec.name.clone(), from(&output.from)));
        EnsembleGraph {
            name: info.name.clone(),
            version: info.version,
            inputs: self.graph.signature.inputs.iter().map(|input| input.name.clone()).collect(),
            steps: self.graph.steps.iter().map(step).collect(),
            outputs: if own.outputs.is_empty() { found.collect() } else { declared },
        }
    }

    /// Names every value.
    fn places(&self) -> Vec<String> {
        let mut places = vec![String::new(); self.graph.n_values];
        for (place, input) in self.graph.signature.inputs.iter().enumerate() {
            places[place] = input.name.to_string();
        }
        for step in &self.graph.steps {
            for (output, place) in &step.outputs {
                places[*place] = format!("{}.{output}", step.name);
            }
        }
        places
    }
}

impl AsyncModel for Ensemble {
    fn run<'a>(&'a self, call: AsyncCall<'a>) -> BoxFuture<'a, Result<Vec<Tensor>>> {
        Box::pin(run::run(self, call))
    }

    fn max_in_flight(&self) -> usize {
        MAX_IN_FLIGHT
    }
}

/// Returns what an ensemble takes and gives that calls these models.
///
/// # Errors
/// `InvalidInput` naming the two ends that do not fit.
pub(crate) fn signature_of(own: &EnsembleSpec, config: &ModelConfig, members: &graph::Members) -> Result<Signature> {
    Graph::of(own, members, config).map(|graph| graph.signature)
}

/// An ensemble as the runtime sees models.
pub(crate) struct Loaded(Arc<Ensemble>);

impl Model for Loaded {
    fn signature(&self) -> &Signature {
        &self.0.graph.signature
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn asynchronous(&self) -> Option<Arc<dyn AsyncModel>> {
        Some(self.0.clone())
    }

    fn instance(&self, _: &Placement) -> Result<Box<dyn Instance>> {
        Err(no_instance())
    }
}

fn no_instance() -> Error {
    Error::unsupported("an ensemble computes nothing itself")
}

/// What ensembles are called where engines are named.
pub(crate) struct EnsembleEngine;

impl Engine for EnsembleEngine {
    fn name(&self) -> &'static str {
        "ensemble"
    }

    fn platform(&self) -> &'static str {
        "ensemble"
    }

    fn describe(&self) -> String {
        "steps that call other models".to_owned()
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn load(&self, _: &ModelSpec) -> Result<Arc<dyn Model>> {
        Err(no_instance())
    }
}
