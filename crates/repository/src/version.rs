//! One version of a model whose name and number come from elsewhere, such as a registry.
//!
//! The folder says only how it is served. Numbered versions within it do not count: it is one.

use std::path::Path;

use salver_core::{Error, ModelName, ModelSpec, Result};

use crate::{files, hugging_face, mlflow, model_toml, places, python};

/// Endings of files that may run code of their author's when they are loaded.
const UNSAFE_ENDINGS: [&str; 9] = ["pkl", "pickle", "joblib", "dill", "pt", "pth", "ckpt", "keras", "h5"];

/// Reads the folder of one version: what MLflow saved (`MLmodel`), a Salver model (`model.toml`), what
/// Hugging Face's tools exported (`config.json`), a model in Python (`model.py`), or the only `.onnx`
/// file.
///
/// # Errors
/// `Unsupported` for a model that this build cannot serve, saying what to do; otherwise what is
/// missing or wrong in the folder.
pub fn read_version(name: &ModelName, version: u64, folder: &Path) -> Result<ModelSpec> {
    if files::is_there(&folder.join(mlflow::MANIFEST)) {
        return mlflow::read(name, version, folder);
    }
    if files::is_there(&folder.join(model_toml::MANIFEST)) {
        let manifest = model_toml::read_manifest(folder)?;
        return Ok(ModelSpec { version, ..model_toml::read_one(name, folder, &manifest)? });
    }
    if hugging_face::is_model(folder) {
        return hugging_face::read(name, version, folder);
    }
    if python::is_model(folder) {
        return python::read(name, version, folder);
    }
    let entries = files::list(folder)?;
    let names = || entries.iter().filter(|entry| !entry.is_folder).map(|entry| entry.name.as_str());
    check_names(names())?;
    let name_of_file = names().find(|name| files::is_onnx(name)).unwrap_or("model.onnx");
    places::read_file(name, version, &folder.join(name_of_file))
}

/// Says from the names of a version's files whether it can be a model that is served; folders
/// within it do not count. So nobody has to fetch what is refused anyway.
///
/// # Errors
/// As [`read_version`].
pub fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let names: Vec<&str> = names.collect();
    if names.iter().any(|name| [mlflow::MANIFEST, model_toml::MANIFEST].contains(name)) {
        return Ok(());
    }
    if names.contains(&hugging_face::MANIFEST) && hugging_face::GRAPHS.iter().any(|graph| names.contains(graph)) {
        return Ok(());
    }
    match names.iter().filter(|name| files::is_onnx(name)).count() {
        1 => return Ok(()),
        0 if names.contains(&python::SCRIPT) => return Ok(()),
        0 => {}
        count => {
            return Err(Error::invalid_input(format!(
                "the version holds {count} .onnx files; put a model.toml beside them that names one as `artifact`"
            )));
        }
    }
    Err(match names.iter().find(|name| can_run_code(name)) {
        Some(file) => runs_code(file),
        None => Error::unsupported(
            "the version holds no model that can be served: expected MLmodel, model.toml, config.json with model.onnx, model.py, or one .onnx file",
        ),
    })
}

fn can_run_code(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| UNSAFE_ENDINGS.iter().any(|ending| ending.eq_ignore_ascii_case(extension)))
}

fn runs_code(file: &str) -> Error {
    Error::unsupported(format!(
        "'{}' is in a format that can run code when it is loaded: it is kept, but never loaded into the server; export \
         the model to ONNX, or register it with a model.toml that says engine = \"python\"",
        file.escape_debug()
    ))
}
