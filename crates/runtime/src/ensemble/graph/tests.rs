//! What fits together, and what is said of what does not.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use salver_core::{
    BatchRule, Batching, Comparison, Condition, DataType, Dim, EnsembleOutput, IoConfig, ModelConfig, ModelRef, Source,
    StepSpec, TensorSpec,
};

use super::*;

pub(super) fn info(
    name: &str,
    inputs: &[(&str, DataType, &[i64])],
    outputs: &[(&str, DataType, &[i64])],
) -> Arc<ModelInfo> {
    let specs = |all: &[(&str, DataType, &[i64])]| -> Vec<TensorSpec> {
        all.iter().map(|(name, dtype, shape)| TensorSpec::new(*name, *dtype, shape)).collect()
    };
    let (inputs, outputs) = (specs(inputs), specs(outputs));
    Arc::new(ModelInfo {
        name: name.into(),
        version: 1,
        engine: "fake".into(),
        platform: String::new(),
        signature: Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs },
        task: "tensor".to_owned(),
        columns: Vec::new(),
        labels: Vec::new(),
        metrics: BTreeMap::new(),
        example: Vec::new(),
        observer: None,
    })
}

use DataType::{Bool, Bytes, Fp32, Int64};

fn members() -> Members {
    let all = [
        info("tokens", &[("text", Bytes, &[-1, 1])], &[("ids", Int64, &[-1, -1]), ("mask", Int64, &[-1, -1])]),
        info("encoder", &[("ids", Int64, &[-1, -1]), ("mask", Int64, &[-1, -1])], &[("embedding", Fp32, &[-1, 8])]),
        info("head", &[("embedding", Fp32, &[-1, 8])], &[("score", Fp32, &[-1, 1]), ("label", Bytes, &[-1, 1])]),
        info("narrow", &[("embedding", Fp32, &[-1, 4])], &[("score", Fp32, &[-1, 1])]),
        info("detector", &[("image", Fp32, &[16, 16, 3])], &[("crops", Fp32, &[-1, 4, 4, 3]), ("found", Bool, &[1])]),
        info("classes", &[("crop", Fp32, &[-1, 4, 4, 3])], &[("class", Int64, &[-1, 1])]),
    ];
    all.into_iter().map(|info| (info.name.parse().unwrap(), info)).collect()
}

fn step(model: &str) -> StepSpec {
    let reference: ModelRef = model.parse().unwrap();
    StepSpec {
        name: model.into(),
        model: reference,
        inputs: BTreeMap::new(),
        when: None,
        present: None,
        each: Vec::new(),
        timeout: None,
        fallback: None,
        on_failure: OnFailure::Fail,
    }
}

fn from(step: &str, output: &str) -> Source {
    Source::Step { step: step.into(), output: output.into() }
}

fn with(model: &str, inputs: &[(&str, Source)]) -> StepSpec {
    let inputs = inputs.iter().map(|(name, source)| ((*name).to_owned(), vec![source.clone()])).collect();
    StepSpec { inputs, ..step(model) }
}

fn ensemble(steps: Vec<StepSpec>) -> EnsembleSpec {
    EnsembleSpec { inputs: Vec::new(), steps, outputs: Vec::new(), by_name: true }
}

fn output(name: &str, from: Vec<Source>) -> EnsembleOutput {
    EnsembleOutput { name: name.into(), from }
}

fn graph(spec: &EnsembleSpec) -> Result<Graph> {
    Graph::new(spec, &members(), None)
}

#[track_caller]
fn refused(spec: &EnsembleSpec, parts: &[&str]) {
    let error = graph(spec).unwrap_err();
    for part in parts {
        assert!(error.message().contains(part), "no {part:?} in: {error}");
    }
}

fn shown(specs: &[TensorSpec]) -> Vec<(String, Vec<i64>)> {
    specs.iter().map(|spec| (spec.name.to_string(), spec.wire_shape())).collect()
}

fn less(value: Source) -> Option<Condition> {
    Some(Condition::Compare { value, comparison: Comparison::Less, with: Constant::Float(0.5) })
}

