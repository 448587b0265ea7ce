//! Whether models that are not loaded would be: what `salver migrate` says beforehand.
//!
//! The checks are those of loading; only what an engine alone knows of a graph stays open.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use salver_core::{
    Backing, EnsembleSpec, Error, ModelInfo, ModelName, ModelRef, ModelSpec, Result, Selector, Signature,
};

use crate::ensemble::{EnsembleEngine, signature_of};
use crate::interface::Interface;
use crate::lifecycle::describe;
use crate::warmup;

/// A model as its files tell it.
#[derive(Debug)]
pub struct Unloaded {
    /// What is read.
    pub spec: Arc<ModelSpec>,
    /// What its graph takes and gives; none: only an engine finds out.
    pub graph: Option<Signature>,
}

/// What is known of a version so far.
enum Verdict {
    /// It loads, and its interface is known as far as files tell.
    Fits(Option<Arc<ModelInfo>>),
    /// It does not load.
    Fails(Error),
}

/// Says of each of these models whether it would load beside the others: whether its graph fits its
/// configuration, or the models that it calls each other.
pub fn check_fits(models: &[Unloaded]) -> Vec<Result<()>> {
    let mut found: BTreeMap<(ModelName, u64), Verdict> = BTreeMap::new();
    let mut left: Vec<(&ModelSpec, &EnsembleSpec)> = Vec::new();
    for Unloaded { spec, graph } in models {
        match &spec.backing {
            Backing::Ensemble(ensemble) => left.push((spec, ensemble)),
            _ => drop(found.insert(key(spec), of_graph(spec, graph.as_ref()))),
        }
    }
    loop {
        let before = left.len();
        left.retain(|(spec, ensemble)| {
            let is_left = |name: &ModelName| {
                models.iter().any(|other| other.spec.name == *name && !found.contains_key(&key(&other.spec)))
            };
            if ensemble.models().any(|model| is_left(&model.name)) {
                return true;
            }
            let verdict = of_ensemble(spec, ensemble, &found).unwrap_or_else(Verdict::Fails);
            found.insert(key(spec), verdict);
            false
        });
        if left.len() == before {
            break;
        }
    }
    let verdict = |model: &Unloaded| match found.get(&key(&model.spec)) {
        Some(Verdict::Fits(_)) => Ok(()),
        Some(Verdict::Fails(error)) => Err(error.clone()),
        None => Err(Error::invalid_input("ensembles call each other in a circle, and this one is in it or calls it")),
    };
    models.iter().map(verdict).collect()
}

fn key(spec: &ModelSpec) -> (ModelName, u64) {
    (spec.name.clone(), spec.version)
}

fn of_graph(spec: &ModelSpec, graph: Option<&Signature>) -> Verdict {
    let Some(graph) = graph else {
        return Verdict::Fits(None);
    };
    let checked = Interface::new(graph, &spec.config)
        .and_then(|interface| warmup::check(&spec.name, &interface, &spec.config.warmup).map(|()| interface));
    match checked {
        // The engine's name shows to clients only.
        Ok(interface) => Verdict::Fits(Some(Arc::new(describe(spec, &EnsembleEngine, &interface)))),
        Err(error) => Verdict::Fails(error),
    }
}

fn of_ensemble(
    spec: &ModelSpec,
    ensemble: &EnsembleSpec,
    found: &BTreeMap<(ModelName, u64), Verdict>,
) -> Result<Verdict> {
    let mut members = HashMap::new();
    for step in &ensemble.steps {
        for model in std::iter::once(&step.model).chain(&step.fallback) {
            let context = |error: Error| error.context(format_args!("step '{}' calls model '{model}'", step.name));
            match member(model, found).map_err(context)? {
                Some(info) => drop(members.insert(model.clone(), info)),
                None => return Ok(Verdict::Fits(None)),
            }
        }
    }
    Ok(of_graph(spec, Some(&signature_of(ensemble, &spec.config, &members)?)))
}

/// Finds what a step calls; none: its interface is not known.
fn member(model: &ModelRef, found: &BTreeMap<(ModelName, u64), Verdict>) -> Result<Option<Arc<ModelInfo>>> {
    let versions = found.iter().filter(|((name, _), _)| *name == model.name).rev();
    let is_meant = |version: u64| match &model.selector {
        Selector::Version(wanted) => version == *wanted,
        Selector::Latest | Selector::Label(_) => true,
    };
    let mut failed = None;
    for ((_, version), verdict) in versions.filter(|((_, version), _)| is_meant(*version)) {
        match verdict {
            Verdict::Fits(_) if matches!(model.selector, Selector::Label(_)) => return Ok(None),
            Verdict::Fits(info) => return Ok(info.clone()),
            Verdict::Fails(_) => _ = failed.get_or_insert(*version),
        }
    }
    Err(Error::not_ready(match failed {
        Some(version) => format!("version {version} does not load"),
        None => "it is not served here".to_owned(),
    }))
}
