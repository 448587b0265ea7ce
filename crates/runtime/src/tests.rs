//! The runtime as its callers see it, over the fake engine.

use parking_lot::Mutex;
use salver_core::{
    BatchRule, Class, DynamicBatching, ErrorKind, Infer as _, ModelControl as _, ModelSpec, ModelState, Tensor,
};
use salver_testkit::{FakeEngine, Reaction, spec, tensor};

use super::*;

mod overload;
mod pieces;
mod ragged;
mod recovery;
mod refresh;
mod scheduling;
mod sequences;
mod tasks;

/// A source whose content a test changes.
#[derive(Default)]
pub(crate) struct Source(Mutex<Vec<ModelEntry>>);

impl Source {
    pub(crate) fn set(&self, name: &str, versions: Result<Vec<ModelSpec>>) {
        let versions = versions.map(|all| all.into_iter().map(Arc::new).collect());
        let name = ModelName::new(name).unwrap();
        let mut entries = self.0.lock();
        entries.retain(|entry| entry.name != name);
        entries.push(ModelEntry { name, labels: [("stable".to_owned(), 1)].into(), versions });
    }
}

impl Source {
    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().retain(|entry| &*entry.name != name);
    }
}

impl ModelSource for Source {
    fn scan(&self) -> Vec<ModelEntry> {
        self.0.lock().clone()
    }

    fn find(&self, name: &str) -> Option<ModelEntry> {
        self.0.lock().iter().find(|entry| &*entry.name == name).cloned()
    }
}

pub(crate) fn version(number: u64) -> ModelSpec {
    let mut spec = spec("m", std::path::Path::new("m.onnx"));
    spec.version = number;
    spec.fingerprint = number;
    // One worker, so that a test can hold it at the gate and watch what queues behind.
    spec.config.instance_groups = vec![salver_core::InstanceGroup::default()];
    spec
}

pub(crate) struct Fixture {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) source: Arc<Source>,
    pub(crate) engine: FakeEngine,
    pub(crate) metrics: Arc<Metrics>,
}

impl Fixture {
    pub(crate) async fn start(engine: FakeEngine, specs: Vec<ModelSpec>, options: RuntimeOptions) -> Self {
        let (source, metrics) = (Arc::new(Source::default()), Metrics::new());
        source.set("m", Ok(specs));
        let runtime = Runtime::new(vec![Arc::new(engine.clone())], source.clone(), metrics.clone(), options);
        runtime.start().await.unwrap();
        Self { runtime, source, engine, metrics }
    }

    async fn serving(engine: FakeEngine) -> Self {
        Self::start(engine, vec![version(1)], RuntimeOptions::default()).await
    }

    /// Asks in the background.
    fn ask(&self, values: &[f32]) -> tokio::task::JoinHandle<Result<InferResponse>> {
        let (runtime, request) = (self.runtime.clone(), request(values));
        tokio::spawn(async move { runtime.infer(request, Context::default()).await })
    }

    async fn answer(&self, values: &[f32]) -> Result<Vec<f32>> {
        let response = self.runtime.infer(request(values), Context::default()).await?;
        Ok(values_of(&response))
    }

    /// Waits until `count` requests were in the engine or in its queue. The gauge is set under the
    /// queue's lock, so this is exact.
    async fn queued(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.waiting() != count as u64 {
            assert!(Instant::now() < deadline, "the queue never held {count} requests");
            tokio::task::yield_now().await;
        }
    }

