//! A Salver folder: what `model.toml` leaves open, its other files say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use salver_core::{Backing, Error, InstanceGroup, ModelConfig, ModelName, ModelSpec, PythonSpec, Result, TaskSpec};

use super::schema::Labels;
use super::{BUILTIN, ENSEMBLE, FEATURES, HTTP, MANIFEST, Manifest, builtin, parse};
use crate::files::{self, Fingerprint};
use crate::hugging_face::{self, Known};
use crate::python::{self, PythonDraft};
use crate::task::Draft;
use crate::versions;

/// What is loaded.
struct Artifact {
    path: PathBuf,
    filename: String,
    /// How it runs in Python; none: it does not.
    python: Option<Arc<PythonSpec>>,
}

/// Reads the manifest of `folder`.
pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = files::read_text(&path, files::CONFIG_LIMIT)?;
    parse(&text).map_err(|error| error.context(path.display()))
}

/// Makes the list of the one version of a Salver folder.
pub(crate) fn read(name: &ModelName, folder: &Path, manifest: &Manifest) -> Result<Vec<Arc<ModelSpec>>> {
    read_one(name, folder, manifest).map(|spec| vec![Arc::new(spec)])
}

/// Makes the one version of a Salver folder. What files of Hugging Face beside it say stands in for
/// what the manifest leaves open.
pub(crate) fn read_one(name: &ModelName, folder: &Path, manifest: &Manifest) -> Result<ModelSpec> {
    let source = if files::is_there(&folder.join(MANIFEST)) { folder.join(MANIFEST) } else { folder.to_owned() };
    let context = |error: Error| error.context(source.display());
    let mut fingerprint = Fingerprint::default();
    fingerprint.add(&folder.join(MANIFEST));
    let artifact = artifact(folder, manifest, &mut fingerprint, context)?;
    let (mut labels, label_file) = labels(folder, manifest).map_err(|error| context(error.context("labels")))?;
    if let Some(file) = &label_file {
        fingerprint.add(file);
    }
    let find = |name: &str| files::inside(folder, name).and_then(|path| files::check_artifact(&path).map(|()| path));
    let backing = backing(manifest, &mut labels, &mut fingerprint, find).map_err(context)?;
    // Files of Hugging Face beside code say what the code reads, not what it takes.
    let Known { draft, labels } = match &manifest.task {
        None if artifact.python.is_some() || manifest.backing.is_some() => Known { draft: Draft::Tensor, labels },
        task => hugging_face::fill(folder, task.clone(), labels, &mut fingerprint)?,
    };
    // Of texts and pictures, classes are the task's: its outputs are not the graph's.
    let (of_task, of_outputs) = if draft.owns_labels() { (labels, None) } else { (None, labels) };
    let task = draft.finish(of_task.unwrap_or_default(), find).map_err(context)?;
    if let TaskSpec::Text(text) = &task {
        fingerprint.add(&text.tokenizer);
    }
    let Artifact { path, filename, python } = artifact;
    Ok(ModelSpec {
        engine: match &manifest.backing {
            _ if python.is_some() => Some(python::ENGINE.to_owned()),
            Some(Backing::Ensemble(_)) => Some(ENSEMBLE.to_owned()),
            Some(Backing::Builtin(_)) => Some(BUILTIN.to_owned()),
            Some(Backing::Features(_)) => Some(FEATURES.to_owned()),
            Some(Backing::Remote(_)) => Some(HTTP.to_owned()),
            Some(Backing::Artifact) | None => manifest.engine.clone(),
        },
        fingerprint: fingerprint.finish(),
        task,
        columns: manifest.columns.clone(),
        labels: of_outputs.into_iter().map(|labels| (String::new(), labels)).collect(),
        metrics: manifest.metrics.clone(),
        config: config(manifest, &filename, &backing, python.is_some()),
        backing,
        python,
        ..versions::spec(name, manifest.version, path, ModelConfig::default())
    })
}

