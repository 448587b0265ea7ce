//! What `ensemble_scheduling` becomes.

use salver_core::{EnsembleSpec, ModelRef, Source};

use super::*;

const STEPS: &str = "step { model_name: 'a' model_version: -1 input_map { key: 'in' value: 'x' } \
                     output_map { key: 'out' value: 'between' } } \
                     step { model_name: 'a' model_version: 3 input_map { key: 'in' value: 'between' } \
                     output_map { key: 'out' value: 'y' } }";

fn text(steps: &str) -> String {
    format!("platform: 'ensemble' {IO} ensemble_scheduling {{ {steps} }}")
}

/// A step from one value to another.
fn step(model: &str, from: &str, to: &str) -> String {
    format!(
        "step {{ model_name: '{model}' model_version: -1 input_map {{ key: 'in' value: '{from}' }} \
         output_map {{ key: 'out' value: '{to}' }} }} "
    )
}

#[track_caller]
fn check(steps: &str, expected: &str) {
    check_invalid(&text(steps), expected);
}

fn spec(config: &ModelConfig) -> EnsembleSpec {
    ensemble::spec(config.ensemble_scheduling.as_ref().unwrap(), &config.outputs)
}

#[test]
fn readers_find_who_writes() {
    let config = read(&text(STEPS));
    assert!(config.dynamic_batching.is_none());
    let spec = spec(&config);
    assert!(!spec.by_name);
    let found: Vec<_> = spec.steps.iter().map(|step| (&*step.name, &step.model, step.inputs["in"].clone())).collect();
    let of = |step: &str| Source::Step { step: step.into(), output: "out".into() };
    let (latest, third): (ModelRef, ModelRef) = ("a".parse().unwrap(), "a/3".parse().unwrap());
    assert_eq!(found, [("a", &latest, vec![Source::Input("x".into())]), ("a-2", &third, vec![of("a")])]);
    assert_eq!((&*spec.outputs[0].name, spec.outputs[0].from.clone()), ("y", vec![of("a-2")]));
}

#[test]
fn order_says_nothing_and_a_value_has_many_readers() {
    let steps = step("b", "between", "y") + &step("b-2", "between", "other") + &step("b", "x", "between");
    let spec = spec(&read(&text(&steps)));
    let names: Vec<&str> = spec.steps.iter().map(|step| &*step.name).collect();
    assert_eq!(names, ["b", "b-2", "b-3"]);
    let from = |step: usize| spec.steps[step].inputs["in"][0].to_string();
    assert_eq!([from(0), from(1), from(2)], ["b-3.out", "b-3.out", "x"]);
}

#[test]
fn values_are_written_once_and_read_if_anybody_writes_them() {
    let inner = |text: &str| format!("ensemble_scheduling: {text}");
    check(
        &(step("a", "x", "y") + &step("b", "x", "y")),
        &inner(
            "step 1 ('b') writes output 'out' to 'y', which is an input of the ensemble or written by another output; \
             each value is written once",
        ),
    );
    check(
        &(step("a", "x", "x") + &step("b", "x", "y")),
        &inner(
            "step 0 ('a') writes output 'out' to 'x', which is an input of the ensemble or written by another output; \
             each value is written once",
        ),
    );
    check(
        &(step("a", "x", "y") + &step("b", "nowhere", "z")),
        &inner(
            "step 1 ('b') reads input 'in' from 'nowhere', which is neither an input of the ensemble nor written by a \
             step",
        ),
    );
    check(&step("a", "x", "z"), "output 'y' is in no output_map: no step writes it");
    let circle = step("a", "z", "y") + &step("b", "y", "z");
    check(&circle, "input 'x' is in no input_map: no step reads it");
}

#[test]
fn steps_say_what_they_call_and_how() {
    let all =
        "model_name: 'a' model_version: -1 input_map { key: 'in' value: 'x' } output_map { key: 'out' value: 'y' }";
    let without = |part: &str| format!("step {{ {} }}", all.replace(part, ""));
    let of = |text: &str| format!("ensemble_scheduling: step 0 ('a'): {text}");
    check("", "ensemble_scheduling: must have 1 to 256 of step, got 0");
    check(&without("input_map { key: 'in' value: 'x' }"), &of("input_map is missing"));
    check(&without("output_map { key: 'out' value: 'y' }"), &of("output_map is missing"));
    check(&without("model_version: -1"), &of("model_version must be -1 (the latest) or a version from 1, got 0"));
    check(&without("value: 'x'"), &of("input_map has an empty name: key and value must be names of tensors"));
    assert!(parse(&text(&without("model_name: 'a'")), "m").unwrap_err().message().contains("step 0 ('')"));
    check_error(
        &text(&format!("step {{ {all} model_namespace: 'n' }}")),
        ErrorKind::Unsupported,
        &of("model_namespace is not offered"),
    );
}

#[test]
fn an_ensemble_is_one_as_a_whole() {
    let block = format!("ensemble_scheduling {{ {STEPS} }}");
    check_invalid(&format!("{IO} {block}"), "platform must be 'ensemble' beside ensemble_scheduling, got ''");
    check_invalid(
        &format!("platform: 'onnxruntime_onnx' {IO} {block}"),
        "platform must be 'ensemble' beside ensemble_scheduling, got 'onnxruntime_onnx'",
    );
    check_invalid(&format!("platform: 'ensemble' {IO}"), "platform 'ensemble' needs ensemble_scheduling beside it");
    let whole = text(STEPS);
    check_invalid(&format!("{whole} backend: 'onnxruntime'"), "backend has to be left out beside ensemble_scheduling");
    check_invalid(
        &format!("{whole} instance_group {{ count: 2 }}"),
        "instance_group has to be left out of an ensemble: the models that it calls have their own",
    );
    for (field, left) in [("input", "output { name: 'y' }"), ("output", "input { name: 'x' }")] {
        check_invalid(
            &format!("platform: 'ensemble' {left} {block}"),
            &format!("ensemble_scheduling needs at least one {field} beside it"),
        );
    }
}
