//! An engine without a library: quick, exact, and bad on demand.
//!
//! By default it copies the n-th input to the n-th output. A test can make it add, wait at a
//! [`Gate`], fail, panic, hang or die on rows that hold a marked value, and refuse to load. What ran
//! is recorded. Clones share all of that, so a test keeps one and gives one away.

mod fate;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use salver_core::{
    BatchLayout, Batching, DataType, Element, Engine, Error, Inputs, Instance, Model, ModelSpec, Placement, Result,
    Shape, Signature, StagingBuffer, Tensor, TensorSpec,
};

use self::fate::{Fate, Process};
use crate::Gate;

/// See the module's description.
#[derive(Clone)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    signature: Signature,
    addend: f32,
    run_time: Duration,
    reactions: Vec<(f32, Reaction)>,
    gate: Gate,
    load_gate: Gate,
    hang_gate: Gate,
    load_error: Mutex<Option<Error>>,
    prepare_error: Mutex<Option<Error>>,
    batches: Mutex<Vec<BatchRecord>>,
    models: AtomicUsize,
    instances: AtomicUsize,
    instances_made: AtomicUsize,
    fate: Fate,
    compute: Option<Compute>,
    answers: Option<usize>,
}

/// What a fake model computes: outputs of inputs, with the number of the instance, which none other
/// ever has.
pub type Compute = Arc<dyn Fn(usize, &[Tensor]) -> Result<Vec<Tensor>> + Send + Sync>;

/// What happens to a batch in which a row holds a marked value.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// The run returns this error.
    Fail(Error),
    /// The run panics.
    Panic,
    /// The run waits until [`FakeEngine::hang_gate`] is opened.
    Hang,
    /// What computes for the instance ends, and the run with it.
    Die,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// The model's name.
    pub model: String,
    /// The model's version.
    pub version: u64,
    /// Rows of the first input.
    pub rows: usize,
    /// Whether the inputs came through the instance's buffer.
    pub staged: bool,
    /// The thread it ran on.
    pub thread: ThreadId,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// Makes an engine that copies the FP32 input `x` `[-1,2]` to the output `y`.
    pub fn new() -> Self {
        let signature = Signature {
            inputs: vec![TensorSpec::new("x", DataType::Fp32, &[-1, 2])],
            outputs: vec![TensorSpec::new("y", DataType::Fp32, &[-1, 2])],
            batching: Batching::Rows { limit: None },
        };
        let shared = Shared {
            name: "fake",
            signature,
            addend: 0.0,
            run_time: Duration::ZERO,
            reactions: Vec::new(),
            gate: Gate::default(),
            load_gate: Gate::default(),
            hang_gate: Gate::closed(),
            load_error: Mutex::new(None),
            prepare_error: Mutex::new(None),
            batches: Mutex::new(Vec::new()),
            models: AtomicUsize::new(0),
            instances: AtomicUsize::new(0),
            instances_made: AtomicUsize::new(0),
            fate: Fate::default(),
            compute: None,
            answers: None,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Gives the engine another name than `fake`.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        self.configure(|shared| shared.name = name)
    }

    /// Makes its models decoupled: each answer is given so many times.
    #[must_use]
    pub fn repeating(self, answers: usize) -> Self {
        self.configure(|shared| shared.answers = Some(answers))
    }

    /// Gives its models another signature, and what they compute.
    #[must_use]
    pub fn computing(self, signature: Signature, compute: Compute) -> Self {
        self.configure(|shared| {
            shared.signature = signature;
            shared.compute = Some(compute);
        })
    }

    /// Gives its models another signature; the n-th output repeats the n-th input.
    #[must_use]
    pub fn with_signature(self, signature: Signature) -> Self {
        assert_eq!(signature.inputs.len(), signature.outputs.len(), "the n-th output repeats the n-th input");
        self.configure(|shared| shared.signature = signature)
    }

    /// Makes FP32 outputs larger than their inputs by `addend`.
    #[must_use]
    pub fn adding(self, addend: f32) -> Self {
        self.configure(|shared| shared.addend = addend)
    }

    /// Makes every run take at least `run_time`, whatever its batch.
    #[must_use]
    pub fn taking(self, run_time: Duration) -> Self {
        self.configure(|shared| shared.run_time = run_time)
    }

    /// Makes a batch with `mark` among its FP32 values end in `reaction`.
    #[must_use]
    pub fn reacting_to(self, mark: f32, reaction: Reaction) -> Self {
        self.configure(|shared| shared.reactions.push((mark, reaction)))
    }

    fn configure(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Arc::try_unwrap(self.shared).ok().expect("an engine is configured before it is cloned");
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }

    /// Returns the gate before every run; open at first.
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Returns the gate before every load; open at first.
    pub fn load_gate(&self) -> &Gate {
        &self.shared.load_gate
    }

    /// Returns the gate where [`Reaction::Hang`] waits; closed at first.
    pub fn hang_gate(&self) -> &Gate {
        &self.shared.hang_gate
    }

    /// Makes loads fail from now on, or (`None`) succeed again.
    pub fn fail_loads(&self, error: Option<Error>) {
        *self.shared.load_error.lock() = error;
    }

    /// Makes [`Engine::prepare`] fail from now on, or (`None`) succeed again.
    pub fn fail_prepare(&self, error: Option<Error>) {
        *self.shared.prepare_error.lock() = error;
    }

    /// Returns the runs so far, in the order in which they began.
    pub fn batches(&self) -> Vec<BatchRecord> {
        self.shared.batches.lock().clone()
    }

    /// Forgets the runs so far and returns them, for tests that last.
    pub fn take_batches(&self) -> Vec<BatchRecord> {
        std::mem::take(&mut *self.shared.batches.lock())
    }

    /// Returns the rows of each run so far.
    pub fn batch_rows(&self) -> Vec<usize> {
        self.shared.batches.lock().iter().map(|batch| batch.rows).collect()
    }

    /// Returns how many models are loaded and not dropped.
    pub fn live_models(&self) -> usize {
        self.shared.models.load(Ordering::SeqCst)
    }

    /// Returns how many instances were made and not dropped.
    pub fn live_instances(&self) -> usize {
        self.shared.instances.load(Ordering::SeqCst)
    }
}

