//! Loading, failing, falling back and changing.

use std::time::{Duration, Instant};

use salver_core::{
    Comparison, Condition, Constant, Context, Error, ErrorKind, Infer as _, InferRequest, ModelControl as _, ModelSpec,
    ModelState, OnFailure, StepSpec,
};
use salver_runtime::{ControlMode, Runtime, RuntimeOptions};
use salver_testkit::{FakeEngine, Reaction, tensor};

use super::{engines, ensemble, input, model, models, number, out, step};
use crate::support::{Fixture, room_for, version_on};

/// `e` = `inc`, then `double`.
fn chain() -> ModelSpec {
    ensemble("e", vec![step("first", "inc", &[]), step("second", "double", &[("x", out("first", "y"))])], Vec::new())
}

async fn start(specs: Vec<ModelSpec>) -> Fixture {
    let engines = engines();
    Fixture::start(&engines.iter().collect::<Vec<_>>(), specs, RuntimeOptions::default()).await
}

fn with(extra: Vec<ModelSpec>) -> Vec<ModelSpec> {
    models().into_iter().chain(extra).collect()
}

fn reason(runtime: &Runtime, name: &str) -> String {
    let index = runtime.index();
    index.into_iter().find(|status| status.name == name).map(|status| status.reason).unwrap_or_default()
}

fn is_ready(runtime: &Runtime, name: &str) -> bool {
    runtime.index().iter().any(|status| status.name == name && status.state == Some(ModelState::Ready))
}

/// Waits for what a task of the runtime will bring about.
async fn until(holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < end, "it never came");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn steps_answer_one_after_the_other_whatever_the_order_of_loading() {
    for specs in [with(vec![chain()]), [vec![chain()], models()].concat()] {
        let fixture = start(specs).await;
        assert_eq!(fixture.answer("e", 3.).await.unwrap(), 8.);
        let graph = fixture.runtime.graph(&"e".parse().unwrap()).unwrap();
        let runs: Vec<_> = graph.steps.iter().map(|step| (&*step.name, step.statistics.runs)).collect();
        assert_eq!(runs, [("first", 1), ("second", 1)]);
        let waits: Vec<_> = graph.steps.iter().map(|step| step.after.clone()).collect();
        assert_eq!(waits, [vec![], vec!["first".into()]]);
        assert_eq!(graph.outputs, [("y".into(), vec!["second.y".to_owned()])]);
        let error = fixture.runtime.graph(&"inc".parse().unwrap()).unwrap_err();
        assert!(error.message().contains("is no ensemble"), "{error}");
    }
}

#[tokio::test]
async fn ensembles_call_ensembles_and_circles_are_refused() {
    let outer = ensemble("outer", vec![step("e", "e", &[]), step("inc", "inc", &[("x", out("e", "y"))])], Vec::new());
    let fixture = start(with(vec![outer, chain()])).await;
    assert_eq!(fixture.answer("outer", 3.).await.unwrap(), 9.);
    let calls = |name: &str, other: &str| ensemble(name, vec![step("s", other, &[])], Vec::new());
    let fixture = start(with(vec![calls("a", "b"), calls("b", "c"), calls("c", "a"), calls("d", "d")])).await;
    assert!(["a", "b", "c"].iter().any(|name| reason(&fixture.runtime, name).contains("in a circle")));
    assert!(["a", "b", "c", "d"].iter().all(|name| !is_ready(&fixture.runtime, name)));
    assert!(reason(&fixture.runtime, "d").ends_with("in a circle: 'd' calls 'd'"), "{}", reason(&fixture.runtime, "d"));
    // Closing a circle around what serves is refused too.
    let fixture = start(with(vec![calls("a", "inc"), calls("b", "a")])).await;
    fixture.source.set("a", vec![ModelSpec { fingerprint: 7, ..calls("a", "b") }]);
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.answer("b", 1.).await.unwrap(), 2.);
}

#[tokio::test]
async fn a_missing_model_is_named_and_the_ensemble_comes_up_when_it_does() {
    let fixture = start(vec![model("inc"), chain()]).await;
    let why = reason(&fixture.runtime, "e");
    assert!(why.contains("step 'second' calls model 'double'") && why.contains("not found"), "{why}");
    let error = fixture.answer("e", 1.).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    fixture.source.set("double", vec![model("double")]);
    fixture.runtime.sync().await.unwrap();
    until(async || fixture.answer("e", 1.).await.is_ok()).await;
    assert_eq!(fixture.answer("e", 1.).await.unwrap(), 4.);
}

