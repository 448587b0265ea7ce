//! A model in Python, and its instances: one worker each.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use salver_core::{
    BatchLayout, Batching, DataType, Error, Inputs, Instance, Interrupt, Model, ModelSpec, Placement, Predictor,
    PythonSpec, Result, Shape, Signature, Tensor,
};

use crate::device;
use crate::process::Processes;
use crate::wire::{Placed, Setup};
use crate::worker::{Declared, Launch, Worker};

/// The adapters, each with its source.
const ADAPTERS: [(&str, &str); 6] = [
    ("sklearn", include_str!("../python/adapters/sklearn.py")),
    ("mlflow", include_str!("../python/adapters/mlflow.py")),
    ("torch", include_str!("../python/adapters/torch.py")),
    ("xgboost", include_str!("../python/adapters/xgboost.py")),
    ("tensorflow", include_str!("../python/adapters/tensorflow.py")),
    ("transformers", include_str!("../python/adapters/transformers.py")),
];

/// Variables by which libraries learn how many threads they may use.
const THREADS: [&str; 4] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"];
/// How much a worker with a memory limit may ask for before the system refuses, in limits: what is
/// asked for is more than what is used, which is what the limit is about.
const DATA_PER_LIMIT: u64 = 2;
const DATA_BASE: u64 = 1 << 30;

/// What it takes to start a worker, and what the first one said.
pub(crate) struct PythonModel {
    starter: Arc<Starter>,
    signature: Arc<Signature>,
    memory_bytes: u64,
    is_decoupled: bool,
    /// Loaded already, and not used yet.
    first: Mutex<Option<(Placement, Worker)>>,
}

struct Starter {
    name: Arc<str>,
    version: u64,
    artifact: PathBuf,
    python: Arc<PythonSpec>,
    interpreter: PathBuf,
    processes: Processes,
    may_be_direct: bool,
    is_closed: AtomicBool,
}

impl PythonModel {
    /// Starts the first worker, which says what the model takes and gives.
    pub(crate) fn load(
        spec: &ModelSpec,
        python: Arc<PythonSpec>,
        interpreter: PathBuf,
        processes: Processes,
        may_be_direct: bool,
    ) -> Result<Self> {
        let (name, version, artifact) = (spec.name.shared().clone(), spec.version, spec.artifact.clone());
        let is_closed = AtomicBool::new(false);
        let starter = Starter { name, version, artifact, python, interpreter, processes, may_be_direct, is_closed };
        let group = spec.config.instance_groups.first().cloned().unwrap_or_default();
        let device = group.devices().into_iter().next().unwrap_or_else(|| "cpu".to_owned());
        let placement = Placement { device, threads: group.threads.max(1), core: group.cores.first().copied() };
        let (worker, declared) = starter.start(&placement)?;
        let Declared { inputs, outputs, is_decoupled } = declared;
        let signature = Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs };
        Ok(Self {
            memory_bytes: worker.resident_bytes(),
            is_decoupled,
            signature: Arc::new(signature),
            starter: Arc::new(starter),
            first: Mutex::new(Some((placement, worker))),
        })
    }
}

impl Starter {
    fn start(&self, placement: &Placement) -> Result<(Worker, Declared)> {
        let error = |error: Error| error.context(self.artifact.display());
        device::check(&placement.device)?;
        let (class, adapter) = match &self.python.predictor {
            Predictor::Class(name) => (name.as_deref().unwrap_or_default(), ""),
            Predictor::Adapter(name) => ("", adapter(name).map_err(error)?),
        };
        let limit = self.python.memory_limit;
        let settings: Vec<(&str, &str)> =
            self.python.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let setup = Setup {
            server_pid: std::process::id(),
            model: &self.name,
            version: self.version,
            folder: text(&self.python.folder)?,
            artifact: text(&self.artifact)?,
            device: &placement.device,
            threads: u32::try_from(placement.threads).unwrap_or(u32::MAX),
            class,
            adapter,
            data_limit: limit.map_or(0, |limit| limit.saturating_mul(DATA_PER_LIMIT).saturating_add(DATA_BASE)),
            settings: &settings,
            inputs: &self.python.inputs,
            outputs: &self.python.outputs,
        };
        let launch = Launch {
            processes: &self.processes,
            model: self.name.clone(),
            command: self.command(placement),
            setup,
            core: placement.core,
            timeout: self.python.start_timeout,
            memory_limit: limit,
            may_be_direct: self.may_be_direct,
            is_closed: &self.is_closed,
        };
        Worker::start(launch).map_err(error)
    }

    /// The server's own settings, among them its keys, are not the worker's business.
    fn command(&self, placement: &Placement) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.current_dir(&self.python.folder);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SALVER_")) {
            command.env_remove(name);
        }
        command.envs(THREADS.map(|name| (name, placement.threads.to_string())));
        command.envs(&self.python.variables);
        command
    }
}

fn adapter(name: &str) -> Result<&'static str> {
    let known = ADAPTERS.iter().find(|(known, _)| *known == name);
    known.map(|(_, source)| *source).ok_or_else(|| {
        let names: Vec<&str> = ADAPTERS.iter().map(|(name, _)| *name).collect();
        Error::unsupported(format!("adapter '{name}' is unknown; there are {}", names.join(", ")))
    })
}

fn text(path: &Path) -> Result<&str> {
    let refused = || Error::invalid_input(format!("{} is not UTF-8: rename it", path.display()));
    path.to_str().ok_or_else(refused)
}

