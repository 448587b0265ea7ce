//! Finds out which models lie at a PATH.
//!
//! Looks at names of files and folders only, apart from `model.toml` (it may name the model) and
//! `models.config` (it lists models). Reading a model found here is the layout's own business.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use salver_core::{BatchRule, Error, ModelConfig, ModelEntry, ModelName, ModelSpec, Result, VersionPolicy};

use crate::files::{self, Fingerprint};
use crate::kind::{FORMS, Kind, check_name, folder_name, kind_of, nearly_a_model, stem};
use crate::model_toml::{self, Manifest};
use crate::tfserving::{self, ListedModel};
use crate::{hugging_face, mlflow, overriding, python, triton, versions};

/// How many warnings are remembered as said.
const COMPLAINTS_KEPT: usize = 256;

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
    /// Whether a client replaced them, so that the file does not count any more.
    is_replaced: bool,
    /// The models of folders, by their place.
    names: BTreeMap<PathBuf, ModelName>,
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
    Salver(Result<Box<Manifest>>),
    Triton,
    Mlflow,
    HuggingFace,
    Python,
    TfServing { policy: VersionPolicy, labels: BTreeMap<String, u64> },
    Broken(Error),
}

impl Root {
    /// Finds out what `path` is.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let kind = kind_of(path)?;
        let root = Self { path: path.to_owned(), kind, memory: Mutex::default() };
        match kind {
            Kind::OnnxFile => check_name(path, &stem(path))?,
            Kind::TritonModel
            | Kind::MlflowModel
            | Kind::HuggingFaceModel
            | Kind::PythonModel
            | Kind::TfServingModel => {
                check_name(path, &folder_name(path))?;
            }
            Kind::TfServingConfig => {
                let listed = tfserving::read_config(path);
                root.remember().listed = listed.map_err(|error| error.context(format!("a PATH is {FORMS}")))?;
            }
            Kind::SalverModel if root.places().is_empty() => check_name(path, &folder_name(path))?,
            Kind::SalverModel | Kind::Models => {}
        }
        Ok(root)
    }

    /// Lists the models that lie here now.
    pub(crate) fn places(&self) -> Vec<Place> {
        match self.kind {
            Kind::OnnxFile => self.named(stem(&self.path), &self.path, Layout::OnnxFile),
            Kind::TritonModel => self.named(folder_name(&self.path), &self.path, Layout::Triton),
            Kind::MlflowModel => self.named(folder_name(&self.path), &self.path, Layout::Mlflow),
            Kind::HuggingFaceModel => self.named(folder_name(&self.path), &self.path, Layout::HuggingFace),
            Kind::PythonModel => self.named(folder_name(&self.path), &self.path, Layout::Python),
            Kind::TfServingModel => {
                let layout = Layout::TfServing { policy: VersionPolicy::default(), labels: BTreeMap::new() };
                self.named(folder_name(&self.path), &self.path, layout)
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

    /// A manifest that cannot be read (it may be half written) leaves the model its last name.
    fn salver(&self, folder: &Path) -> Vec<Place> {
        let manifest = model_toml::read_manifest(folder).map(Box::new);
        let name = match &manifest {
            Ok(manifest) => manifest.name.clone(),
            Err(_) => self.remember().name_of(folder),
        };
        let places = self.named(name.unwrap_or_else(|| folder_name(folder)), folder, Layout::Salver(manifest));
        self.remember().note(folder, &places);
        places
    }

    fn listed(&self) -> Vec<Place> {
        if !self.remember().is_replaced {
            match tfserving::read_config(&self.path) {
                Ok(listed) => self.remember().listed = listed,
                Err(error) => self.complain(&format!("the models listed before stay: {error}")),
            }
        }
        let place = |model: &ListedModel| Place {
            name: model.name.clone(),
            path: model.base_path.clone(),
            layout: Layout::TfServing { policy: model.version_policy.clone(), labels: model.labels.clone() },
        };
        self.remember().listed.iter().map(place).collect()
    }

    /// Lists `models` instead of those of the file, for as long as the process runs. Returns the
    /// names of both.
    pub(crate) fn replace_listed(&self, models: Vec<ListedModel>) -> BTreeSet<ModelName> {
        let mut memory = self.remember();
        let names = memory.listed.iter().chain(&models).map(|model| model.name.clone()).collect();
        memory.listed = models;
        memory.is_replaced = true;
        names
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
                places.extend(self.named(stem(&entry.path), &entry.path, Layout::OnnxFile));
            }
        }
        let mut memory = self.remember();
        memory.names = places.iter().map(|place| (place.path.clone(), place.name.clone())).collect();
        places
    }

    fn subfolder(&self, folder: &Path) -> Vec<Place> {
        if files::is_there(&folder.join(model_toml::MANIFEST)) {
            return self.salver(folder);
        }
        if triton::is_model(folder) {
            return self.named(folder_name(folder), folder, Layout::Triton);
        }
        if files::is_there(&folder.join(mlflow::MANIFEST)) {
            return self.named(folder_name(folder), folder, Layout::Mlflow);
        }
        if hugging_face::is_model(folder) {
            return self.named(folder_name(folder), folder, Layout::HuggingFace);
        }
        if python::is_model(folder) {
            return self.named(folder_name(folder), folder, Layout::Python);
        }
        match nearly_a_model(folder) {
            Some(error) => self.named(folder_name(folder), folder, Layout::Broken(error)),
            None => Vec::new(),
        }
    }

    /// A folder that cannot be listed (a share that went away) keeps its models, as broken ones.
    fn unreadable(&self, error: &Error) -> Vec<Place> {
        let broken = |(path, name): (&PathBuf, &ModelName)| Place {
            name: name.clone(),
            path: path.clone(),
            layout: Layout::Broken(error.clone()),
        };
        self.remember().names.iter().map(broken).collect()
    }

    fn complain(&self, message: &str) {
        let mut memory = self.remember();
        if memory.complaints.len() >= COMPLAINTS_KEPT {
            memory.complaints.clear();
        }
        if memory.complaints.insert(message.to_owned()) {
            tracing::warn!(path = %self.path.display(), "{message}");
        }
    }

    fn remember(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn name_of(&self, folder: &Path) -> Option<String> {
        self.names.get(folder).map(ToString::to_string)
    }

    fn note(&mut self, folder: &Path, places: &[Place]) {
        for place in places {
            self.names.insert(folder.to_owned(), place.name.clone());
        }
    }
}

impl Place {
    /// Reads the model that lies here.
    pub(crate) fn read(self) -> ModelEntry {
        let (name, path) = (&self.name, self.path.as_path());
        let (labels, versions) = match self.layout {
            Layout::OnnxFile => (BTreeMap::new(), read_file(name, 1, path).map(|spec| vec![spec.into()])),
            Layout::Salver(Ok(manifest)) => (BTreeMap::new(), model_toml::read(name, path, &manifest)),
            Layout::Triton => (BTreeMap::new(), triton::read(name, path)),
            Layout::Mlflow => (BTreeMap::new(), mlflow::read(name, 1, path).map(|spec| vec![spec.into()])),
            Layout::HuggingFace => (BTreeMap::new(), hugging_face::read(name, 1, path).map(|spec| vec![spec.into()])),
            Layout::Python => (BTreeMap::new(), python::read(name, 1, path).map(|spec| vec![spec.into()])),
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

impl Place {
    /// Reads the model that lies here with the configuration `json` in place of its own.
    pub(crate) fn read_with(self, json: &str) -> Result<ModelEntry> {
        if !matches!(self.layout, Layout::Triton) {
            return overriding::with_config(self.read(), json);
        }
        let config = overriding::read_config(&self.name, json)?;
        let versions = triton::read_with(&self.name, &self.path, config, json);
        let versions = versions.map_err(|error| overriding::at_fault(&error))?;
        Ok(ModelEntry { name: self.name, labels: BTreeMap::new(), versions: Ok(versions) })
    }
}

/// Reads a bare file, of which nothing else is known.
pub(crate) fn read_file(name: &ModelName, version: u64, path: &Path) -> Result<ModelSpec> {
    files::check_artifact(path)?;
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_artifact(path);
    let filename = path.file_name().and_then(|name| name.to_str()).unwrap_or("model.onnx").to_owned();
    let config = ModelConfig {
        batch: BatchRule::Derive { limit: None },
        default_model_filename: filename,
        ..ModelConfig::default()
    };
    Ok(ModelSpec { fingerprint: fingerprint.finish(), ..versions::spec(name, version, path.to_owned(), config) })
}
