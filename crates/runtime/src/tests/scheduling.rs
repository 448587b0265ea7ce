//! Priorities, time limits, order, padding, hanging engines, and the properties of all together.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;
use salver_core::{Batching, DataType, InstanceGroup, Padding, Parameter, QueuePolicy, Signature, TensorSpec};
use salver_testkit::BatchRecord;
use tokio::task::JoinHandle;

use super::*;

fn with_batching(change: impl FnOnce(&mut DynamicBatching)) -> ModelSpec {
    let mut spec = version(1);
    let mut batching = DynamicBatching::default();
    change(&mut batching);
    spec.config.dynamic_batching = Some(batching);
    spec
}

async fn serve(engine: FakeEngine, spec: ModelSpec) -> Fixture {
    Fixture::start(engine, vec![spec], RuntimeOptions::default()).await
}

fn ask_with(fixture: &Fixture, value: f32, parameters: &[(&str, i64)]) -> JoinHandle<Result<InferResponse>> {
    let mut request = request(&[value, value]);
    let number = |&(name, value): &(&str, i64)| (name.to_owned(), Parameter::Int(value));
    request.parameters = parameters.iter().map(number).collect();
    let runtime = fixture.runtime.clone();
    tokio::spawn(async move { runtime.infer(request, Context::default()).await })
}

#[tokio::test]
async fn urgent_requests_overtake_and_a_level_has_its_own_bound() {
    let policy = QueuePolicy { max_queue_size: 1, ..QueuePolicy::default() };
    let spec = with_batching(|batching| {
        batching.max_rows = Some(1);
        batching.priority_levels = 3;
        batching.default_priority_level = 2;
        batching.priority_queue_policy = BTreeMap::from([(3, policy)]);
    });
    let fixture = serve(FakeEngine::new(), spec).await;
    let first = fixture.occupied().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for (idx, priority) in [3, 0, 1].into_iter().enumerate() {
        let (answer, order) = (ask_with(&fixture, idx as f32, &[("priority", priority)]), order.clone());
        fixture.queued(idx + 1).await;
        waiting.push(tokio::spawn(async move {
            answer.await.unwrap().unwrap();
            order.lock().push(idx);
        }));
    }
    let refused = ask_with(&fixture, 9., &[("priority", 3)]).await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert!(refused.message().contains("1 requests waiting"), "{refused}");
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    for waiter in waiting {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock(), [2, 1, 0]);
}

#[tokio::test]
async fn a_request_whose_queue_time_is_up_is_refused_while_the_engine_is_busy() {
    let policy = QueuePolicy {
        allow_timeout_override: true,
        default_timeout_microseconds: 60_000_000,
        ..QueuePolicy::default()
    };
    let fixture =
        serve(FakeEngine::new(), with_batching(|batching| batching.default_queue_policy = Some(policy))).await;
    let first = fixture.occupied().await;
    let error = ask_with(&fixture, 1., &[("timeout", 1_000)]).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.message().starts_with("Request timeout expired"), "{error}");
    assert!(error.message().contains("in the queue of model 'm'"), "{error}");
    let deadline = Context { deadline: Some(Instant::now() + Duration::from_millis(2)), ..Context::default() };
    let error = fixture.runtime.infer(request(&[1., 1.]), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    fixture.queued(0).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    assert_eq!(fixture.engine.batch_rows(), [1]);
}

#[tokio::test]
async fn a_deadline_is_kept_while_the_request_runs() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    fixture.engine.gate().close();
    let deadline = Context { deadline: Some(Instant::now() + Duration::from_millis(2)), ..Context::default() };
    let error = fixture.runtime.infer(request(&[1., 1.]), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    fixture.engine.gate().open();
    assert_eq!(fixture.answer(&[2., 2.]).await.unwrap(), [2., 2.]);
}

#[tokio::test]
async fn a_preferred_size_runs_before_the_delay_is_over() {
    let fixture = serve(
        FakeEngine::new(),
        with_batching(|batching| {
            batching.preferred_batch_size = vec![2];
            batching.max_queue_delay_microseconds = 3_600_000_000;
        }),
    )
    .await;
    let (first, second) = (fixture.ask(&[1., 1.]), fixture.ask(&[2., 2.]));
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(fixture.engine.batch_rows(), [2]);
}