impl Model for PythonModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn is_decoupled(&self) -> bool {
        self.is_decoupled
    }

    fn instance(&self, placement: &Placement) -> Result<Box<dyn Instance>> {
        let first = self.first.lock().take_if(|(of, worker)| of == placement && worker.is_sound());
        let worker = match first {
            Some((_, worker)) => worker,
            None => {
                let (worker, Declared { inputs, outputs, is_decoupled }) = self.starter.start(placement)?;
                if is_decoupled != self.is_decoupled
                    || inputs != self.signature.inputs
                    || outputs != self.signature.outputs
                {
                    return Err(Error::engine("a second worker of it takes or gives something else than the first"));
                }
                worker
            }
        };
        let (signature, is_decoupled) = (self.signature.clone(), self.is_decoupled);
        Ok(Box::new(PythonInstance { worker, signature, is_decoupled, placed: Vec::new() }))
    }

    fn close(&self) {
        self.starter.is_closed.store(true, Ordering::Relaxed);
    }
}

struct PythonInstance {
    worker: Worker,
    signature: Arc<Signature>,
    is_decoupled: bool,
    placed: Vec<Placed>,
}

impl PythonInstance {
    /// Looks an input up and checks it: workers rely on it.
    fn check(&self, name: &str, dtype: DataType, shape: &Shape) -> Result<usize> {
        let inputs = &self.signature.inputs;
        let Some(idx) = inputs.iter().position(|spec| *spec.name == *name) else {
            return Err(Error::invalid_input(format!("the model has no input '{name}'")));
        };
        let spec = &inputs[idx];
        if dtype != spec.dtype || !spec.accepts(shape) {
            let expected = spec.wire_shape();
            let text = format!("input '{name}': expected {} {expected:?}, got {dtype} {shape}", spec.dtype);
            return Err(Error::invalid_input(text));
        }
        Ok(idx)
    }

    /// Puts the inputs of a run where the worker reads them.
    fn place(&mut self, inputs: &Inputs<'_>) -> Result<()> {
        self.placed.clear();
        match inputs {
            Inputs::Staged(layout) => self.place_staged(layout)?,
            Inputs::Direct(tensors) => self.place_direct(tensors)?,
        }
        self.check_all_given()
    }

    fn check_all_given(&self) -> Result<()> {
        let is_given = |idx: usize| self.placed.iter().any(|placed| placed.idx == idx);
        let mut inputs = self.signature.inputs.iter().enumerate();
        match inputs.find(|(idx, spec)| !spec.optional && !is_given(*idx)) {
            Some((_, spec)) => Err(Error::invalid_input(format!("input '{}' is missing", spec.name))),
            None => Ok(()),
        }
    }

    fn place_staged(&mut self, layout: &BatchLayout) -> Result<()> {
        for input in &layout.inputs {
            let idx = self.check(&input.name, input.dtype, &input.shape)?;
            self.placed.push(Placed { idx, shape: input.shape.clone(), offset: input.offset, len: input.len });
        }
        Ok(())
    }

    /// Copies tensors into the memory for inputs.
    fn place_direct(&mut self, tensors: &[Tensor]) -> Result<()> {
        let mut total = 0_usize;
        for tensor in tensors {
            let idx = self.check(tensor.name(), tensor.dtype(), tensor.shape())?;
            let len = packed_len(tensor);
            self.placed.push(Placed { idx, shape: tensor.shape().clone(), offset: total, len });
            total = (total + len).next_multiple_of(BatchLayout::ALIGN);
        }
        let buffer = self.worker.input_buffer(total)?;
        for (tensor, placed) in tensors.iter().zip(&self.placed) {
            pack(tensor, &mut buffer[placed.offset..placed.offset + placed.len]);
        }
        Ok(())
    }
}

/// BYTES stand behind their lengths.
fn packed_len(tensor: &Tensor) -> usize {
    tensor.payload_len() + tensor.elements().map_or(0, |elements| 4 * elements.len())
}

fn pack(tensor: &Tensor, mut into: &mut [u8]) {
    if let Some(data) = tensor.bytes() {
        into.copy_from_slice(data);
        return;
    }
    for element in tensor.elements().into_iter().flat_map(|elements| elements.iter()) {
        // Elements lie in a buffer of at most 4 GiB.
        let (len, rest) = into.split_at_mut(4);
        len.copy_from_slice(&(element.len() as u32).to_le_bytes());
        let (place, rest) = rest.split_at_mut(element.len());
        place.copy_from_slice(element);
        into = rest;
    }
}

impl Instance for PythonInstance {
    fn input_buffer(&mut self, layout: &BatchLayout) -> Result<&mut [u8]> {
        self.worker.input_buffer(layout.total_len)
    }

    /// Of a generator, the first answer.
    fn run(&mut self, inputs: Inputs<'_>) -> Result<Vec<Tensor>> {
        self.place(&inputs)?;
        if !self.is_decoupled {
            return self.worker.run(&self.placed, &self.signature.outputs);
        }
        let mut first = None;
        self.worker.run_stream(&self.placed, &self.signature.outputs, &mut |outputs| {
            first = Some(outputs);
            ControlFlow::Break(())
        })?;
        first.ok_or_else(|| Error::engine("predict gave no answer"))
    }

    fn run_stream(
        &mut self,
        inputs: Inputs<'_>,
        hand_out: &mut dyn FnMut(Vec<Tensor>) -> ControlFlow<()>,
    ) -> Result<()> {
        if !self.is_decoupled {
            let _ = hand_out(self.run(inputs)?);
            return Ok(());
        }
        self.place(&inputs)?;
        self.worker.run_stream(&self.placed, &self.signature.outputs, hand_out)
    }

    fn interrupt(&self) -> Option<Interrupt> {
        Some(self.worker.interrupt())
    }

    fn computes_here(&self) -> bool {
        false
    }

    fn is_sound(&mut self, _failed: bool) -> bool {
        self.worker.is_sound()
    }
}
