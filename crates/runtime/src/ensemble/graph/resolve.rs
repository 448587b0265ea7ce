//! Finds the source of every input, and the type and shape of every value.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use salver_core::{
    Batching, Condition, Constant, DataType, Dim, EnsembleSpec, Error, ModelInfo, Result, Signature, Source, StepSpec,
    TensorSpec,
};

use super::super::condition::{Test, is_comparable};
use super::super::counters::Counters;
use super::super::value;
use super::certainty::Ways;
use super::check;
use super::{From, Graph, Node, Wanted};

/// Which value is meant, while it is not known yet how many inputs there are.
#[derive(Debug, Clone, PartialEq)]
enum Ref {
    Input(usize),
    Output(usize, usize),
    Constant(Constant),
}

/// What is wanted somewhere, with its sources.
struct Draft {
    spec: TensorSpec,
    from: Vec<Ref>,
    is_list: bool,
}

pub(super) struct Resolver<'a> {
    spec: &'a EnsembleSpec,
    infos: &'a [Arc<ModelInfo>],
    has_rows: bool,
    /// The ensemble's inputs so far, each with who read it first.
    inputs: Vec<(TensorSpec, String)>,
    /// The outputs of steps that somebody reads, in the order in which they were met.
    read: Vec<(usize, usize)>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(spec: &'a EnsembleSpec, infos: &'a [Arc<ModelInfo>], has_rows: bool) -> Self {
        Self { spec, infos, has_rows, inputs: Vec::new(), read: Vec::new() }
    }

    pub(super) fn graph(&mut self) -> Result<Graph> {
        let spec = self.spec;
        let steps = spec.steps.iter().enumerate();
        let drafts: Vec<Vec<Draft>> = steps.map(|(idx, step)| self.step(idx, step)).collect::<Result<_>>()?;
        for (idx, step) in spec.steps.iter().enumerate() {
            step.when.iter().try_for_each(|when| self.condition(step, when))?;
            step.present.iter().try_for_each(|present| self.present(idx, step, present))?;
        }
        let is_read = |name: &Arc<str>| self.inputs.iter().any(|(known, _)| known.name == *name);
        if let Some(unread) = spec.inputs.iter().find(|name| !is_read(name)) {
            let message = format!("input '{}' is declared, but no step reads it: leave it out", unread.escape_debug());
            return Err(Error::invalid_input(message));
        }
        let needs: Vec<Vec<usize>> = (0..drafts.len()).map(|idx| self.needs(idx, &drafts[idx])).collect();
        let order = check::order(&needs, |idx| &spec.steps[idx].name)?;
        let outputs = self.outputs()?;
        self.check_certain(&order, &drafts, &outputs)?;
        Ok(self.finish(&order, drafts, outputs, &needs))
    }

    /// Finds the sources of a step's inputs.
    fn step(&mut self, idx: usize, step: &StepSpec) -> Result<Vec<Draft>> {
        let info = self.infos[idx].clone();
        let takes = |name: &str| info.signature.input(name).is_some();
        if let Some(odd) = step.inputs.keys().chain(&step.each).find(|name| !takes(name)) {
            return Err(Error::invalid_input(format!(
                "step '{}' gives '{}' to model '{}', which has no such input; its inputs are {}",
                step.name,
                odd.escape_debug(),
                step.model,
                names(&info.signature.inputs)
            )));
        }
        let mut drafts = Vec::with_capacity(info.signature.inputs.len());
        for target in &info.signature.inputs {
            let is_list = step.each.iter().any(|name| **name == *target.name);
            let sources = match step.inputs.get(&*target.name) {
                Some(sources) => sources.clone(),
                None => match self.unnamed(idx, step, target)? {
                    Some(source) => vec![source],
                    None => continue,
                },
            };
            let shape =
                check::value_dims(&target.shape, info.signature.is_batched(), self.has_rows, &step.each, is_list);
            let wanted = TensorSpec { shape, ..target.clone() };
            let reader = format!("input '{}' of step '{}' (model '{}')", target.name, step.name, step.model);
            let from = sources.iter().map(|source| self.source(source, &wanted, &reader)).collect::<Result<_>>()?;
            drafts.push(Draft { spec: TensorSpec { shape: wanted.shape, ..target.clone() }, from, is_list });
        }
        Ok(drafts)
    }

    /// Finds the source of an input that the file does not name; none: it is left out.
    fn unnamed(&self, idx: usize, step: &StepSpec, target: &TensorSpec) -> Result<Option<Source>> {
        let steps = self.spec.steps.iter().zip(self.infos).take(idx);
        let has_it = |(_, info): &(&StepSpec, &Arc<ModelInfo>)| info.signature.output(&target.name).is_some();
        let found: Vec<&Arc<str>> = steps.filter(has_it).map(|(step, _)| &step.name).collect();
        match found.as_slice() {
            _ if !self.spec.by_name && target.optional => Ok(None),
            _ if !self.spec.by_name => Err(Error::invalid_input(format!(
                "input '{}' of step '{}' (model '{}') is not in its input_map",
                target.name, step.name, step.model
            ))),
            [] if target.optional => Ok(None),
            [] => Ok(Some(Source::Input(target.name.clone()))),
            [only] => Ok(Some(Source::Step { step: (*only).clone(), output: target.name.clone() })),
            several => {
                let ways: Vec<String> = several.iter().map(|step| format!("\"{step}.{}\"", target.name)).collect();
                Err(Error::invalid_input(format!(
                    "input '{}' of step '{}' may come from {}: say which, as inputs = {{ {} = {} }}",
                    target.name,
                    step.name,
                    ways.join(" or "),
                    target.name,
                    ways[0]
                )))
            }
        }
    }

    /// Looks up a source and compares it with what is wanted of it.
    fn source(&mut self, source: &Source, wanted: &TensorSpec, reader: &str) -> Result<Ref> {
        match source {
            Source::Input(name) => self.input(name, wanted, reader).map(Ref::Input),
            Source::Step { step, output } => {
                let (step, output) = self.output_of(step, output, reader)?;
                let given = self.given(step, output);
                let (name, model) = (&self.spec.steps[step].name, &self.spec.steps[step].model);
                let giver = format!("output '{}' of step '{name}' (model '{model}')", given.name);
                check::fit(&given, &giver, wanted, reader)?;
                self.note_read(step, output);
                Ok(Ref::Output(step, output))
            }
            Source::Constant(constant) if value::fits(wanted.dtype, constant) => Ok(Ref::Constant(constant.clone())),
            Source::Constant(constant) => Err(Error::invalid_input(format!(
                "{reader} is {}, which {} is not",
                wanted.dtype,
                check::shown(constant)
            ))),
        }
    }

    /// Notes a reader of an input of the ensemble.
    fn input(&mut self, name: &Arc<str>, wanted: &TensorSpec, reader: &str) -> Result<usize> {
        let Some(idx) = self.inputs.iter().position(|(known, _)| known.name == *name) else {
            let spec = TensorSpec { name: name.clone(), optional: false, ..wanted.clone() };
            self.inputs.push((spec, reader.to_owned()));
            return Ok(self.inputs.len() - 1);
        };
        let (known, first) = &mut self.inputs[idx];
        let giver = format!("input '{name}', which {first} takes as such,");
        check::fit(known, &giver, wanted, reader)?;
        // Of two readers, the stricter one says what may come.
        for (dim, wanted) in known.shape.iter_mut().zip(&wanted.shape) {
            if *dim == Dim::Free {
                *dim = *wanted;
            }
        }
        Ok(idx)
    }

    fn output_of(&self, step: &str, output: &str, reader: &str) -> Result<(usize, usize)> {
        let idx = self.spec.steps.iter().position(|known| *known.name == *step);
        let idx =
            idx.ok_or_else(|| Error::invalid_input(format!("{reader} comes from step '{step}', which is not there")))?;
        let outputs = &self.infos[idx].signature.outputs;
        let found = outputs.iter().position(|spec| *spec.name == *output);
        found.map(|output| (idx, output)).ok_or_else(|| {
            Error::invalid_input(format!(
                "{reader} comes from output '{}' of step '{step}', but model '{}' has no such output; its outputs are {}",
                output.escape_debug(),
                self.spec.steps[idx].model,
                names(outputs)
            ))
        })
    }

    /// Returns what an output of a step looks like to those who read it.
    fn given(&self, step: usize, output: usize) -> TensorSpec {
        let (info, each) = (&self.infos[step], &self.spec.steps[step].each);
        let spec = &info.signature.outputs[output];
        let shape = check::value_dims(&spec.shape, info.signature.is_batched(), self.has_rows, each, true);
        TensorSpec { shape, ..spec.clone() }
    }

    fn note_read(&mut self, step: usize, output: usize) {
        if !self.read.contains(&(step, output)) {
            self.read.push((step, output));
        }
    }

    /// Finds what the ensemble answers.
    fn outputs(&mut self) -> Result<Vec<Draft>> {
        let spec = self.spec;
        if spec.outputs.is_empty() {
            return self.unread();
        }
        let mut outputs = Vec::with_capacity(spec.outputs.len());
        for output in &spec.outputs {
            let reader = format!("output '{}' of the ensemble", output.name);
            let mut wanted = self.first_form(&output.from, &reader)?;
            let from: Vec<Ref> =
                output.from.iter().map(|source| self.source(source, &wanted, &reader)).collect::<Result<_>>()?;
            for form in from.iter().filter_map(|from| self.form(from)) {
                check::widen(&mut wanted.shape, &form.shape);
            }
            wanted.name = output.name.clone();
            outputs.push(Draft { spec: wanted, from, is_list: false });
        }
        Ok(outputs)
    }

    /// Returns what an output looks like: as the first of its sources that says so.
    fn first_form(&self, from: &[Source], reader: &str) -> Result<TensorSpec> {
        for source in from {
            match source {
                Source::Step { step, output } => {
                    let (step, output) = self.output_of(step, output, reader)?;
                    return Ok(self.given(step, output));
                }
                Source::Input(name) => {
                    if let Some((known, _)) = self.inputs.iter().find(|(known, _)| known.name == *name) {
                        return Ok(known.clone());
                    }
                }
                Source::Constant(_) => {}
            }
        }
        let shown: Vec<String> = from.iter().map(|source| format!("'{source}'")).collect();
        Err(Error::invalid_input(format!(
            "{reader} comes from {}: neither an output, as STEP.OUTPUT, nor an input that a step reads, so its type is \
             not known",
            shown.join(", ")
        )))
    }

    fn form(&self, from: &Ref) -> Option<TensorSpec> {
        match from {
            Ref::Input(idx) => self.inputs.get(*idx).map(|(spec, _)| spec.clone()),
            Ref::Output(step, output) => Some(self.given(*step, *output)),
            Ref::Constant(_) => None,
        }
    }

    /// Returns every output that no step reads, under its own name.
    fn unread(&mut self) -> Result<Vec<Draft>> {
        let mut names: HashMap<Arc<str>, usize> = HashMap::new();
        let mut outputs = Vec::new();
        for (step, info) in self.infos.iter().enumerate() {
            for output in 0..info.signature.outputs.len() {
                let spec = self.given(step, output);
                let is_mark = self.spec.steps[step].present.as_deref() == Some(&*spec.name);
                if is_mark || self.read.contains(&(step, output)) {
                    continue;
                }
                if let Some(other) = names.insert(spec.name.clone(), step) {
                    let (one, other) = (&self.spec.steps[other].name, &self.spec.steps[step].name);
                    return Err(Error::invalid_input(format!(
                        "steps '{one}' and '{other}' both have an output '{}' that no step reads: say with [[output]] \
                         what the ensemble answers",
                        spec.name
                    )));
                }
                outputs.push(Draft { spec, from: vec![Ref::Output(step, output)], is_list: false });
            }
        }
        for draft in &outputs {
            if let [Ref::Output(step, output)] = *draft.from {
                self.note_read(step, output);
            }
        }
        if outputs.is_empty() {
            return Err(Error::invalid_input("every output is read by a step: say with [[output]] what is answered"));
        }
        Ok(outputs)
    }

    /// Checks the values that a condition reads.
    fn condition(&mut self, step: &StepSpec, condition: &Condition) -> Result<()> {
        match condition {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().try_for_each(|part| self.condition(step, part))
            }
            Condition::Not(part) => self.condition(step, part),
            Condition::Compare { value, with, .. } => {
                let reader = format!("the condition of step '{}'", step.name);
                let spec = match value {
                    Source::Step { step, output } => {
                        let (step, output) = self.output_of(step, output, &reader)?;
                        self.note_read(step, output);
                        self.given(step, output)
                    }
                    Source::Input(_) => self.first_form(std::slice::from_ref(value), &reader)?,
                    Source::Constant(_) => {
                        return Err(Error::invalid_input(format!("{reader} compares two constants")));
                    }
                };
                check::single(&spec, self.has_rows, &value.to_string(), &reader)?;
                if is_comparable(spec.dtype, with) {
                    return Ok(());
                }
                let (dtype, with) = (spec.dtype, check::shown(with));
                Err(Error::invalid_input(format!("{reader} compares '{value}', which is {dtype}, with {with}")))
            }
        }
    }

    fn present(&mut self, idx: usize, step: &StepSpec, present: &str) -> Result<()> {
        let reader = format!("`present` of step '{}'", step.name);
        let (_, output) = self.output_of(&step.name, present, &reader)?;
        let spec = self.given(idx, output);
        if !step.each.is_empty() {
            return Err(Error::invalid_input(format!("{reader} speaks of rows, but the step runs for each item")));
        }
        if spec.dtype != DataType::Bool {
            return Err(Error::invalid_input(format!("{reader} must be a BOOL output, '{present}' is {}", spec.dtype)));
        }
        check::single(&spec, self.has_rows, &format!("{}.{present}", step.name), &reader)?;
        self.note_read(idx, output);
        Ok(())
    }

    /// Returns the steps that a step waits for.
    fn needs(&self, idx: usize, drafts: &[Draft]) -> Vec<usize> {
        let mut needs: Vec<usize> = drafts.iter().flat_map(|draft| draft.from.iter().filter_map(step_of)).collect();
        let mut read = |value: &Source| {
            if let Source::Step { step, .. } = value {
                needs.extend(self.spec.steps.iter().position(|known| known.name == *step));
            }
        };
        self.spec.steps[idx].when.iter().for_each(|when| values_of(when, &mut read));
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// Checks that every output is there for every row.
    fn check_certain(&self, order: &[usize], drafts: &[Vec<Draft>], outputs: &[Draft]) -> Result<()> {
        // What comes from an input or a constant always is.
        let open = |draft: &Draft| draft.from.iter().map(step_of).collect::<Option<Vec<usize>>>();
        let sources: Vec<Vec<Vec<usize>>> = drafts.iter().map(|step| step.iter().filter_map(open).collect()).collect();
        let dtype = |value: &Source| match value {
            Source::Step { step, output } => {
                self.output_of(step, output, "").ok().map(|(step, output)| self.given(step, output).dtype)
            }
            Source::Input(name) => {
                self.inputs.iter().find(|(known, _)| known.name == *name).map(|(spec, _)| spec.dtype)
            }
            Source::Constant(_) => None,
        };
        let ways = Ways { spec: self.spec, sources: &sources, order, dtype: &dtype };
        for output in outputs {
            if let Some(why) = open(output).and_then(|steps| ways.why_open(&steps)) {
                let name = &output.spec.name;
                return Err(Error::invalid_input(format!(
                    "output '{name}' of the ensemble is not always there: {why}. Give it another source to fall back on, \
                     as from = [\"STEP.OUTPUT\", …] whose last one always is there, such as a constant, or steps of \
                     which one always runs, such as those with a condition and with `not` that condition"
                )));
            }
        }
        Ok(())
    }

    /// Looks up the values of a condition that was checked.
    fn test(&self, condition: &Condition, place: &dyn Fn(&Ref) -> usize) -> Test {
        let parts = |parts: &[Condition]| parts.iter().map(|part| self.test(part, place)).collect();
        match condition {
            Condition::All(all) => Test::All(parts(all)),
            Condition::Any(any) => Test::Any(parts(any)),
            Condition::Not(part) => Test::Not(Box::new(self.test(part, place))),
            Condition::Compare { value, comparison, with } => {
                let (found, shown) = match value {
                    Source::Step { step, output } => {
                        let found = self.output_of(step, output, "a condition").ok();
                        (found.map(|(step, output)| Ref::Output(step, output)), format!("{step}.{output}"))
                    }
                    Source::Input(name) => {
                        let idx = self.inputs.iter().position(|(known, _)| known.name == *name);
                        (idx.map(Ref::Input), name.to_string())
                    }
                    Source::Constant(_) => (None, String::new()),
                };
                let place = found.as_ref().map_or(usize::MAX, place);
                Test::Compare { place, shown, comparison: *comparison, with: with.clone() }
            }
        }
    }

    fn finish(&self, order: &[usize], mut drafts: Vec<Vec<Draft>>, outputs: Vec<Draft>, needs: &[Vec<usize>]) -> Graph {
        let n_inputs = self.inputs.len();
        let place = |found: &Ref| match found {
            Ref::Input(idx) => *idx,
            Ref::Output(step, output) => {
                let place = self.read.iter().position(|read| read == &(*step, *output));
                place.map_or(usize::MAX, |place| n_inputs + place)
            }
            Ref::Constant(_) => usize::MAX,
        };
        let from = |found: Ref| match found {
            Ref::Constant(constant) => From::Constant(constant),
            found => From::Place(place(&found)),
        };
        let wanted = |draft: Draft| Wanted {
            spec: draft.spec,
            from: draft.from.into_iter().map(from).collect(),
            is_list: draft.is_list,
        };
        let rank: BTreeMap<usize, usize> = order.iter().enumerate().map(|(rank, idx)| (*idx, rank)).collect();
        let node = |&idx: &usize| {
            let (step, info) = (&self.spec.steps[idx], &self.infos[idx]);
            let mut read: Vec<usize> =
                self.read.iter().filter(|(of, _)| *of == idx).map(|(_, output)| *output).collect();
            read.sort_unstable();
            let output =
                |output: usize| (info.signature.outputs[output].name.clone(), place(&Ref::Output(idx, output)));
            let output_named = |name: &String| {
                self.output_of(&step.name, name, "").ok().map(|(step, output)| place(&Ref::Output(step, output)))
            };
            Node {
                name: step.name.clone(),
                model: step.model.clone(),
                info: info.clone(),
                inputs: std::mem::take(&mut drafts[idx]).into_iter().map(wanted).collect(),
                outputs: read.into_iter().map(output).collect(),
                when: step.when.as_ref().map(|when| self.test(when, &place)),
                present: step.present.as_ref().and_then(output_named),
                is_each: !step.each.is_empty(),
                limit: check::limit(info),
                timeout: step.timeout,
                fallback: step.fallback.clone(),
                on_failure: step.on_failure,
                needs: needs[idx].iter().filter_map(|step| rank.get(step).copied()).collect(),
                is_first: needs[idx].is_empty(),
                counters: Counters::default(),
            }
        };
        let steps: Vec<Node> = order.iter().map(node).collect();
        let is_chain = steps.iter().enumerate().skip(1).all(|(idx, step)| step.needs.contains(&(idx - 1)));
        let outputs: Vec<Wanted> = outputs.into_iter().map(wanted).collect();
        let signature = Signature {
            inputs: self.inputs.iter().map(|(spec, _)| spec.clone()).collect(),
            outputs: outputs.iter().map(|output| output.spec.clone()).collect(),
            // Found out once fallbacks are known.
            batching: Batching::Fixed,
        };
        let n_values = n_inputs + self.read.len();
        Graph { steps, outputs, signature, has_rows: self.has_rows, n_values, is_chain }
    }
}

/// Calls `seen` with each value that a condition reads.
fn values_of(condition: &Condition, seen: &mut impl FnMut(&Source)) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| values_of(part, seen)),
        Condition::Not(part) => values_of(part, seen),
        Condition::Compare { value, .. } => seen(value),
    }
}

fn step_of(found: &Ref) -> Option<usize> {
    match found {
        Ref::Output(step, _) => Some(*step),
        Ref::Input(_) | Ref::Constant(_) => None,
    }
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<String> = specs.iter().map(|spec| format!("'{}'", spec.name)).collect();
    names.join(", ")
}
