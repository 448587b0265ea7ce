//! What is accepted answers every row, and what is refused leaves one out.

use std::collections::BTreeMap;

use proptest::prelude::*;
use salver_core::{EnsembleOutput, Result, StepSpec};
use salver_testkit::{tensor, text};

use super::super::super::value::{Mask, Value};
use super::super::tests::info;
use super::super::{Graph, Members};
use super::*;

/// Values between, at and beyond what conditions compare with; a row for each combination.
const REALS: [f32; 6] = [-1., 0., 0.25, 0.5, 1., f32::NAN];
const WHOLES: [i64; 4] = [-1, 0, 1, 2];
const TEXTS: [&str; 5] = ["", "a", "aa", "b", "c"];
const TRUTHS: [bool; 2] = [false, true];
const N_ROWS: usize = REALS.len() * WHOLES.len() * TEXTS.len() * TRUTHS.len();

fn members() -> Members {
    let values = [
        ("real", DataType::Fp32, &[-1, 1][..]),
        ("whole", DataType::Int64, &[-1, 1]),
        ("text", DataType::Bytes, &[-1, 1]),
        ("truth", DataType::Bool, &[-1, 1]),
    ];
    let x = [("x", DataType::Fp32, &[-1, 1][..])];
    let all = [info("router", &x, &values), info("way", &x, &[("y", DataType::Fp32, &[-1, 1])])];
    all.into_iter().map(|info| (info.name.parse().unwrap(), info)).collect()
}

fn step(name: &str, model: &str, when: Option<Condition>) -> StepSpec {
    StepSpec {
        name: name.into(),
        model: model.parse().unwrap(),
        inputs: BTreeMap::from([("x".to_owned(), vec![Source::Input("x".into())])]),
        when,
        present: None,
        each: Vec::new(),
        timeout: None,
        fallback: None,
        on_failure: OnFailure::Fail,
    }
}

fn of(step: &str, output: &str) -> Source {
    Source::Step { step: step.into(), output: output.into() }
}

/// A router, and ways of which each has its condition.
fn spec(router: StepSpec, conditions: &[Option<Condition>]) -> EnsembleSpec {
    let ways = conditions.iter().enumerate().map(|(idx, when)| step(&format!("w{idx}"), "way", when.clone()));
    let outputs = conditions.iter().enumerate().map(|(idx, _)| of(&format!("w{idx}"), "y")).collect();
    EnsembleSpec {
        inputs: Vec::new(),
        steps: std::iter::once(router).chain(ways).collect(),
        outputs: vec![EnsembleOutput { name: "y".into(), from: outputs }],
        by_name: true,
    }
}

fn graph(spec: &EnsembleSpec) -> Result<Graph> {
    Graph::new(spec, &members(), None)
}

fn is_sure(conditions: &[Condition]) -> bool {
    let conditions: Vec<_> = conditions.iter().cloned().map(Some).collect();
    graph(&spec(step("router", "router", None), &conditions)).is_ok()
}

