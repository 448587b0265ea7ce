//! An ensemble answers what its steps answer one by one: over random graphs, batches and orders.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use proptest::prelude::*;
use salver_core::{
    Comparison, Condition, Constant, Context, Infer as _, InferRequest, ModelSpec, Source, StepSpec, Tensor,
};
use salver_runtime::RuntimeOptions;
use salver_testkit::tensor;

use super::{Function, Row, engines, ensemble, input, models, number, out, step};
use crate::support::Fixture;

/// What one more step does, in numbers that are taken modulo what there is.
#[derive(Debug, Clone)]
struct Choice {
    kind: usize,
    sources: [usize; 2],
    when: Option<(usize, i8)>,
    fall_back: usize,
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let one =
        (0..6usize, any::<[usize; 2]>(), proptest::option::weighted(0.4, (any::<usize>(), -3..3i8)), any::<usize>());
    let one = one.prop_map(|(kind, sources, when, fall_back)| Choice { kind, sources, when, fall_back });
    proptest::collection::vec(one, 1..8)
}

/// A graph under construction, and what is known of its values.
struct Plan {
    steps: Vec<StepSpec>,
    /// Values of two numbers, of one, of three items: always there, by way of what they fall back on.
    pairs: Vec<Vec<Source>>,
    scores: Vec<Source>,
    lists: Vec<Source>,
}

impl Plan {
    fn new(choices: &[Choice]) -> Self {
        let first = vec![input("u")];
        let mut plan =
            Self { steps: Vec::new(), pairs: vec![first, vec![input("v")]], scores: Vec::new(), lists: Vec::new() };
        choices.iter().enumerate().for_each(|(idx, choice)| plan.add(idx, choice));
        plan
    }

    fn pair(&self, pick: usize) -> Vec<Source> {
        self.pairs[pick % self.pairs.len()].clone()
    }

    fn add(&mut self, idx: usize, choice: &Choice) {
        let name = format!("s{idx}");
        let model = ["inc", "double", "sum", "score", "spread", "fold"][choice.kind];
        let mut one = step(&name, model, &[]);
        let mut give = |input: &str, from: Vec<Source>| one.inputs.insert(input.to_owned(), from);
        match model {
            "sum" => {
                give("a", self.pair(choice.sources[0]));
                give("b", self.pair(choice.sources[1]));
            }
            "fold" if self.lists.is_empty() => return,
            "fold" => drop(give("items", vec![self.lists[choice.sources[0] % self.lists.len()].clone()])),
            // Every other one over the items of a list.
            "inc" | "double" if choice.sources[1].is_multiple_of(2) && !self.lists.is_empty() => {
                give("x", vec![self.lists[choice.sources[0] % self.lists.len()].clone()]);
                one.each = vec!["x".to_owned()];
            }
            _ => drop(give("x", self.pair(choice.sources[0]))),
        }
        let is_list = !one.each.is_empty();
        if let Some((pick, limit)) = choice.when.filter(|_| !self.scores.is_empty() && !is_list) {
            let value = self.scores[pick % self.scores.len()].clone();
            let with = Constant::Float(limit.into());
            one.when = Some(Condition::Compare { value, comparison: Comparison::Less, with });
        }
        let mut fall_back = self.pair(choice.fall_back);
        if choice.fall_back.is_multiple_of(3) {
            fall_back = vec![number(0.5)];
        }
        match model {
            "score" if one.when.is_none() => self.scores.push(out(&name, "s")),
            "spread" if one.when.is_none() => self.lists.push(out(&name, "items")),
            "score" | "spread" => one.when = None,
            _ if is_list => self.lists.push(out(&name, "y")),
            _ if one.when.is_some() => {
                fall_back.insert(0, out(&name, "y"));
                self.pairs.push(fall_back);
            }
            _ => self.pairs.push(vec![out(&name, "y")]),
        }
        self.steps.push(one);
    }

    fn spec(&self) -> ModelSpec {
        let outputs = self.pairs.iter().skip(2).enumerate().map(|(idx, from)| (format!("o{idx}"), from.clone()));
        let lists = self.lists.iter().enumerate().map(|(idx, from)| (format!("l{idx}"), vec![from.clone()]));
        let outputs: Vec<(String, Vec<Source>)> = outputs.chain(lists).collect();
        let outputs = outputs.iter().map(|(name, from)| (name.as_str(), from.clone())).collect();
        ensemble("e", self.steps.clone(), outputs)
    }

