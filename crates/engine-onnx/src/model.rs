//! A loaded model, and its instances.
//!
//! All instances run one shared session; an instance adds only the memory in which its batches are
//! assembled. Inputs are handed over where they lie, outputs are handed out where they lie.

use std::ffi::CString;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::message;
use crate::raw::{self, CpuMemory, Named, PerTensor, SharedSession, Value};
use crate::signature::{self, Declared, OutputForm};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{BuilderResult, GraphOptimizationLevel, SessionBuilder};
use salver_core::{
    BatchLayout, DataType, Elements, Error, InputLayout, Inputs, Instance, Model, ModelSpec, Placement, Result, Shape,
    Signature, StagingBuffer, Tensor, TensorSpec,
};

/// Weights and graph, shared by the instances.
pub(crate) struct OnnxModel(Arc<Loaded>);

struct Loaded {
    session: SharedSession,
    memory: CpuMemory,
    signature: Signature,
    /// In the order of `signature.inputs` and `signature.outputs`, for C.
    input_names: Vec<CString>,
    output_names: Vec<CString>,
    output_forms: Vec<OutputForm>,
    memory_bytes: u64,
}

impl OnnxModel {
    pub(crate) fn load(environment: &Environment, spec: &ModelSpec) -> Result<Self> {
        let path = &spec.artifact;
        check_file(path)?;
        let threads = spec.config.instance_groups.first().map_or(1, |group| group.threads.max(1));
        // The `ort` crate panics on value types that it has no name for, such as sequences of sequences.
        let session = catch_unwind(AssertUnwindSafe(|| open(environment, path, threads))).map_err(|_| {
            Error::unsupported(format!("{}: an input or output has a type that Salver does not know", path.display()))
        })??;
        Self::new(&session, memory_bytes(path)).map_err(|error| error.context(path.display()))
    }

    fn new(session: &Session, memory_bytes: u64) -> Result<Self> {
        let inputs: Vec<Declared<'_>> = session.inputs().iter().map(|input| (input.name(), input.dtype())).collect();
        let outputs: Vec<Declared<'_>> = session.outputs().iter().map(|out| (out.name(), out.dtype())).collect();
        let (signature, output_forms) = signature::read(&inputs, &outputs)?;
        Ok(Self(Arc::new(Loaded {
            session: SharedSession::new(session),
            memory: CpuMemory::new()?,
            input_names: c_names(&signature.inputs)?,
            output_names: c_names(&signature.outputs)?,
            output_forms,
            signature,
            memory_bytes,
        })))
    }
}

impl Model for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes
    }

    fn instance(&self, placement: &Placement) -> Result<Box<dyn Instance>> {
        if placement.device != "cpu" {
            return Err(Error::unsupported(format!(
                "device `{}`: the engine `onnx` runs on `cpu` only",
                placement.device
            )));
        }
        Ok(Box::new(OnnxInstance { model: self.0.clone(), staging: StagingBuffer::default() }))
    }
}

fn check_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Error::invalid_input(format!("{}: not a file", path.display()))),
        Err(error) => Err(Error::invalid_input(format!("{}: {error}", path.display()))),
    }
}

/// Opens a session on the CPU provider.
fn open(environment: &Environment, path: &Path, threads: usize) -> Result<Session> {
    let builder = Session::builder(environment).map_err(|error| message::of_load(&error, path))?;
    let mut builder = configure(builder, threads).map_err(|error| message::of_load(&error, path))?;
    builder.commit_from_file(path).map_err(|error| message::of_load(&error, path))
}

#[expect(
    clippy::result_large_err,
    reason = "the `ort` crate returns its builders inside errors; this runs once a load"
)]
fn configure(builder: SessionBuilder, threads: usize) -> BuilderResult {
    builder
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Threads that spin take the cores from the workers of other models, and from the sockets.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // A plan would be kept for each combination of input shapes that was ever seen, without bound.
        .with_memory_pattern(false)
}

/// The file, and the files of external data beside it, which begin with its name by custom.
fn memory_bytes(path: &Path) -> u64 {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return 0;
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let parts = files.filter(|file| file.file_name().to_str().is_some_and(|other| other.starts_with(name)));
    parts.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn c_names(specs: &[TensorSpec]) -> Result<Vec<CString>> {
    let name = |spec: &TensorSpec| {
        CString::new(&*spec.name).map_err(|_| Error::unsupported("the name of an input or output contains NUL"))
    };
    specs.iter().map(name).collect()
}

/// One thread's way to run the shared session.
struct OnnxInstance {
    model: Arc<Loaded>,
    staging: StagingBuffer,
}

/// One input where it lies.
struct InputView<'a> {
    name: &'a str,
    dtype: DataType,
    shape: &'a Shape,
    content: Content<'a>,
}