impl Engine for FakeEngine {
    fn name(&self) -> &'static str {
        self.shared.name
    }

    fn platform(&self) -> &'static str {
        "fake_platform"
    }

    fn describe(&self) -> String {
        "a fake for tests".to_owned()
    }

    fn prepare(&self) -> Result<()> {
        self.shared.prepare_error.lock().clone().map_or(Ok(()), Err)
    }

    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>> {
        self.shared.load_gate.pass();
        if let Some(error) = self.shared.load_error.lock().clone() {
            return Err(error);
        }
        self.shared.models.fetch_add(1, Ordering::SeqCst);
        let life = Arc::new(ModelLife { shared: self.shared.clone() });
        Ok(Arc::new(FakeModel { life, name: spec.name.to_string(), version: spec.version }))
    }
}

/// Counts a model as alive until the model and its instances are gone.
struct ModelLife {
    shared: Arc<Shared>,
}

impl Drop for ModelLife {
    fn drop(&mut self) {
        self.shared.models.fetch_sub(1, Ordering::SeqCst);
    }
}

struct FakeModel {
    life: Arc<ModelLife>,
    name: String,
    version: u64,
}

impl Model for FakeModel {
    fn signature(&self) -> &Signature {
        &self.life.shared.signature
    }

    fn memory_bytes(&self) -> u64 {
        1 << 20
    }

    fn is_decoupled(&self) -> bool {
        self.life.shared.answers.is_some()
    }

    fn instance(&self, placement: &Placement) -> Result<Box<dyn Instance>> {
        if placement.device != "cpu" {
            return Err(Error::unsupported(format!("device `{}`: the fake engine has the cpu only", placement.device)));
        }
        let process = self.life.shared.fate.start()?;
        self.life.shared.instances.fetch_add(1, Ordering::SeqCst);
        let instance = FakeInstance {
            number: self.life.shared.instances_made.fetch_add(1, Ordering::SeqCst),
            process,
            life: self.life.clone(),
            model: self.name.clone(),
            version: self.version,
            staging: StagingBuffer::default(),
        };
        Ok(Box::new(instance))
    }
}

