//! Whether an output of an ensemble is there for every row, whichever way the row goes.
//!
//! A few unknowns decide the way of a row: where the values that conditions read lie among the
//! constants that they are compared with, and which steps have an answer. All combinations are tried,
//! so conditions of which one always holds are known as such.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use salver_core::{Comparison, Condition, Constant, DataType, EnsembleSpec, OnFailure, Source};

use super::super::condition::is_so;

/// Looking at more things than these, over all combinations, takes too long at a load: conditions then
/// count as ones that may not hold.
const MAX_LOOKS: usize = 1 << 20;
/// Whole numbers up to here are the same as floating-point numbers.
const MAX_EXACT: u64 = 1 << 53;

/// The ways that rows can go.
pub(super) struct Ways<'a> {
    pub(super) spec: &'a EnsembleSpec,
    /// For each input of each step that may not be there, the steps that it comes from.
    pub(super) sources: &'a [Vec<Vec<usize>>],
    /// The steps in an order in which each follows what it reads.
    pub(super) order: &'a [usize],
    /// Returns the type of a value that a condition reads.
    pub(super) dtype: &'a dyn Fn(&Source) -> Option<DataType>,
}

/// What is not the same for every row.
enum Unknown<'a> {
    /// Where a value lies: 0 is below the first constant, 1 at it, 2 between it and the second; none:
    /// nowhere, as NaN.
    Place { value: &'a Source, constants: Vec<&'a Constant>, places: Vec<Option<usize>> },
    /// Whether a step that may be skipped, or may find nothing, has an answer.
    Answer(usize),
}

impl Unknown<'_> {
    fn choices(&self) -> usize {
        match self {
            Self::Place { places, .. } => places.len(),
            Self::Answer(_) => 2,
        }
    }
}

impl<'a> Ways<'a> {
    /// Returns why none of these steps may be there for some row; none: one always is.
    pub(super) fn why_open(&self, steps: &[usize]) -> Option<String> {
        let needed = self.needed(steps);
        let is_sure = self.unknowns(&needed).is_some_and(|unknowns| self.is_sure(steps, &needed, &unknowns));
        steps.last().filter(|_| !is_sure).map(|&last| self.reason(last))
    }

    fn reason(&self, idx: usize) -> String {
        let step = &self.spec.steps[idx];
        match step {
            _ if step.when.is_some() => format!("step '{}' has a condition", step.name),
            _ if step.present.is_some() => format!("step '{}' may have no answer for a row", step.name),
            _ if step.on_failure == OnFailure::Skip => format!("step '{}' may be skipped", step.name),
            _ => {
                let open = self.sources[idx].iter().find_map(|steps| self.why_open(steps));
                open.unwrap_or_else(|| format!("step '{}' may not run", step.name))
            }
        }
    }

    /// The steps that decide about these, in order.
    fn needed(&self, steps: &[usize]) -> Vec<usize> {
        let mut needed: BTreeSet<usize> = steps.iter().copied().collect();
        for idx in self.order.iter().rev() {
            if needed.contains(idx) {
                needed.extend(self.sources[*idx].iter().flatten());
                let when = self.spec.steps[*idx].when.iter();
                when.for_each(|when| each_comparison(when, &mut |value, _| needed.extend(self.step_of(value))));
            }
        }
        self.order.iter().copied().filter(|idx| needed.contains(idx)).collect()
    }

    fn step_of(&self, value: &Source) -> Option<usize> {
        let Source::Step { step, .. } = value else { return None };
        self.spec.steps.iter().position(|known| known.name == *step)
    }

