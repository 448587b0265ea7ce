//! Who computes: a runtime library, a loaded model, and one thread's scratch space for it.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::{AsyncModel, DataType, ModelSpec, Result, Shape, Signature, Tensor};

/// A runtime library that can load models.
pub trait Engine: Send + Sync {
    /// Returns the name used in `model.toml`: `onnx`, `rten`, …
    fn name(&self) -> &'static str;

    /// Returns the platform name that Triton's clients know, such as `onnxruntime_onnx`.
    fn platform(&self) -> &'static str;

    /// Says in a line what runs the models at the moment: the library and its version, or that it
    /// is not there. Cheap; looks nothing up.
    fn describe(&self) -> String;

    /// Makes sure that the library is there; may fetch it on first need. Blocking.
    ///
    /// # Errors
    /// `Unsupported`, saying what to do to get it.
    fn prepare(&self) -> Result<()>;

    /// Loads a model's weights. Blocking.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is not a model, `Unsupported` for operators or types that
    /// the engine does not know, `Engine` for anything else; each names the file.
    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>>;
}

/// A loaded model: the weights, shared by its instances.
pub trait Model: Send + Sync {
    /// Returns inputs and outputs as the file declares them.
    ///
    /// Its `batching` says only whether *every* input and output has a free first dimension.
    fn signature(&self) -> &Signature;

    /// Returns an estimate of the memory that the weights take.
    fn memory_bytes(&self) -> u64;

    /// Whether a run may give any number of answers ([`Instance::run_stream`]).
    fn is_decoupled(&self) -> bool {
        false
    }

    /// Returns what answers requests where no thread has to compute; such a model makes no instances.
    fn asynchronous(&self) -> Option<Arc<dyn AsyncModel>> {
        None
    }

    /// Makes an instance for one worker thread. Blocking; an engine that waits for something
    /// outside of itself gives up after a while. Several threads may call at a time.
    ///
    /// # Errors
    /// `Engine` if the library refuses, `Unsupported` for a device it does not have.
    fn instance(&self, placement: &Placement) -> Result<Box<dyn Instance>>;

    /// Says that no more instances are wanted: one that is being made may be given up with an error.
    fn close(&self) {}
}

/// Where an instance runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// `cpu`, `cuda:0`, `tensorrt:0`, `openvino`, …
    pub device: String,
    /// Threads that one run may use.
    pub threads: usize,
    /// The core that the worker stays on; none: any.
    pub core: Option<usize>,
}

/// One thread's way to run a model.
pub trait Instance: Send {
    /// Returns memory to assemble a batch in, `layout.total_len` bytes, aligned to
    /// [`BatchLayout::ALIGN`].
    ///
    /// # Errors
    /// `Full` where there is no memory for it.
    fn input_buffer(&mut self, layout: &BatchLayout) -> Result<&mut [u8]>;

    /// Runs the model. Outputs come in the signature's order and may share one allocation.
    ///
    /// # Errors
    /// `InvalidInput` where the data itself is at fault, `NotReady` where what computes elsewhere
    /// ended before it answered, else `Engine`.
    fn run(&mut self, inputs: Inputs<'_>) -> Result<Vec<Tensor>>;

    /// Runs the model on one request and hands its answers out one by one, each with outputs as from
    /// [`Self::run`]. `hand_out` blocks while nobody takes them, and says when to stop.
    ///
    /// # Errors
    /// As [`Self::run`]; answers may have been handed out before.
    fn run_stream(
        &mut self,
        inputs: Inputs<'_>,
        hand_out: &mut dyn FnMut(Vec<Tensor>) -> ControlFlow<()>,
    ) -> Result<()> {
        let _ = hand_out(self.run(inputs)?);
        Ok(())
    }

    /// Returns a way to end a run of this instance from another thread, where the engine has one.
    /// An instance that was interrupted is not used again.
    fn interrupt(&self) -> Option<Interrupt> {
        None
    }

    /// Whether runs compute on the thread that calls. Where they do not, as in a process of their
    /// own, the caller's processor time says nothing, and the caller must be one that may block.
    fn computes_here(&self) -> bool {
        true
    }

    /// Whether the instance can go on; one that cannot is replaced. Asked after each run that
    /// failed, and of one that runs elsewhere also before each batch and every so often while it
    /// waits; must be cheap. `failed`: its last run failed with the kind `Engine` on a request that
    /// was alone in it. By default that leaves an instance in doubt, and nothing else does.
    fn is_sound(&mut self, failed: bool) -> bool {
        !failed
    }
}

/// Makes the run in progress end soon, with an error. Does nothing between runs.
pub type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// Where the inputs of a run are. Inputs that a request left out are left out here too.
pub enum Inputs<'a> {
    /// Written into the instance's own buffer before.
    Staged(&'a BatchLayout),
    /// As they came: a lone request, or one with BYTES. The engine copies what is not aligned.
    Direct(&'a [Tensor]),
}

/// Where each input of a batch lies in the instance's buffer. Fixed-size types only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchLayout {
    /// The inputs, in the signature's order.
    pub inputs: Vec<InputLayout>,
    /// Bytes of the whole buffer.
    pub total_len: usize,
}

impl BatchLayout {
    /// Alignment of the buffer and of each input in it, in bytes.
    pub const ALIGN: usize = 64;
}

/// One input of a [`BatchLayout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputLayout {
    /// The input's name.
    pub name: Arc<str>,
    /// Its element type.
    pub dtype: DataType,
    /// Its shape over the whole batch.
    pub shape: Shape,
    /// Where it begins, a multiple of [`BatchLayout::ALIGN`].
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
}
