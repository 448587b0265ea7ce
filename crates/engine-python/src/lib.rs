//! Models in Python: each instance is a process of its own, a worker.
//!
//! The server assembles a batch in memory that it shares with the worker and tells it where each
//! input lies (`wire`); the worker hands the model views of it, and the server copies the outputs
//! out of the worker's memory (`answer`). A worker may raise, exit, hang or write anything
//! anywhere: what it says is checked, and it is ended with all that it started (`process`). When it
//! is replaced is the runtime's business. Code in Python can do what the server's user can, so all
//! of this is off unless it is allowed.

mod answer;
mod device;
mod environment;
mod memory;
mod model;
mod output;
mod process;
mod wire;
mod worker;

pub mod fuzz;

use std::path::PathBuf;
use std::sync::Arc;

use salver_core::{Engine, Error, Model, ModelSpec, Result};

use crate::environment::Environments;
use crate::model::PythonModel;
use crate::process::Processes;

/// Settings of the engine.
#[derive(Debug, Clone, Default)]
pub struct PythonOptions {
    /// Whether models in Python may run at all.
    pub is_allowed: bool,
    /// The interpreter, or the folder of a virtual environment, of models that name none; none:
    /// `python3`.
    pub interpreter: Option<PathBuf>,
    /// What happens with a model's requirements.
    pub requirements: Requirements,
    /// Where environments are kept; none: in the user's cache.
    pub cache: Option<PathBuf>,
    /// Whether outputs always go through shared memory, also where the memory of a worker may be
    /// read directly.
    pub shares_answers: bool,
}

/// What happens with a model's `requirements.txt`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Requirements {
    /// An environment is made from it, once.
    #[default]
    Installed,
    /// Nothing: the interpreter of [`PythonOptions::interpreter`] has what is needed.
    Given,
}

/// See the crate's description. Clones are the same engine.
#[derive(Clone)]
pub struct PythonEngine {
    is_allowed: bool,
    shares_answers: bool,
    environments: Arc<Environments>,
    processes: Processes,
}

impl PythonEngine {
    /// Makes the engine; nothing is started yet.
    pub fn new(options: &PythonOptions) -> Self {
        Self {
            is_allowed: options.is_allowed,
            shares_answers: options.shares_answers,
            environments: Arc::new(Environments::new(options)),
            processes: Processes::new(),
        }
    }

    /// Returns the bytes that all workers hold by themselves.
    pub fn resident_bytes(&self) -> u64 {
        self.processes.resident_bytes()
    }
}

impl Engine for PythonEngine {
    fn name(&self) -> &'static str {
        "python"
    }

    fn platform(&self) -> &'static str {
        "python"
    }

    fn describe(&self) -> String {
        match self.is_allowed {
            true => format!("Python workers, by default with {}", self.environments.default_interpreter().display()),
            false => "Python workers, off; --allow-python turns them on".to_owned(),
        }
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>> {
        if !self.is_allowed {
            return Err(Error::unsupported(
                "it runs code in Python, which is off: such code can do anything that the server's user can. Start the \
                 server with --allow-python if you trust its models",
            ));
        }
        let Some(python) = &spec.python else {
            return Err(Error::invalid_input(
                "the engine 'python' needs a model in Python: a class, or [python] adapter",
            ));
        };
        let interpreter = self.environments.interpreter(python)?;
        Ok(Arc::new(PythonModel::load(
            spec,
            python.clone(),
            interpreter,
            self.processes.clone(),
            !self.shares_answers,
        )?))
    }
}