fn is(value: &str, comparison: Comparison, with: Constant) -> Condition {
    Condition::Compare { value: of("router", value), comparison, with }
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

#[test]
fn of_a_condition_and_its_opposite_one_holds() {
    let sure = is("real", Comparison::Less, Constant::Float(0.5));
    assert!(is_sure(&[sure.clone(), not(sure.clone())]));
    assert!(!is_sure(&[sure.clone(), is("real", Comparison::AtLeast, Constant::Float(0.5))]), "NaN is neither");
    let whole = |comparison, with| is("whole", comparison, Constant::Int(with));
    assert!(is_sure(&[whole(Comparison::Less, 1), whole(Comparison::AtLeast, 1)]));
    assert!(is_sure(&[whole(Comparison::AtMost, 0), whole(Comparison::Equal, 1), whole(Comparison::Greater, 1)]));
    assert!(!is_sure(&[whole(Comparison::AtMost, 0), whole(Comparison::Greater, 1)]));
    let truth = |truth| is("truth", Comparison::Equal, Constant::Bool(truth));
    assert!(is_sure(&[truth(true), truth(false)]));
    let text = |comparison| is("text", comparison, Constant::Text("de".into()));
    assert!(is_sure(&[text(Comparison::Equal), text(Comparison::Unequal)]));
    assert!(!is_sure(&[text(Comparison::Equal)]));
}

#[test]
fn a_step_that_may_be_missing_decides_nothing_but_not_that_it_is_there() {
    let truth = is("truth", Comparison::Equal, Constant::Bool(true));
    let other = is("truth", Comparison::Equal, Constant::Bool(false));
    for router in [
        StepSpec { on_failure: OnFailure::Skip, ..step("router", "router", None) },
        StepSpec { present: Some("truth".to_owned()), ..step("router", "router", None) },
    ] {
        let sure = |other: Condition| graph(&spec(router.clone(), &[Some(truth.clone()), Some(other)]));
        sure(not(truth.clone())).unwrap();
        let error = sure(other.clone()).unwrap_err();
        assert!(error.message().contains("step 'w1' has a condition"), "{error}");
    }
}

#[test]
fn ways_may_have_several_steps() {
    let truth = is("truth", Comparison::Equal, Constant::Bool(true));
    let mut spec = spec(step("router", "router", None), &[Some(truth.clone()), Some(not(truth))]);
    // One way goes on: what comes after a step runs where the step does.
    let mut after = step("after", "way", None);
    after.inputs = BTreeMap::from([("x".to_owned(), vec![of("w0", "y")])]);
    spec.steps.push(after.clone());
    spec.outputs[0].from[0] = of("after", "y");
    graph(&spec).unwrap();
    // Both come together again.
    spec.steps.last_mut().unwrap().inputs.insert("x".to_owned(), vec![of("w0", "y"), of("w1", "y")]);
    spec.outputs[0].from = vec![of("after", "y")];
    graph(&spec).unwrap();
    spec.steps.last_mut().unwrap().inputs.insert("x".to_owned(), vec![of("w0", "y")]);
    let error = graph(&spec).unwrap_err();
    assert!(error.message().contains("step 'w0' has a condition"), "{error}");
}

#[test]
fn what_cannot_be_told_is_refused() {
    let large = |comparison| is("whole", comparison, Constant::Int(i64::MAX));
    assert!(!is_sure(&[large(Comparison::Less), not(large(Comparison::Less))]));
    let many = |at: i64| is("whole", Comparison::Equal, Constant::Int(10 * at));
    let all = Condition::Any((0..10_000).map(many).collect());
    assert!(!is_sure(&[all.clone(), not(all)]));
}

fn conditions() -> impl Strategy<Value = Condition> {
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::Unequal,
        Comparison::Less,
        Comparison::AtMost,
        Comparison::Greater,
        Comparison::AtLeast,
    ]);
    let equal = prop::sample::select(vec![Comparison::Equal, Comparison::Unequal]);
    let one = prop_oneof![
        (comparison.clone(), prop::sample::select(vec![0., 0.5])).prop_map(|(how, with)| is(
            "real",
            how,
            Constant::Float(with)
        )),
        (comparison, 0..2_i64).prop_map(|(how, with)| is("whole", how, Constant::Int(with))),
        (equal.clone(), prop::sample::select(vec!["a", "b"])).prop_map(|(how, with)| is(
            "text",
            how,
            Constant::Text(with.into())
        )),
        (equal, any::<bool>()).prop_map(|(how, with)| is("truth", how, Constant::Bool(with))),
    ];
    one.prop_recursive(3, 12, 3, |part| {
        prop_oneof![
            prop::collection::vec(part.clone(), 1..4).prop_map(Condition::All),
            prop::collection::vec(part.clone(), 1..4).prop_map(Condition::Any),
            part.prop_map(not),
        ]
    })
}

/// The rows for which none of the conditions holds, by the code that runs requests.
fn left_out(conditions: &[Condition]) -> usize {
    let mut fall_back = spec(step("router", "router", None), &conditions.iter().cloned().map(Some).collect::<Vec<_>>());
    fall_back.outputs[0].from.push(Source::Constant(Constant::Float(0.)));
    let graph = graph(&fall_back).unwrap();
    let shape = [N_ROWS, 1];
    let row = |idx: usize| (idx % 6, idx / 6 % 4, idx / 24 % 5, idx / 120);
    let column = |name: &str| match name {
        "real" => tensor(name, &shape, &(0..N_ROWS).map(|idx| REALS[row(idx).0]).collect::<Vec<_>>()),
        "whole" => tensor(name, &shape, &(0..N_ROWS).map(|idx| WHOLES[row(idx).1]).collect::<Vec<_>>()),
        "text" => text(name, &shape, &(0..N_ROWS).map(|idx| TEXTS[row(idx).2].as_bytes()).collect::<Vec<_>>()),
        _ => tensor(name, &shape, &(0..N_ROWS).map(|idx| TRUTHS[row(idx).3]).collect::<Vec<_>>()),
    };
    let mut values: Vec<Value> = (0..graph.n_values).map(|_| Value::ABSENT).collect();
    for (name, place) in &graph.steps[0].outputs {
        values[*place] = Value::new(column(name), Mask::All);
    }
    let masks: Vec<Mask> =
        graph.steps[1..].iter().map(|step| step.when.as_ref().unwrap().rows(&values, N_ROWS).unwrap()).collect();
    (0..N_ROWS).filter(|row| !masks.iter().any(|mask| mask.holds(*row))).count()
}

proptest! {
    #[test]
    fn what_is_accepted_leaves_no_row_out_and_what_is_refused_does(one in conditions(), other in conditions()) {
        for conditions in [[one.clone(), other], [one.clone(), not(one)]] {
            prop_assert_eq!(is_sure(&conditions), left_out(&conditions) == 0, "{:?}", conditions);
        }
    }
}