/// Returns what stands behind the model, with what its other files say. Labels that belong to it are
/// taken out.
fn backing(
    manifest: &Manifest,
    labels: &mut Option<Vec<String>>,
    fingerprint: &mut Fingerprint,
    find: impl Fn(&str) -> Result<PathBuf>,
) -> Result<Backing> {
    let Some(Backing::Builtin(spec)) = &manifest.backing else {
        return Ok(manifest.backing.clone().unwrap_or_default());
    };
    let spec = builtin::resolve(spec, labels, find)?;
    if let Some(file) = spec.file() {
        fingerprint.add(file);
    }
    Ok(Backing::Builtin(spec.into()))
}

/// Each instance of a model in Python is a process with a model of its own: one, unless more are asked for.
/// Of a function whose rows are no cheaper together, requests stay apart.
fn config(manifest: &Manifest, filename: &str, backing: &Backing, in_python: bool) -> ModelConfig {
    let mut config = manifest.config(filename);
    if let (Backing::Builtin(builtin), Some(batching)) = (backing, &mut config.dynamic_batching)
        && (builtin.stands_alone() || builtin.is_heavy() && batching.preferred_batch_size.is_empty())
    {
        batching.max_rows.get_or_insert(1);
    }
    if !in_python || manifest.is_counted {
        return config;
    }
    let group = config.instance_groups.first().cloned().unwrap_or_default();
    ModelConfig { instance_groups: vec![InstanceGroup { count: 1, ..group }], ..config }
}

fn artifact(
    folder: &Path,
    manifest: &Manifest,
    fingerprint: &mut Fingerprint,
    context: impl Fn(Error) -> Error,
) -> Result<Artifact> {
    if let Some(draft) = in_python(folder, manifest) {
        let found = python::find(folder, manifest.artifact.as_deref(), &draft, fingerprint).map_err(context)?;
        return Ok(Artifact { path: found.artifact, filename: found.filename, python: Some(found.spec) });
    }
    if manifest.backing.is_some() {
        // All there is to read is the manifest itself.
        return Ok(Artifact { path: folder.join(MANIFEST), filename: MANIFEST.to_owned(), python: None });
    }
    let filename = artifact_name(folder, manifest)?;
    let path = files::inside(folder, &filename).map_err(|error| context(error.context("artifact")))?;
    files::check_artifact(&path)?;
    fingerprint.add_artifact(&path);
    Ok(Artifact { path, filename, python: None })
}

/// Where the manifest names neither engine nor artifact, a script or what MLflow saved may be all
/// there is.
fn in_python(folder: &Path, manifest: &Manifest) -> Option<PythonDraft> {
    let is_open = manifest.engine.is_none() && manifest.artifact.is_none();
    let is_meant = || is_open && !hugging_face::is_model(folder) && python::is_meant(folder);
    manifest.python.clone().or_else(|| is_meant().then(PythonDraft::default))
}

/// Returns what `artifact` says, else the graph of an export, `model.onnx` or the only `.onnx` file.
fn artifact_name(folder: &Path, manifest: &Manifest) -> Result<String> {
    if let Some(name) = &manifest.artifact {
        return Ok(name.clone());
    }
    if let Some(graph) = hugging_face::graph(folder).filter(|_| hugging_face::is_model(folder)) {
        return Ok(graph.to_owned());
    }
    let mut found: Vec<String> = files::list(folder)?
        .into_iter()
        .filter(|entry| !entry.is_folder && files::is_onnx(&entry.name))
        .map(|entry| entry.name)
        .collect();
    match found.as_slice() {
        [_] => Ok(found.remove(0)),
        _ => Ok("model.onnx".to_owned()),
    }
}

/// Returns the labels, and the file that they come from.
fn labels(folder: &Path, manifest: &Manifest) -> Result<(Option<Vec<String>>, Option<PathBuf>)> {
    match &manifest.labels {
        None => Ok((None, None)),
        Some(Labels::List(labels)) => Ok((Some(labels.clone()), None)),
        Some(Labels::File(name)) => {
            let path = files::inside(folder, name)?;
            Ok((Some(files::read_labels(&path)?), Some(path)))
        }
    }
}