#[tokio::test]
async fn a_step_follows_its_model_to_a_new_version() {
    let fixture = start(with(vec![chain()])).await;
    fixture.source.set("double", vec![version_on("inc", "double", 2)]);
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.answer("e", 3.).await.unwrap(), 5.);
    // One that does not fit leaves the ensemble as it was; its requests say what is wrong.
    fixture.source.set("double", vec![version_on("fold", "double", 3)]);
    fixture.runtime.sync().await.unwrap();
    until(async || fixture.answer("e", 3.).await.is_err()).await;
    let error = fixture.answer("e", 3.).await.unwrap_err();
    assert_eq!((error.kind(), error.message().contains("step 'second'")), (ErrorKind::Engine, true), "{error}");
}

#[tokio::test]
async fn loading_an_ensemble_loads_what_it_calls() {
    let engines = engines();
    let engines: Vec<&FakeEngine> = engines.iter().collect();
    let explicit = || RuntimeOptions { control: ControlMode::Explicit, ..RuntimeOptions::default() };
    let fixture = Fixture::start(&engines, with(vec![chain()]), explicit()).await;
    assert!(fixture.resident().is_empty());
    fixture.runtime.load("e").await.unwrap();
    assert_eq!(fixture.answer("e", 3.).await.unwrap(), 8.);
    assert_eq!(fixture.resident(), ["double/1", "e/1", "inc/1"]);
    let named = RuntimeOptions { load: vec!["e".to_owned()], ..explicit() };
    let fixture = Fixture::start(&engines, with(vec![chain()]), named).await;
    assert_eq!(fixture.resident(), ["double/1", "e/1", "inc/1"]);
    fixture.runtime.unload("double").await.unwrap();
    let error = fixture.answer("e", 3.).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.message().starts_with("step 'second'"), "{error}");
}

#[tokio::test]
async fn under_a_memory_limit_steps_load_at_first_use() {
    let engines = engines();
    let fixture =
        Fixture::start(&engines.iter().collect::<Vec<_>>(), with(vec![chain()]), room_for(1, &engines[0])).await;
    assert!(fixture.resident().is_empty());
    assert_eq!(fixture.answer("e", 3.).await.unwrap(), 8.);
    assert_eq!(fixture.answer("e", 4.).await.unwrap(), 10.);
    let calls = |name: &str, other: &str| ensemble(name, vec![step("s", other, &[])], Vec::new());
    let fixture = Fixture::start(
        &engines.iter().collect::<Vec<_>>(),
        with(vec![calls("a", "b"), calls("b", "a")]),
        room_for(1, &engines[0]),
    )
    .await;
    let error = fixture.answer("a", 3.).await.unwrap_err();
    assert!(error.message().contains("in a circle"), "{error}");
}

/// `e` = `bad` where it does not fail, else what `change` says.
async fn failing(change: impl FnOnce(StepSpec) -> StepSpec, fall_back: bool) -> Fixture {
    let bad = FakeEngine::new().named("bad").adding(100.).reacting_to(-1., Reaction::Fail(Error::engine("no luck")));
    let own = engines();
    let all: Vec<&FakeEngine> = own.iter().chain([&bad]).collect();
    let risky = change(step("risky", "bad", &[("x", input("x"))]));
    let mut from = vec![out("risky", "y")];
    from.extend(fall_back.then(|| number(7.)));
    let specs = with(vec![model("bad"), ensemble("e", vec![risky], vec![("y", from)])]);
    Fixture::start(&all, specs, RuntimeOptions::default()).await
}

#[tokio::test]
async fn a_step_that_fails_fails_the_request_falls_back_or_is_skipped() {
    let fixture = failing(|step| step, false).await;
    assert_eq!(fixture.answer("e", 1.).await.unwrap(), 101.);
    let error = fixture.answer("e", -1.).await.unwrap_err();
    assert!(error.message().starts_with("step 'risky'"), "{error}");
    let fixture = failing(|step| StepSpec { fallback: Some("inc".parse().unwrap()), ..step }, false).await;
    assert_eq!(fixture.answer("e", -1.).await.unwrap(), 0.);
    let fixture = failing(|step| StepSpec { on_failure: OnFailure::Skip, ..step }, true).await;
    assert_eq!(fixture.answer("e", -1.).await.unwrap(), 7.);
    let statistics = fixture.runtime.graph(&"e".parse().unwrap()).unwrap().steps[0].statistics;
    assert_eq!((statistics.runs, statistics.failed), (1, 1));
}

