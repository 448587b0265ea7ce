//! What requests see of a model (the wire side), joined from its graph and its configuration.
//!
//! Decides whether the first dimension is a batch dimension, checks declared tensors against the
//! graph, and maps between the two where they differ: order, offered outputs, Triton's `reshape`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use salver_core::{
    BatchRule, Batching, DataType, Dim, Error, InstanceGroup, IoConfig, ModelConfig, PartLimits, Result,
    SequenceBatching, Shape, Signature, Task, TaskSpec, Tensor, TensorSpec,
};

use crate::padding::Padding;
use crate::ragged::Ragged;
use crate::sequence::Filling;

/// Rows of a merged batch where nothing else is said.
pub(crate) const DEFAULT_MAX_ROWS: usize = salver_core::DynamicBatching::DEFAULT_MAX_ROWS;

/// The two sides of a model and the way between them.
#[derive(Debug)]
pub(crate) struct Interface {
    /// Inputs and outputs as requests see them.
    pub(crate) wire: Signature,
    /// The configuration with what the graph says filled in.
    pub(crate) config: ModelConfig,
    /// How requests of different lengths share a batch; none: they do not.
    pub(crate) padding: Option<Padding>,
    /// What the server adds to the requests of a stateful model; none: it is not one.
    pub(crate) filling: Option<Filling>,
    /// How requests of different shapes lie in flat tensors; none: they do not.
    pub(crate) ragged: Option<Ragged>,
    /// What stands before and behind the wire side; none: requests are its tensors.
    pub(crate) task: Option<Arc<dyn Task>>,
    /// The first part of the task's example, where parts have one shape.
    pub(crate) sample: Vec<Tensor>,
    /// For each wire input: its place in the graph and its graph shape, where that differs.
    inputs: Vec<Mapping>,
    /// For each wire output: its place in the graph and its wire shape, where that differs.
    outputs: Vec<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    graph_idx: usize,
    /// The shape (batch dimension included) to give the tensor on its way.
    reshape: Option<Vec<Dim>>,
}

impl Interface {
    /// Joins the graph's signature with the configuration.
    ///
    /// # Errors
    /// `InvalidInput` naming the input or output that does not fit the graph.
    pub(crate) fn new(graph: &Signature, config: &ModelConfig) -> Result<Self> {
        let (ragged, requests) = Ragged::new(graph, config)?.unzip();
        let graph = requests.as_ref().unwrap_or(graph);
        let batching = batching(graph, config)?;
        let batched = matches!(batching, Batching::Rows { .. });
        let filling = config.sequence_batching.as_ref();
        let filling = filling.map(|sequences| Filling::new(graph, batched, sequences)).transpose()?;
        let own_inputs = unfilled(graph, config, filling.as_ref())?;
        let (inputs, input_maps) = join(Side::Input, &own_inputs, &config.inputs, batched, |_| false)?;
        let is_state = |idx| filling.as_ref().is_some_and(|filling| filling.takes(idx));
        let (outputs, output_maps) = join(Side::Output, &graph.outputs, &config.outputs, batched, is_state)?;
        let wire = Signature { inputs, outputs, batching };
        let declared = config.dynamic_batching.as_ref().and_then(|batching| batching.padding.as_ref());
        let padding = declared.map(|declared| Padding::new(&wire, declared)).transpose()?;
        if ragged.is_some() && (padding.is_some() || filling.is_some()) {
            let message = "allow_ragged_batch goes neither with batching.padding nor with sequence_batching";
            return Err(Error::unsupported(message));
        }
        let config = effective_config(&wire, config);
        let (inputs, outputs) = (input_maps, output_maps);
        Ok(Self { wire, config, padding, filling, ragged, task: None, sample: Vec::new(), inputs, outputs })
    }

