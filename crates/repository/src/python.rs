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

use salver_core::{Error, ModelName, ModelSpec, Predictor, PythonEnvironment, PythonSpec, PythonTensor, Result};

use crate::files::{self, Fingerprint};
use crate::signature::{Field, Side};
use crate::{mlflow, model_toml};

pub(crate) use self::artifact::{ADAPTERS, is_meant, is_model, is_python};
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
    let environment = environment(folder, &path, draft.environment.as_ref())?;
    match &predictor {
        _ if path.is_dir() => fingerprint.add_tree(&path, |_| true),
        Predictor::Class(_) => fingerprint.add(&path),
        Predictor::Adapter(_) => fingerprint.add_artifact(&path),
    }
    // The artifact may import any file beside it.
    fingerprint.add_tree(folder, artifact::is_code);
    if let PythonEnvironment::Requirements(file) = &environment {
        fingerprint.add(file);
    }
    let (inputs, outputs) = tensors(&path, &predictor, draft)?;
    let spec = PythonSpec {
        folder: folder.clone(),
        predictor,
        environment,
        inputs,
        outputs,
        memory_limit: draft.memory_limit,
        start_timeout: draft.start_timeout.unwrap_or(PythonSpec::DEFAULT_START_TIMEOUT),
        variables: draft.variables.clone(),
        settings: draft.settings.clone(),
    };
    Ok(Found { artifact: path, filename, spec: Arc::new(spec) })
}

/// Reads the one version of a folder that is no more than a script: an empty `model.toml` would
/// change nothing.
pub(crate) fn read(name: &ModelName, version: u64, folder: &Path) -> Result<ModelSpec> {
    let manifest = model_toml::parse("")?;
    Ok(ModelSpec { version, ..model_toml::read_one(name, folder, &manifest)? })
}

/// Returns what is declared; what MLflow saved declares itself where nothing else does.
fn tensors(
    artifact: &Path,
    predictor: &Predictor,
    draft: &PythonDraft,
) -> Result<(Vec<PythonTensor>, Vec<PythonTensor>)> {
    let path = artifact.join(mlflow::MANIFEST);
    let is_mlflow = matches!(predictor, Predictor::Adapter(adapter) if adapter == mlflow::ADAPTER);
    if !is_mlflow || !files::is_there(&path) {
        return Ok((draft.inputs.clone(), draft.outputs.clone()));
    }
    let context = |error: Error| error.context(path.display());
    let text = files::read_text(&path, files::CONFIG_LIMIT)?;
    let signature = mlflow::declared(&text).map_err(context)?.signature.unwrap_or_default();
    let side = |side: Side, declared: &[PythonTensor], fields: &[Field]| match declared {
        [] => mlflow::tensors(side, fields).map_err(context),
        declared => Ok(declared.to_vec()),
    };
    let inputs = side(Side::Input, &draft.inputs, &signature.inputs)?;
    Ok((inputs, side(Side::Output, &draft.outputs, &signature.outputs)?))
}

fn environment(folder: &Path, artifact: &Path, named: Option<&NamedEnvironment>) -> Result<PythonEnvironment> {
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
        // What MLflow saved has its own, and may lie in a folder of its own.
        None => match [folder, artifact].into_iter().find(|at| files::is_there(&at.join(REQUIREMENTS))) {
            Some(at) => requirements(at, REQUIREMENTS),
            None => Ok(PythonEnvironment::Server),
        },
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
