//! The `ensemble_scheduling` block of `config.pbtxt`: models that call other models.
//!
//! Values have names there, each written once and read by any number of steps; here, each reader
//! says which step it reads from. Whether types and shapes fit is checked when the models are known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use salver_core::{
    EnsembleOutput, EnsembleScheduling, EnsembleSpec, IoConfig, ModelName, ModelRef, OnFailure, ScheduledStep, Source,
    StepSpec,
};

use crate::limits::STEP_LIMIT;
use crate::schema::triton::model_ensembling::Step;
use crate::schema::triton::{self as proto, ModelEnsembling, model_config::SchedulingChoice};
use crate::text::{Checked, Fault};

/// What stands in `platform` beside the block.
pub(super) const PLATFORM: &str = "ensemble";
/// The latest version, where one has to be given.
const LATEST: i64 = -1;

/// Returns the block; none: the model calls no others.
pub(super) fn block(config: &proto::ModelConfig) -> Option<&ModelEnsembling> {
    match &config.scheduling_choice {
        Some(SchedulingChoice::EnsembleScheduling(block)) => Some(block),
        _ => None,
    }
}

/// Checks that a model is an ensemble as a whole, and has nothing that one cannot have.
pub(super) fn check_identity(config: &proto::ModelConfig) -> Checked<()> {
    let refused = |field: &str, message: String| Err(Fault::invalid(field, message));
    if block(config).is_none() {
        return refused("platform", format!("platform '{PLATFORM}' needs ensemble_scheduling beside it"));
    }
    if config.platform != PLATFORM {
        let found = config.platform.escape_debug();
        return refused("platform", format!("platform must be '{PLATFORM}' beside ensemble_scheduling, got '{found}'"));
    }
    if !config.backend.is_empty() {
        return refused("backend", "backend has to be left out beside ensemble_scheduling".to_owned());
    }
    if !config.instance_group.is_empty() {
        let message = "instance_group has to be left out of an ensemble: the models that it calls have their own";
        return refused("instance_group", message.to_owned());
    }
    if config.input.is_empty() || config.output.is_empty() {
        let field = if config.input.is_empty() { "input" } else { "output" };
        return refused("ensemble_scheduling", format!("ensemble_scheduling needs at least one {field} beside it"));
    }
    Ok(())
}

/// Converts the block; `inputs` and `outputs` are those of requests.
pub(super) fn scheduling(
    block: &ModelEnsembling,
    inputs: &[IoConfig],
    outputs: &[IoConfig],
) -> Checked<Arc<EnsembleScheduling>> {
    let within = |fault: Fault| fault.within("ensemble_scheduling", "ensemble_scheduling");
    let scheduling = steps(block).and_then(|steps| check_values(&steps, inputs).map(|()| steps)).map_err(within)?;
    let is_written = |name: &str| scheduling.iter().any(|step| step.output_map.values().any(|value| value == name));
    if let Some((idx, output)) = outputs.iter().enumerate().find(|(_, output)| !is_written(&output.name)) {
        let message = format!("output '{}' is in no output_map: no step writes it", output.name.escape_debug());
        return Err(Fault::invalid(format!("output[{idx}]"), message));
    }
    let is_read = |name: &str| scheduling.iter().any(|step| step.input_map.values().any(|value| value == name));
    if let Some((idx, input)) = inputs.iter().enumerate().find(|(_, input)| !is_read(&input.name)) {
        let message = format!("input '{}' is in no input_map: no step reads it", input.name.escape_debug());
        return Err(Fault::invalid(format!("input[{idx}]"), message));
    }
    Ok(Arc::new(EnsembleScheduling { steps: scheduling }))
}

fn steps(block: &ModelEnsembling) -> Checked<Vec<ScheduledStep>> {
    if block.step.is_empty() || block.step.len() > STEP_LIMIT {
        let message = format!("must have 1 to {STEP_LIMIT} of step, got {}", block.step.len());
        return Err(Fault::invalid("step", message));
    }
    let convert = |(idx, found): (usize, &Step)| {
        let shown = format!("step {idx} ('{}')", found.model_name.escape_debug());
        step(found).map_err(|fault| fault.within(&format!("step[{idx}]"), &shown))
    };
    block.step.iter().enumerate().map(convert).collect()
}

