//! How a model of the engine `python` is run, as its files say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::TensorSpec;

/// What a worker process needs to know of a model in Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonSpec {
    /// The model's folder: the worker's working directory, from which the model's code is imported.
    pub folder: PathBuf,
    /// What answers.
    pub predictor: Predictor,
    /// What runs it.
    pub environment: PythonEnvironment,
    /// Inputs as declared, full shapes; empty: as the code says.
    pub inputs: Vec<PythonTensor>,
    /// Outputs as declared, full shapes; empty: as the code says.
    pub outputs: Vec<PythonTensor>,
    /// The most memory that one worker may hold, in bytes; none: any.
    pub memory_limit: Option<u64>,
    /// How long a worker may take to start: imports and the loading of weights.
    pub start_timeout: Duration,
    /// Environment variables of the worker.
    pub variables: BTreeMap<String, String>,
    /// Settings that the code reads.
    pub settings: BTreeMap<String, String>,
}

impl PythonSpec {
    /// How long a worker may take to start where no setting says otherwise.
    pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(120);
}

/// What answers in a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predictor {
    /// A class with `predict` in the artifact, a Python file; none: the only such class there.
    Class(Option<String>),
    /// An adapter that reads the artifact: `sklearn`, `mlflow`, …
    Adapter(String),
}

/// Which Python runs a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonEnvironment {
    /// The server's own choice.
    Server,
    /// This interpreter, or that of this virtual environment.
    Interpreter(PathBuf),
    /// A virtual environment that is made from this file of requirements.
    Requirements(PathBuf),
}

/// An input or output of a model in Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonTensor {
    /// Name, type and full shape.
    pub spec: TensorSpec,
    /// Whether BYTES are `str` in Python, not `bytes`.
    pub is_text: bool,
}
