//! Salver's own model folders: `model.toml` beside the artifact.
//!
//! Every key has a default that is right for most models; a key that is not known is an error, and
//! every error names its line. Paths in it stay inside the folder.

mod batching;
mod columns;
mod fault;
mod image;
mod instances;
mod number;
mod schema;
mod tasks;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use salver_core::{DynamicBatching, Error, InstanceGroup, ModelConfig, ModelName, ModelSpec, Result, TaskSpec};
use toml::Spanned;

use self::fault::Fault;
use self::schema::{File, Input, Labels};
use crate::files::{self, Fingerprint};
use crate::hugging_face;
use crate::task::Draft;
use crate::versions;

/// The file that makes a folder a Salver model.
pub(crate) const MANIFEST: &str = "model.toml";

const ENGINES: [&str; 2] = ["onnx", "rten"];
const LATER_ENGINES: [&str; 3] = ["python", "http", "ensemble"];

/// What a `model.toml` says, checked as far as that needs no other file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// The model's name; none: the folder's.
    pub(crate) name: Option<String>,
    version: u64,
    engine: Option<String>,
    /// The file to load; none: `model.onnx`, or the only `.onnx` file.
    pub(crate) artifact: Option<String>,
    /// None: nothing is said of it.
    task: Option<Draft>,
    labels: Option<Labels>,
    columns: BTreeMap<String, Vec<String>>,
    metrics: BTreeMap<String, f64>,
    batching: DynamicBatching,
    instances: Option<InstanceGroup>,
    run_timeout: Option<Duration>,
    cache: Option<Caching>,
}

/// Answers may come from a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Caching {
    ttl: Option<Duration>,
}

/// Reads the text of a `model.toml`.
///
/// # Errors
/// `InvalidInput` naming line and key, `Unsupported` for an engine not offered.
pub(crate) fn parse(text: &str) -> Result<Manifest> {
    let file: Result<File, Fault> = toml::from_str(text).map_err(Fault::from);
    file.and_then(Manifest::new).map_err(|fault| fault.locate(text))
}

impl Manifest {
    fn new(file: File) -> Result<Self, Fault> {
        if let Some(name) = &file.name {
            ModelName::new(name.get_ref()).map_err(|error| Fault::new(name, &error))?;
        }
        check_choice(file.engine.as_ref(), &ENGINES, &LATER_ENGINES)?;
        let columns = input_columns(&file.input)?;
        let task = tasks::task(&file, &columns)?;
        let run_timeout = file.instances.as_ref().and_then(|instances| instances.run_timeout_ms);
        Ok(Self {
            version: file.version.as_ref().map_or(Ok(1), version)?,
            metrics: metrics(file.metrics)?,
            batching: batching::dynamic_batching(&file.batching)?,
            instances: file.instances.as_ref().map(instances::instance_group).transpose()?,
            run_timeout: match run_timeout.map(|limit| limit.milliseconds()) {
                None => Some(ModelConfig::DEFAULT_RUN_TIMEOUT),
                Some(limit) => Some(limit).filter(|limit| !limit.is_zero()),
            },
            cache: file
                .cache
                .map(|cache| Caching { ttl: cache.ttl_s.map(|ttl| Duration::from_secs(ttl.get().into())) }),
            task,
            name: file.name.map(Spanned::into_inner),
            engine: file.engine.map(Spanned::into_inner),
            artifact: file.artifact,
            labels: file.labels.map(Spanned::into_inner),
            columns,
        })
    }

    fn config(&self, filename: &str) -> ModelConfig {
        ModelConfig {
            instance_groups: self.instances.iter().cloned().collect(),
            dynamic_batching: Some(self.batching.clone()),
            default_model_filename: filename.to_owned(),
            response_cache: self.cache.is_some(),
            cache_ttl: self.cache.and_then(|cache| cache.ttl),
            run_timeout: self.run_timeout,
            ..ModelConfig::default()
        }
    }
}

