//! Requests of different lengths in one flat tensor: the elements of all requests of a batch, one
//! after the other, and beside them what the graph needs to tell them apart.
//!
//! Pure. What the server makes for a batch is made in pieces, one for each request, so that batches
//! are written as all others are (`assemble.rs`): by appending. Requests keep their shapes until a
//! batch runs; `run/ragged.rs` runs it.

use std::sync::Arc;

use salver_core::{
    BatchInput, BatchInputKind, BatchOutput, BatchRule, Dim, Error, IoConfig, ModelConfig, NumberType, Result, Shape,
    Signature, Tensor, TensorSpec,
};

use crate::assemble::{self, Member};

/// What a model with ragged inputs takes and gives, checked against its graph.
#[derive(Debug)]
pub(crate) struct Ragged {
    /// The graph's inputs, in its order.
    inputs: Vec<Input>,
    /// Outputs that are flat too, in the graph's order.
    scattered: Vec<Scattered>,
}

#[derive(Debug)]
enum Input {
    /// Of requests, whose rows are appended.
    Rows(Arc<str>),
    /// Of requests, whose elements are appended.
    Flat(Arc<str>),
    /// Made by the server.
    Made(Made),
}

#[derive(Debug)]
struct Made {
    name: Arc<str>,
    kind: BatchInputKind,
    numbers: NumberType,
    source: Arc<str>,
}

#[derive(Debug)]
struct Scattered {
    output_idx: usize,
    /// With the batch dimension, where there is one.
    shape: Vec<Dim>,
    source: Arc<str>,
}

impl Ragged {
    /// Checks what is declared against the graph. Returns none for a model without ragged inputs,
    /// else also the signature that its requests are held against: without the inputs that the
    /// server makes, and with the declared shapes in place of flat ones.
    ///
    /// # Errors
    /// `InvalidInput` naming the input or output that does not fit.
    pub(crate) fn new(graph: &Signature, config: &ModelConfig) -> Result<Option<(Self, Signature)>> {
        let is_ragged = config.inputs.iter().any(|io| io.allow_ragged_batch);
        if !is_ragged && config.batch_inputs.is_empty() && config.batch_outputs.is_empty() {
            return Ok(None);
        }
        let declared = Declared { graph, config };
        for input in config.inputs.iter().filter(|io| io.allow_ragged_batch) {
            declared.check_flat(input)?;
        }
        for input in &config.batch_inputs {
            declared.check_made(input)?;
        }
        let ragged = Self {
            inputs: graph.inputs.iter().map(|spec| declared.input(spec)).collect::<Result<_>>()?,
            scattered: declared.scattered()?,
        };
        let requests = ragged.requests(&declared);
        Ok(Some((ragged, requests)))
    }

    /// Whether requests may differ in the shape of this input and share a batch.
    pub(crate) fn is_flat(&self, input: &str) -> bool {
        self.inputs.iter().any(|own| matches!(own, Input::Flat(name) if **name == *input))
    }

    /// Returns what the graph gets of each request: flat inputs flattened, and its piece of what the
    /// server makes.
    ///
    /// # Errors
    /// `InvalidInput` where a count does not fit its type.
    pub(crate) fn fill(&self, requests: &[&[Tensor]]) -> Result<Vec<Vec<Tensor>>> {
        let mut filled: Vec<Vec<Tensor>> = requests.iter().map(|_| Vec::with_capacity(self.inputs.len())).collect();
        for input in &self.inputs {
            let pieces: Vec<Option<Tensor>> = match input {
                Input::Rows(name) => requests.iter().map(|inputs| find(inputs, name).cloned()).collect(),
                Input::Flat(name) => requests.iter().map(|inputs| flat(find(inputs, name))).collect::<Result<_>>()?,
                Input::Made(made) => made.pieces(requests)?,
            };
            filled.iter_mut().zip(pieces).for_each(|(of_request, piece)| of_request.extend(piece));
        }
        Ok(filled)
    }

