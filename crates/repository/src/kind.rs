//! Finds out what a PATH is. The order of the questions is documented at the top of the crate.
//!
//! Looks at names of files and folders only; nothing is read.

use std::fmt;
use std::path::Path;

use salver_core::{Error, ModelName, Result};

use crate::files::{self, Numbering};
use crate::{hugging_face, mlflow, model_toml, python, triton};

/// What a PATH may be, for messages.
pub(crate) const FORMS: &str = "an .onnx file, a folder with model.toml, a folder with config.pbtxt, a \
    folder with MLmodel, a folder with config.json and model.onnx, as Hugging Face's tools export it, a folder with \
    model.py, a folder of numbered versions (1/model.onnx), a TF Serving models.config file, or a folder of such models, as a Triton model \
    repository is";

/// What a PATH was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One `.onnx` file.
    OnnxFile,
    /// One folder with `model.toml`.
    SalverModel,
    /// One folder with `config.pbtxt`.
    TritonModel,
    /// One folder with `MLmodel`.
    MlflowModel,
    /// One folder with `config.json` and a graph.
    HuggingFaceModel,
    /// One folder with `model.py`.
    PythonModel,
    /// One folder of numbered versions.
    TfServingModel,
    /// A `models.config` file.
    TfServingConfig,
    /// A folder of models: a Triton model repository, Salver folders, loose files.
    Models,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnnxFile => "ONNX file",
            Self::SalverModel => "Salver model folder",
            Self::TritonModel => "Triton model folder",
            Self::MlflowModel => "MLflow model folder",
            Self::HuggingFaceModel => "Hugging Face folder",
            Self::PythonModel => "Python model folder",
            Self::TfServingModel => "folder of numbered versions",
            Self::TfServingConfig => "TF Serving models.config",
            Self::Models => "folder of models",
        })
    }
}

/// A PATH whose name cannot be a model's is refused at once: the model could never be asked for.
pub(crate) fn check_name(path: &Path, name: &str) -> Result<()> {
    let context = |error: Error| error.context(format!("{} gives the model its name, rename it", path.display()));
    ModelName::new(name).map(drop).map_err(context)
}

/// Finds out what `path` is.
pub(crate) fn kind_of(path: &Path) -> Result<Kind> {
    let shown = path.display();
    if !path.exists() {
        return Err(Error::not_found(format!("{shown} does not exist; a PATH is {FORMS}")));
    }
    if path.is_dir() {
        return folder_kind(path);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        model_toml::MANIFEST | triton::CONFIG | mlflow::MANIFEST => {
            Err(Error::invalid_input(format!("{shown} describes a model; give its folder instead")))
        }
        name if files::is_onnx(name) => Ok(Kind::OnnxFile),
        name if python::is_python(name) => Err(needs_folder(path, name)),
        _ => Ok(Kind::TfServingConfig),
    }
}

/// Says how to serve a file that only Python reads.
fn needs_folder(path: &Path, name: &str) -> Error {
    let manifest = model_toml::MANIFEST;
    Error::invalid_input(format!(
        "{} is no model by itself: put it into a folder of its own, with a {manifest} of these lines beside it, and give \
         the folder:\nengine = \"python\"\nartifact = \"{}\"\n[python]",
        path.display(),
        name.escape_debug()
    ))
}

fn folder_kind(folder: &Path) -> Result<Kind> {
    if files::is_there(&folder.join(model_toml::MANIFEST)) {
        return Ok(Kind::SalverModel);
    }
    if files::is_there(&folder.join(triton::CONFIG)) {
        return Ok(Kind::TritonModel);
    }
    if files::is_there(&folder.join(mlflow::MANIFEST)) {
        return Ok(Kind::MlflowModel);
    }
    if hugging_face::is_model(folder) {
        return Ok(Kind::HuggingFaceModel);
    }
    let entries = files::list(folder)?;
    let manifests = [model_toml::MANIFEST, mlflow::MANIFEST];
    let has_manifest = |path: &Path| manifests.iter().any(|file| files::is_there(&path.join(file)));
    let is_model = |path: &Path| has_manifest(path) || triton::is_model(path) || hugging_face::is_model(path);
    let has_models = entries.iter().any(|entry| entry.is_folder && is_model(&entry.path));
    let is_version = |name: &str| files::version_number(name, Numbering::Padded).is_some();
    if !has_models && entries.iter().any(|entry| entry.is_folder && is_version(&entry.name)) {
        return Ok(Kind::TfServingModel);
    }
    if !has_models && python::is_model(folder) {
        return Ok(Kind::PythonModel);
    }
    if let Some(error) = hugging_face::nearly_a_model(folder).filter(|_| !has_models) {
        return Err(error);
    }
    let may_be = |path: &Path| python::is_model(path) || nearly_a_model(path).is_some();
    let may_be_one = |entry: &files::FolderEntry| entry.is_folder && may_be(&entry.path);
    let has_files = entries.iter().any(|entry| !entry.is_folder && files::is_onnx(&entry.name));
    if entries.is_empty() || has_models || has_files || entries.iter().any(may_be_one) {
        return Ok(Kind::Models);
    }
    Err(Error::invalid_input(format!("{} holds no model; a PATH is {FORMS}", folder.display())))
}

/// Says what is missing in a folder that was probably meant as a model.
pub(crate) fn nearly_a_model(folder: &Path) -> Option<Error> {
    if let Some(error) = hugging_face::nearly_a_model(folder) {
        return Some(error);
    }
    let entries = files::list(folder).ok()?;
    let shown = folder.display();
    if let Some(file) = entries.iter().find(|entry| !entry.is_folder && files::is_onnx(&entry.name)) {
        return Some(Error::invalid_input(format!(
            "{shown} holds {} but is no model folder: move the file to {}, or write {}",
            file.name,
            folder.join("1").join("model.onnx").display(),
            folder.join(model_toml::MANIFEST).display()
        )));
    }
    let is_padded = |name: &str| files::version_number(name, Numbering::Padded).is_some();
    entries.iter().find(|entry| entry.is_folder && is_padded(&entry.name)).map(|entry| {
        Error::invalid_input(format!(
            "{shown}: version '{}' has leading zeros, which a repository does not allow; rename it, or give {shown} \
             itself as PATH",
            entry.name
        ))
    })
}

/// Returns the name that a file gives its model; empty where it has none.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the name that a folder gives its model; empty where it has none.
pub(crate) fn folder_name(path: &Path) -> String {
    // `.` and `..` have no name before they are resolved.
    let resolved = if path.file_name().is_none() { path.canonicalize().ok() } else { None };
    let name = resolved.as_deref().unwrap_or(path).file_name();
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