#[tokio::test]
async fn an_engine_that_hangs_loses_its_batch_and_is_replaced() {
    let mut spec = version(1);
    spec.config.run_timeout = Some(Duration::from_millis(20));
    let fixture = serve(FakeEngine::new().reacting_to(13., Reaction::Hang), spec).await;
    let error = fixture.answer(&[13., 0.]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert_eq!(error.message(), "model 'm' version 1: the engine did not come back within 20 ms");
    // Its place is taken by another instance; what waits is served.
    assert_eq!(fixture.answer(&[1., 0.]).await.unwrap(), [1., 0.]);
    assert_eq!(fixture.engine.live_instances(), 2);
    fixture.runtime.shutdown().await;
    fixture.engine.hang_gate().open();
    while fixture.engine.live_instances() > 0 {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn background_work_fills_batches_but_goes_last() {
    let fixture = serve(FakeEngine::new(), with_batching(|batching| batching.max_rows = Some(2))).await;
    let first = fixture.occupied().await;
    let background = |value: f32| {
        let (runtime, request) = (fixture.runtime.clone(), request(&[value, value]));
        let ctx = Context { class: Class::Background, ..Context::default() };
        tokio::spawn(async move { runtime.infer(request, ctx).await })
    };
    let mut waiting = vec![background(1.), background(2.)];
    fixture.queued(2).await;
    waiting.push(fixture.ask(&[3., 3.]));
    fixture.queued(3).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    let mut rows = Vec::new();
    for answer in waiting {
        rows.push(answer.await.unwrap().unwrap().timings.batch_rows);
    }
    // The online request took the first of them along.
    assert_eq!(rows, [2, 1, 2]);
}

#[tokio::test]
async fn requests_of_different_lengths_share_a_padded_batch() {
    let spec_of = |name: &str| TensorSpec::new(name, DataType::Fp32, &[-1, -1]);
    let signature =
        Signature { inputs: vec![spec_of("x")], outputs: vec![spec_of("y")], batching: Batching::Rows { limit: None } };
    let padding = Padding {
        inputs: BTreeMap::from([("x".to_owned(), -1.0)]),
        outputs: vec!["y".to_owned()],
        buckets: vec![4, 8],
    };
    let spec = with_batching(|batching| batching.padding = Some(padding));
    let fixture = serve(FakeEngine::new().with_signature(signature), spec).await;
    let first = fixture.occupied().await;
    let ask = |length: usize| {
        let mut request = request(&[0., 0.]);
        request.inputs = vec![tensor("x", &[1, length], &vec![length as f32; length])];
        let runtime = fixture.runtime.clone();
        tokio::spawn(async move { runtime.infer(request, Context::default()).await })
    };
    let waiting: Vec<_> = [2, 4, 7, 3].into_iter().map(|length| (length, ask(length))).collect();
    fixture.queued(4).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    for (length, answer) in waiting {
        assert_eq!(values_of(&answer.await.unwrap().unwrap()), vec![length as f32; length]);
    }
    // 2, 4 and 3 ran together, 7 by itself.
    assert_eq!(fixture.engine.batch_rows(), [1, 3, 1]);
}

#[tokio::test]
async fn waiting_inputs_are_bounded_over_all_models() {
    let options = RuntimeOptions { max_waiting_bytes: Some(16), ..RuntimeOptions::default() };
    let fixture = Fixture::start(FakeEngine::new(), vec![version(1)], options).await;
    let first = fixture.occupied().await;
    let second = fixture.ask(&[1., 1.]);
    fixture.queued(1).await;
    let error = fixture.answer(&[2., 2.]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(fixture.answer(&[3., 3.]).await.unwrap(), [3., 3.]);
}

/// Whether every row of `records` is within `max_rows`, or a single request that was larger.
fn within(records: &[BatchRecord], max_rows: usize, largest: usize) -> bool {
    records.iter().all(|record| record.rows <= max_rows.max(largest))
}

#[derive(Debug, Clone)]
struct Arrival {
    rows: usize,
    priority: i64,
    background: bool,
    /// What the caller does: waits, leaves after so many turns of the scheduler, or has so many
    /// microseconds.
    caller: Caller,
}

#[derive(Debug, Clone)]
enum Caller {
    Waits,
    Leaves(usize),
    Hurries(u64),
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let caller = prop_oneof![
        4 => Just(Caller::Waits),
        1 => (0usize..20).prop_map(Caller::Leaves),
        1 => (0u64..3_000).prop_map(Caller::Hurries),
    ];
    (1usize..5, 0i64..4, prop::bool::weighted(0.2), caller).prop_map(|(rows, priority, background, caller)| Arrival {
        rows,
        priority,
        background,
        caller,
    })
}

/// Sends `arrivals` at a runtime and returns how each ended.
async fn play(fixture: &Fixture, arrivals: &[Arrival]) -> Vec<(usize, Option<Result<Vec<f32>>>)> {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (idx, arrival) in arrivals.iter().cloned().enumerate() {
        let (runtime, ended) = (fixture.runtime.clone(), ended.clone());
        tasks.push(tokio::spawn(async move {
            // Each row carries the number of its request, so that a mixed-up row shows.
            let mut request = request(&vec![idx as f32; arrival.rows * 2]);
            request.parameters.insert("priority".to_owned(), Parameter::Int(arrival.priority));
            let class = if arrival.background { Class::Background } else { Class::Interactive };
            let hurry = |micros| Instant::now() + Duration::from_micros(micros);
            let deadline = if let Caller::Hurries(micros) = arrival.caller { Some(hurry(micros)) } else { None };
            let call = runtime.infer(request, Context { class, deadline, ..Context::default() });
            let result = match arrival.caller {
                Caller::Waits | Caller::Hurries(_) => Some(call.await.map(|response| values_of(&response))),
                Caller::Leaves(turns) => {
                    let leave = async {
                        for _ in 0..turns {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::select! {
                        biased;
                        result = call => Some(result.map(|response| values_of(&response))),
                        () = leave => None,
                    }
                }
            };
            ended.lock().push((idx, result));
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    std::mem::take(&mut *ended.lock())
}

/// Everyone is answered once with own rows, limits hold, and nothing stays behind.
fn check_play(threads: usize, spec: ModelSpec, arrivals: &[Arrival], max_rows: usize) -> Result<(), TestCaseError> {
    let runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    runtime.unwrap().block_on(async {
        let options = RuntimeOptions { max_queue: Some(64), ..RuntimeOptions::default() };
        let fixture = Fixture::start(FakeEngine::new().adding(0.5), vec![spec], options).await;
        // A few quick ones first: from then on the model may run on the callers' threads.
        for _ in 0..40 {
            fixture.answer(&[0., 0.]).await.unwrap();
        }
        let ended = play(&fixture, arrivals).await;
        prop_assert_eq!(ended.len(), arrivals.len());
        for (idx, result) in &ended {
            let arrival = &arrivals[*idx];
            match result {
                None => prop_assert!(matches!(arrival.caller, Caller::Leaves(_))),
                Some(Ok(values)) => {
                    prop_assert_eq!(values, &vec![*idx as f32 + 0.5; arrival.rows * 2]);
                }
                Some(Err(error)) if error.kind() == ErrorKind::Deadline => {
                    prop_assert!(matches!(arrival.caller, Caller::Hurries(_)));
                }
                Some(Err(error)) => prop_assert_eq!(error.kind(), ErrorKind::Overloaded),
            }
        }
        prop_assert!(within(&fixture.engine.batches(), max_rows, 0));
        fixture.queued(0).await;
        // Every place and every byte came back: the slot can drain.
        fixture.runtime.shutdown().await;
        prop_assert_eq!(fixture.runtime.shared.waiting.taken(), 0);
        prop_assert_eq!((fixture.engine.live_models(), fixture.engine.live_instances()), (0, 0));
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn everyone_is_answered_once_with_own_rows(
        arrivals in proptest::collection::vec(arrival(), 1..60),
        threads in 1usize..3,
        instances in 1usize..4,
        priority_levels in 0u32..4,
        preserve_ordering in any::<bool>(),
        late in any::<bool>(),
    ) {
        let policy = QueuePolicy {
            delay_on_timeout: late,
            default_timeout_microseconds: 60_000_000,
            allow_timeout_override: true,
            max_queue_size: 0,
        };
        // Order over several levels would undo the levels: one or the other.
        let priority_levels = if preserve_ordering { 0 } else { priority_levels };
        let mut spec = with_batching(|batching| {
            batching.max_rows = Some(6);
            batching.priority_levels = priority_levels;
            batching.default_priority_level = priority_levels.min(1);
            batching.preserve_ordering = preserve_ordering;
            batching.default_queue_policy = Some(policy);
        });
        spec.config.instance_groups = vec![InstanceGroup { count: instances, ..InstanceGroup::default() }];
        spec.config.run_timeout = Some(Duration::from_secs(60));
        check_play(threads, spec, &arrivals, 6)?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quick_model_runs_on_the_threads_that_ask() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    for _ in 0..200 {
        fixture.answer(&[1., 1.]).await.unwrap();
    }
    let batches = fixture.engine.batches();
    let worker = batches[0].thread;
    let elsewhere = batches.iter().filter(|batch| batch.thread != worker).count();
    assert!(elsewhere > 0, "all {} batches ran on the worker's thread", batches.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_with_one_line_for_all_is_left_to_its_workers() {
    let keeps_order = with_batching(|batching| batching.preserve_ordering = true);
    let counts = with_batching(|batching| {
        batching.default_queue_policy = Some(QueuePolicy { max_queue_size: 8, ..QueuePolicy::default() });
    });
    for spec in [keeps_order, counts] {
        let fixture = serve(FakeEngine::new(), spec).await;
        for _ in 0..20 {
            fixture.answer(&[1., 1.]).await.unwrap();
        }
        let own = std::thread::current().id();
        let batches = fixture.engine.batches();
        let callers = batches.iter().filter(|batch| batch.thread == own).count();
        assert_eq!((batches.len(), callers), (20, 0));
    }
}

/// P5 and P6: 10⁵ requests (`SALVER_REQUESTS` for more) whose callers leave at random, and no
/// answer crosses over to another. Counts what was opened and what was closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_crossed_over_many_requests_whose_callers_leave() {
    let total: usize = std::env::var("SALVER_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let mut spec = version(1);
    spec.config.instance_groups = vec![InstanceGroup { count: 2, ..InstanceGroup::default() }];
    let fixture = Arc::new(Fixture::start(FakeEngine::new().adding(1.), vec![spec], RuntimeOptions::default()).await);
    let (answered, left, crossed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let counts = Arc::new((answered, left, crossed));
    let askers: Vec<_> = (0..64usize)
        .map(|asker| {
            let (fixture, counts) = (fixture.clone(), counts.clone());
            tokio::spawn(async move {
                for number in (asker..total).step_by(64) {
                    let call = fixture.runtime.infer(request(&[asker as f32, number as f32]), Context::default());
                    // A third of the callers leaves after a few turns, the same ones every time.
                    let turns = number.wrapping_mul(0x9e37_79b9) >> 7 & 7;
                    let leave = async {
                        for _ in 0..if number % 3 == 0 { turns } else { usize::MAX } {
                            tokio::task::yield_now().await;
                        }
                    };
                    let result = tokio::select! {
                        biased;
                        result = call => Some(result.unwrap()),
                        () = leave => None,
                    };
                    match result {
                        None => counts.1.fetch_add(1, Ordering::Relaxed),
                        Some(response) if values_of(&response) == [asker as f32 + 1., number as f32 + 1.] => {
                            counts.0.fetch_add(1, Ordering::Relaxed)
                        }
                        Some(_) => counts.2.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
    let rows: usize = fixture.engine.batch_rows().iter().sum();
    let (answered, left, crossed) =
        (counts.0.load(Ordering::Relaxed), counts.1.load(Ordering::Relaxed), counts.2.load(Ordering::Relaxed));
    eprintln!(
        "P5, P6: {total} requests: {answered} answered, {left} left, {crossed} crossed; {rows} rows reached the engine"
    );
    assert_eq!((answered + left, crossed), (total, 0));
    assert!(left > 0 && rows >= answered && rows <= total);
    fixture.queued(0).await;
    fixture.runtime.shutdown().await;
    assert_eq!(fixture.runtime.shared.waiting.taken(), 0);
    assert_eq!((fixture.engine.live_models(), fixture.engine.live_instances()), (0, 0));
}
