//! `[[step]]`, and the `[[output]]` of ensembles.

mod condition;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use salver_core::{EnsembleOutput, EnsembleSpec, ModelRef, StepSpec};
use serde::Deserialize;
use toml::Spanned;

use self::source::Names;
pub(super) use self::source::Sources;
use super::fault::Fault;
use super::number::Whole;
use super::schema::{File, Output};
use super::{ENSEMBLE, batching, check_new};
use crate::limits::STEP_LIMIT;

/// `[[step]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// The step's name; none: the model's.
    name: Option<Spanned<String>>,
    /// `NAME`, `NAME/VERSION` or `NAME@ALIAS`.
    model: Spanned<String>,
    /// Where the model's inputs come from.
    #[serde(default)]
    inputs: BTreeMap<Spanned<String>, Spanned<Sources>>,
    /// The rows that it runs for.
    when: Option<Spanned<String>>,
    /// The output that says which rows have an answer.
    present: Option<Spanned<String>>,
    /// The inputs that hold lists.
    each: Option<Spanned<OneOrMore>>,
    /// The longest that it may take.
    timeout_ms: Option<Whole<1, 3_600_000>>,
    /// What is called where the model fails.
    fallback: Option<Spanned<String>>,
    /// What becomes of the request where that fails too.
    #[serde(default)]
    on_failure: OnFailure,
}

/// A name, or a list of names.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "must be the name of an input or a list of such names")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::More(names) => names,
        }
    }
}

/// What becomes of a request where a step fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnFailure {
    /// It fails too.
    #[default]
    Fail,
    /// It goes on without the step.
    Skip,
}

/// Puts the steps together; none: the model is no ensemble.
pub(super) fn spec(file: &File) -> Result<Option<EnsembleSpec>, Fault> {
    if !is_ensemble(file) {
        return check_absent(file).map(|()| None);
    }
    check_alone(file)?;
    let mut seen = BTreeSet::new();
    let names = file.step.iter().map(|step| name_of(step, &mut seen)).collect::<Result<Vec<_>, Fault>>()?;
    let known = Names { inputs: file.input.iter().map(|input| input.name.get_ref().as_str()).collect(), steps: &names };
    let steps = file.step.iter().zip(&names);
    let steps = steps.map(|(step, name)| read(step.get_ref(), name.clone(), &known)).collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    let outputs = file.output.iter().map(|one| output(one, &mut seen, &known)).collect::<Result<_, _>>()?;
    let inputs = file.input.iter().map(|input| input.name.get_ref().as_str().into()).collect();
    Ok(Some(EnsembleSpec { inputs, steps, outputs, by_name: true }))
}

/// Whether the model is made of others.
pub(super) fn is_ensemble(file: &File) -> bool {
    file.engine.as_ref().map_or(!file.step.is_empty(), |engine| engine.get_ref() == ENSEMBLE)
}

/// Steps and what they lead to belong to ensembles only.
fn check_absent(file: &File) -> Result<(), Fault> {
    let needs = format_args!("needs engine = \"{ENSEMBLE}\" at the top of the file").to_string();
    if let Some(step) = file.step.first() {
        return Err(Fault::invalid(step, needs));
    }
    match file.output.iter().find_map(|output| output.from.as_ref()) {
        Some(from) => Err(Fault::invalid(from, needs)),
        None => Ok(()),
    }
}

/// What an ensemble is made of says everything else about it.
fn check_alone(file: &File) -> Result<(), Fault> {
    let Some(first) = file.step.first() else {
        // The engine is named, or this would be no ensemble.
        let place = file.engine.clone().unwrap_or_else(|| Spanned::new(0..0, String::new()));
        return Err(Fault::invalid(&place, "an ensemble needs at least one [[step]]"));
    };
    if file.step.len() > STEP_LIMIT {
        let got = file.step.len();
        return Err(Fault::invalid(first, format_args!("must be at most {STEP_LIMIT} steps, got {got}")));
    }
    let alone = "has no place in an ensemble: its steps have their own";
    if let Some(task) = &file.task {
        return Err(Fault::invalid(task, alone));
    }
    if file.artifact.is_some() {
        return Err(Fault::invalid(first, "stands beside artifact; an ensemble has no file of its own, leave it out"));
    }
    if file.instances.is_some() {
        return Err(Fault::invalid(first, "stands beside [instances], which belong to the models that steps call"));
    }
    batching::check_absent(file.batching.as_ref(), "the models that steps call have their own")?;
    for input in &file.input {
        let declared = [input.dtype.as_ref().map(Spanned::span), input.shape.as_ref().map(Spanned::span)];
        if declared.iter().any(Option::is_some) || input.optional.is_some() || !input.columns.is_empty() {
            return Err(Fault::invalid(&input.name, "has more than a name; what reads the input says the rest"));
        }
    }
    Ok(())
}

fn name_of(step: &Spanned<Step>, seen: &mut BTreeSet<String>) -> Result<Arc<str>, Fault> {
    let step = step.get_ref();
    let name = match &step.name {
        Some(name) => name.clone(),
        None => {
            let model = model(&step.model)?;
            Spanned::new(step.model.span(), model.name.to_string())
        }
    };
    let is_part = |char: char| char.is_alphanumeric() || char == '_' || char == '-';
    let text = name.get_ref();
    if text.is_empty() || text.len() > 128 || !text.chars().all(is_part) {
        let got: String = text.chars().take(128).flat_map(char::escape_debug).collect();
        let what = "must be at most 128 letters, digits, '_' or '-', because a dot follows it elsewhere";
        return Err(Fault::invalid(&name, format_args!("{what}; give the step such a name, got '{got}'")));
    }
    check_new(&name, seen)?;
    Ok(text.as_str().into())
}

fn model(text: &Spanned<String>) -> Result<ModelRef, Fault> {
    text.get_ref().parse().map_err(|error| Fault::new(text, &error))
}

fn read(step: &Step, name: Arc<str>, known: &Names<'_>) -> Result<StepSpec, Fault> {
    let input = |(input, sources): (&Spanned<String>, &Spanned<Sources>)| {
        known.sources(sources).map(|sources| (input.get_ref().clone(), sources))
    };
    let each = step.each.as_ref().map(|each| each.get_ref().names().to_vec()).unwrap_or_default();
    Ok(StepSpec {
        name,
        model: model(&step.model)?,
        inputs: step.inputs.iter().map(input).collect::<Result<_, _>>()?,
        when: step.when.as_ref().map(|when| condition::parse(when, known)).transpose()?,
        present: step.present.as_ref().map(|present| present.get_ref().clone()),
        each,
        timeout: step.timeout_ms.map(|limit| Duration::from_millis(limit.get().into())),
        fallback: step.fallback.as_ref().map(model).transpose()?,
        on_failure: match step.on_failure {
            OnFailure::Fail => salver_core::OnFailure::Fail,
            OnFailure::Skip => salver_core::OnFailure::Skip,
        },
    })
}

fn output(output: &Output, seen: &mut BTreeSet<String>, known: &Names<'_>) -> Result<EnsembleOutput, Fault> {
    check_new(&output.name, seen)?;
    if output.dtype.is_some() || output.shape.is_some() {
        return Err(Fault::invalid(&output.name, "has a dtype or shape; where it comes from says so, leave them out"));
    }
    let Some(from) = &output.from else {
        return Err(Fault::invalid(&output.name, "needs from = \"STEP.OUTPUT\" beside it"));
    };
    Ok(EnsembleOutput { name: output.name.get_ref().as_str().into(), from: known.sources(from)? })
}