enum Content<'a> {
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
        match inputs {
            Inputs::Staged(layout) => self.run_staged(layout),
            Inputs::Direct(tensors) => self.run_direct(tensors),
        }
    }
}

impl OnnxInstance {
    fn run_staged(&mut self, layout: &BatchLayout) -> Result<Vec<Tensor>> {
        let buffer = self.staging.resize(layout.total_len)?;
        for input in layout.inputs.iter().filter(|input| input.dtype == DataType::Bool) {
            let data = range(input).and_then(|range| buffer.get_mut(range));
            normalise_bools(data.ok_or_else(outside_buffer)?);
        }
        let buffer = &*buffer;
        let views: PerTensor<InputView<'_>> =
            layout.inputs.iter().map(|input| InputView::staged(buffer, input)).collect::<Result<_>>()?;
        self.model.run(&views)
    }

    fn run_direct(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
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
        self.model.run(&views)
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

impl Loaded {
    fn run(&self, views: &[InputView<'_>]) -> Result<Vec<Tensor>> {
        let is_given = |spec: &TensorSpec| views.iter().any(|view| *view.name == *spec.name);
        if let Some(missing) = self.signature.inputs.iter().find(|spec| !is_given(spec)) {
            return Err(Error::invalid_input(format!("input `{}` is missing", missing.name)));
        }
        let named: PerTensor<Named<'_, '_>> = views.iter().map(|view| self.named(view)).collect::<Result<_>>()?;
        let values = self.session.run(&named, &self.output_names)?;
        let borrowed: PerTensor<&[u8]> = views
            .iter()
            .filter_map(|view| match view.content {
                Content::Fixed(data) => Some(data),
                Content::Text(_) => None,
            })
            .collect();
        let outputs = self.signature.outputs.iter().zip(&self.output_forms).zip(values);
        outputs.map(|((spec, form), value)| self.output(spec, *form, value, &borrowed)).collect()
    }

    fn named<'m>(&'m self, view: &InputView<'m>) -> Result<Named<'m, 'm>> {
        let idx = self.signature.inputs.iter().position(|spec| *spec.name == *view.name);
        let name = idx.and_then(|idx| self.input_names.get(idx));
        let name = name.ok_or_else(|| Error::invalid_input(format!("the model has no input `{}`", view.name)))?;
        let value = match view.content {
            Content::Fixed(data) => Value::over(&self.memory, view.dtype, view.shape, data),
            Content::Text(elements) => Value::of_strings(view.shape, elements),
        };
        let value = value.map_err(|error| error.context(format!("input `{}`", view.name)))?;
        Ok(Named { name, value })
    }

    fn output(&self, spec: &TensorSpec, form: OutputForm, value: Value<'static>, borrowed: &[&[u8]]) -> Result<Tensor> {
        let name = spec.name.clone();
        if form == OutputForm::MapRows {
            return map_rows(spec, &value);
        }
        let (dtype, shape) = value.tensor_type()?;
        if dtype == DataType::Bytes {
            let n_elements = shape.element_count().unwrap_or(0);
            return Tensor::from_elements(name, shape, value.strings(n_elements)?);
        }
        Tensor::new(name, dtype, shape, self.session.output_bytes(value, borrowed)?)
    }
}

/// Turns one map for each row into a matrix; its columns ascend by class, as the maps do.
fn map_rows(spec: &TensorSpec, value: &Value<'_>) -> Result<Tensor> {
    let n_rows = value.count()?;
    let mut cells: Vec<f32> = Vec::new();
    let mut n_classes = None;
    for row_idx in 0..n_rows {
        let row = value.item(row_idx)?.item(1)?.floats()?;
        if *n_classes.get_or_insert(row.len()) != row.len() {
            return Err(Error::engine(format!("output `{}`: row {row_idx} has {} classes", spec.name, row.len())));
        }
        cells.extend(row);
    }
    Tensor::from_slice(spec.name.clone(), [n_rows, n_classes.unwrap_or(0)], &cells)
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
