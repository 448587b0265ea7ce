//! A loaded model, and its instances.
//!
//! rten's models are safe to run from many threads; an instance adds a thread pool of its size and
//! the memory in which its batches are assembled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rten::{LoadErrorKind, NodeId, RunErrorKind, RunOptions, ThreadPool, Value, ValueOrView};
use salver_core::{
    BatchLayout, Batching, DataType, Error, Inputs, Instance, Model, Placement, Result, Signature, StagingBuffer,
    Tensor, TensorSpec,
};

use crate::convert;
use crate::declared::{Declared, tensor_spec};

/// Weights and graph, shared by the instances.
pub(crate) struct RtenModel(Arc<Loaded>);

struct Loaded {
    model: rten::Model,
    signature: Signature,
    /// In the order of `signature.inputs` and `signature.outputs`.
    input_ids: Vec<NodeId>,
    output_ids: Vec<NodeId>,
    memory_bytes: u64,
}

impl RtenModel {
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let loaded = catch_unwind(AssertUnwindSafe(|| Loaded::load(path))).unwrap_or_else(|_| {
            Err(Error::engine(format!("the engine 'rten' gave up on it; {}", crate::INSTALL_HINT)))
        });
        Ok(Self(Arc::new(loaded.map_err(|error| error.context(path.display()))?)))
    }
}

impl Loaded {
    fn load(path: &Path) -> Result<Self> {
        let model = open(path)?;
        let declared = Declared::read(path)?;
        let unknown = |error: Error| Error::new(error.kind(), format!("{error}; {}", crate::INSTALL_HINT));
        let mut inputs = Vec::new();
        for &id in model.input_ids() {
            let name = model.node_info(id).and_then(|node| node.name()).unwrap_or_default();
            let value = declared.inputs.iter().find(|value| value.name.as_deref() == Some(name));
            let value = value.ok_or_else(|| Error::engine(format!("input '{name}' is not in the file")))?;
            inputs.push(tensor_spec(value).map_err(unknown)?);
        }
        // By position: what computes an output may have been given another name on the way.
        let outputs = declared.outputs.iter().map(tensor_spec).collect::<Result<Vec<_>>>().map_err(unknown)?;
        if outputs.is_empty() || outputs.len() != model.output_ids().len() {
            return Err(Error::invalid_input("the graph has no outputs, or not those that it declares"));
        }
        warn_of_lost_precision(path, inputs.iter().chain(&outputs));
        Ok(Self {
            input_ids: model.input_ids().to_vec(),
            output_ids: model.output_ids().to_vec(),
            memory_bytes: memory_bytes(&model),
            signature: Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs },
            model,
        })
    }
}

/// Reads the file into memory. Mapping it would save that for external weights only, and a file
/// that is overwritten in place would take the server down.
fn open(path: &Path) -> Result<rten::Model> {
    if !path.is_file() {
        return Err(Error::invalid_input("no such file"));
    }
    let by_extension = path.extension().is_some_and(|extension| extension == "onnx");
    let model = if by_extension {
        rten::Model::load_file(path)
    } else {
        // rten goes by the extension; without one it looks at the content.
        rten::Model::load(std::fs::read(path).map_err(|error| Error::invalid_input(error.to_string()))?)
    };
    model.map_err(|error| load_error(&error))
}

fn load_error(error: &rten::LoadError) -> Error {
    let message = error.to_string();
    let is_unknown = error.kind() == LoadErrorKind::OperatorInvalid || message.contains("unsupported");
    if is_unknown {
        return Error::unsupported(format!("{message}; {}", crate::INSTALL_HINT));
    }
    match error.kind() {
        LoadErrorKind::OptimizeError | LoadErrorKind::ShapeInferenceFailed => Error::engine(message),
        _ => Error::invalid_input(message),
    }
}

fn warn_of_lost_precision<'a>(path: &Path, mut specs: impl Iterator<Item = &'a TensorSpec>) {
    if specs.any(|spec| spec.dtype == DataType::Fp64) {
        tracing::warn!(model = %path.display(), "the engine 'rten' computes FP64 in FP32; {}", crate::INSTALL_HINT);
    }
}

