//! Salver's own model folders: `model.toml` beside the artifact.
//!
//! Every key has a default that is right for most models; a key that is not known is an error, and
//! every error names its line. Paths in it stay inside the folder.

mod batching;
mod builtin;
mod columns;
mod ensemble;
mod fault;
mod features;
mod folder;
mod image;
mod instances;
mod number;
mod python;
mod remote;
mod schema;
mod tasks;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use salver_core::{Backing, DynamicBatching, InstanceGroup, ModelConfig, ModelName, OnMiss, Result};
use toml::Spanned;

use self::fault::Fault;
pub(crate) use self::folder::{read, read_manifest, read_one};
use self::schema::{File, Input, Labels};
use crate::python::{ENGINE as PYTHON, PythonDraft};
use crate::task::Draft;

/// The file that makes a folder a Salver model.
pub(crate) const MANIFEST: &str = "model.toml";

const ENGINES: [&str; 7] = ["onnx", "rten", PYTHON, ENSEMBLE, BUILTIN, FEATURES, HTTP];
/// The engine of models that are made of others.
pub(crate) const ENSEMBLE: &str = "ensemble";
/// The engine of functions that the server has itself.
const BUILTIN: &str = "builtin";
/// The engine of models that look rows up.
const FEATURES: &str = "features";
/// The engine of models that other servers answer for.
const HTTP: &str = "http";

/// What a `model.toml` says, checked as far as that needs no other file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// The model's name; none: the folder's.
    pub(crate) name: Option<String>,
    version: u64,
    engine: Option<String>,
    /// What to load; none: `model.onnx`, the only `.onnx` file, or `model.py`.
    pub(crate) artifact: Option<String>,
    /// How it runs in Python; none: it does not, or only the folder says so.
    pub(crate) python: Option<PythonDraft>,
    /// What stands behind it where that is no artifact.
    backing: Option<Backing>,
    /// None: nothing is said of it.
    task: Option<Draft>,
    labels: Option<Labels>,
    columns: BTreeMap<String, Vec<String>>,
    metrics: BTreeMap<String, f64>,
    batching: DynamicBatching,
    instances: Option<InstanceGroup>,
    /// Whether the number of instances is given.
    is_counted: bool,
    run_timeout: Option<Duration>,
    cache: Option<Caching>,
}

/// Answers may come from a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Caching {
    ttl: Option<Duration>,
    on_miss: OnMiss,
}

impl Caching {
    fn new(cache: &schema::Cache) -> Self {
        Self {
            ttl: cache.ttl_s.as_ref().map(|ttl| Duration::from_secs(ttl.get().into())),
            on_miss: match cache.on_miss {
                schema::OnMiss::Compute => OnMiss::Compute,
                schema::OnMiss::Job => OnMiss::Job,
            },
        }
    }
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
        check_choice(file.engine.as_ref(), &ENGINES)?;
        let columns = input_columns(&file.input)?;
        let python = python::draft(&file)?;
        let backing = backing(&file)?;
        let task = tasks::task(&file, &columns)?;
        let run_timeout = file.instances.as_ref().and_then(|instances| instances.run_timeout_ms);
        Ok(Self {
            version: file.version.as_ref().map_or(Ok(1), version)?,
            metrics: metrics(file.metrics)?,
            batching: batching::dynamic_batching(file.batching.as_ref())?,
            instances: file.instances.as_ref().map(instances::instance_group).transpose()?,
            is_counted: file.instances.as_ref().is_some_and(|instances| instances.count.is_some()),
            run_timeout: match run_timeout.map(|limit| limit.milliseconds()) {
                None => Some(ModelConfig::DEFAULT_RUN_TIMEOUT),
                Some(limit) => Some(limit).filter(|limit| !limit.is_zero()),
            },
            cache: file.cache.as_ref().map(Caching::new),
            task,
            name: file.name.map(Spanned::into_inner),
            engine: file.engine.map(Spanned::into_inner),
            artifact: file.artifact,
            python,
            backing,
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
            on_miss: self.cache.map(|cache| cache.on_miss).unwrap_or_default(),
            run_timeout: self.run_timeout,
            ..ModelConfig::default()
        }
    }
}

/// Returns what stands behind a model that has no artifact.
fn backing(file: &File) -> Result<Option<Backing>, Fault> {
    let ensemble = ensemble::spec(file)?.map(|spec| Backing::Ensemble(spec.into()));
    let builtin = builtin::spec(file)?.map(|spec| Backing::Builtin(spec.into()));
    let features = features::spec(file)?.map(|spec| Backing::Features(spec.into()));
    let remote = remote::spec(file)?.map(|spec| Backing::Remote(spec.into()));
    Ok(ensemble.or(builtin).or(features).or(remote))
}

fn check_choice(value: Option<&Spanned<String>>, known: &[&str]) -> Result<(), Fault> {
    let Some(place) = value else {
        return Ok(());
    };
    let value = place.get_ref().as_str();
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

#[cfg(test)]
mod tests;
