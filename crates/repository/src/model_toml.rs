//! Salver's own model folders: `model.toml` beside the artifact.
//!
//! Every key has a default that is right for most models; a key that is not known is an error with
//! its line. Paths in it stay inside the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use salver_core::{DynamicBatching, Error, InstanceGroup, ModelConfig, ModelName, ModelSpec, Result};
use serde::Deserialize;

use crate::files::{self, Fingerprint};
use crate::pbtxt::COUNT_LIMIT;
use crate::versions;

/// The file that makes a folder a Salver model.
pub(crate) const MANIFEST: &str = "model.toml";

const ENGINES: [&str; 2] = ["onnx", "rten"];
const LATER_ENGINES: [&str; 3] = ["python", "http", "ensemble"];
const TASKS: [&str; 2] = ["tensor", "tabular"];
const MAX_DELAY_LIMIT_MS: f64 = 60_000.0;

/// What a `model.toml` says, checked as far as that needs no other file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Manifest {
    /// The model's name; none: the folder's.
    pub name: Option<String>,
    /// The version; none: 1.
    pub version: Option<NonZeroU64>,
    /// The engine; none: the first one that is available.
    pub engine: Option<String>,
    /// The file to load; none: `model.onnx`, or the only `.onnx` file.
    pub artifact: Option<String>,
    /// What the data means; none: `tabular` where columns are named, else `tensor`.
    pub task: Option<String>,
    /// Class labels.
    pub labels: Option<Labels>,
    /// What the artifact does not say about its inputs.
    pub input: Vec<Input>,
    /// Merging of requests.
    pub batching: Batching,
    /// Parallel executions.
    pub instances: Option<Instances>,
    /// Caching of answers.
    pub cache: Option<Cache>,
    /// Metrics measured when the model was made.
    pub metrics: BTreeMap<String, f64>,
}

/// Class labels, in the manifest or in a file of their own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "labels must be a list of texts or the name of a file with one label a line")]
pub(crate) enum Labels {
    /// The labels themselves.
    List(Vec<String>),
    /// A text file in the folder, one label a line.
    File(String),
}

/// `[[input]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// The input's name in the artifact.
    pub name: String,
    /// The names of its columns.
    #[serde(default)]
    pub columns: Vec<String>,
}

/// `[batching]`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Batching {
    /// The most rows of a merged batch.
    pub max_rows: Option<NonZeroU32>,
    /// How long the oldest request may wait for company.
    pub max_delay_ms: f64,
}

/// `[instances]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Instances {
    /// Parallel executions; none: as many as there are cores for.
    pub count: Option<NonZeroU32>,
    /// Threads of one execution; none: 1.
    pub threads: Option<NonZeroU32>,
    /// Where they run; none: `cpu`.
    pub device: Option<String>,
}

/// `[cache]`. Accepted; answers are kept once the runtime has a cache.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cache {
    /// How long an answer may be kept.
    pub ttl_s: u64,
}

/// Reads the text of a `model.toml`.
///
/// # Errors
/// `InvalidInput` naming line or key, `Unsupported` for an engine, task or device not offered.
pub(crate) fn parse(text: &str) -> Result<Manifest> {
    let manifest: Manifest = toml::from_str(text).map_err(|error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        Error::invalid_input(format!("line {line}: {}", error.message().replace('\n', "; ")))
    })?;
    manifest.check()?;
    Ok(manifest)
}

