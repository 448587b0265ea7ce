//! One worker's way to run a model: the memory in which its batches are assembled, and the inputs of
//! a run where they lie.

use std::ops::Range;
use std::sync::Arc;

use salver_core::{
    BatchLayout, DataType, Elements, Error, InputLayout, Inputs, Instance, Interrupt, Result, Shape, StagingBuffer,
    Tensor,
};

use crate::graph::Graph;
use crate::raw::{self, PerTensor};
use crate::run_control::{Arena, InputSizes, RunControl};

/// One thread's way to run a session, its own or a shared one.
pub(crate) struct OnnxInstance {
    graph: Arc<Graph>,
    staging: StagingBuffer,
    control: Arc<RunControl>,
    sizes: InputSizes,
}

/// One input where it lies.
pub(crate) struct InputView<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: DataType,
    pub(crate) shape: &'a Shape,
    pub(crate) content: Content<'a>,
}

/// The data of an input.
pub(crate) enum Content<'a> {
    Fixed(&'a [u8]),
    Text(&'a Elements),
}

impl<'a> InputView<'a> {
    fn staged(buffer: &'a [u8], input: &'a InputLayout) -> Result<Self> {
        let content = Content::Fixed(range(input).and_then(|range| buffer.get(range)).ok_or_else(outside_buffer)?);
        Ok(Self { name: &input.name, dtype: input.dtype, shape: &input.shape, content })
    }
}

fn range(input: &InputLayout) -> Option<Range<usize>> {
    Some(input.offset..input.offset.checked_add(input.len)?)
}

fn outside_buffer() -> Error {
    Error::engine("the layout of a batch leaves its buffer")
}

impl Instance for OnnxInstance {
    fn input_buffer(&mut self, layout: &BatchLayout) -> Result<&mut [u8]> {
        self.staging.resize(layout.total_len)
    }

    fn run(&mut self, inputs: Inputs<'_>) -> Result<Vec<Tensor>> {
        let result = match inputs {
            Inputs::Staged(layout) => {
                let arena = self.sizes.note(layout.total_len as u64);
                self.run_staged(layout, arena)
            }
            Inputs::Direct(tensors) => {
                let arena = self.sizes.note(tensors.iter().map(|tensor| tensor.payload_len() as u64).sum());
                self.run_direct(tensors, arena)
            }
        };
        result.map_err(|error| self.control.explain(error))
    }

    fn interrupt(&self) -> Option<Interrupt> {
        let control = self.control.clone();
        Some(Arc::new(move || control.interrupt()))
    }
}

impl OnnxInstance {
    /// Makes an instance that runs `graph`.
    pub(crate) fn new(graph: Arc<Graph>) -> Result<Self> {
        let control = Arc::new(RunControl::new()?);
        Ok(Self { graph, staging: StagingBuffer::default(), control, sizes: InputSizes::default() })
    }

    fn run_staged(&mut self, layout: &BatchLayout, arena: Arena) -> Result<Vec<Tensor>> {
        let buffer = self.staging.resize(layout.total_len)?;
        for input in layout.inputs.iter().filter(|input| input.dtype == DataType::Bool) {
            let data = range(input).and_then(|range| buffer.get_mut(range));
            normalise_bools(data.ok_or_else(outside_buffer)?);
        }
        let buffer = &*buffer;
        let views: PerTensor<InputView<'_>> =
            layout.inputs.iter().map(|input| InputView::staged(buffer, input)).collect::<Result<_>>()?;
        self.graph.run(&views, self.control.begin(arena))
    }

    fn run_direct(&mut self, tensors: &[Tensor], arena: Arena) -> Result<Vec<Tensor>> {
        let places = self.stage_unfit(tensors)?;
        let staged = self.staging.bytes();
        let mut views: PerTensor<InputView<'_>> = PerTensor::new();
        for (tensor, place) in tensors.iter().zip(&places) {
            let content = match (tensor.bytes(), tensor.elements(), *place) {
                (Some(data), _, None) => Content::Fixed(data),
                (Some(data), _, Some(start)) => Content::Fixed(&staged[start..start + data.len()]),
                (None, Some(elements), _) => Content::Text(elements),
                (None, None, _) => Content::Fixed(&[]),
            };
            views.push(InputView { name: tensor.name(), dtype: tensor.dtype(), shape: tensor.shape(), content });
        }
        self.graph.run(&views, self.control.begin(arena))
    }

    /// Copies what cannot be used where it lies, and says where each copy begins.
    fn stage_unfit(&mut self, tensors: &[Tensor]) -> Result<PerTensor<Option<usize>>> {
        let mut end = 0usize;
        let mut places = PerTensor::new();
        for tensor in tensors {
            let unfit = tensor.bytes().filter(|data| !is_fit(data, tensor.dtype()));
            places.push(unfit.map(|_| end));
            let len = unfit.map_or(0, |data| data.len());
            end = end.saturating_add(len).checked_next_multiple_of(BatchLayout::ALIGN).unwrap_or(usize::MAX);
        }
        if places.iter().all(Option::is_none) {
            return Ok(places);
        }
        let buffer = self.staging.resize(end)?;
        for (tensor, place) in tensors.iter().zip(&places) {
            if let (Some(start), Some(data)) = (*place, tensor.bytes()) {
                let copy = &mut buffer[start..start + data.len()];
                copy.copy_from_slice(data);
                if tensor.dtype() == DataType::Bool {
                    normalise_bools(copy);
                }
            }
        }
        Ok(places)
    }
}

fn is_fit(data: &[u8], dtype: DataType) -> bool {
    raw::is_aligned(data, dtype) && (dtype != DataType::Bool || data.iter().all(|&byte| byte <= 1))
}

/// Makes every true a 1: the engine is written in C++, where a `bool` of any other value is undefined.
fn normalise_bools(data: &mut [u8]) {
    for byte in data {
        *byte = u8::from(*byte != 0);
    }
}