fn check_choice(value: Option<&Spanned<String>>, known: &[&str], later: &[&str]) -> Result<(), Fault> {
    let Some(place) = value else {
        return Ok(());
    };
    let value = place.get_ref().as_str();
    if later.contains(&value) {
        let error = Error::unsupported(format!("'{value}' is not offered yet; offered are {}", known.join(", ")));
        return Err(Fault::new(place, &error));
    }
    if !known.contains(&value) {
        let message = format!("must be one of {}, got '{}'", known.join(", "), value.escape_debug());
        return Err(Fault::invalid(place, message));
    }
    Ok(())
}

/// Versions are signed on several wires.
fn version(version: &Spanned<i64>) -> Result<u64, Fault> {
    let number = u64::try_from(*version.get_ref()).ok().filter(|&number| number > 0);
    number.ok_or_else(|| {
        Fault::invalid(version, format_args!("must be from 1 to {}, got {}", i64::MAX, version.get_ref()))
    })
}

fn metrics(metrics: BTreeMap<String, Spanned<f64>>) -> Result<BTreeMap<String, f64>, Fault> {
    let finite = |(name, value): (String, Spanned<f64>)| match *value.get_ref() {
        number if number.is_finite() => Ok((name, number)),
        number => Err(Fault::invalid(&value, format_args!("must be a finite number, got {number}"))),
    };
    metrics.into_iter().map(finite).collect()
}

/// Returns the names of columns by input; an input without any says nothing.
fn input_columns(inputs: &[Input]) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let mut names = BTreeSet::new();
    let mut columns = BTreeMap::new();
    for input in inputs {
        check_new(&input.name, &mut names)?;
        let mut seen = BTreeSet::new();
        for column in &input.columns {
            check_new(column, &mut seen)?;
        }
        if !input.columns.is_empty() {
            let names = input.columns.iter().map(|column| column.get_ref().clone()).collect();
            columns.insert(input.name.get_ref().clone(), names);
        }
    }
    Ok(columns)
}

fn check_new(name: &Spanned<String>, seen: &mut BTreeSet<String>) -> Result<(), Fault> {
    if !name.get_ref().is_empty() && seen.insert(name.get_ref().clone()) {
        return Ok(());
    }
    let got = name.get_ref().escape_debug();
    Err(Fault::invalid(name, format_args!("must not be empty and not be given twice, got '{got}'")))
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
    let filename = artifact_name(folder, manifest)?;
    let artifact = files::inside(folder, &filename).map_err(|error| context(error.context("artifact")))?;
    files::check_artifact(&artifact)?;
    let mut fingerprint = Fingerprint::default();
    fingerprint.add(&folder.join(MANIFEST));
    fingerprint.add_artifact(&artifact);
    let (labels, label_file) = labels(folder, manifest).map_err(|error| context(error.context("labels")))?;
    if let Some(file) = &label_file {
        fingerprint.add(file);
    }
    let hugging_face::Known { draft, labels } =
        hugging_face::fill(folder, manifest.task.clone(), labels, &mut fingerprint)?;
    // Of texts and pictures, classes are the task's: its outputs are not the graph's.
    let (of_task, of_outputs) = if draft.owns_labels() { (labels, None) } else { (None, labels) };
    let find = |name: &str| files::inside(folder, name).and_then(|path| files::check_artifact(&path).map(|()| path));
    let task = draft.finish(of_task.unwrap_or_default(), find).map_err(context)?;
    if let TaskSpec::Text(text) = &task {
        fingerprint.add(&text.tokenizer);
    }
    Ok(ModelSpec {
        engine: manifest.engine.clone(),
        fingerprint: fingerprint.finish(),
        task,
        columns: manifest.columns.clone(),
        labels: of_outputs.into_iter().map(|labels| (String::new(), labels)).collect(),
        metrics: manifest.metrics.clone(),
        ..versions::spec(name, manifest.version, artifact, manifest.config(&filename))
    })
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

#[cfg(test)]
mod tests;