struct FakeInstance {
    number: usize,
    life: Arc<ModelLife>,
    process: Process,
    model: String,
    version: u64,
    staging: StagingBuffer,
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        self.life.shared.instances.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Instance for FakeInstance {
    fn input_buffer(&mut self, layout: &BatchLayout) -> Result<&mut [u8]> {
        self.staging.resize(layout.total_len)
    }

    fn run(&mut self, inputs: Inputs<'_>) -> Result<Vec<Tensor>> {
        let (tensors, staged) = match inputs {
            Inputs::Staged(layout) => (self.read_staged(layout)?, true),
            Inputs::Direct(tensors) => (tensors.to_vec(), false),
        };
        self.record(&tensors, staged);
        self.life.shared.gate.pass();
        Self::spend(self.life.shared.run_time);
        self.react(&tensors)?;
        self.life.shared.fate.check(&self.process)?;
        match &self.life.shared.compute {
            Some(compute) => compute(self.number, &tensors),
            None => self.answer(&tensors),
        }
    }

    fn run_stream(
        &mut self,
        inputs: Inputs<'_>,
        hand_out: &mut dyn FnMut(Vec<Tensor>) -> ControlFlow<()>,
    ) -> Result<()> {
        let outputs = self.run(inputs)?;
        for _ in 0..self.life.shared.answers.unwrap_or(1) {
            if hand_out(outputs.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn computes_here(&self) -> bool {
        !self.life.shared.fate.is_elsewhere
    }

    fn is_sound(&mut self, failed: bool) -> bool {
        let fate = &self.life.shared.fate;
        fate.runs(&self.process) && (fate.is_elsewhere || !failed)
    }
}

impl FakeInstance {
    fn read_staged(&self, layout: &BatchLayout) -> Result<Vec<Tensor>> {
        let read = |input: &salver_core::InputLayout| {
            let data = Bytes::copy_from_slice(&self.staging.bytes()[input.offset..input.offset + input.len]);
            Tensor::new(input.name.clone(), input.dtype, input.shape.clone(), data)
        };
        layout.inputs.iter().map(read).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a slow engine is what is faked here, nothing waits for an event")]
    fn spend(time: Duration) {
        if !time.is_zero() {
            std::thread::sleep(time);
        }
    }

    fn record(&self, tensors: &[Tensor], staged: bool) {
        let record = BatchRecord {
            model: self.model.clone(),
            version: self.version,
            rows: tensors.first().map_or(0, Tensor::rows),
            staged,
            thread: std::thread::current().id(),
        };
        self.life.shared.batches.lock().push(record);
    }

    fn react(&mut self, tensors: &[Tensor]) -> Result<()> {
        for (mark, reaction) in &self.life.shared.reactions {
            let holds = |tensor: &Tensor| tensor.to_vec::<f32>().is_some_and(|values| values.contains(mark));
            if !tensors.iter().any(holds) {
                continue;
            }
            match reaction {
                Reaction::Fail(error) => return Err(error.clone()),
                Reaction::Panic => panic!("the fake engine panics on {mark}, as the test asked"),
                Reaction::Hang => self.life.shared.hang_gate.pass(),
                Reaction::Die => self.process.end(),
            }
        }
        Ok(())
    }

    fn answer(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        let signature = &self.life.shared.signature;
        let named = |name: &str| tensors.iter().find(|tensor| &**tensor.name() == name);
        let pairs = signature.inputs.iter().zip(&signature.outputs);
        pairs.map(|(input, output)| self.output(named(&input.name), input, output)).collect()
    }

    /// An input that was left out comes back empty.
    fn output(&self, tensor: Option<&Tensor>, input: &TensorSpec, output: &TensorSpec) -> Result<Tensor> {
        let Some(tensor) = tensor else {
            let shape: Shape = input.shape.iter().map(|_| 0).collect();
            return match output.dtype {
                DataType::Bytes => Tensor::from_elements(output.name.clone(), shape, Default::default()),
                dtype => Tensor::new(output.name.clone(), dtype, shape, Bytes::new()),
            };
        };
        let addend = self.life.shared.addend;
        match tensor.to_vec::<f32>() {
            Some(values) if addend != 0.0 => {
                let sums: Vec<f32> = values.iter().map(|value| value + addend).collect();
                Tensor::from_slice(output.name.clone(), tensor.shape().clone(), &sums)
            }
            _ => Ok(tensor.clone().rename(output.name.clone())),
        }
    }
}

/// Makes a tensor of a fixed-size type.
///
/// # Panics
/// If `values` and `shape` do not fit.
pub fn tensor<T: Element>(name: &str, shape: &[usize], values: &[T]) -> Tensor {
    Tensor::from_slice(name, shape, values).expect("a test's values fit its shape")
}

/// Makes a BYTES tensor.
///
/// # Panics
/// If `values` and `shape` do not fit.
pub fn text(name: &str, shape: &[usize], values: &[&[u8]]) -> Tensor {
    Tensor::from_elements(name, shape, values.iter().collect()).expect("a test's values fit its shape")
}

#[cfg(test)]
mod tests;