    /// Checks a request's inputs and turns them into the graph's: its order and shapes.
    ///
    /// # Errors
    /// `InvalidInput` naming the input at fault.
    pub(crate) fn accept(&self, model: &str, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let mut checked = self.wire.check(model, inputs)?;
        if is_identity(&self.inputs) {
            return Ok(checked);
        }
        let place = |tensor: &Tensor| {
            let wire_idx = self.wire.inputs.iter().position(|spec| spec.name == *tensor.name());
            wire_idx.map_or(usize::MAX, |idx| self.inputs[idx].graph_idx)
        };
        checked.sort_by_key(place);
        let reshape = |tensor: Tensor| {
            let wire_idx = self.wire.inputs.iter().position(|spec| spec.name == *tensor.name());
            let Some((spec, Some(target))) = wire_idx.map(|idx| (&self.wire.inputs[idx], &self.inputs[idx].reshape))
            else {
                return Ok(tensor);
            };
            let shape = fill(&spec.shape, tensor.shape(), target);
            tensor.reshape(shape)
        };
        checked.into_iter().map(reshape).collect()
    }

    /// As [`Self::accept`], with what the server adds to a request before it runs: for runs that are
    /// nobody's.
    ///
    /// # Errors
    /// `InvalidInput` naming the input at fault.
    pub(crate) fn accept_sample(&self, model: &str, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let rows = inputs.first().map_or(1, Tensor::rows);
        let inputs = self.accept(model, inputs)?;
        match (&self.filling, &self.ragged) {
            (None, None) => Ok(inputs),
            (None, Some(ragged)) => ragged.fill_alone(&inputs),
            (Some(filling), _) => filling.fill_sample(&inputs, if self.wire.is_batched() { rows } else { 1 }),
        }
    }

    /// Picks the wanted outputs (empty: all offered ones) and gives them their wire shapes.
    ///
    /// # Errors
    /// `InvalidInput` for an output that the model does not offer.
    pub(crate) fn present(&self, wanted: &[usize], graph: Vec<Tensor>) -> Result<Vec<Tensor>> {
        if wanted.is_empty() && graph.len() == self.outputs.len() && is_identity(&self.outputs) {
            return Ok(graph);
        }
        let all = 0..self.wire.outputs.len();
        let present = |idx: usize| {
            let (spec, map) = (&self.wire.outputs[idx], &self.outputs[idx]);
            let tensor = graph.get(map.graph_idx).cloned().ok_or_else(|| {
                Error::engine(format!("the engine gave {} outputs, '{}' is not among them", graph.len(), spec.name))
            })?;
            match &map.reshape {
                None => Ok(tensor),
                Some(target) => {
                    let shape = infer_free(tensor.element_count(), tensor.shape(), target);
                    tensor.reshape(shape)
                }
            }
        };
        if wanted.is_empty() { all.map(present).collect() } else { wanted.iter().copied().map(present).collect() }
    }

    /// Puts a task before and behind the model: requests see the task's inputs and outputs.
    ///
    /// # Errors
    /// `InvalidInput` where what the task pads cannot be padded, else what the task says of its own
    /// example.
    pub(crate) fn with_task(mut self, task: Arc<dyn Task>) -> Result<Self> {
        if self.padding.is_none() && self.config.dynamic_batching.is_some() {
            self.padding = task.padding().map(|own| Padding::new(&self.wire, &own)).transpose()?;
        }
        if self.padding.is_none() {
            let limits = PartLimits { max_rows: 1, buckets: &[] };
            self.sample = task.encode(task.example(), limits)?.parts.into_iter().next().unwrap_or_default();
        }
        let shown = task.signature();
        self.config.inputs = declared(&shown.inputs, &[], true);
        self.config.outputs = declared(&shown.outputs, &[], true);
        self.task = Some(task);
        Ok(self)
    }

    /// Expects any number of answers to a request: none shares a batch, and none is kept.
    ///
    /// # Errors
    /// `Unsupported` naming what cannot go with that.
    pub(crate) fn decouple(&mut self, task: &TaskSpec) -> Result<()> {
        let with = match task {
            _ if self.ragged.is_some() => "allow_ragged_batch".to_owned(),
            TaskSpec::Tensor | TaskSpec::Rows if !self.config.response_cache => {
                self.config.decoupled = true;
                self.config.dynamic_batching = None;
                self.padding = None;
                return Ok(());
            }
            TaskSpec::Tensor | TaskSpec::Rows => "[cache]".to_owned(),
            task => format!("task = \"{}\"", task.name()),
        };
        Err(Error::unsupported(format!(
            "a model whose predict is a generator cannot have {with}: leave one of them out"
        )))
    }