    /// As [`Self::fill`], for one request alone.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn fill_alone(&self, request: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(self.fill(&[request])?.pop().unwrap_or_default())
    }

    /// Cuts the outputs of a batch: flat ones by the shapes of `requests`, the others by rows. Those of
    /// a lone request need no cut.
    ///
    /// # Errors
    /// `Engine` where an output has not what its requests are to get.
    pub(crate) fn split(
        &self,
        outputs: Vec<Tensor>,
        requests: &[&[Tensor]],
        members: &[Member<'_>],
    ) -> Result<Vec<Vec<Tensor>>> {
        let pieces: Vec<Vec<Tensor>> =
            self.scattered.iter().map(|scattered| scattered.pieces(&outputs, requests)).collect::<Result<_>>()?;
        let is_scattered = |idx: usize| self.scattered.iter().any(|scattered| scattered.output_idx == idx);
        let by_rows = outputs.into_iter().enumerate().filter(|(idx, _)| !is_scattered(*idx));
        let by_rows: Vec<Tensor> = by_rows.map(|(_, output)| output).collect();
        let mut parts = match members {
            [_] => vec![by_rows],
            members => assemble::split(&by_rows, members, None)?,
        };
        // Ascending, so that each ends where it was.
        for (scattered, pieces) in self.scattered.iter().zip(pieces) {
            parts.iter_mut().zip(pieces).for_each(|(part, piece)| part.insert(scattered.output_idx, piece));
        }
        Ok(parts)
    }

    fn requests(&self, declared: &Declared<'_>) -> Signature {
        let graph = declared.graph;
        let own = graph.inputs.iter().zip(&self.inputs).filter(|(_, input)| !matches!(input, Input::Made(_)));
        let inputs = own.map(|(spec, input)| match input {
            // Also where the graph has a value for it: every request adds its elements.
            Input::Flat(_) => {
                TensorSpec { shape: declared.shape(declared.io(&spec.name)), optional: false, ..spec.clone() }
            }
            Input::Rows(_) | Input::Made(_) => spec.clone(),
        });
        let output = |(idx, spec): (usize, &TensorSpec)| {
            let scattered = self.scattered.iter().find(|scattered| scattered.output_idx == idx);
            let shape = scattered.map_or_else(|| spec.shape.clone(), |scattered| scattered.shape.clone());
            TensorSpec { shape, ..spec.clone() }
        };
        let outputs = graph.outputs.iter().enumerate().map(output).collect();
        Signature { inputs: inputs.collect(), outputs, batching: graph.batching }
    }
}

/// What is declared, and the graph that it has to fit.
struct Declared<'a> {
    graph: &'a Signature,
    config: &'a ModelConfig,
}