/// rten holds most weights as four bytes each.
fn memory_bytes(model: &rten::Model) -> u64 {
    (model.total_params() as u64).saturating_mul(4).max(1)
}

impl Model for RtenModel {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes
    }

    fn instance(&self, placement: &Placement) -> Result<Box<dyn Instance>> {
        if placement.device != "cpu" {
            return Err(Error::unsupported(format!(
                "device '{}': the engine 'rten' runs on 'cpu' only; other devices need the engine 'onnx'",
                placement.device
            )));
        }
        let threads = Arc::new(ThreadPool::with_num_threads(placement.threads.max(1)));
        Ok(Box::new(RtenInstance { model: self.0.clone(), threads, staging: StagingBuffer::default() }))
    }
}

struct RtenInstance {
    model: Arc<Loaded>,
    threads: Arc<ThreadPool>,
    staging: StagingBuffer,
}

impl Instance for RtenInstance {
    fn input_buffer(&mut self, layout: &BatchLayout) -> Result<&mut [u8]> {
        self.staging.resize(layout.total_len)
    }

    fn run(&mut self, inputs: Inputs<'_>) -> Result<Vec<Tensor>> {
        let values = match inputs {
            Inputs::Staged(layout) => self.staged_values(layout)?,
            Inputs::Direct(tensors) => self.direct_values(tensors)?,
        };
        self.check_all_given(&values)?;
        let options = RunOptions::default().with_thread_pool(Some(self.threads.clone()));
        let outputs = self.model.model.run(values, &self.model.output_ids, Some(options));
        let outputs = outputs.map_err(|error| run_error(&error))?;
        self.model.signature.outputs.iter().zip(outputs).map(|(spec, value)| convert::to_tensor(spec, value)).collect()
    }
}

type NamedValues = Vec<(NodeId, ValueOrView<'static>)>;

impl RtenInstance {
    fn staged_values(&self, layout: &BatchLayout) -> Result<NamedValues> {
        let value = |input: &salver_core::InputLayout| {
            let end = input.offset.checked_add(input.len);
            let data = end.and_then(|end| self.staging.bytes().get(input.offset..end));
            let data = data.ok_or_else(|| Error::engine("the layout of a batch leaves its buffer"))?;
            self.named(&input.name, input.dtype, convert::to_value(&input.name, input.dtype, &input.shape, data)?)
        };
        layout.inputs.iter().map(value).collect()
    }

    fn direct_values(&self, tensors: &[Tensor]) -> Result<NamedValues> {
        let value = |tensor: &Tensor| {
            let data = tensor.bytes().map(|data| &**data).unwrap_or_default();
            let value = convert::to_value(tensor.name(), tensor.dtype(), tensor.shape(), data)?;
            self.named(tensor.name(), tensor.dtype(), value)
        };
        tensors.iter().map(value).collect()
    }

    fn named(&self, name: &str, dtype: DataType, value: Value) -> Result<(NodeId, ValueOrView<'static>)> {
        let inputs = self.model.signature.inputs.iter().zip(&self.model.input_ids);
        let Some((spec, &id)) = inputs.into_iter().find(|(spec, _)| *spec.name == *name) else {
            return Err(Error::invalid_input(format!("the model has no input '{name}'")));
        };
        // Two types may look the same to rten: INT64 and INT32, say.
        if spec.dtype != dtype {
            return Err(Error::invalid_input(format!("input '{name}': expected {}, got {dtype}", spec.dtype)));
        }
        Ok((id, value.into()))
    }

    fn check_all_given(&self, values: &NamedValues) -> Result<()> {
        let inputs = self.model.signature.inputs.iter().zip(&self.model.input_ids);
        let missing = inputs.into_iter().find(|(_, id)| !values.iter().any(|(given, _)| given == *id));
        match missing {
            Some((spec, _)) => Err(Error::invalid_input(format!("input '{}' is missing", spec.name))),
            None => Ok(()),
        }
    }
}

fn run_error(error: &rten::RunError) -> Error {
    match error.kind() {
        RunErrorKind::InvalidInput => Error::invalid_input(error.to_string()),
        _ => Error::engine(error.to_string()),
    }
}