    /// How many requests are in the engine or in its queue.
    fn waiting(&self) -> u64 {
        let text = self.metrics.render();
        let count =
            text.lines().find_map(|line| line.strip_prefix("salver_queue_requests{model=\"m\",version=\"1\"} "));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Sends one request that the worker holds at the closed gate.
    pub(crate) async fn occupied(&self) -> tokio::task::JoinHandle<Result<InferResponse>> {
        self.engine.gate().close();
        let before = self.engine.gate().arrivals();
        let first = self.ask(&[0., 0.]);
        self.engine.gate().arrived(before + 1).await;
        first
    }
}

pub(crate) fn request(values: &[f32]) -> InferRequest {
    request_to("m".parse().unwrap(), values)
}

fn request_to(model: ModelRef, values: &[f32]) -> InferRequest {
    InferRequest {
        model,
        id: Some("7".to_owned()),
        inputs: vec![tensor("x", &[values.len() / 2, 2], values)],
        outputs: Vec::new(),
        parameters: Default::default(),
    }
}

pub(crate) fn values_of(response: &InferResponse) -> Vec<f32> {
    response.outputs.iter().flat_map(|output: &Tensor| output.to_vec::<f32>().unwrap()).collect()
}

#[tokio::test]
async fn a_request_comes_back_with_model_version_and_id() {
    let fixture = Fixture::serving(FakeEngine::new().adding(1.)).await;
    let response = fixture.runtime.infer(request(&[1., 2.]), Context::default()).await.unwrap();
    assert_eq!(values_of(&response), [2., 3.]);
    assert_eq!((&*response.model.name, response.model.version, response.id.as_deref()), ("m", 1, Some("7")));
}

#[tokio::test]
async fn what_queued_while_the_engine_was_busy_runs_as_one_batch() {
    let fixture = Fixture::serving(FakeEngine::new().adding(1.)).await;
    let first = fixture.occupied().await;
    let waiting: Vec<_> = (1..4u8).map(|idx| fixture.ask(&[f32::from(idx), 0.])).collect();
    fixture.queued(3).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    for (idx, answer) in waiting.into_iter().enumerate() {
        let response = answer.await.unwrap().unwrap();
        assert_eq!(values_of(&response), [idx as f32 + 2., 1.]);
        assert_eq!(response.timings.batch_rows, 3);
    }
    assert_eq!(fixture.engine.batch_rows(), [1, 3]);
    let stats = fixture.runtime.statistics(None).unwrap();
    assert_eq!((stats[0].inference_count, stats[0].execution_count, stats[0].success.count), (4, 2, 4));
}

#[tokio::test]
async fn without_dynamic_batching_requests_run_one_by_one() {
    let mut spec = version(1);
    spec.config.dynamic_batching = None;
    let fixture = Fixture::start(FakeEngine::new(), vec![spec], RuntimeOptions::default()).await;
    let first = fixture.occupied().await;
    let waiting: Vec<_> = (0..3).map(|_| fixture.ask(&[1., 1.])).collect();
    fixture.queued(3).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(fixture.engine.batch_rows(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_row_that_fails_alone_fails_alone() {
    let poison = Reaction::Fail(Error::engine("division by zero"));
    let fixture = Fixture::serving(FakeEngine::new().reacting_to(13., poison)).await;
    let first = fixture.occupied().await;
    let waiting: Vec<_> = [10., 11., 13., 12., 14.].iter().map(|&value| fixture.ask(&[value, 0.])).collect();
    fixture.queued(5).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    let mut results = Vec::new();
    for answer in waiting {
        results.push(answer.await.unwrap());
    }
    let error = results.remove(2).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Engine, "model 'm' version 1: division by zero"));
    assert!(results.iter().all(Result::is_ok));
    // The instance that failed is not used again.
    let metrics = fixture.metrics.render();
    assert!(
        metrics.contains("salver_instances_replaced_total{model=\"m\",version=\"1\",reason=\"error\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_panic_costs_its_request_and_replaces_the_instance() {
    let fixture = Fixture::serving(FakeEngine::new().reacting_to(13., Reaction::Panic)).await;
    let error = fixture.answer(&[13., 0.]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert_eq!(fixture.answer(&[1., 0.]).await.unwrap(), [1., 0.]);
    assert_eq!(fixture.engine.live_instances(), 1);
}

#[tokio::test]
async fn a_full_model_refuses_at_once_and_background_work_waits() {
    let options = RuntimeOptions { max_queue: Some(2), ..RuntimeOptions::default() };
    let fixture = Fixture::start(FakeEngine::new(), vec![version(1)], options).await;
    let first = fixture.occupied().await;
    let second = fixture.ask(&[1., 1.]);
    fixture.queued(1).await;
    let error = fixture.answer(&[2., 2.]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.retry_after().is_some());

    let background = Context { class: Class::Background, ..Context::default() };
    let mut patient = fixture.runtime.infer(request(&[3., 3.]), background);
    assert!(futures::poll!(&mut patient).is_pending());
    fixture.engine.gate().open();
    assert_eq!(values_of(&patient.await.unwrap()), [3., 3.]);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn expired_and_cancelled_requests_never_reach_the_engine() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let first = fixture.occupied().await;
    let cancelled = fixture.ask(&[1., 1.]);
    fixture.queued(1).await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    // It leaves the queue at once, while the engine is still busy; so does what has no time left.
    fixture.queued(0).await;
    let expired = Context { deadline: Some(std::time::Instant::now()), ..Context::default() };
    let error = fixture.runtime.infer(request(&[2., 2.]), expired).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    fixture.queued(0).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    assert_eq!(fixture.answer(&[3., 3.]).await.unwrap(), [3., 3.]);
    assert_eq!(fixture.engine.batch_rows(), [1, 1]);
}

#[tokio::test]
async fn requests_that_do_not_fit_never_reach_the_engine() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let mut wrong = request(&[1., 1.]);
    wrong.inputs = vec![tensor("x", &[1, 3], &[1f32, 2., 3.])];
    let error = fixture.runtime.infer(wrong, Context::default()).await.unwrap_err();
    assert_eq!(error.message(), "unexpected shape for input 'x' for model 'm'. Expected [-1,2], got [1,3]");
    let mut wrong = request(&[1., 1.]);
    wrong.outputs = vec!["q".into()];
    assert_eq!(fixture.runtime.infer(wrong, Context::default()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(fixture.engine.batches().is_empty());
    assert_eq!(fixture.runtime.statistics(None).unwrap()[0].fail.count, 0);
}

#[tokio::test]
async fn requests_of_different_row_shapes_are_not_merged() {
    let free = |name: &str| salver_core::TensorSpec::new(name, salver_core::DataType::Fp32, &[-1, -1]);
    let signature = salver_core::Signature {
        inputs: vec![free("x")],
        outputs: vec![free("y")],
        batching: salver_core::Batching::Rows { limit: None },
    };
    let fixture = Fixture::serving(FakeEngine::new().with_signature(signature)).await;
    let first = fixture.occupied().await;
    let ask = |width: usize| {
        let mut request = request(&[0., 0.]);
        request.inputs = vec![tensor("x", &[1, width], &vec![width as f32; width])];
        let runtime = fixture.runtime.clone();
        tokio::spawn(async move { runtime.infer(request, Context::default()).await })
    };
    let waiting = [(3, ask(3)), (4, ask(4)), (3, ask(3))];
    fixture.queued(3).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    for (width, answer) in waiting {
        assert_eq!(values_of(&answer.await.unwrap().unwrap()), vec![width as f32; width]);
    }
    let mut batches = fixture.engine.batch_rows();
    batches.sort_unstable();
    assert_eq!(batches, [1, 1, 2]);
}

#[tokio::test]
async fn every_stage_is_measured_once_for_a_request_or_a_batch() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let first = fixture.occupied().await;
    let waiting: Vec<_> = (0..3).map(|_| fixture.ask(&[0., 0.])).collect();
    fixture.queued(3).await;
    fixture.engine.gate().open();
    for answer in waiting.into_iter().chain([first]) {
        let response = answer.await.unwrap().unwrap();
        let observer = response.model.observer.as_ref().unwrap();
        observer.protocol(Duration::from_micros(5), Duration::from_micros(7));
    }
    let text = fixture.metrics.render();
    for (stage, count) in [("decode", 4), ("queue", 4), ("assemble", 2), ("infer", 2), ("split", 2), ("encode", 4)] {
        let labels = format!("{{model=\"m\",version=\"1\",stage=\"{stage}\"}}");
        let line = format!("salver_stage_duration_seconds_count{labels} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[tokio::test]
async fn the_memory_of_what_waits_is_shown() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let shown = async |bytes: usize| {
        while !fixture.metrics.render().contains(&format!("salver_waiting_bytes {bytes}\n")) {
            tokio::task::yield_now().await;
        }
    };
    let (first, second) = (fixture.occupied().await, fixture.ask(&[0., 0.]));
    shown(16).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    shown(0).await;
}

#[tokio::test]
async fn the_series_of_a_version_end_when_it_is_gone() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    for number in 2..6 {
        fixture.answer(&[0., 0.]).await.unwrap();
        fixture.source.set("m", Ok(vec![version(number)]));
        fixture.runtime.sync().await.unwrap();
    }
    let shown = |number: u64| fixture.metrics.render().contains(&format!("model=\"m\",version=\"{number}\""));
    while (1..5).any(shown) {
        tokio::task::yield_now().await;
    }
    assert!(shown(5));
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn the_highest_version_answers_unless_another_is_named() {
    let fixture = Fixture::start(FakeEngine::new(), vec![version(1), version(2)], RuntimeOptions::default()).await;
    for (reference, expected) in [("m", 2), ("m/1", 1), ("m@stable", 1)] {
        let request = request_to(reference.parse().unwrap(), &[0., 0.]);
        let response = fixture.runtime.infer(request, Context::default()).await.unwrap();
        assert_eq!(response.model.version, expected, "{reference}");
    }
    for reference in ["m/3", "m@nope", "unknown"] {
        let request = request_to(reference.parse().unwrap(), &[0., 0.]);
        let error = fixture.runtime.infer(request, Context::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{reference}");
    }
}

#[tokio::test]
async fn a_swap_under_load_loses_nothing() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let stop = CancellationToken::new();
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (runtime, stop) = (fixture.runtime.clone(), stop.clone());
            tokio::spawn(async move {
                let mut answered = 0u64;
                while !stop.is_cancelled() {
                    runtime.infer(request(&[5., 6.]), Context::default()).await.unwrap();
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for number in 2..40 {
        fixture.source.set("m", Ok(vec![version(number)]));
        fixture.runtime.sync().await.unwrap();
        assert_eq!(fixture.runtime.describe(&"m".parse().unwrap()).unwrap().version, number);
    }
    stop.cancel();
    for asker in askers {
        assert!(asker.await.unwrap() > 0);
    }
    fixture.runtime.shutdown().await;
    assert_eq!((fixture.engine.live_models(), fixture.engine.live_instances()), (0, 0));
}

#[tokio::test]
async fn a_broken_new_version_leaves_the_good_one_serving() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    fixture.engine.fail_loads(Some(Error::invalid_input("truncated")));
    fixture.source.set("m", Ok(vec![version(2)]));
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.answer(&[1., 1.]).await.unwrap(), [1., 1.]);
    let states: Vec<_> = fixture.runtime.index().into_iter().map(|row| (row.version, row.state, row.reason)).collect();
    assert_eq!(
        states,
        [
            (Some(1), Some(ModelState::Ready), String::new()),
            (Some(2), Some(ModelState::Failed), "truncated".to_owned())
        ]
    );
    // The same broken files are not tried again; changed ones are.
    fixture.engine.fail_loads(None);
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.runtime.describe(&"m".parse().unwrap()).unwrap().version, 1);
    let mut mended = version(2);
    mended.fingerprint = 99;
    fixture.source.set("m", Ok(vec![mended]));
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.runtime.describe(&"m".parse().unwrap()).unwrap().version, 2);
}

#[tokio::test]
async fn a_model_that_fails_to_load_says_why_and_does_not_stop_the_others() {
    let engine = FakeEngine::new();
    engine.fail_loads(Some(Error::invalid_input("not an ONNX file")));
    let fixture = Fixture::serving(engine).await;
    let error = fixture.answer(&[1., 1.]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotReady, "model 'm' failed to load: not an ONNX file"));
    assert!(!fixture.runtime.is_ready());
}

#[tokio::test]
async fn explicit_control_loads_what_is_named_and_what_is_asked_for() {
    let options = RuntimeOptions { control: ControlMode::Explicit, ..RuntimeOptions::default() };
    let fixture = Fixture::start(FakeEngine::new(), vec![version(1)], options).await;
    let index = fixture.runtime.index();
    assert_eq!((index[0].name.as_str(), index[0].version, index[0].state), ("m", None, None));
    assert_eq!(fixture.answer(&[1., 1.]).await.unwrap_err().kind(), ErrorKind::NotFound);
    fixture.runtime.load("m").await.unwrap();
    assert_eq!(fixture.answer(&[1., 1.]).await.unwrap(), [1., 1.]);
    assert_eq!(fixture.runtime.load("nope").await.unwrap_err().kind(), ErrorKind::NotFound);
    fixture.runtime.unload("m").await.unwrap();
    let error = fixture.answer(&[1., 1.]).await.unwrap_err();
    assert!(error.message().ends_with("has no available versions"), "{error}");
    fixture.runtime.unload("nope").await.unwrap();
    while fixture.engine.live_models() > 0 || !fixture.runtime.is_ready() {
        tokio::task::yield_now().await;
    }
    fixture.runtime.shutdown().await;
    assert_eq!(fixture.engine.live_models(), 0);
}

#[tokio::test]
async fn without_explicit_control_nobody_loads_or_unloads() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    assert_eq!(fixture.runtime.load("m").await.unwrap_err().kind(), ErrorKind::NotReady);
    assert_eq!(fixture.runtime.unload("m").await.unwrap_err().kind(), ErrorKind::NotReady);
}

#[tokio::test]
async fn the_next_engine_serves_where_the_first_is_not_available() {
    let (first, second) = (FakeEngine::new().named("first"), FakeEngine::new().named("second"));
    first.fail_prepare(Some(Error::unsupported("library missing")));
    let source = Arc::new(Source::default());
    source.set("m", Ok(vec![version(1)]));
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(first), Arc::new(second.clone())];
    let runtime = Runtime::new(engines, source.clone(), Metrics::new(), RuntimeOptions::default());
    runtime.start().await.unwrap();
    assert_eq!(&*runtime.describe(&"m".parse().unwrap()).unwrap().engine, "second");

    let mut asking = version(2);
    asking.engine = Some("first".to_owned());
    source.set("m", Ok(vec![asking]));
    runtime.sync().await.unwrap();
    let reasons: Vec<String> = runtime.index().into_iter().map(|row| row.reason).collect();
    assert!(reasons.contains(&"library missing".to_owned()), "{reasons:?}");
}

#[tokio::test]
async fn a_request_limit_and_the_batch_size_are_different_things() {
    let mut spec = version(1);
    spec.config.batch = BatchRule::Derive { limit: None };
    spec.config.dynamic_batching = Some(DynamicBatching { max_rows: Some(2), ..DynamicBatching::default() });
    let fixture = Fixture::start(FakeEngine::new(), vec![spec.clone()], RuntimeOptions::default()).await;
    assert_eq!(fixture.answer(&[1.; 10]).await.unwrap(), [1.; 10]);
    assert_eq!(fixture.engine.batch_rows(), [5]);

    spec.config.batch = BatchRule::Max(4);
    spec.fingerprint = 2;
    fixture.source.set("m", Ok(vec![spec]));
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.answer(&[1.; 10]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn an_answer_mixes_no_rows_of_others() {
    let mut spec = version(1);
    spec.config.instance_groups[0].count = 4;
    let fixture = Fixture::start(FakeEngine::new().adding(0.5), vec![spec], RuntimeOptions::default()).await;
    let askers: Vec<_> = (0..16u16)
        .map(|asker| {
            let runtime = fixture.runtime.clone();
            tokio::spawn(async move {
                for turn in 0..200u16 {
                    let marker = f32::from(asker * 1000 + turn);
                    let rows = usize::from(turn % 3) + 1;
                    let values = vec![marker; rows * 2];
                    let response = runtime.infer(request(&values), Context::default()).await.unwrap();
                    assert_eq!(values_of(&response), vec![marker + 0.5; rows * 2]);
                }
            })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_ready_before_the_first_look_at_the_source() {
    let (source, metrics) = (Arc::new(Source::default()), Metrics::new());
    let runtime = Runtime::new(vec![Arc::new(FakeEngine::new())], source, metrics, RuntimeOptions::default());
    assert!(!runtime.is_ready());
    runtime.start().await.unwrap();
    assert!(runtime.is_ready());
}