#[test]
fn steps_find_each_other_by_the_names_of_their_tensors() {
    let graph = graph(&ensemble(vec![step("tokens"), step("encoder"), step("head")])).unwrap();
    assert!(graph.has_rows && graph.is_chain);
    assert_eq!(shown(&graph.signature.inputs), [("text".to_owned(), vec![-1, 1])]);
    assert_eq!(shown(&graph.signature.outputs), [("score".to_owned(), vec![-1, 1]), ("label".to_owned(), vec![-1, 1])]);
    let needs: Vec<_> = graph.steps.iter().map(|step| step.needs.clone()).collect();
    assert_eq!(needs, [vec![], vec![0], vec![1]]);
}

#[test]
fn the_order_in_the_file_does_not_matter_where_sources_are_named() {
    let head = with("head", &[("embedding", from("encoder", "embedding"))]);
    let encoder = with("encoder", &[("ids", from("tokens", "ids")), ("mask", from("tokens", "mask"))]);
    let graph = graph(&ensemble(vec![head, encoder, step("tokens")])).unwrap();
    let names: Vec<&str> = graph.steps.iter().map(|step| &*step.name).collect();
    assert_eq!(names, ["tokens", "encoder", "head"]);
}

#[test]
fn two_ends_that_do_not_fit_are_both_named() {
    refused(
        &ensemble(vec![step("tokens"), step("encoder"), step("narrow")]),
        &[
            "output 'embedding' of step 'encoder' (model 'encoder') has shape [-1, 8]",
            "input 'embedding' of step 'narrow' (model 'narrow') takes [-1, 4]",
        ],
    );
    refused(
        &ensemble(vec![step("tokens"), with("narrow", &[("embedding", from("tokens", "ids"))])]),
        &[
            "output 'ids' of step 'tokens' (model 'tokens') is INT64",
            "input 'embedding' of step 'narrow'",
            "takes FP32",
        ],
    );
    refused(
        &ensemble(vec![step("tokens"), with("encoder", &[("ids", from("tokens", "id"))])]),
        &["output 'id' of step 'tokens', but model 'tokens' has no such output; its outputs are 'ids', 'mask'"],
    );
    refused(
        &ensemble(vec![with("head", &[("embeding", Source::Input("x".into()))])]),
        &["step 'head' gives 'embeding' to model 'head', which has no such input; its inputs are 'embedding'"],
    );
    let twice = |name: &str, model: &str| StepSpec {
        name: name.into(),
        ..with(model, &[("embedding", Source::Input("x".into()))])
    };
    refused(
        &ensemble(vec![twice("a", "head"), twice("b", "narrow")]),
        &["input 'x'", "step 'a'", "step 'b'", "[-1, 4]"],
    );
}

#[test]
fn a_circle_is_refused_with_its_steps() {
    let named =
        |name: &str, of: &str| StepSpec { name: name.into(), ..with("classes", &[("crop", from(of, "class"))]) };
    let mut members = members();
    let ints = info("classes", &[("crop", Int64, &[-1, 1])], &[("class", Int64, &[-1, 1])]);
    members.insert("classes".parse().unwrap(), ints);
    let spec = ensemble(vec![named("a", "c"), named("b", "a"), named("c", "b")]);
    let error = Graph::new(&spec, &members, None).unwrap_err();
    assert!(error.message().ends_with("'a' reads from 'c' reads from 'b' reads from 'a'"), "{error}");
}

#[test]
fn an_input_that_several_steps_could_give_must_be_named() {
    let again = StepSpec { name: "again".into(), ..step("tokens") };
    refused(
        &ensemble(vec![step("tokens"), again, step("encoder")]),
        &["input 'ids' of step 'encoder'", "\"tokens.ids\" or \"again.ids\"", "inputs = { ids = \"tokens.ids\" }"],
    );
}