    /// Answers one row by calling the functions one after the other.
    fn reference(&self, u: &Row, v: &Row) -> Vec<Row> {
        let mut known: HashMap<String, Row> = [("u".to_owned(), u.clone()), ("v".to_owned(), v.clone())].into();
        let find = |known: &HashMap<String, Row>, from: &[Source]| {
            from.iter().find_map(|source| match source {
                Source::Constant(Constant::Float(value)) => Some(vec![*value as f32; 2]),
                named => known.get(&named.to_string()).cloned(),
            })
        };
        for one in &self.steps {
            let function = Function::named(&one.model.name);
            if let Some(Condition::Compare { value, with: Constant::Float(with), .. }) = &one.when
                && !known.get(&value.to_string()).is_some_and(|value| f64::from(value[0]) < *with)
            {
                continue;
            }
            let given: Option<Vec<Row>> =
                function.inputs.iter().map(|(name, _)| find(&known, &one.inputs[*name])).collect();
            let Some(given) = given else { continue };
            let answer = match one.each.is_empty() {
                true => (function.of)(&given),
                false => given[0].chunks(2).flat_map(|item| (function.of)(&[item.to_vec()])).collect(),
            };
            known.insert(format!("{}.{}", one.name, function.output.0), answer);
        }
        let lists = self.lists.iter().map(|from| vec![from.clone()]);
        self.pairs.iter().skip(2).cloned().chain(lists).map(|from| find(&known, &from).unwrap()).collect()
    }
}

fn request(rows: &[(Row, Row)]) -> InferRequest {
    let column = |pick: fn(&(Row, Row)) -> &Row| rows.iter().flat_map(|row| pick(row).clone()).collect::<Vec<f32>>();
    let (u, v) = (column(|row| &row.0), column(|row| &row.1));
    InferRequest {
        model: "e".parse().unwrap(),
        id: None,
        inputs: vec![tensor("u", &[rows.len(), 2], &u), tensor("v", &[rows.len(), 2], &v)],
        outputs: Vec::new(),
        parameters: Default::default(),
    }
}

fn rows_of(outputs: &[Tensor], row: usize) -> Vec<Row> {
    outputs.iter().map(|output| output.slice_rows(row..row + 1).unwrap().to_vec::<f32>().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_row_of_every_request_is_answered_as_by_its_steps_one_by_one(
        choices in choices(),
        requests in proptest::collection::vec(proptest::collection::vec((-4..4i8, -4..4i8, -4..4i8, -4..4i8), 1..6), 1..12),
    ) {
        let plan = Plan::new(&choices);
        let uses = |name: &str| plan.steps.iter().any(|step| {
            step.inputs.values().flatten().any(|source| *source == input(name))
        });
        // An input that nothing reads is none.
        prop_assume!(plan.pairs.len() + plan.lists.len() > 2 && uses("u") && uses("v"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let engines = engines();
            let specs = models().into_iter().chain([plan.spec()]).collect();
            let fixture = Fixture::start(&engines.iter().collect::<Vec<_>>(), specs, RuntimeOptions::default()).await;
            let float = |value: i8| f32::from(value);
            let requests: Vec<Vec<(Row, Row)>> = requests.iter().map(|rows| rows.iter().map(|(a, b, c, d)| {
                (vec![float(*a), float(*b)], vec![float(*c), float(*d)])
            }).collect()).collect();
            let asked = requests.iter().map(|rows| {
                let (runtime, request) = (fixture.runtime.clone(), request(rows));
                tokio::spawn(async move { runtime.infer(request, Context::default()).await })
            });
            for (rows, answer) in requests.iter().zip(join_all(asked).await) {
                let answer = answer.unwrap().unwrap();
                for (idx, (u, v)) in rows.iter().enumerate() {
                    assert_eq!(rows_of(&answer.outputs, idx), plan.reference(u, v), "{choices:?}");
                }
            }
            Arc::clone(&fixture.runtime).shutdown().await;
        });
    }
}
