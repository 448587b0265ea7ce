//! What two ends of a connection must agree on, and the order of steps.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use salver_core::{Batching, Constant, Dim, Error, ModelInfo, Result, TensorSpec};

use super::{Graph, Members, Node, member};

/// Returns the shape of a value that a model takes or gives as `shape`, with the dimensions that rows
/// and lists add. `each`: the inputs of the step that hold lists.
pub(super) fn value_dims(shape: &[Dim], is_batched: bool, has_rows: bool, each: &[String], is_list: bool) -> Vec<Dim> {
    if each.is_empty() {
        return shape.to_vec();
    }
    let item = if is_batched { shape.get(1..).unwrap_or_default() } else { shape };
    let added = usize::from(has_rows) + usize::from(is_list);
    std::iter::repeat_n(Dim::Free, added).chain(item.iter().copied()).collect()
}

/// Compares a value with what is wanted of it.
pub(super) fn fit(given: &TensorSpec, giver: &str, wanted: &TensorSpec, reader: &str) -> Result<()> {
    if given.dtype != wanted.dtype {
        return Err(Error::invalid_input(format!("{giver} is {}, but {reader} takes {}", given.dtype, wanted.dtype)));
    }
    let meets = |(one, other): (&Dim, &Dim)| one == other || *one == Dim::Free || *other == Dim::Free;
    if given.shape.len() == wanted.shape.len() && given.shape.iter().zip(&wanted.shape).all(meets) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "{giver} has shape {:?}, but {reader} takes {:?}",
        given.wire_shape(),
        wanted.wire_shape()
    )))
}

/// Leaves open what two shapes do not have in common.
pub(super) fn widen(shape: &mut [Dim], other: &[Dim]) {
    for (dim, other) in shape.iter_mut().zip(other) {
        if dim != other {
            *dim = Dim::Free;
        }
    }
}

/// Leaves open what is declared so.
pub(super) fn widen_free(shape: &mut [Dim], declared: &[Dim]) {
    for (dim, _) in shape.iter_mut().zip(declared).filter(|(_, declared)| **declared == Dim::Free) {
        *dim = Dim::Free;
    }
}

/// Checks that every model that a step calls takes batches of so many rows.
pub(super) fn rows(graph: &Graph, rows: usize) -> Result<()> {
    for step in &graph.steps {
        let refused = |takes: &str| {
            let (name, model) = (&step.name, &step.model);
            let message =
                format!("max_batch_size is {rows}, but model '{model}', which step '{name}' calls, takes {takes}");
            Err(Error::invalid_input(message))
        };
        match step.info.signature.batching {
            Batching::Fixed => return refused("no batches"),
            Batching::Rows { limit: Some(limit) } if limit.get() < rows => {
                return refused(&format!("at most {limit} rows"));
            }
            Batching::Rows { .. } => {}
        }
    }
    Ok(())
}

/// Checks that there is one value for each row, as far as that is known.
pub(super) fn single(spec: &TensorSpec, has_rows: bool, value: &str, reader: &str) -> Result<()> {
    let row = spec.shape.get(usize::from(has_rows)..).unwrap_or_default();
    match row.iter().all(|dim| matches!(dim, Dim::Free | Dim::Fixed(1))) {
        true => Ok(()),
        false => Err(Error::invalid_input(format!(
            "{reader} reads '{value}', which has shape {:?}: it needs one value for each row",
            spec.wire_shape()
        ))),
    }
}

/// Writes a constant for people.
pub(super) fn shown(constant: &Constant) -> String {
    match constant {
        Constant::Bool(value) => value.to_string(),
        Constant::Int(value) => value.to_string(),
        Constant::Float(value) => value.to_string(),
        Constant::Text(text) => {
            format!("the text '{}'", text.chars().take(128).flat_map(char::escape_debug).collect::<String>())
        }
    }
}

/// Orders steps so that each follows what it needs; of those that could come next, the first one does.
pub(super) fn order<'a>(needs: &[Vec<usize>], name: impl Fn(usize) -> &'a Arc<str>) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(needs.len());
    let mut left: VecDeque<usize> = (0..needs.len()).collect();
    while let Some(next) = left.iter().position(|idx| needs[*idx].iter().all(|need| order.contains(need))) {
        order.extend(left.remove(next));
    }
    let Some(&first) = left.front() else {
        return Ok(order);
    };
    // Every step that is left waits for another that is left: following them comes round.
    let mut path = vec![first];
    let around = loop {
        let last = path[path.len() - 1];
        let Some(&next) = needs[last].iter().find(|need| left.contains(need)) else {
            break 0;
        };
        if let Some(around) = path.iter().position(|idx| *idx == next) {
            break around;
        }
        path.push(next);
    };
    let circle: Vec<String> =
        path[around..].iter().chain([&path[around]]).map(|idx| format!("'{}'", name(*idx))).collect();
    Err(Error::invalid_input(format!("steps wait for each other in a circle: {}", circle.join(" reads from "))))
}

/// Checks that fallbacks can stand in for the models of their steps.
pub(super) fn fallbacks(graph: &mut Graph, members: &Members) -> Result<()> {
    for step in &mut graph.steps {
        if let Some(fallback) = &step.fallback {
            let other = member(members, fallback)?;
            fallback_of(step, &other)
                .map_err(|error| error.context(format_args!("fallback '{fallback}' of step '{}'", step.name)))?;
            step.limit = [step.limit, limit(&other)].into_iter().flatten().min();
        }
    }
    Ok(())
}

/// Returns the most rows that a model takes; none: any number, or it takes no rows.
pub(super) fn limit(info: &ModelInfo) -> Option<NonZeroUsize> {
    match info.signature.batching {
        Batching::Rows { limit } => limit,
        Batching::Fixed => None,
    }
}

fn fallback_of(step: &Node, other: &ModelInfo) -> Result<()> {
    if step.info.signature.is_batched() != other.signature.is_batched() {
        return Err(Error::invalid_input("one of the two models takes rows, the other does not"));
    }
    for input in &step.inputs {
        let name = &input.spec.name;
        let Some(own) = step.info.signature.input(name) else { continue };
        let Some(of_other) = other.signature.input(name) else {
            return Err(Error::invalid_input(format!("it has no input '{name}', which model '{}' has", step.model)));
        };
        fit(own, &format!("input '{name}' of model '{}'", step.model), of_other, "it")?;
    }
    let is_given = |input: &&TensorSpec| !input.optional && !step.inputs.iter().any(|own| own.spec.name == input.name);
    if let Some(missing) = other.signature.inputs.iter().find(is_given) {
        return Err(Error::invalid_input(format!("it needs input '{}', which the step does not give", missing.name)));
    }
    for (name, _) in &step.outputs {
        let Some(own) = step.info.signature.output(name) else { continue };
        let Some(of_other) = other.signature.output(name) else {
            return Err(Error::invalid_input(format!("it has no output '{name}', which model '{}' has", step.model)));
        };
        fit(of_other, &format!("its output '{name}'"), own, &format!("what reads that of model '{}'", step.model))?;
    }
    Ok(())
}