impl Manifest {
    fn check(&self) -> Result<()> {
        self.name.as_deref().map(ModelName::new).transpose().map_err(|error| error.context("name"))?;
        check_choice("engine", self.engine.as_deref(), &ENGINES, &LATER_ENGINES)?;
        check_choice("task", self.task.as_deref(), &TASKS, &[])?;
        check_inputs(&self.input)?;
        if let Some((metric, value)) = self.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::invalid_input(format!("metrics: '{}' is {value}", metric.escape_debug())));
        }
        let delay = self.batching.max_delay_ms;
        if !(0.0..=MAX_DELAY_LIMIT_MS).contains(&delay) {
            return Err(Error::invalid_input(format!(
                "batching.max_delay_ms must be from 0 to {MAX_DELAY_LIMIT_MS}, got {delay}"
            )));
        }
        self.instance_groups().map(drop)
    }

    fn task(&self) -> &str {
        let is_table = self.input.iter().any(|input| !input.columns.is_empty());
        self.task.as_deref().unwrap_or(if is_table { "tabular" } else { "tensor" })
    }

    fn config(&self, filename: &str) -> Result<ModelConfig> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be small and positive")]
        let max_queue_delay_microseconds = (self.batching.max_delay_ms * 1000.0) as u64;
        Ok(ModelConfig {
            instance_groups: self.instance_groups()?,
            dynamic_batching: Some(DynamicBatching {
                max_rows: self.batching.max_rows.map(to_usize),
                max_queue_delay_microseconds,
                ..DynamicBatching::default()
            }),
            default_model_filename: filename.to_owned(),
            response_cache: self.cache.is_some(),
            ..ModelConfig::default()
        })
    }

    fn instance_groups(&self) -> Result<Vec<InstanceGroup>> {
        let Some(instances) = &self.instances else {
            return Ok(Vec::new());
        };
        let (kind, gpus) = device(instances.device.as_deref().unwrap_or("cpu"))?;
        let threads = instances.threads.map_or(1, to_usize);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // A GPU runs one batch well at a time; cores are shared out.
        let fitting = if gpus.is_empty() { (cores / threads).max(1) } else { 1 };
        let count = instances.count.map_or(fitting, to_usize);
        for (key, value) in [("count", count), ("threads", threads)] {
            if value > COUNT_LIMIT {
                return Err(Error::invalid_input(format!(
                    "instances.{key} must be from 1 to {COUNT_LIMIT}, got {value}"
                )));
            }
        }
        Ok(vec![InstanceGroup { count, kind: kind.to_owned(), gpus, threads, ..InstanceGroup::default() }])
    }
}

fn to_usize(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

fn check_choice(key: &str, value: Option<&str>, known: &[&str], later: &[&str]) -> Result<()> {
    match value {
        Some(value) if later.contains(&value) => {
            Err(Error::unsupported(format!("{key} '{value}' is not offered yet; offered are {}", known.join(", "))))
        }
        Some(value) if !known.contains(&value) => Err(Error::invalid_input(format!(
            "{key} '{}' is not known; known are {}",
            value.escape_debug(),
            known.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn check_inputs(inputs: &[Input]) -> Result<()> {
    let mut names = BTreeSet::new();
    for input in inputs {
        if input.name.is_empty() || !names.insert(&input.name) {
            return Err(Error::invalid_input(format!(
                "[[input]] name '{}' must not be empty and not be given twice",
                input.name.escape_debug()
            )));
        }
        let mut columns = BTreeSet::new();
        if let Some(column) = input.columns.iter().find(|column| column.is_empty() || !columns.insert(*column)) {
            return Err(Error::invalid_input(format!(
                "[[input]] '{}': column '{}' must not be empty and not be given twice",
                input.name.escape_debug(),
                column.escape_debug()
            )));
        }
    }
    Ok(())
}

/// Translates a device to Triton's kind and GPU numbers.
fn device(device: &str) -> Result<(&'static str, Vec<i32>)> {
    if device == "cpu" {
        return Ok(("KIND_CPU", Vec::new()));
    }
    if let Some(number) = device.strip_prefix("cuda:").and_then(|number| number.parse::<u16>().ok()) {
        return Ok(("KIND_GPU", vec![i32::from(number)]));
    }
    let shown = device.escape_debug();
    if device == "openvino" || device.starts_with("tensorrt:") {
        return Err(Error::unsupported(format!("instances.device '{shown}' is not offered yet")));
    }
    Err(Error::invalid_input(format!("instances.device '{shown}' is not known; write 'cpu' or 'cuda:0'")))
}

/// Reads the manifest of `folder`.
pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = files::read_text(&path, files::CONFIG_LIMIT)?;
    parse(&text).map_err(|error| error.context(path.display()))
}

/// Makes the one version of a Salver folder.
pub(crate) fn read(name: &ModelName, folder: &Path, manifest: &Manifest) -> Result<Vec<Arc<ModelSpec>>> {
    let context = |error: Error| error.context(folder.join(MANIFEST).display());
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
    let columns = manifest.input.iter().filter(|input| !input.columns.is_empty());
    let version = manifest.version.map_or(1, NonZeroU64::get);
    Ok(vec![Arc::new(ModelSpec {
        engine: manifest.engine.clone(),
        fingerprint: fingerprint.finish(),
        task: manifest.task().to_owned(),
        columns: columns.map(|input| (input.name.clone(), input.columns.clone())).collect(),
        labels: labels.into_iter().map(|labels| (String::new(), labels)).collect(),
        metrics: manifest.metrics.clone(),
        ..versions::spec(name, version, artifact, manifest.config(&filename).map_err(context)?)
    })])
}

/// Returns what `artifact` says, else `model.onnx` or the only `.onnx` file.
fn artifact_name(folder: &Path, manifest: &Manifest) -> Result<String> {
    if let Some(name) = &manifest.artifact {
        return Ok(name.clone());
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