    /// Inputs and outputs as requests see them.
    pub(crate) fn shown(&self) -> &Signature {
        self.task.as_ref().map_or(&self.wire, |task| task.signature())
    }

    /// The bounds of length buckets that the model declares.
    pub(crate) fn buckets(&self) -> Vec<usize> {
        self.padding.as_ref().map(|padding| padding.buckets().to_vec()).unwrap_or_default()
    }

    /// Whether every request has the same row shapes, so that any two can be merged.
    pub(crate) fn has_fixed_rows(&self) -> bool {
        let fixed = |spec: &TensorSpec| {
            let is_fixed = !spec.shape.iter().skip(1).any(|dim| *dim == Dim::Free);
            !spec.optional && (is_fixed || self.is_flat(&spec.name))
        };
        self.wire.inputs.iter().all(fixed)
    }

    /// Whether requests may differ in the shape of this input and share a batch without padding.
    pub(crate) fn is_flat(&self, input: &str) -> bool {
        self.ragged.as_ref().is_some_and(|ragged| ragged.is_flat(input))
    }
}

/// Looks up the wanted outputs by name; a repeated name counts once.
///
/// # Errors
/// `InvalidInput` for an output that the model does not offer.
pub(crate) fn select(model: &str, outputs: &[TensorSpec], names: &[Arc<str>]) -> Result<Vec<usize>> {
    let mut wanted = Vec::with_capacity(names.len());
    for name in names {
        let Some(idx) = outputs.iter().position(|spec| spec.name == *name) else {
            let offered: Vec<String> = outputs.iter().map(|spec| format!("'{}'", spec.name)).collect();
            let shown: String = name.chars().take(128).flat_map(char::escape_debug).collect();
            return Err(Error::invalid_input(format!(
                "unexpected inference output '{shown}' for model '{model}'; its outputs are {}",
                offered.join(", ")
            )));
        };
        if !wanted.contains(&idx) {
            wanted.push(idx);
        }
    }
    Ok(wanted)
}

/// Whether the wire's tensors are the graph's, in number, order and shape.
fn is_identity(maps: &[Mapping]) -> bool {
    maps.iter().enumerate().all(|(idx, map)| map.graph_idx == idx && map.reshape.is_none())
}

fn batching(graph: &Signature, config: &ModelConfig) -> Result<Batching> {
    match config.batch {
        BatchRule::Never => Ok(Batching::Fixed),
        BatchRule::Derive { limit } if graph.is_batched() => {
            // An ensemble is bound by the models that it calls.
            let own = match graph.batching {
                Batching::Rows { limit } => limit,
                Batching::Fixed => None,
            };
            Ok(Batching::Rows { limit: [own, limit.and_then(NonZeroUsize::new)].into_iter().flatten().min() })
        }
        BatchRule::Derive { .. } => Ok(Batching::Fixed),
        BatchRule::Max(limit) => {
            let inputs = graph.inputs.iter().filter(|spec| is_shown(&spec.name, &config.inputs, config));
            let outputs = graph.outputs.iter().filter(|spec| is_shown(&spec.name, &config.outputs, config));
            let is_fixed = |spec: &&TensorSpec| spec.shape.first().is_some_and(|dim| *dim != Dim::Free);
            let fixed = inputs.chain(outputs).find(is_fixed);
            match fixed {
                None => Ok(Batching::Rows { limit: NonZeroUsize::new(limit) }),
                Some(spec) => Err(Error::invalid_input(format!(
                    "max_batch_size is {limit}, but '{}' has shape {:?} in the graph, whose first dimension is fixed; \
                     use max_batch_size: 0",
                    spec.name,
                    spec.wire_shape()
                ))),
            }
        }
    }
}