#[test]
fn what_may_not_be_there_needs_something_to_fall_back_on() {
    let steps = |when| vec![step("tokens"), step("encoder"), StepSpec { when, ..step("head") }];
    let when = || less(from("gate", "score"));
    let gate = StepSpec { name: "gate".into(), ..with("narrow", &[("embedding", Source::Input("small".into()))]) };
    let mut spec = ensemble(steps(when()));
    spec.steps.insert(0, gate);
    refused(&spec, &["output 'score' of the ensemble is not always there", "step 'head' has a condition"]);
    let fall_back = Source::Constant(Constant::Float(0.));
    spec.outputs = vec![output("score", vec![from("head", "score"), fall_back])];
    let whole = graph(&spec).unwrap();
    assert_eq!(shown(&whole.signature.outputs), [("score".to_owned(), vec![-1, 1])]);
    spec.outputs = vec![output("label", vec![from("head", "label"), from("gate", "score")])];
    refused(
        &spec,
        &["output 'score' of step 'gate' (model 'narrow') is FP32, but output 'label' of the ensemble takes BYTES"],
    );
    spec.outputs = vec![output("label", vec![from("head", "label"), Source::Constant(Constant::Float(1.))])];
    refused(&spec, &["output 'label' of the ensemble is BYTES, which 1 is not"]);
}

#[test]
fn conditions_read_one_value_of_a_fitting_type() {
    let on = |value| ensemble(vec![step("tokens"), step("encoder"), StepSpec { when: less(value), ..step("head") }]);
    refused(
        &on(from("encoder", "embedding")),
        &["the condition of step 'head' reads 'encoder.embedding'", "one value for each row"],
    );
    let text = Some(Condition::Compare {
        value: from("tokens", "text"),
        comparison: Comparison::Equal,
        with: Constant::Text("a".into()),
    });
    refused(
        &ensemble(vec![step("tokens"), StepSpec { when: text, ..step("encoder") }]),
        &["model 'tokens' has no such output"],
    );
    refused(&on(Source::Input("limit".into())), &["comes from 'limit'", "its type is not known"]);
}

#[test]
fn items_of_a_list_add_a_dimension_where_there_are_rows() {
    let classes = |each: &[&str]| StepSpec {
        each: each.iter().map(|name| (*name).to_owned()).collect(),
        ..with("classes", &[("crop", from("detector", "crops"))])
    };
    let fixed = graph(&ensemble(vec![step("detector"), classes(&["crop"])])).unwrap();
    assert!(!fixed.has_rows);
    assert_eq!(shown(&fixed.signature.outputs), [("found".to_owned(), vec![1]), ("class".to_owned(), vec![-1, 1])]);
    let mut members = members();
    let batched = info("detector", &[("image", Fp32, &[-1, 16, 16, 3])], &[("crops", Fp32, &[-1, 5, 4, 4, 3])]);
    members.insert("detector".parse().unwrap(), batched);
    let rows = Graph::new(&ensemble(vec![step("detector"), classes(&["crop"])]), &members, None).unwrap();
    assert!(rows.has_rows);
    assert_eq!(shown(&rows.signature.outputs), [("class".to_owned(), vec![-1, -1, 1])]);
    let without = Graph::new(&ensemble(vec![step("detector"), classes(&[])]), &members, None).unwrap_err();
    assert!(without.message().contains("has shape [-1, 5, 4, 4, 3]"), "{without}");
    let odd = Graph::new(&ensemble(vec![step("detector"), classes(&["crops"])]), &members, None).unwrap_err();
    assert!(odd.message().contains("no such input; its inputs are 'crop'"), "{odd}");
}

#[test]
fn what_is_declared_is_read() {
    let mut spec = ensemble(vec![step("tokens"), step("encoder"), step("head")]);
    spec.inputs = vec!["text".into()];
    assert!(graph(&spec).is_ok());
    spec.inputs.push("txet".into());
    refused(&spec, &["input 'txet' is declared, but no step reads it"]);
}