impl Declared<'_> {
    /// Requests keep their elements; the graph takes them in one dimension of any extent.
    fn check_flat(&self, input: &IoConfig) -> Result<()> {
        let Some(spec) = self.graph.input(&input.name) else {
            return Err(missing("input", &input.name, &self.graph.inputs));
        };
        if spec.shape == [Dim::Free] && input.dims.is_some() {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "input '{}' has allow_ragged_batch, for which the graph must take the elements of all requests in one \
             dimension, [-1], but it has {:?}; leave allow_ragged_batch out, or change the graph",
            input.name,
            spec.wire_shape()
        )))
    }

    fn check_made(&self, input: &BatchInput) -> Result<()> {
        let source = self.source(&input.source)?;
        let row_rank = in_graph(source).len();
        let fits = |shape: &[Dim]| match (input.kind, shape) {
            (BatchInputKind::ItemShape, [Dim::Free, inner]) => [Dim::Free, Dim::Fixed(row_rank)].contains(inner),
            (BatchInputKind::ItemShape, _) => false,
            (_, shape) => shape == [Dim::Free],
        };
        for target in &input.targets {
            let Some(spec) = self.graph.input(target) else {
                return Err(missing("batch_input", target, &self.graph.inputs));
            };
            let within = |text: String| Err(Error::invalid_input(format!("batch_input '{target}': {text}")));
            if self.config.inputs.iter().any(|io| io.name == *target) {
                return within("leave it out of the inputs of requests".to_owned());
            }
            let is_of_rows = matches!(input.kind, BatchInputKind::ItemShape | BatchInputKind::ItemShapeFlatten);
            if is_of_rows && !self.is_batched() {
                return within(format!("{} needs a batch dimension: set max_batch_size", input.kind.as_str()));
            }
            let dtype = input.numbers.dtype();
            if spec.dtype != dtype {
                return within(format!("data_type is that of {dtype}, but the graph has {}", spec.dtype));
            }
            if !fits(&spec.shape) {
                let (kind, shape) = (input.kind.as_str(), spec.wire_shape());
                let expected = match input.kind {
                    BatchInputKind::ItemShape => format!("[-1, {row_rank}]"),
                    _ => "[-1]".to_owned(),
                };
                return within(format!("{kind} has the shape {expected}, but the graph takes {shape:?}"));
            }
        }
        Ok(())
    }

    fn input(&self, spec: &TensorSpec) -> Result<Input> {
        let made = self.config.batch_inputs.iter().find(|input| input.targets.iter().any(|name| **name == *spec.name));
        if let Some(input) = made {
            let source = self.source(&input.source)?.name.as_str().into();
            return Ok(Input::Made(Made { name: spec.name.clone(), kind: input.kind, numbers: input.numbers, source }));
        }
        let is_flat = self.config.inputs.iter().any(|io| *io.name == *spec.name && io.allow_ragged_batch);
        Ok(if is_flat { Input::Flat(spec.name.clone()) } else { Input::Rows(spec.name.clone()) })
    }

    fn scattered(&self) -> Result<Vec<Scattered>> {
        let mut all = Vec::new();
        for BatchOutput { targets, source } in &self.config.batch_outputs {
            let source = self.source(source)?;
            for target in targets {
                let Some(output_idx) = self.graph.outputs.iter().position(|spec| *spec.name == **target) else {
                    return Err(missing("batch_output", target, &self.graph.outputs));
                };
                let declared = self.config.outputs.iter().find(|io| io.name == *target);
                let shape = self.shape(declared);
                all.push(Scattered { output_idx, shape, source: source.name.as_str().into() });
            }
        }
        all.sort_by_key(|scattered| scattered.output_idx);
        Ok(all)
    }

    fn source(&self, name: &str) -> Result<&IoConfig> {
        let found = self.config.inputs.iter().find(|io| io.name == name && io.allow_ragged_batch);
        found.ok_or_else(|| Error::invalid_input(format!("source_input '{name}' is no input with allow_ragged_batch")))
    }

    fn io(&self, input: &str) -> Option<&IoConfig> {
        self.config.inputs.iter().find(|io| *io.name == *input)
    }

    /// The shape before it was made flat, batch dimension included.
    fn shape(&self, io: Option<&IoConfig>) -> Vec<Dim> {
        let dims = io.map(in_graph).unwrap_or_default();
        self.is_batched().then_some(Dim::Free).into_iter().chain(dims.iter().copied()).collect()
    }

    fn is_batched(&self) -> bool {
        match self.config.batch {
            BatchRule::Never => false,
            BatchRule::Max(_) => true,
            BatchRule::Derive { .. } => self.graph.is_batched(),
        }
    }
}

fn in_graph(io: &IoConfig) -> &[Dim] {
    io.reshape.as_deref().or(io.dims.as_deref()).unwrap_or_default()
}

fn missing(word: &str, name: &str, specs: &[TensorSpec]) -> Error {
    let names: Vec<String> = specs.iter().map(|spec| format!("'{}'", spec.name)).collect();
    Error::invalid_input(format!("{word} '{name}' is not in the graph, which has {}", names.join(", ")))
}

fn find<'a>(inputs: &'a [Tensor], name: &str) -> Option<&'a Tensor> {
    inputs.iter().find(|tensor| **tensor.name() == *name)
}

fn flat(tensor: Option<&Tensor>) -> Result<Option<Tensor>> {
    tensor.map(|tensor| tensor.clone().reshape([tensor.element_count()].into())).transpose()
}

