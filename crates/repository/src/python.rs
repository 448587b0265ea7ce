//! Models that run in Python: a class in a file, or an artifact that an adapter reads.
//!
//! What `model.toml` or an `MLmodel` says becomes a [`PythonDraft`]; the folder then settles the
//! rest: which file, which adapter, which environment. No code is read here, let alone run.

mod artifact;
mod element_type;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use salver_core::{Error, Predictor, PythonEnvironment, PythonSpec, PythonTensor, Result};

use crate::files::{self, Fingerprint};

pub(crate) use self::artifact::{ADAPTERS, is_model, is_python};
pub(crate) use self::element_type::{NAMES as ELEMENT_TYPES, element_type};

/// The engine's name.
pub(crate) const ENGINE: &str = "python";
/// The file that makes a folder a model in Python where nothing else says what it is.
pub(crate) const SCRIPT: &str = "model.py";
/// What is installed where nothing else is said.
const REQUIREMENTS: &str = "requirements.txt";

/// How a model runs in Python, as far as that is known without its folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PythonDraft {
    /// What answers; none: as the artifact's name says.
    pub(crate) predictor: Option<Predictor>,
    /// What runs it; none: the requirements that lie in the folder, else the server's choice.
    pub(crate) environment: Option<NamedEnvironment>,
    /// Declared inputs; empty: as the code says.
    pub(crate) inputs: Vec<PythonTensor>,
    /// Declared outputs; empty: as the code says.
    pub(crate) outputs: Vec<PythonTensor>,
    /// The most bytes of one worker.
    pub(crate) memory_limit: Option<u64>,
    /// How long a worker may take to start; none: the default.
    pub(crate) start_timeout: Option<Duration>,
    /// Environment variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// Settings that the code reads.
    pub(crate) settings: BTreeMap<String, String>,
}

/// What runs a model, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamedEnvironment {
    /// An interpreter or the folder of a virtual environment, from the model's folder.
    Interpreter(String),
    /// A file in the model's folder.
    Requirements(String),
}

/// A model in Python that was found in its folder.
#[derive(Debug)]
pub(crate) struct Found {
    /// The file or folder that the class lies in or the adapter reads.
    pub(crate) artifact: PathBuf,
    /// Its name within the model's folder.
    pub(crate) filename: String,
    /// How it runs.
    pub(crate) spec: Arc<PythonSpec>,
}

/// Finds in `folder` what `draft` and the name of the artifact leave open.
///
/// # Errors
/// `InvalidInput` or `NotFound` naming the key that does not fit the folder.
pub(crate) fn find(
    folder: &Path,
    artifact: Option<&str>,
    draft: &PythonDraft,
    fingerprint: &mut Fingerprint,
) -> Result<Found> {
    // Workers do not run in the server's working directory.
    let folder = &absolute(folder).map_err(|error| files::io_error(folder, error))?;
    let artifact::Found { path, filename, predictor } = artifact::find(folder, artifact, draft.predictor.as_ref())?;
    let environment = environment(folder, draft.environment.as_ref())?;
    fingerprint.add_artifact(&path);
    if let PythonEnvironment::Requirements(file) = &environment {
        fingerprint.add(file);
    }
    let spec = PythonSpec {
        folder: folder.clone(),
        predictor,
        environment,
        inputs: draft.inputs.clone(),
        outputs: draft.outputs.clone(),
        memory_limit: draft.memory_limit,
        start_timeout: draft.start_timeout.unwrap_or(PythonSpec::DEFAULT_START_TIMEOUT),
        variables: draft.variables.clone(),
        settings: draft.settings.clone(),
    };
    Ok(Found { artifact: path, filename, spec: Arc::new(spec) })
}

fn environment(folder: &Path, named: Option<&NamedEnvironment>) -> Result<PythonEnvironment> {
    match named {
        Some(NamedEnvironment::Interpreter(name)) => {
            // A virtual environment may lie anywhere, and its interpreter is a link out of it.
            let path = folder.join(name);
            match path.exists() {
                true => Ok(PythonEnvironment::Interpreter(path)),
                false => Err(Error::not_found(format!(
                    "python.interpreter: {} does not exist; expected an interpreter or the folder of a virtual \
                     environment",
                    path.display()
                ))),
            }
        }
        Some(NamedEnvironment::Requirements(name)) => requirements(folder, name),
        None if files::is_there(&folder.join(REQUIREMENTS)) => requirements(folder, REQUIREMENTS),
        None => Ok(PythonEnvironment::Server),
    }
}

fn requirements(folder: &Path, name: &str) -> Result<PythonEnvironment> {
    let within = |error: Error| error.context("python.requirements");
    let path = files::inside(folder, name).map_err(within)?;
    match path.is_file() {
        true => Ok(PythonEnvironment::Requirements(path)),
        false => Err(within(Error::invalid_input(format!("{} is not a file", path.display())))),
    }
}
