//! Finds out what a PATH is, and which models lie there.
//!
//! Looks at names of files and folders only, apart from `model.toml` (it may name the model) and
//! `models.config` (it lists models). Reading a model found here is the layout's own business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use salver_core::{BatchRule, Error, ModelConfig, ModelEntry, ModelName, ModelSpec, Result, VersionPolicy};

use crate::files::{self, Fingerprint, Numbering};
use crate::model_toml::{self, Manifest};
use crate::tfserving::{self, ListedModel};
use crate::{triton, versions};

/// What a PATH may be, for messages.
pub(crate) const FORMS: &str = "an .onnx file, a folder with model.toml, a folder with config.pbtxt, a folder of \
    numbered versions (1/model.onnx), a TF Serving models.config file, or a folder of such models, as a Triton model \
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
            Self::TfServingModel => "folder of numbered versions",
            Self::TfServingConfig => "TF Serving models.config",
            Self::Models => "folder of models",
        })
    }
}

/// One PATH. Its kind is decided once: a folder that changes while it is served stays what it was.
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    memory: Mutex<Memory>,
}

/// What was seen last, for when it cannot be read the next time.
#[derive(Default)]
struct Memory {
    /// The models of a `models.config`.
    listed: Vec<ListedModel>,
    /// The models of a folder.
    names: BTreeMap<ModelName, PathBuf>,
    /// What was complained about, so that it is said once.
    complaints: BTreeSet<String>,
}

/// A model that was found, not yet read.
pub(crate) struct Place {
    pub(crate) name: ModelName,
    pub(crate) path: PathBuf,
    layout: Layout,
}

enum Layout {
    OnnxFile,
    Salver(Result<Manifest>),
    Triton,
    TfServing { policy: VersionPolicy, labels: BTreeMap<String, u64> },
    Broken(Error),
}

impl Root {
    /// Finds out what `path` is.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let kind = kind(path)?;
        let root = Self { path: path.to_owned(), kind, memory: Mutex::default() };
        match kind {
            Kind::OnnxFile | Kind::TritonModel | Kind::TfServingModel => check_name(path)?,
            Kind::TfServingConfig => {
                let listed = tfserving::read_config(path);
                root.remember().listed = listed.map_err(|error| error.context(format!("a PATH is {FORMS}")))?;
            }
            Kind::SalverModel if root.places().is_empty() => check_name(path)?,
            Kind::SalverModel | Kind::Models => {}
        }
        Ok(root)
    }

    /// Lists the models that lie here now.
    pub(crate) fn places(&self) -> Vec<Place> {
        match self.kind {
            Kind::OnnxFile => self.named(own_name(&self.path), &self.path, Layout::OnnxFile),
            Kind::TritonModel => self.named(own_name(&self.path), &self.path, Layout::Triton),
            Kind::TfServingModel => {
                let layout = Layout::TfServing { policy: VersionPolicy::default(), labels: BTreeMap::new() };
                self.named(own_name(&self.path), &self.path, layout)
            }
            Kind::SalverModel => self.salver(&self.path),
            Kind::TfServingConfig => self.listed(),
            Kind::Models => self.folder(),
        }
    }

    /// A place, unless the name is none: then nothing can be asked of the model, but a warning.
    fn named(&self, name: String, path: &Path, layout: Layout) -> Vec<Place> {
        match ModelName::new(&name) {
            Ok(name) => vec![Place { name, path: path.to_owned(), layout }],
            Err(error) => {
                self.complain(&format!("{} is left out: {error}", path.display()));
                Vec::new()
            }
        }
    }

    fn salver(&self, folder: &Path) -> Vec<Place> {
        let manifest = model_toml::read_manifest(folder);
        let name = match &manifest {
            Ok(Manifest { name: Some(name), .. }) => name.clone(),
            _ => own_name(folder),
        };
        self.named(name, folder, Layout::Salver(manifest))
    }

    fn listed(&self) -> Vec<Place> {
        match tfserving::read_config(&self.path) {
            Ok(listed) => self.remember().listed = listed,
            Err(error) => self.complain(&format!("the models listed before stay: {error}")),
        }
        let place = |model: &ListedModel| Place {
            name: model.name.clone(),
            path: model.base_path.clone(),
            layout: Layout::TfServing { policy: model.version_policy.clone(), labels: model.labels.clone() },
        };
        self.remember().listed.iter().map(place).collect()
    }

    fn folder(&self) -> Vec<Place> {
        let entries = match files::list(&self.path) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(&error),
        };
        let mut places = Vec::new();
        for entry in entries {
            if entry.is_folder {
                places.extend(self.subfolder(&entry.path));
            } else if files::is_onnx(&entry.name) {
                places.extend(self.named(own_name(&entry.path), &entry.path, Layout::OnnxFile));
            }
        }
        self.remember().names = places.iter().map(|place| (place.name.clone(), place.path.clone())).collect();
        places
    }

    fn subfolder(&self, folder: &Path) -> Vec<Place> {
        if folder.join(model_toml::MANIFEST).is_file() {
            return self.salver(folder);
        }
        if triton::is_model(folder) {
            return self.named(own_name(folder), folder, Layout::Triton);
        }
        match nearly_a_model(folder) {
            Some(error) => self.named(own_name(folder), folder, Layout::Broken(error)),
            None => Vec::new(),
        }
    }

    /// A folder that cannot be listed (a share that went away) keeps its models, as broken ones.
    fn unreadable(&self, error: &Error) -> Vec<Place> {
        let broken = |(name, path): (&ModelName, &PathBuf)| Place {
            name: name.clone(),
            path: path.clone(),
            layout: Layout::Broken(error.clone()),
        };
        self.remember().names.iter().map(broken).collect()
    }

    fn complain(&self, message: &str) {
        if self.remember().complaints.insert(message.to_owned()) {
            tracing::warn!(path = %self.path.display(), "{message}");
        }
    }

    fn remember(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Reads the model that lies here.
    pub(crate) fn read(self) -> ModelEntry {
        let (name, path) = (&self.name, self.path.as_path());
        let (labels, versions) = match self.layout {
            Layout::OnnxFile => (BTreeMap::new(), read_file(name, path).map(|spec| vec![spec.into()])),
            Layout::Salver(Ok(manifest)) => (BTreeMap::new(), model_toml::read(name, path, &manifest)),
            Layout::Triton => (BTreeMap::new(), triton::read(name, path)),
            Layout::TfServing { policy, labels } => {
                let versions = tfserving::read(name, path, &policy, &labels);
                (labels, versions)
            }
            Layout::Salver(Err(error)) | Layout::Broken(error) => (BTreeMap::new(), Err(error)),
        };
        let versions = versions.map_err(|error| error.context(format!("model '{name}'")));
        ModelEntry { labels, versions, name: self.name }
    }
}