/// Returns the shape that each request gave to a ragged input.
fn shapes<'a>(requests: &'a [&'a [Tensor]], source: &str) -> Result<Vec<&'a Shape>> {
    let shape = |inputs: &&'a [Tensor]| find(inputs, source).map(Tensor::shape);
    let shapes: Option<Vec<&Shape>> = requests.iter().map(shape).collect();
    shapes.ok_or_else(|| Error::engine(format!("a request came without the ragged input '{source}'")))
}

impl Made {
    /// Returns what each request adds.
    fn pieces(&self, requests: &[&[Tensor]]) -> Result<Vec<Option<Tensor>>> {
        let shapes = shapes(requests, &self.source)?;
        let longest = shapes.iter().filter_map(|shape| shape.element_count()).max().unwrap_or(0);
        let mut end = 0;
        let piece = |(idx, shape): (usize, &&Shape)| {
            let (is_first, count) = (idx == 0, shape.element_count().unwrap_or(0));
            end += count;
            let item = shape.get(1..).unwrap_or_default();
            let rows = shape.first().copied().unwrap_or(1);
            let items = || item.repeat(rows);
            let tensor = match self.kind {
                BatchInputKind::ElementCount => self.tensor(&[1], &[count]),
                BatchInputKind::AccumulatedElementCountWithZero if is_first => self.tensor(&[2], &[0, end]),
                BatchInputKind::AccumulatedElementCount | BatchInputKind::AccumulatedElementCountWithZero => {
                    self.tensor(&[1], &[end])
                }
                BatchInputKind::MaxElementCountAsShape if is_first => self.tensor(&[longest], &vec![0; longest]),
                BatchInputKind::MaxElementCountAsShape => self.tensor(&[0], &[]),
                BatchInputKind::ItemShape => self.tensor(&[rows, item.len()], &items()),
                BatchInputKind::ItemShapeFlatten => self.tensor(&[rows * item.len()], &items()),
            };
            tensor.map(Some)
        };
        shapes.iter().enumerate().map(piece).collect()
    }

    fn tensor(&self, shape: &[usize], values: &[usize]) -> Result<Tensor> {
        let name = self.name.clone();
        match self.numbers {
            NumberType::Int32 => {
                let number = |&value: &usize| i32::try_from(value);
                let values = values.iter().map(number).collect::<Result<Vec<i32>, _>>();
                let values = values.map_err(|_| {
                    let source = &self.source;
                    Error::invalid_input(format!("input '{source}' has more elements than '{name}' can count, INT32"))
                })?;
                Tensor::from_slice(name, shape, &values)
            }
            #[expect(clippy::cast_precision_loss, reason = "a graph that counts in FP32 gets the nearest number")]
            NumberType::Fp32 => {
                let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
                Tensor::from_slice(name, shape, &values)
            }
        }
    }
}

impl Scattered {
    /// Cuts the output into one piece for each request.
    fn pieces(&self, outputs: &[Tensor], requests: &[&[Tensor]]) -> Result<Vec<Tensor>> {
        let Some(output) = outputs.get(self.output_idx) else {
            return Err(Error::engine("the engine gave fewer outputs than the model declares"));
        };
        let shapes: Vec<Shape> = shapes(requests, &self.source)?.into_iter().map(|shape| self.of(shape)).collect();
        let counts: Vec<usize> = shapes.iter().map(|shape| shape.element_count().unwrap_or(usize::MAX)).collect();
        let total = counts.iter().fold(0usize, |total, count| total.saturating_add(*count));
        if total != output.element_count() {
            return Err(Error::engine(format!(
                "output '{}' has shape {}, but batch_output gives its requests {total} elements by the shapes of '{}'",
                output.name(),
                output.shape(),
                self.source
            )));
        }
        let whole = output.clone().reshape([total].into())?;
        let mut start = 0;
        let cut = |(shape, count): (Shape, usize)| {
            let range = start..start + count;
            start = range.end;
            whole.slice_rows(range)?.reshape(shape)
        };
        shapes.into_iter().zip(counts).map(cut).collect()
    }

    /// The shape for a request whose input has the shape `source`.
    fn of(&self, source: &Shape) -> Shape {
        let extent = |(idx, dim): (usize, &Dim)| match dim {
            Dim::Fixed(extent) => *extent,
            Dim::Free => source.get(idx).copied().unwrap_or(1),
        };
        self.shape.iter().enumerate().map(extent).collect()
    }
}

#[cfg(test)]
mod tests;
