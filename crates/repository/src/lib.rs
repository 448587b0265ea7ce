//! Model folders to model specifications.
//!
//! [`Repository`] is the [`ModelSource`] over the PATHs that a server was given. What a PATH is, is
//! decided once, by the first line that holds:
//!
//! 1. A file called `*.onnx`: a model called as its stem, version 1.
//! 2. Any other file: a TF Serving `models.config`.
//! 3. A folder with `model.toml`: a Salver model.
//! 4. A folder with `config.pbtxt`: one Triton model.
//! 5. A folder with `MLmodel`: a model that MLflow saved, version 1.
//! 6. A folder with `config.json` and `model.onnx` or `onnx/model.onnx`: a model that Hugging Face's
//!    tools exported, version 1.
//! 7. A folder with numbered folders (leading zeros allowed), none of whose subfolders is a model
//!    itself: a TF Serving model, without a batch limit.
//! 8. A folder with `model.py` and no `*.onnx` file, none of whose subfolders is a model that
//!    another file than `model.py` makes one: a model in Python, version 1.
//! 9. Any other folder: a folder of models, as a Triton repository is. A subfolder is a Salver
//!    model (`model.toml`), a Triton model (`config.pbtxt` or numbered versions), one of MLflow
//!    (`MLmodel`), of Hugging Face or in Python (`model.py`); a loose `*.onnx` file is a model as
//!    in 1. A folder with something in it but no model is refused.
//!
//! Hidden files and folders do not count. A broken model is an entry that says so; it never hides
//! the others. Nothing here reads a graph to serve it: [`onnx`] and [`signature`] do so for people.

mod files;
mod hugging_face;
mod json;
mod kind;
mod limits;
pub mod migrate;
mod mlflow;
mod model_toml;
pub mod onnx;
mod overriding;
mod pbtxt;
mod places;
mod python;
mod schema;
pub mod signature;
mod task;
mod text;
mod tfserving;
mod triton;
mod uploads;
mod version;
mod versions;

pub mod fuzz;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use salver_core::{Error, ErrorKind, LoadOverride, ModelEntry, ModelName, ModelSource, Result};

pub use kind::Kind;
pub use overriding::with_config;
pub use uploads::Uploads;
pub use version::{check_names, read_version};

use places::{Place, Root};

/// The models under a list of PATHs.
pub struct Repository {
    roots: Vec<Root>,
}

impl Repository {
    /// Finds out what each PATH is. The same PATH twice counts once; no PATH is an empty source.
    ///
    /// # Errors
    /// `NotFound` for a PATH that does not exist, `InvalidInput` for one that cannot be understood;
    /// both say what a PATH may be. A model that is merely broken is no error here.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut seen = Vec::new();
        let mut roots = Vec::new();
        for path in paths {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if !seen.contains(&real) {
                roots.push(Root::open(path)?);
                seen.push(real);
            }
        }
        Ok(Self { roots })
    }

    /// Returns each PATH and what it was found to be.
    pub fn kinds(&self) -> impl Iterator<Item = (&Path, Kind)> {
        self.roots.iter().map(|root| (root.path.as_path(), root.kind))
    }

    /// Replaces the models of the `models.config` by those of `config`, an encoded
    /// `tensorflow.serving.ModelServerConfig`, for as long as the process runs: the file does not
    /// count from then on. Every base path must be a folder under `within`. Returns the names of the
    /// models before and after. Blocking.
    ///
    /// # Errors
    /// `NotReady` where there is not exactly one `models.config`, `InvalidInput` naming the model and
    /// the field; nothing has changed then.
    pub fn replace_listed(&self, config: &[u8], within: &Path) -> Result<BTreeSet<ModelName>> {
        let mut roots = self.roots.iter().filter(|root| root.kind == Kind::TfServingConfig);
        let (Some(root), None) = (roots.next(), roots.next()) else {
            return Err(Error::not_ready(
                "there is no list of models to replace: start the server with one models.config as a PATH",
            ));
        };
        let models = tfserving::decode(config, within)?;
        for model in &models {
            let readable = tfserving::read(&model.name, &model.base_path, &model.version_policy, &model.labels);
            readable.map_err(|error| error.context(format!("model '{}'", model.name)))?;
        }
        Ok(root.replace_listed(models))
    }

    fn places(&self) -> BTreeMap<ModelName, Vec<Place>> {
        let mut by_name: BTreeMap<ModelName, Vec<Place>> = BTreeMap::new();
        for place in self.roots.iter().flat_map(Root::places) {
            by_name.entry(place.name.clone()).or_default().push(place);
        }
        by_name
    }
}

impl ModelSource for Repository {
    fn scan(&self) -> Vec<ModelEntry> {
        self.places().into_iter().map(|(name, places)| entry(name, places)).collect()
    }

    fn find(&self, name: &str) -> Option<ModelEntry> {
        self.places().remove_entry(name).map(|(name, places)| entry(name, places))
    }

    fn overridden(&self, name: &ModelName, by: &LoadOverride) -> Result<Option<ModelEntry>> {
        if !by.files.is_empty() {
            return Err(Error::unsupported("files of a load request have no place in a PATH"));
        }
        let Some((name, places)) = self.places().remove_entry(name) else {
            return Ok(None);
        };
        match <[Place; 1]>::try_from(places) {
            Ok([place]) => place.read_with(&by.config).map(Some),
            Err(places) => Err(ambiguous(&name, &places)),
        }
    }
}

/// Reads the only place of a model; several are refused.
fn entry(name: ModelName, places: Vec<Place>) -> ModelEntry {
    match <[Place; 1]>::try_from(places) {
        Ok([place]) => place.read(),
        Err(places) => ModelEntry { versions: Err(ambiguous(&name, &places)), labels: BTreeMap::new(), name },
    }
}

fn ambiguous(name: &ModelName, places: &[Place]) -> Error {
    let paths: Vec<String> = places.iter().map(|place| place.path.display().to_string()).collect();
    let message = format!("model '{name}': {} have the same model name; rename all but one", paths.join(" and "));
    Error::new(ErrorKind::Conflict, message)
}