/// Reads a bare file: version 1 of a model called as its stem.
fn read_file(name: &ModelName, path: &Path) -> Result<ModelSpec> {
    files::check_artifact(path)?;
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_artifact(path);
    let filename = path.file_name().and_then(|name| name.to_str()).unwrap_or("model.onnx").to_owned();
    let config = ModelConfig {
        batch: BatchRule::Derive { limit: None },
        default_model_filename: filename,
        ..ModelConfig::default()
    };
    Ok(ModelSpec { fingerprint: fingerprint.finish(), ..versions::spec(name, 1, path.to_owned(), config) })
}

/// A PATH whose name cannot be a model's is refused at once: the model could never be asked for.
fn check_name(path: &Path) -> Result<()> {
    let context = |error: Error| error.context(format!("{} gives the model its name, rename it", path.display()));
    ModelName::new(&own_name(path)).map(drop).map_err(context)
}

fn kind(path: &Path) -> Result<Kind> {
    let shown = path.display();
    if !path.exists() {
        return Err(Error::not_found(format!("{shown} does not exist; a PATH is {FORMS}")));
    }
    if path.is_dir() {
        return folder_kind(path);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        model_toml::MANIFEST | triton::CONFIG => {
            Err(Error::invalid_input(format!("{shown} describes a model; give its folder instead")))
        }
        name if files::is_onnx(name) => Ok(Kind::OnnxFile),
        _ => Ok(Kind::TfServingConfig),
    }
}

/// The order of these questions is documented at the top of the crate.
fn folder_kind(folder: &Path) -> Result<Kind> {
    if folder.join(model_toml::MANIFEST).is_file() {
        return Ok(Kind::SalverModel);
    }
    if folder.join(triton::CONFIG).is_file() {
        return Ok(Kind::TritonModel);
    }
    let entries = files::list(folder)?;
    let is_model = |path: &Path| path.join(model_toml::MANIFEST).is_file() || triton::is_model(path);
    let has_models = entries.iter().any(|entry| entry.is_folder && is_model(&entry.path));
    let is_version = |name: &str| files::version_number(name, Numbering::Padded).is_some();
    if !has_models && entries.iter().any(|entry| entry.is_folder && is_version(&entry.name)) {
        return Ok(Kind::TfServingModel);
    }
    let nearly = |entry: &files::FolderEntry| entry.is_folder && nearly_a_model(&entry.path).is_some();
    let has_files = entries.iter().any(|entry| !entry.is_folder && files::is_onnx(&entry.name));
    if entries.is_empty() || has_models || has_files || entries.iter().any(nearly) {
        return Ok(Kind::Models);
    }
    Err(Error::invalid_input(format!("{} holds no model; a PATH is {FORMS}", folder.display())))
}

/// Says what is missing in a folder that was probably meant as a model.
fn nearly_a_model(folder: &Path) -> Option<Error> {
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

/// Returns the name that a file's stem or a folder's name gives.
fn own_name(path: &Path) -> String {
    // `.` and `..` have no name before they are resolved.
    let resolved = if path.file_name().is_none() { path.canonicalize().ok() } else { None };
    let path = resolved.as_deref().unwrap_or(path);
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