/// Whether a tensor of the graph is declared; where nothing is, all are but those that sequences fill.
fn is_shown(name: &str, declared: &[IoConfig], config: &ModelConfig) -> bool {
    let is_filled = |sequences: &SequenceBatching| {
        sequences.controls.iter().any(|control| control.input == name)
            || sequences.states.iter().any(|state| state.input == name || state.output == name)
    };
    match declared {
        [] => !config.sequence_batching.as_deref().is_some_and(is_filled),
        declared => declared.iter().any(|io| *io.name == *name),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Returns the graph's inputs that come from requests.
fn unfilled(graph: &Signature, config: &ModelConfig, filling: Option<&Filling>) -> Result<Vec<TensorSpec>> {
    let is_filled = |name: &str| filling.is_some_and(|filling| filling.fills(name));
    if let Some(io) = config.inputs.iter().find(|io| is_filled(&io.name)) {
        return Err(Error::invalid_input(format!(
            "input '{}' is filled by sequence_batching: leave it out of the inputs of requests",
            io.name
        )));
    }
    Ok(graph.inputs.iter().filter(|spec| !is_filled(&spec.name)).cloned().collect())
}

fn join(
    side: Side,
    graph: &[TensorSpec],
    declared: &[IoConfig],
    batched: bool,
    is_hidden: impl Fn(usize) -> bool,
) -> Result<(Vec<TensorSpec>, Vec<Mapping>)> {
    if declared.is_empty() {
        let shown = graph.iter().enumerate().filter(|(idx, _)| !is_hidden(*idx));
        return Ok(shown.map(|(idx, spec)| (spec.clone(), Mapping { graph_idx: idx, reshape: None })).unzip());
    }
    if side == Side::Input
        && let Some(missing) =
            graph.iter().find(|spec| !spec.optional && !declared.iter().any(|io| *io.name == *spec.name))
    {
        return Err(Error::invalid_input(format!(
            "input '{}' of the graph is missing in the configuration",
            missing.name
        )));
    }
    declared
        .iter()
        .map(|io| join_one(side, graph, io, batched))
        .collect::<Result<Vec<_>>>()
        .map(|all| all.into_iter().unzip())
}

fn join_one(side: Side, graph: &[TensorSpec], io: &IoConfig, batched: bool) -> Result<(TensorSpec, Mapping)> {
    let word = side.word();
    let Some(graph_idx) = graph.iter().position(|spec| *spec.name == *io.name) else {
        let names: Vec<String> = graph.iter().map(|spec| format!("'{}'", spec.name)).collect();
        return Err(Error::invalid_input(format!(
            "{word} '{}' is not in the graph, whose {word}s are {}",
            io.name,
            names.join(", ")
        )));
    };
    let spec = &graph[graph_idx];
    if let Some(dtype) = io.dtype.filter(|dtype| *dtype != spec.dtype) {
        return Err(Error::invalid_input(format!(
            "{word} '{}' is declared as {dtype}, but the graph has {}",
            io.name, spec.dtype
        )));
    }
    let (wire, reshape) = match &io.dims {
        None => (spec.shape.clone(), None),
        Some(dims) => {
            let in_graph = with_batch(batched, io.reshape.as_ref().unwrap_or(dims));
            check_dims(word, &io.name, spec, &in_graph)?;
            (with_batch(batched, dims), io.reshape.is_some().then_some(in_graph))
        }
    };
    let reshape = match side {
        Side::Input => reshape,
        Side::Output => reshape.map(|_| wire.clone()),
    };
    let joined = TensorSpec { shape: wire, optional: spec.optional || io.optional, ..spec.clone() };
    Ok((joined, Mapping { graph_idx, reshape }))
}

fn with_batch(batched: bool, dims: &[Dim]) -> Vec<Dim> {
    batched.then_some(Dim::Free).into_iter().chain(dims.iter().copied()).collect()
}

/// A declared extent may be narrower than the graph's, never wider. Outputs whose shape the graph
/// does not state show as scalars there and pass.
fn check_dims(word: &str, name: &str, graph: &TensorSpec, declared: &[Dim]) -> Result<()> {
    let unknown = graph.shape.is_empty() && word == "output";
    let fits = graph.shape.len() == declared.len()
        && graph.shape.iter().zip(declared).all(|(graph, declared)| *graph == Dim::Free || graph == declared);
    if unknown || fits {
        return Ok(());
    }
    let wire: Vec<i64> = declared.iter().map(|dim| dim.to_wire()).collect();
    Err(Error::invalid_input(format!(
        "{word} '{name}' is declared with shape {wire:?} (batch dimension included), but the graph has {:?}",
        graph.wire_shape()
    )))
}

/// Carries the extents of free dimensions over to `target`, in order.
fn fill(declared: &[Dim], actual: &Shape, target: &[Dim]) -> Shape {
    let mut free = declared.iter().zip(actual.iter()).filter(|(dim, _)| **dim == Dim::Free).map(|(_, extent)| *extent);
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free => free.next().unwrap_or(1),
    };
    target.iter().map(extent).collect()
}

/// Gives `target`'s free dimensions the extents that the tensor has left: the batch dimension
/// first, and the last free one what remains.
fn infer_free(elements: usize, actual: &Shape, target: &[Dim]) -> Shape {
    let mut shape: Vec<usize> = Vec::with_capacity(target.len());
    let last_free = target.iter().rposition(|dim| *dim == Dim::Free);
    for (idx, dim) in target.iter().enumerate() {
        shape.push(match dim {
            Dim::Fixed(extent) => *extent,
            Dim::Free if Some(idx) == last_free => {
                let others: usize = shape.iter().product::<usize>() * fixed_product(&target[idx + 1..]);
                elements.checked_div(others).unwrap_or(0)
            }
            Dim::Free => actual.get(idx).copied().unwrap_or(1),
        });
    }
    Shape::new(&shape)
}

fn fixed_product(dims: &[Dim]) -> usize {
    dims.iter().map(|dim| if let Dim::Fixed(extent) = dim { *extent } else { 1 }).product()
}

/// Fills in what the graph says, so that clients see no gap.
fn effective_config(wire: &Signature, config: &ModelConfig) -> ModelConfig {
    let max_rows = config.dynamic_batching.as_ref().and_then(|batching| batching.max_rows);
    let batch = match wire.batching {
        Batching::Fixed => BatchRule::Never,
        Batching::Rows { limit } => {
            BatchRule::Max(limit.map_or(max_rows.unwrap_or(DEFAULT_MAX_ROWS), NonZeroUsize::get))
        }
    };
    let batched = wire.is_batched();
    let instance_groups = if config.instance_groups.is_empty() {
        // As in Triton, where sequences would spread over the instances otherwise.
        let is_stateful = config.sequence_batching.is_some();
        let count = if is_stateful { 1 } else { crate::slot::default_instances() };
        vec![InstanceGroup { count, ..InstanceGroup::default() }]
    } else {
        config.instance_groups.clone()
    };
    ModelConfig {
        batch,
        inputs: declared(&wire.inputs, &config.inputs, batched),
        outputs: declared(&wire.outputs, &config.outputs, batched),
        instance_groups,
        dynamic_batching: config.dynamic_batching.clone().filter(|_| batched),
        ..config.clone()
    }
}

/// Declares every tensor, with what is `known` of it.
fn declared(specs: &[TensorSpec], known: &[IoConfig], batched: bool) -> Vec<IoConfig> {
    let one = |spec: &TensorSpec| {
        let known = known.iter().find(|io| *io.name == *spec.name);
        let dims = spec.shape.iter().copied().skip(usize::from(batched)).collect();
        complete_io(known, spec, spec.dtype, dims)
    };
    specs.iter().map(one).collect()
}

fn complete_io(known: Option<&IoConfig>, spec: &TensorSpec, dtype: DataType, dims: Vec<Dim>) -> IoConfig {
    IoConfig {
        name: spec.name.to_string(),
        dtype: Some(dtype),
        dims: Some(dims),
        reshape: known.and_then(|io| io.reshape.clone()),
        label_filename: known.map(|io| io.label_filename.clone()).unwrap_or_default(),
        optional: spec.optional,
        format: known.map_or_else(|| "FORMAT_NONE".to_owned(), |io| io.format.clone()),
        allow_ragged_batch: known.is_some_and(|io| io.allow_ragged_batch),
        is_shape_tensor: known.is_some_and(|io| io.is_shape_tensor),
    }
}

#[cfg(test)]
mod tests;