#[tokio::test]
async fn a_step_has_a_time_of_its_own_and_the_request_has_its_own_too() {
    let slow = FakeEngine::new().named("slow");
    let own = engines();
    let all: Vec<&FakeEngine> = own.iter().chain([&slow]).collect();
    let limited = StepSpec { timeout: Some(Duration::from_millis(20)), ..step("s", "slow", &[]) };
    let saved = StepSpec { fallback: Some("inc".parse().unwrap()), ..limited.clone() };
    let specs = with(vec![
        model("slow"),
        ensemble("limited", vec![limited], Vec::new()),
        ensemble("saved", vec![saved], Vec::new()),
        ensemble("plain", vec![step("s", "slow", &[])], Vec::new()),
    ]);
    let fixture = Fixture::start(&all, specs, RuntimeOptions::default()).await;
    slow.gate().close();
    let error = fixture.answer("limited", 1.).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(error.message().contains("step 's': model 'slow' did not answer within 20 ms"), "{error}");
    assert_eq!(fixture.answer("saved", 1.).await.unwrap(), 2.);
    let deadline = Some(Instant::now() + Duration::from_millis(20));
    let request = crate::support::request("plain", 1.);
    let error = fixture.runtime.infer(request, Context { deadline, ..Context::default() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    slow.gate().open();
}

#[tokio::test]
async fn steps_that_do_not_need_each_other_run_side_by_side_and_leave_together() {
    let (one, other) = (FakeEngine::new().named("one"), FakeEngine::new().named("other"));
    let own = engines();
    let all: Vec<&FakeEngine> = own.iter().chain([&one, &other]).collect();
    let join = step("join", "sum", &[("a", out("one", "y")), ("b", out("other", "y"))]);
    let steps = vec![step("one", "one", &[("x", input("x"))]), step("other", "other", &[("x", input("x"))]), join];
    let specs = with(vec![model("one"), model("other"), ensemble("e", steps, Vec::new())]);
    let fixture = Fixture::start(&all, specs, RuntimeOptions::default()).await;
    one.gate().close();
    other.gate().close();
    let asked = fixture.ask("e", 2.);
    one.gate().arrived(1).await;
    other.gate().arrived(1).await;
    one.gate().open();
    other.gate().open();
    assert_eq!(asked.await.unwrap().unwrap(), 4.);
    // A caller that leaves takes all its steps along.
    one.gate().close();
    let asked = fixture.ask("e", 2.);
    one.gate().arrived(2).await;
    asked.abort();
    one.gate().open();
    until(async || fixture.runtime.resident().iter().all(|model| model.in_flight == 0)).await;
}

#[tokio::test]
async fn rows_go_their_own_ways() {
    let less = |limit| Condition::Compare {
        value: out("gate", "s"),
        comparison: Comparison::Less,
        with: Constant::Float(limit),
    };
    let conditional = |name: &str, model: &str, limit| StepSpec {
        when: Some(less(limit)),
        ..step(name, model, &[("x", input("x"))])
    };
    let steps = vec![
        step("gate", "score", &[("x", input("x"))]),
        conditional("low", "inc", 0.),
        conditional("middle", "double", 10.),
    ];
    let outputs = vec![("y", vec![out("low", "y"), out("middle", "y"), input("x")])];
    let fixture = start(with(vec![ensemble("e", steps, outputs)])).await;
    let request = InferRequest {
        model: "e".parse().unwrap(),
        id: None,
        inputs: vec![tensor("x", &[4, 2], &[1f32, 5., 30., 2., 7., 7., 0., 1.])],
        outputs: Vec::new(),
        parameters: Default::default(),
    };
    let answer = fixture.runtime.infer(request, Context::default()).await.unwrap();
    assert_eq!(answer.outputs[0].to_vec::<f32>().unwrap(), [2., 6., 30., 2., 14., 14., 1., 2.]);
}

#[tokio::test]
async fn a_stop_waits_for_ensembles_before_it_takes_their_models_away() {
    let slow = FakeEngine::new().named("slow");
    let own = engines();
    let all: Vec<&FakeEngine> = own.iter().chain([&slow]).collect();
    let steps = vec![step("slow", "slow", &[]), step("inc", "inc", &[("x", out("slow", "y"))])];
    let specs = with(vec![model("slow"), ensemble("e", steps, Vec::new())]);
    let fixture = Fixture::start(&all, specs, RuntimeOptions::default()).await;
    slow.gate().close();
    let asked = fixture.ask("e", 1.);
    slow.gate().arrived(1).await;
    let runtime = fixture.runtime.clone();
    let stopped = tokio::spawn(async move { runtime.shutdown().await });
    until(async || !fixture.runtime.is_model_ready(&"e".parse().unwrap())).await;
    slow.gate().open();
    assert_eq!(asked.await.unwrap().unwrap(), 2.);
    stopped.await.unwrap();
}
