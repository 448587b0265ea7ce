//! What the server adds to the inputs of a stateful model, and takes out of its outputs: controls
//! and states.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use salver_core::{
    ControlKind, DataType, Dim, Element, Elements, Error, FalseTrue, InitialState, Result, SequenceBatching,
    SequenceControl, SequenceState, Shape, Signature, Tensor, TensorSpec,
};

use super::table::{Place, SequenceId};
use crate::assemble::{self, Member};
use crate::warmup;

/// The most bytes of one initial state.
const LARGEST_STATE: usize = 1 << 28;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Filling {
    controls: Vec<Control>,
    states: Vec<State>,
    /// The graph's inputs, in its order.
    inputs: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Control {
    name: Arc<str>,
    kind: ControlKind,
    /// Of one row.
    shape: Shape,
}

#[derive(Debug)]
struct State {
    input: Arc<str>,
    output_idx: usize,
    initial: Tensor,
}

/// What is told of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) id: &'a SequenceId,
    pub(crate) place: Place,
    /// Whether it holds a request.
    pub(crate) is_ready: bool,
}

impl Filling {
    /// Checks the settings against the graph, and reads the initial states.
    ///
    /// # Errors
    /// `InvalidInput` naming the control or state that does not fit.
    pub(crate) fn new(graph: &Signature, batched: bool, config: &SequenceBatching) -> Result<Self> {
        let controls = config.controls.iter().map(|control| Control::new(graph, batched, control));
        let states = config.states.iter().map(|state| State::new(graph, batched, state));
        Ok(Self {
            controls: controls.collect::<Result<_>>()?,
            states: states.collect::<Result<_>>()?,
            inputs: graph.inputs.iter().map(|spec| spec.name.clone()).collect(),
        })
    }

    /// Whether the server fills this input.
    pub(crate) fn fills(&self, input: &str) -> bool {
        let mut names =
            self.controls.iter().map(|control| &control.name).chain(self.states.iter().map(|state| &state.input));
        names.any(|name| **name == *input)
    }

    /// Whether this output is a state.
    pub(crate) fn takes(&self, output_idx: usize) -> bool {
        self.states.iter().any(|state| state.output_idx == output_idx)
    }

    /// Whether what a sequence needs lies with the server.
    pub(crate) fn keeps_state(&self) -> bool {
        !self.states.is_empty()
    }

    /// Checks that an id can be told to the model.
    ///
    /// # Errors
    /// `InvalidInput` where the model's input has no room for it.
    pub(crate) fn check_id(&self, id: &SequenceId) -> Result<()> {
        let of_ids = self.controls.iter().find_map(|control| match control.kind {
            ControlKind::CorrelationId(dtype) => Some((&control.name, dtype)),
            ControlKind::Start(_) | ControlKind::End(_) | ControlKind::Ready(_) => None,
        });
        match of_ids {
            Some((name, dtype)) if encode_id(id, dtype).is_none() => Err(Error::invalid_input(format!(
                "sequence_id {id} does not fit into the input '{name}' of the model, which is {dtype}"
            ))),
            _ => Ok(()),
        }
    }

    /// Adds controls and states to the inputs of one request, in the graph's order.
    ///
    /// # Errors
    /// `InvalidInput` where the id does not fit.
    pub(crate) fn fill(&self, inputs: &[Tensor], row: Row<'_>, state: Option<&[Tensor]>) -> Result<Vec<Tensor>> {
        let mut all = inputs.to_vec();
        for control in &self.controls {
            all.push(control.tensor(row)?);
        }
        for (idx, own) in self.states.iter().enumerate() {
            all.push(state.and_then(|state| state.get(idx)).unwrap_or(&own.initial).clone());
        }
        all.sort_by_key(|tensor| self.inputs.iter().position(|name| name == tensor.name()));
        Ok(all)
    }