    /// Finds what decides about steps; none: it cannot be told, or takes too many combinations.
    fn unknowns(&self, needed: &[usize]) -> Option<Vec<Unknown<'a>>> {
        let mut compared: Vec<(&'a Source, Vec<&'a Constant>)> = Vec::new();
        let mut unknowns = Vec::new();
        for &idx in needed {
            let step = &self.spec.steps[idx];
            let mut note =
                |value: &'a Source, with: &'a Constant| match compared.iter_mut().find(|(of, _)| *of == value) {
                    Some((_, constants)) => constants.push(with),
                    None => compared.push((value, vec![with])),
                };
            step.when.iter().for_each(|when| each_comparison(when, &mut note));
            if step.present.is_some() || step.on_failure == OnFailure::Skip {
                unknowns.push(Unknown::Answer(idx));
            }
        }
        let n_compared: usize = compared.iter().map(|(_, constants)| constants.len()).sum();
        for (value, constants) in compared {
            let dtype = (self.dtype)(value)?;
            let constants = ascending(constants, dtype)?;
            let places = places(&constants, dtype);
            unknowns.push(Unknown::Place { value, constants, places });
        }
        let comparisons = n_compared * (n_compared + unknowns.len() + self.spec.steps.len());
        let looks = needed.len() * (1 + unknowns.len()) + comparisons;
        let all = unknowns.iter().try_fold(looks, |product, one| product.checked_mul(one.choices()));
        all.filter(|looks| *looks <= MAX_LOOKS).map(|_| unknowns)
    }

    /// Says whether one of the steps is there in every combination.
    fn is_sure(&self, steps: &[usize], needed: &[usize], unknowns: &[Unknown<'_>]) -> bool {
        let mut chosen = vec![0; unknowns.len()];
        loop {
            let there = self.there(needed, unknowns, &chosen);
            if !steps.iter().any(|step| there.contains(step)) {
                return false;
            }
            // The next combination, counted like the digits of a number.
            let digit = chosen.iter().zip(unknowns).position(|(chosen, unknown)| chosen + 1 < unknown.choices());
            let Some(digit) = digit else { return true };
            chosen[..digit].fill(0);
            chosen[digit] += 1;
        }
    }

    /// The steps that are there in one combination.
    fn there(&self, needed: &[usize], unknowns: &[Unknown<'_>], chosen: &[usize]) -> BTreeSet<usize> {
        let mut there = BTreeSet::new();
        for &idx in needed {
            let has_inputs = self.sources[idx].iter().all(|steps| steps.iter().any(|step| there.contains(step)));
            let is_wanted = |when: &Condition| self.holds(when, &there, unknowns, chosen);
            let answers = |(unknown, chosen): (&Unknown<'_>, &usize)| match unknown {
                Unknown::Answer(step) => *step != idx || *chosen == 1,
                Unknown::Place { .. } => true,
            };
            let runs = has_inputs && self.spec.steps[idx].when.as_ref().is_none_or(is_wanted);
            if runs && unknowns.iter().zip(chosen).all(answers) {
                there.insert(idx);
            }
        }
        there
    }

    fn holds(
        &self,
        condition: &Condition,
        there: &BTreeSet<usize>,
        unknowns: &[Unknown<'_>],
        chosen: &[usize],
    ) -> bool {
        let holds = |part: &Condition| self.holds(part, there, unknowns, chosen);
        match condition {
            Condition::All(parts) => parts.iter().all(holds),
            Condition::Any(parts) => parts.iter().any(holds),
            Condition::Not(part) => !holds(part),
            Condition::Compare { value, comparison, with } => {
                self.step_of(value).is_none_or(|step| there.contains(&step))
                    && unknowns.iter().zip(chosen).any(|(unknown, chosen)| {
                        matches!(unknown, Unknown::Place { value: of, constants, places }
                            if *of == value && compares(constants, places[*chosen], *comparison, with))
                    })
            }
        }
    }
}

fn compares(constants: &[&Constant], place: Option<usize>, comparison: Comparison, with: &Constant) -> bool {
    let at = constants.iter().position(|constant| order(constant, with) == Some(Ordering::Equal));
    at.is_some_and(|at| is_so(comparison, place.map(|place| place.cmp(&(2 * at + 1)))))
}

/// Sorts what a value is compared with; none: the numbers are too large to be told apart for sure.
fn ascending(mut constants: Vec<&Constant>, dtype: DataType) -> Option<Vec<&Constant>> {
    let is_exact = |constant: &&Constant| match constant {
        Constant::Int(number) => number.unsigned_abs() <= MAX_EXACT,
        Constant::Float(number) => !number.is_nan(),
        Constant::Bool(_) | Constant::Text(_) => true,
    };
    if !constants.iter().all(is_exact) {
        return None;
    }
    if dtype == DataType::Bool {
        constants = vec![&Constant::Bool(false), &Constant::Bool(true)];
    }
    constants.sort_by(|one, other| order(one, other).unwrap_or(Ordering::Equal));
    constants.dedup_by(|one, other| order(one, other) == Some(Ordering::Equal));
    Some(constants)
}

fn order(one: &Constant, other: &Constant) -> Option<Ordering> {
    #[expect(clippy::cast_precision_loss, reason = "numbers up to MAX_EXACT lose nothing")]
    let real = |number: i64| number as f64;
    match (one, other) {
        (Constant::Bool(one), Constant::Bool(other)) => Some(one.cmp(other)),
        (Constant::Text(one), Constant::Text(other)) => Some(one.cmp(other)),
        (Constant::Int(one), Constant::Int(other)) => Some(one.cmp(other)),
        (Constant::Int(one), Constant::Float(other)) => real(*one).partial_cmp(other),
        (Constant::Float(one), Constant::Int(other)) => one.partial_cmp(&real(*other)),
        (Constant::Float(one), Constant::Float(other)) => one.partial_cmp(other),
        _ => None,
    }
}

/// Returns the places where a value of a type can lie.
fn places(constants: &[&Constant], dtype: DataType) -> Vec<Option<usize>> {
    let is_whole =
        !matches!(dtype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 | DataType::Bytes);
    let is_empty = |place: usize| match (place.checked_sub(2), constants.get(place / 2)) {
        _ if place % 2 == 1 => false,
        _ if dtype == DataType::Bool => true,
        (Some(before), Some(Constant::Int(above))) if is_whole => {
            matches!(constants[before / 2], Constant::Int(below) if below + 1 == *above)
        }
        _ => false,
    };
    let may_be_nan = !is_whole && dtype != DataType::Bytes;
    let places = (0..=2 * constants.len()).filter(|place| !is_empty(*place)).map(Some);
    places.chain(may_be_nan.then_some(None)).collect()
}

/// Calls `seen` with each value of a condition, and what it is compared with.
fn each_comparison<'a>(condition: &'a Condition, seen: &mut impl FnMut(&'a Source, &'a Constant)) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| each_comparison(part, seen)),
        Condition::Not(part) => each_comparison(part, seen),
        Condition::Compare { value, with, .. } => seen(value, with),
    }
}

#[cfg(test)]
mod tests;
