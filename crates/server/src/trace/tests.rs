//! Which requests are chosen, and what settings inherit.

use salver_core::{ModelName, ModelRef, Parameters};

use super::*;

const ON: TraceLevels = TraceLevels { timestamps: true, tensors: false };

fn known() -> Vec<String> {
    vec!["a".to_owned(), "b".to_owned()]
}

fn asked(model: &str) -> InferRequest {
    InferRequest {
        model: ModelRef::latest(ModelName::new(model).unwrap()),
        id: None,
        inputs: vec![Tensor::from_slice("x", [1, 2], &[0.5f32, 1.]).unwrap()],
        outputs: Vec::new(),
        parameters: Parameters::new(),
    }
}

/// Which of nine requests are traced, as 0 and 1.
fn chosen(traces: &Traces, model: &str) -> String {
    let request = asked(model);
    let is_traced = |_| traces.begin(&request, &"id".into()).is_some();
    (0..9).map(is_traced).map(|is_traced| if is_traced { '1' } else { '0' }).collect()
}

#[test]
fn nothing_is_traced_until_somebody_asks() {
    let traces = Traces::default();
    assert_eq!(chosen(&traces, "a"), "000000000");
    assert_eq!(traces.settings(None), TraceSettings::default());
}

#[test]
fn each_nth_request_is_traced_until_the_count_is_used_up() {
    let traces = Traces::default();
    let update =
        TraceUpdate { levels: Change::Set(ON), rate: Change::Set(2), count: Change::Set(3), ..TraceUpdate::default() };
    traces.update(None, update, &known());
    assert_eq!(chosen(&traces, "a"), "010101000");
    assert_eq!(traces.settings(None).count, 0);
    // The same count again begins anew, another setting does not.
    traces.update(None, TraceUpdate { rate: Change::Set(1), ..TraceUpdate::default() }, &known());
    assert_eq!(chosen(&traces, "a"), "000000000");
    traces.update(None, TraceUpdate { count: Change::Set(3), ..TraceUpdate::default() }, &known());
    assert_eq!(chosen(&traces, "a"), "111000000");
    traces.update(None, TraceUpdate { rate: Change::Set(0), count: Change::Clear, ..update }, &known());
    assert_eq!(chosen(&traces, "a"), "000000000");
}

#[test]
fn a_model_has_the_settings_of_the_server_but_for_its_own() {
    let traces = Traces::default();
    let own = TraceUpdate { levels: Change::Set(ON), rate: Change::Set(3), ..TraceUpdate::default() };
    traces.update(Some("a"), own, &known());
    assert_eq!(chosen(&traces, "a"), "001001001");
    assert_eq!(chosen(&traces, "b"), "000000000");
    let server = TraceUpdate { levels: Change::Set(ON), rate: Change::Set(4), ..TraceUpdate::default() };
    traces.update(None, server, &known());
    assert_eq!((traces.settings(Some("a")).rate, traces.settings(Some("b")).rate), (3, 4));
    let cleared = traces.update(Some("a"), TraceUpdate { rate: Change::Clear, ..TraceUpdate::default() }, &known());
    assert_eq!(cleared.rate, 4);
    let off = TraceUpdate { levels: Change::Set(TraceLevels::default()), ..TraceUpdate::default() };
    traces.update(Some("a"), off, &known());
    assert_eq!((chosen(&traces, "a"), chosen(&traces, "b")), ("000000000".into(), "000100010".into()));
    traces.update(None, TraceUpdate { levels: Change::Clear, rate: Change::Clear, ..off }, &known());
    assert_eq!(traces.settings(None), TraceSettings::default());
    assert!(!traces.is_on.load(Ordering::Relaxed));
}

#[test]
fn a_models_count_outlives_a_change_of_another() {
    let traces = Traces::default();
    let own =
        TraceUpdate { levels: Change::Set(ON), rate: Change::Set(1), count: Change::Set(12), ..TraceUpdate::default() };
    traces.update(Some("a"), own, &known());
    assert_eq!(chosen(&traces, "a"), "111111111");
    traces.update(Some("b"), own, &known());
    assert_eq!(traces.settings(Some("a")).count, 3);
    traces.update(None, TraceUpdate { count: Change::Set(7), ..TraceUpdate::default() }, &known());
    assert_eq!(traces.settings(Some("a")).count, 3);
    assert_eq!(chosen(&traces, "a"), "111000000");
}

#[test]
fn settings_of_models_that_are_gone_are_dropped() {
    let traces = Traces::default();
    let own = TraceUpdate { rate: Change::Set(5), ..TraceUpdate::default() };
    traces.update(Some("a"), own, &known());
    traces.update(Some("b"), own, &["b".to_owned()]);
    assert_eq!(traces.wanted.lock().models.len(), 1);
}

#[test]
fn tensors_are_described_without_their_content() {
    assert_eq!(shapes(&asked("a").inputs), "x FP32 [1,2]");
}