    /// Adds to inputs of `rows` rows what a sequence of one request gets; for runs that are nobody's.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub(crate) fn fill_sample(&self, inputs: &[Tensor], rows: usize) -> Result<Vec<Tensor>> {
        let (id, place) = (self.sample_id(), Place { starts: true, ends: true });
        let one = self.fill(&[], Row { id: &id, place, is_ready: true }, None)?;
        let members = vec![Member { inputs: &one, rows: 1, length: 0 }; rows.max(1)];
        let added = if rows > 1 { assemble::merge(&members)? } else { one };
        let mut all: Vec<Tensor> = inputs.iter().cloned().chain(added).collect();
        all.sort_by_key(|tensor| self.inputs.iter().position(|name| name == tensor.name()));
        Ok(all)
    }

    fn sample_id(&self) -> SequenceId {
        SequenceId::Number(1)
    }

    /// Whether two states have the same shapes, so that they share a batch.
    pub(crate) fn fit(&self, one: Option<&[Tensor]>, other: Option<&[Tensor]>) -> bool {
        let shape = |state: Option<&[Tensor]>, idx: usize| {
            state.and_then(|state| state.get(idx)).unwrap_or(&self.states[idx].initial).shape().clone()
        };
        (0..self.states.len()).all(|idx| shape(one, idx) == shape(other, idx))
    }

    /// Returns what is kept of the graph's outputs.
    ///
    /// # Errors
    /// `Engine` where an output is not there.
    pub(crate) fn keep(&self, outputs: &[Tensor]) -> Result<Arc<[Tensor]>> {
        let one = |state: &State| match outputs.get(state.output_idx) {
            Some(output) => Ok(detached(output)?.rename(state.input.clone())),
            None => Err(Error::engine("the engine gave fewer outputs than the model declares")),
        };
        self.states.iter().map(one).collect()
    }
}

/// Copies a row out of its batch, whose memory would be held otherwise.
fn detached(row: &Tensor) -> Result<Tensor> {
    match row.bytes() {
        Some(data) => Tensor::new(row.name().clone(), row.dtype(), row.shape().clone(), data.to_vec().into()),
        None => {
            let elements: Elements = row.elements().into_iter().flat_map(Elements::iter).collect();
            Tensor::from_elements(row.name().clone(), row.shape().clone(), elements)
        }
    }
}

impl Control {
    fn new(graph: &Signature, batched: bool, control: &SequenceControl) -> Result<Self> {
        let name = &control.input;
        let Some(spec) = graph.input(name) else {
            return Err(Error::invalid_input(format!("control_input '{name}' is not an input of the graph")));
        };
        let dtype = match control.kind {
            ControlKind::Start(values) | ControlKind::End(values) | ControlKind::Ready(values) => values.dtype(),
            ControlKind::CorrelationId(dtype) => dtype,
        };
        if spec.dtype != dtype {
            let text = format!("control_input '{name}' is declared as {dtype}, but the graph has {}", spec.dtype);
            return Err(Error::invalid_input(text));
        }
        let is_one = |dim: &Dim| matches!(dim, Dim::Free | Dim::Fixed(1));
        let rank = spec.shape.len();
        if rank > 1 + usize::from(batched) || (batched && rank == 0) || !spec.shape.iter().all(is_one) {
            return Err(Error::invalid_input(format!(
                "control_input '{name}' has shape {:?} in the graph; expected one value for each row",
                spec.wire_shape()
            )));
        }
        Ok(Self { name: spec.name.clone(), kind: control.kind, shape: spec.shape.iter().map(|_| 1).collect() })
    }

    fn tensor(&self, row: Row<'_>) -> Result<Tensor> {
        let (values, is_so) = match self.kind {
            ControlKind::Start(values) => (values, row.is_ready && row.place.starts),
            ControlKind::End(values) => (values, row.is_ready && row.place.ends),
            ControlKind::Ready(values) => (values, row.is_ready),
            ControlKind::CorrelationId(dtype) => return self.id(row.id, dtype),
        };
        let (name, shape, idx) = (self.name.clone(), self.shape.clone(), usize::from(is_so));
        match values {
            FalseTrue::Int32(values) => Tensor::from_slice(name, shape, &[values[idx]]),
            FalseTrue::Fp32(values) => Tensor::from_slice(name, shape, &[values[idx]]),
            FalseTrue::Bool(values) => Tensor::from_slice(name, shape, &[values[idx]]),
        }
    }