fn step(step: &Step) -> Checked<ScheduledStep> {
    if !step.model_namespace.is_empty() {
        return Err(Fault::unsupported("model_namespace", "model_namespace is not offered"));
    }
    for (field, map) in [("input_map", &step.input_map), ("output_map", &step.output_map)] {
        if map.is_empty() {
            return Err(Fault::invalid("", format!("{field} is missing")));
        }
        if let Some((key, _)) = map.iter().find(|(key, value)| key.is_empty() || value.is_empty()) {
            let message = format!("{field} has an empty name: key and value must be names of tensors");
            return Err(Fault::invalid(format!("{field}[{key}]"), message));
        }
    }
    let name = ModelName::new(&step.model_name).map_err(|error| Fault::new("model_name", error))?;
    let model = match u64::try_from(step.model_version) {
        Ok(version) if version > 0 => ModelRef::version(name, version),
        _ if step.model_version == LATEST => ModelRef::latest(name),
        _ => {
            let message =
                format!("model_version must be {LATEST} (the latest) or a version from 1, got {}", step.model_version);
            return Err(Fault::invalid("model_version", message));
        }
    };
    Ok(ScheduledStep { model, input_map: step.input_map.clone(), output_map: step.output_map.clone() })
}

/// Checks that each value is written once, and that what is read is written.
fn check_values(steps: &[ScheduledStep], inputs: &[IoConfig]) -> Checked<()> {
    let mut written: BTreeSet<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    for (idx, step) in steps.iter().enumerate() {
        for (output, value) in &step.output_map {
            if !written.insert(value) {
                let (value, output, model) = (value.escape_debug(), output.escape_debug(), &step.model.name);
                let message = format!(
                    "step {idx} ('{model}') writes output '{output}' to '{value}', which is an input of the ensemble or \
                     written by another output; each value is written once"
                );
                return Err(Fault::invalid(format!("step[{idx}].output_map[{output}]"), message));
            }
        }
    }
    for (idx, step) in steps.iter().enumerate() {
        if let Some((input, value)) = step.input_map.iter().find(|(_, value)| !written.contains(value.as_str())) {
            let (value, input, model) = (value.escape_debug(), input.escape_debug(), &step.model.name);
            let message = format!(
                "step {idx} ('{model}') reads input '{input}' from '{value}', which is neither an input of the ensemble \
                 nor written by a step"
            );
            return Err(Fault::invalid(format!("step[{idx}].input_map[{input}]"), message));
        }
    }
    Ok(())
}

/// Returns the steps with each reader naming whom it reads from, as all ensembles are run.
pub(crate) fn spec(scheduling: &EnsembleScheduling, outputs: &[IoConfig]) -> EnsembleSpec {
    let names = names(&scheduling.steps);
    let mut written: BTreeMap<&str, Source> = BTreeMap::new();
    for (step, name) in scheduling.steps.iter().zip(&names) {
        for (output, value) in &step.output_map {
            written.insert(value, Source::Step { step: name.clone(), output: output.as_str().into() });
        }
    }
    let source = |value: &str| written.get(value).cloned().unwrap_or_else(|| Source::Input(value.into()));
    let step = |(step, name): (&ScheduledStep, &Arc<str>)| StepSpec {
        name: name.clone(),
        model: step.model.clone(),
        inputs: step.input_map.iter().map(|(input, value)| (input.clone(), vec![source(value)])).collect(),
        when: None,
        present: None,
        each: Vec::new(),
        timeout: None,
        fallback: None,
        on_failure: OnFailure::Fail,
    };
    let output =
        |output: &IoConfig| EnsembleOutput { name: output.name.as_str().into(), from: vec![source(&output.name)] };
    EnsembleSpec {
        // What is declared there is compared with all else that it says.
        inputs: Vec::new(),
        steps: scheduling.steps.iter().zip(&names).map(step).collect(),
        outputs: outputs.iter().map(output).collect(),
        by_name: false,
    }
}

/// Names steps after the models that they call, the second of a model with a number.
fn names(steps: &[ScheduledStep]) -> Vec<Arc<str>> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut name = |step: &ScheduledStep| {
        let numbered = (2..).map(|number| format!("{}-{number}", step.model.name));
        let free = std::iter::once(step.model.name.to_string()).chain(numbered).find(|name| !taken.contains(name));
        let name = free.unwrap_or_default(); // There is always a number that is not taken.
        taken.insert(name.clone());
        name.into()
    };
    steps.iter().map(&mut name).collect()
}