#[test]
fn without_names_only_optional_inputs_are_left_out() {
    let mut spec = ensemble(vec![step("tokens"), step("encoder")]);
    spec.by_name = false;
    refused(&spec, &["input 'text' of step 'tokens' (model 'tokens') is not in its input_map"]);
    spec.steps[0] = with("tokens", &[("text", Source::Input("text".into()))]);
    refused(&spec, &["input 'ids' of step 'encoder' (model 'encoder') is not in its input_map"]);
    let mut members = members();
    let key: ModelRef = "encoder".parse().unwrap();
    let mut encoder = (*members[&key]).clone();
    encoder.signature.inputs[1].optional = true;
    members.insert(key, Arc::new(encoder));
    spec.steps[1] = with("encoder", &[("ids", from("tokens", "ids"))]);
    let graph = Graph::new(&spec, &members, None).unwrap();
    assert_eq!(graph.steps[1].inputs.len(), 1, "the mask is left out, though a step before has one");
}

#[test]
fn a_configuration_declares_rows_that_all_take_and_may_leave_extents_open() {
    let config = |rows, dims: &[Dim]| ModelConfig {
        batch: BatchRule::Max(rows),
        outputs: vec![IoConfig {
            name: "embedding".to_owned(),
            dtype: None,
            dims: Some(dims.to_vec()),
            reshape: None,
            label_filename: String::new(),
            optional: false,
            format: String::new(),
            allow_ragged_batch: false,
            is_shape_tensor: false,
        }],
        ..ModelConfig::default()
    };
    let mut spec = ensemble(vec![step("tokens"), step("encoder")]);
    spec.outputs = vec![output("embedding", vec![from("encoder", "embedding")])];
    let open = Graph::of(&spec, &members(), &config(8, &[Dim::Free])).unwrap();
    assert_eq!(shown(&open.signature.outputs), [("embedding".to_owned(), vec![-1, -1])]);
    let closed = Graph::of(&spec, &members(), &config(8, &[Dim::Fixed(8)])).unwrap();
    assert_eq!(shown(&closed.signature.outputs), [("embedding".to_owned(), vec![-1, 8])]);
    let mut members = members();
    let key: ModelRef = "encoder".parse().unwrap();
    let mut encoder = (*members[&key]).clone();
    encoder.signature.batching = Batching::Rows { limit: NonZeroUsize::new(4) };
    members.insert(key.clone(), Arc::new(encoder.clone()));
    let few = Graph::of(&spec, &members, &config(8, &[Dim::Free])).unwrap_err();
    assert!(few.message().contains("model 'encoder', which step 'encoder' calls, takes at most 4 rows"), "{few}");
    assert!(Graph::of(&spec, &members, &config(4, &[Dim::Free])).is_ok());
    encoder.signature.batching = Batching::Fixed;
    members.insert(key, Arc::new(encoder));
    let none = Graph::of(&spec, &members, &config(1, &[Dim::Free])).unwrap_err();
    assert!(none.message().contains("takes no batches"), "{none}");
}

#[test]
fn the_strictest_member_bounds_the_rows() {
    let mut members = members();
    for (name, limit) in [("encoder", 8), ("head", 4)] {
        let key: ModelRef = name.parse().unwrap();
        let mut info = (*members[&key]).clone();
        info.signature.batching = Batching::Rows { limit: NonZeroUsize::new(limit) };
        members.insert(key, Arc::new(info));
    }
    let graph = Graph::new(&ensemble(vec![step("tokens"), step("encoder"), step("head")]), &members, None).unwrap();
    assert_eq!(graph.signature.batching, Batching::Rows { limit: NonZeroUsize::new(4) });
    assert!(graph.signature.inputs.iter().all(|input| input.shape[0] == Dim::Free));
}

#[test]
fn a_fallback_has_to_stand_in_for_everything_that_is_read() {
    let head = |fallback: &str| StepSpec { fallback: Some(fallback.parse().unwrap()), ..step("head") };
    let spec = |fallback| ensemble(vec![step("tokens"), step("encoder"), head(fallback)]);
    refused(&spec("narrow"), &["fallback 'narrow' of step 'head'", "takes [-1, 4]"]);
    refused(
        &spec("tokens"),
        &["fallback 'tokens' of step 'head': it has no input 'embedding', which model 'head' has"],
    );
}
