//! Which file or folder a model in Python is made of, and what reads it: the class in it, or an
//! adapter.

use std::path::{Path, PathBuf};

use salver_core::{Error, Predictor, Result};

use super::SCRIPT;
use crate::{files, mlflow, model_toml};

/// The adapters.
pub(crate) const ADAPTERS: [&str; 6] = ["sklearn", mlflow::ADAPTER, "torch", "xgboost", "tensorflow", "transformers"];

/// The adapter that reads a file of each ending.
const ENDINGS: [(&str, &str); 8] = [
    ("joblib", "sklearn"),
    ("pkl", "sklearn"),
    ("pickle", "sklearn"),
    ("skops", "sklearn"),
    ("pt", "torch"),
    ("pth", "torch"),
    ("pt2", "torch"),
    ("ubj", "xgboost"),
];

/// The adapter that reads a folder which holds this file.
const MARKS: [(&str, &str); 2] = [(mlflow::MANIFEST, mlflow::ADAPTER), ("saved_model.pb", "tensorflow")];
/// A file that marks a folder only for who looks for it: others keep settings under this name too.
const SOUGHT: (&str, &str) = ("config.json", "transformers");

/// How many names an error lists.
const MAX_SHOWN: usize = 8;

/// What a model is made of.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) filename: String,
    pub(super) predictor: Predictor,
}

/// Stands in for the name of an adapter where a file holds code.
const CLASS: &str = "class";

/// Whether only Python reads a file of this name.
pub(crate) fn is_python(name: &str) -> bool {
    kind_of_file(name).is_some()
}

/// Whether `folder` is a model in Python although no other file says so.
pub(crate) fn is_model(folder: &Path) -> bool {
    has_without_graph(folder, SCRIPT)
}

/// Whether a `model.toml` that names neither engine nor artifact must mean a model in Python.
pub(crate) fn is_meant(folder: &Path) -> bool {
    is_model(folder) || has_without_graph(folder, mlflow::MANIFEST)
}

fn has_without_graph(folder: &Path, name: &str) -> bool {
    let has_graph = || files::list(folder).is_ok_and(|entries| entries.iter().any(|entry| files::is_onnx(&entry.name)));
    files::is_there(&folder.join(name)) && !has_graph()
}

/// Finds the artifact called `name`, or the only one, and what reads it.
pub(super) fn find(folder: &Path, name: Option<&str>, predictor: Option<&Predictor>) -> Result<Found> {
    let within = |error: Error| error.context("artifact");
    let filename = match name {
        Some(name) => name.to_owned(),
        None => only(folder, predictor).map_err(within)?,
    };
    let path = if filename == "." { folder.to_owned() } else { files::inside(folder, &filename).map_err(within)? };
    check(&path)?;
    let predictor = match predictor {
        Some(predictor) => predictor.clone(),
        None => predictor_of(&path).map_err(within)?,
    };
    let is_code = path.is_file() && is_code(&filename);
    match &predictor {
        Predictor::Class(_) if !is_code => {
            let message = format!("{} must be a .py file, which holds the class", path.display());
            Err(within(Error::invalid_input(message)))
        }
        Predictor::Adapter(adapter) if is_code => {
            let message = format!("{} is code, not a model that the adapter {adapter} reads", path.display());
            Err(within(Error::invalid_input(message)))
        }
        Predictor::Class(_) | Predictor::Adapter(_) => Ok(Found { path, filename, predictor }),
    }
}

/// A file must have something in it, and so must a folder.
fn check(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return files::check_artifact(path);
    }
    match files::list(path)?.is_empty() {
        true => Err(Error::invalid_input(format!("{} is empty; is it still being written?", path.display()))),
        false => Ok(()),
    }
}

/// Says by its name what reads the artifact.
fn predictor_of(path: &Path) -> Result<Predictor> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kind = if path.is_dir() { kind_of_folder(path, None) } else { kind_of_file(name) };
    match kind {
        Some(CLASS) => Ok(Predictor::Class(None)),
        Some(adapter) => Ok(Predictor::Adapter(adapter.to_owned())),
        None => Err(Error::invalid_input(format!(
            "{} does not say what reads it; set python.adapter to one of {}",
            path.display(),
            ADAPTERS.join(", ")
        ))),
    }
}

/// Whether a file of this name is code.
pub(super) fn is_code(name: &str) -> bool {
    kind_of_file(name) == Some(CLASS)
}

fn kind_of_file(name: &str) -> Option<&'static str> {
    let extension = Path::new(name).extension()?.to_str()?;
    if extension.eq_ignore_ascii_case("py") {
        return Some(CLASS);
    }
    ENDINGS.iter().find(|(ending, _)| ending.eq_ignore_ascii_case(extension)).map(|(_, adapter)| *adapter)
}

/// Says what reads a folder, or whether `wanted` does.
fn kind_of_folder(folder: &Path, wanted: Option<&str>) -> Option<&'static str> {
    let sought = wanted.map(|_| &SOUGHT);
    let mut marks = MARKS.iter().chain(sought).filter(|(_, adapter)| wanted.is_none_or(|wanted| wanted == *adapter));
    marks.find(|(mark, _)| files::is_there(&folder.join(mark))).map(|(_, adapter)| *adapter)
}

/// Returns the name of the only thing in `folder` that `predictor` could read; `model.py` goes first,
/// and `.` is the folder itself.
fn only(folder: &Path, predictor: Option<&Predictor>) -> Result<String> {
    let wanted = match predictor {
        None => None,
        Some(Predictor::Class(_)) => Some(CLASS),
        Some(Predictor::Adapter(adapter)) => Some(adapter.as_str()),
    };
    if wanted.is_none_or(|wanted| wanted == CLASS) && files::is_there(&folder.join(SCRIPT)) {
        return Ok(SCRIPT.to_owned());
    }
    if kind_of_folder(folder, wanted).is_some() {
        return Ok(".".to_owned());
    }
    let mut found = candidates(folder, wanted)?;
    match found.as_slice() {
        [_] => Ok(found.remove(0)),
        [] => Err(nothing(folder, wanted)),
        _ => {
            found.truncate(MAX_SHOWN);
            let names = found.join(", ");
            Err(Error::invalid_input(format!("{} holds {names}; name the one that is the model", folder.display())))
        }
    }
}

/// Names what could be the artifact.
fn candidates(folder: &Path, wanted: Option<&str>) -> Result<Vec<String>> {
    let is_wanted = |kind: &str| wanted.is_none_or(|wanted| wanted == kind);
    let fits = |entry: &files::FolderEntry| match entry.is_folder {
        true => kind_of_folder(&entry.path, wanted).is_some(),
        false => kind_of_file(&entry.name).is_some_and(is_wanted),
    };
    Ok(files::list(folder)?.into_iter().filter(fits).map(|entry| entry.name).collect())
}

/// Says what was looked for, and what there is.
fn nothing(folder: &Path, wanted: Option<&str>) -> Error {
    let looked_for = match wanted {
        None => format!("{SCRIPT}, nor any other file that says what reads it"),
        Some(CLASS) => format!("{SCRIPT}, nor any other .py file"),
        Some(adapter) => format!("file or folder that says by its name that the adapter {adapter} reads it"),
    };
    let names = files::list(folder).unwrap_or_default().into_iter().map(|entry| entry.name);
    let names: Vec<String> = names.filter(|name| name != model_toml::MANIFEST).take(MAX_SHOWN).collect();
    let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    Error::not_found(format!("{} holds no {looked_for}; there is {there}: name the model", folder.display()))
}