    fn id(&self, id: &SequenceId, dtype: DataType) -> Result<Tensor> {
        let (name, shape) = (self.name.clone(), self.shape.clone());
        match encode_id(id, dtype) {
            Some(text) if dtype == DataType::Bytes => Tensor::from_elements(name, shape, [text].iter().collect()),
            Some(bytes) => Tensor::new(name, dtype, shape, bytes.into()),
            None => Err(Error::invalid_input(format!("sequence_id {id} is no {dtype}"))),
        }
    }
}

/// Writes an id as one element; none: it does not fit.
fn encode_id(id: &SequenceId, dtype: DataType) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match (id, dtype) {
        (SequenceId::Text(text), DataType::Bytes) => bytes.extend_from_slice(text.as_bytes()),
        (SequenceId::Number(number), DataType::Bytes) => bytes.extend_from_slice(number.to_string().as_bytes()),
        (SequenceId::Number(number), DataType::Uint64) => number.put(&mut bytes),
        (SequenceId::Number(number), DataType::Int64) => i64::try_from(*number).ok()?.put(&mut bytes),
        (SequenceId::Number(number), DataType::Uint32) => u32::try_from(*number).ok()?.put(&mut bytes),
        (SequenceId::Number(number), DataType::Int32) => i32::try_from(*number).ok()?.put(&mut bytes),
        _ => return None,
    }
    Some(bytes)
}

impl State {
    fn new(graph: &Signature, batched: bool, state: &SequenceState) -> Result<Self> {
        let within = |error: Error| error.context(format!("state '{}'", state.input));
        let SequenceState { input, output, dtype, dims, initial } = state;
        let Some(spec) = graph.input(input) else {
            return Err(within(Error::invalid_input("it is not an input of the graph")));
        };
        let Some(output_idx) = graph.outputs.iter().position(|spec| *spec.name == **output) else {
            return Err(within(Error::invalid_input(format!("'{output}' is not an output of the graph"))));
        };
        check(spec, *dtype, dims, batched).map_err(within)?;
        check(&graph.outputs[output_idx], *dtype, dims, batched).map_err(within)?;
        let initial = initial_state(&spec.name, *dtype, dims, batched, initial.as_ref()).map_err(within)?;
        Ok(Self { input: spec.name.clone(), output_idx, initial })
    }
}

fn check(spec: &TensorSpec, dtype: DataType, dims: &[Dim], batched: bool) -> Result<()> {
    let declared: Vec<Dim> = batched.then_some(Dim::Free).into_iter().chain(dims.iter().copied()).collect();
    let fits = spec.shape.len() == declared.len()
        && spec.shape.iter().zip(&declared).all(|(graph, declared)| *graph == Dim::Free || graph == declared);
    if spec.dtype == dtype && fits {
        return Ok(());
    }
    let wire: Vec<i64> = declared.iter().map(|dim| dim.to_wire()).collect();
    Err(Error::invalid_input(format!(
        "declared as {dtype} {wire:?} (batch dimension included), but '{}' is {} {:?} in the graph",
        spec.name,
        spec.dtype,
        spec.wire_shape()
    )))
}

fn initial_state(
    name: &Arc<str>,
    dtype: DataType,
    dims: &[Dim],
    batched: bool,
    initial: Option<&InitialState>,
) -> Result<Tensor> {
    let extent = |dim: &Dim| if let Dim::Fixed(extent) = dim { *extent } else { 1 };
    let extents = match initial {
        Some(initial) => initial.dims.clone(),
        None => dims.iter().map(extent).collect(),
    };
    let shape: Shape = batched.then_some(1).into_iter().chain(extents).collect();
    let count = shape.element_count().filter(|count| *count <= LARGEST_STATE / dtype.size().unwrap_or(4));
    let Some(count) = count else {
        return Err(Error::invalid_input(format!("its initial state {shape} is too large")));
    };
    let data = match initial.and_then(|initial| initial.file.as_ref()) {
        Some((file, path)) => {
            read(path).map_err(|error| Error::invalid_input(format!("data_file '{}': {error}", file.escape_debug())))?
        }
        // An empty element stands behind a length of zero.
        None => vec![0; count * dtype.size().unwrap_or(4)],
    };
    match dtype {
        DataType::Bytes => Tensor::from_elements(name.clone(), shape, warmup::elements(&data)?),
        dtype => Tensor::new(name.clone(), dtype, shape, data.into()),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    File::open(path)?.take(LARGEST_STATE as u64 + 1).read_to_end(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests;
