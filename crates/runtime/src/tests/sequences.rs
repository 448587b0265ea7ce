//! Stateful models: sequences over batches, instances and versions.

use std::collections::{BTreeMap, HashMap};

use salver_core::{
    Batching, ControlKind, DataType, Dim, FalseTrue, InstanceGroup, Parameter, SequenceBatching, SequenceControl,
    SequenceState, SequenceStrategy, Signature, TensorSpec,
};
use tokio::task::JoinHandle;

use super::*;

const IDLE: Duration = Duration::from_secs(600);

fn oldest(candidates: usize) -> SequenceStrategy {
    SequenceStrategy::Oldest {
        max_candidate_sequences: candidates,
        preferred_batch_size: Vec::new(),
        max_queue_delay_microseconds: 0,
        preserve_ordering: false,
    }
}

fn spec_with(strategy: SequenceStrategy, controls: bool, states: bool, number: u64) -> ModelSpec {
    let control = |input: &str, kind| SequenceControl { input: input.to_owned(), kind };
    let values = FalseTrue::Fp32([0.0, 1.0]);
    let controls = vec![
        control("start", ControlKind::Start(values)),
        control("end", ControlKind::End(values)),
        control("ready", ControlKind::Ready(values)),
        control("id", ControlKind::CorrelationId(DataType::Uint64)),
    ]
    .into_iter()
    .filter(|_| controls)
    .collect();
    let state = SequenceState {
        input: "s".to_owned(),
        output: "t".to_owned(),
        dtype: DataType::Fp32,
        dims: vec![Dim::Fixed(1)],
        initial: None,
    };
    let states = if states { vec![state] } else { Vec::new() };
    let mut spec = version(number);
    spec.config.dynamic_batching = None;
    spec.config.batch = BatchRule::Max(4);
    spec.config.sequence_batching = Some(Arc::new(SequenceBatching { strategy, max_idle: IDLE, controls, states }));
    spec
}

fn named<'a>(tensors: &'a [Tensor], name: &str) -> &'a Tensor {
    tensors.iter().find(|tensor| &**tensor.name() == name).unwrap()
}

/// y = s + x, t = s + x: sums up what a sequence sent.
fn summing() -> FakeEngine {
    let signature = Signature {
        inputs: vec![TensorSpec::new("s", DataType::Fp32, &[-1, 1]), TensorSpec::new("x", DataType::Fp32, &[-1, 1])],
        outputs: vec![TensorSpec::new("t", DataType::Fp32, &[-1, 1]), TensorSpec::new("y", DataType::Fp32, &[-1, 1])],
        batching: Batching::Rows { limit: None },
    };
    let compute = |_: usize, inputs: &[Tensor]| {
        let (s, x) = (named(inputs, "s"), named(inputs, "x"));
        let sums: Vec<f32> =
            s.to_vec::<f32>().unwrap().iter().zip(x.to_vec::<f32>().unwrap()).map(|(s, x)| s + x).collect();
        Ok(vec![tensor("t", s.shape(), &sums), tensor("y", x.shape(), &sums)])
    };
    FakeEngine::new().computing(signature, Arc::new(compute))
}

/// Keeps the sums itself, by instance and row, and says in `y` what it has; as the control inputs tell.
fn stateful() -> FakeEngine {
    let column = |name: &str, dtype| TensorSpec::new(name, dtype, &[-1, 1]);
    let signature = Signature {
        inputs: vec![
            column("start", DataType::Fp32),
            column("end", DataType::Fp32),
            column("ready", DataType::Fp32),
            column("id", DataType::Uint64),
            column("x", DataType::Fp32),
        ],
        outputs: vec![column("y", DataType::Fp32), column("of", DataType::Uint64)],
        batching: Batching::Rows { limit: None },
    };
    let sums: Mutex<HashMap<(usize, usize), f32>> = Mutex::default();
    let compute = move |instance: usize, inputs: &[Tensor]| {
        let column = |name: &str| named(inputs, name).to_vec::<f32>().unwrap();
        let (start, end, ready, x) = (column("start"), column("end"), column("ready"), column("x"));
        let mut sums = sums.lock();
        let mut y = Vec::new();
        for row in 0..x.len() {
            if ready[row] == 0.0 {
                assert!(start[row] == 0.0 && end[row] == 0.0, "an empty row says nothing");
                y.push(-1.0);
                continue;
            }
            if start[row] == 1.0 {
                sums.insert((instance, row), 0.0);
            }
            let Some(sum) = sums.get_mut(&(instance, row)) else {
                return Err(Error::engine("no such state"));
            };
            *sum += x[row];
            y.push(*sum);
            if end[row] == 1.0 {
                sums.remove(&(instance, row));
            }
        }
        Ok(vec![tensor("y", &[x.len(), 1], &y), named(inputs, "id").clone().rename("of")])
    };
    FakeEngine::new().computing(signature, Arc::new(compute))
}

fn step(id: u64, value: f32, starts: bool, ends: bool) -> InferRequest {
    InferRequest {
        model: "m".parse().unwrap(),
        id: None,
        inputs: vec![tensor("x", &[1, 1], &[value])],
        outputs: vec!["y".into()],
        parameters: BTreeMap::from([
            ("sequence_id".to_owned(), Parameter::Uint(id)),
            ("sequence_start".to_owned(), Parameter::Bool(starts)),
            ("sequence_end".to_owned(), Parameter::Bool(ends)),
        ]),
    }
}

impl Fixture {
    async fn sequences(engine: FakeEngine, spec: ModelSpec) -> Self {
        Self::start(engine, vec![spec], RuntimeOptions::default()).await
    }

    async fn step(&self, id: u64, value: f32, starts: bool, ends: bool) -> Result<f32> {
        let response = self.runtime.infer(step(id, value, starts, ends), Context::default()).await?;
        Ok(values_of(&response)[0])
    }

    fn later(&self, id: u64, value: f32, starts: bool, ends: bool) -> JoinHandle<Result<InferResponse>> {
        let (runtime, request) = (self.runtime.clone(), step(id, value, starts, ends));
        tokio::spawn(async move { runtime.infer(request, Context::default()).await })
    }
}

async fn sum(answer: JoinHandle<Result<InferResponse>>) -> f32 {
    values_of(&answer.await.unwrap().unwrap())[0]
}

#[tokio::test]
async fn the_server_keeps_a_state_for_each_sequence() {
    let fixture = Fixture::sequences(summing(), spec_with(oldest(8), false, true, 1)).await;
    assert_eq!(fixture.step(1, 1., true, false).await.unwrap(), 1.);
    assert_eq!(fixture.step(2, 10., true, false).await.unwrap(), 10.);
    assert_eq!(fixture.step(1, 2., false, false).await.unwrap(), 3.);
    assert_eq!(fixture.step(2, 20., false, true).await.unwrap(), 30.);
    assert_eq!(fixture.step(1, 3., false, false).await.unwrap(), 6.);
    assert_eq!(fixture.step(1, 5., true, false).await.unwrap(), 5., "a second start begins anew");
    assert_eq!(fixture.step(3, 7., true, true).await.unwrap(), 7.);
    for over in [2, 3] {
        let error = fixture.step(over, 1., false, false).await.unwrap_err();
        let expected = format!(
            "inference request for sequence {over} to model 'm' must specify the START flag on the first request of \
             the sequence"
        );
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidInput, expected.as_str()));
    }
    let info = fixture.runtime.describe(&"m".parse().unwrap()).unwrap();
    let names = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&info.signature.inputs), names(&info.signature.outputs)), (vec!["x".into()], vec!["y".into()]));
}

#[tokio::test]
async fn requests_that_name_no_sequence_or_several_rows_are_refused() {
    let fixture = Fixture::sequences(summing(), spec_with(oldest(8), false, true, 1)).await;
    let mut none = step(1, 1., true, false);
    none.parameters.clear();
    let error = fixture.runtime.infer(none, Context::default()).await.unwrap_err();
    assert!(error.message().contains("must specify a non-zero or non-empty correlation ID"), "{error}");
    let mut rows = step(1, 1., true, false);
    rows.inputs = vec![tensor("x", &[2, 1], &[1f32, 2.])];
    let error = fixture.runtime.infer(rows, Context::default()).await.unwrap_err();
    assert!(error.message().contains("must specify batch-size 1"), "{error}");
    let error = fixture.step(1, 1., false, false).await.unwrap_err();
    assert!(error.message().contains("START flag"), "what was refused began nothing: {error}");
}

#[tokio::test]
async fn different_sequences_share_a_batch_and_one_never_does() {
    let fixture = Fixture::sequences(summing(), spec_with(oldest(8), false, true, 1)).await;
    fixture.engine.gate().close();
    let before = fixture.engine.gate().arrivals();
    let first = fixture.later(9, 0., true, true);
    fixture.engine.gate().arrived(before + 1).await;
    let mut waiting = Vec::new();
    for (idx, (id, starts)) in [(1, true), (2, true), (1, false), (3, true), (1, false)].into_iter().enumerate() {
        waiting.push(fixture.later(id, id as f32, starts, false));
        fixture.queued(idx + 1).await;
    }
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    let mut sums = Vec::new();
    for answer in waiting {
        sums.push(sum(answer).await);
    }
    assert_eq!(sums, [1., 2., 2., 3., 3.]);
    assert_eq!(fixture.engine.batch_rows()[1..], [3, 1, 1][..]);
}

#[tokio::test]
async fn direct_gives_each_sequence_its_row_and_marks_the_empty_ones() {
    let fixture = Fixture::sequences(stateful(), spec_with(SequenceStrategy::default(), true, false, 1)).await;
    for id in 1..4 {
        assert_eq!(fixture.step(id, id as f32, true, false).await.unwrap(), id as f32);
    }
    // The third sequence has the third row, with or without the others.
    assert_eq!(fixture.step(3, 1., false, false).await.unwrap(), 4.);
    assert_eq!(fixture.engine.batch_rows().last(), Some(&3));
    assert_eq!(fixture.step(1, 1., false, true).await.unwrap(), 2.);
    assert_eq!(fixture.step(7, 5., true, false).await.unwrap(), 5., "the first row is free again");
    assert_eq!(fixture.engine.batch_rows().last(), Some(&1));
    let mut asked = step(2, 1., false, false);
    asked.outputs = vec!["of".into()];
    let response = fixture.runtime.infer(asked, Context::default()).await.unwrap();
    assert_eq!(response.outputs[0].to_vec::<u64>().unwrap(), [2]);
    let statistics = &fixture.runtime.statistics(None).unwrap()[0];
    assert_eq!(statistics.inference_count, 7, "empty rows are nobody's inferences");
}

#[tokio::test]
async fn a_sequence_without_a_row_waits_for_one() {
    let mut spec = spec_with(SequenceStrategy::default(), true, false, 1);
    spec.config.batch = BatchRule::Max(1);
    let options = RuntimeOptions { max_queue: Some(2), ..RuntimeOptions::default() };
    let fixture = Fixture::start(stateful(), vec![spec], options).await;
    fixture.step(1, 1., true, false).await.unwrap();
    let second = fixture.later(2, 2., true, false);
    let third = fixture.later(3, 3., true, false);
    fixture.queued(2).await;
    let refused = fixture.step(4, 4., true, false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    third.abort();
    fixture.queued(1).await;
    assert_eq!(fixture.step(1, 1., false, true).await.unwrap(), 2.);
    assert_eq!(sum(second).await, 2.);
}

#[tokio::test]
async fn a_sequence_that_rests_is_forgotten_and_its_row_is_free() {
    let mut spec = spec_with(SequenceStrategy::default(), true, false, 1);
    spec.config.batch = BatchRule::Max(1);
    let sequences = Arc::make_mut(spec.config.sequence_batching.as_mut().unwrap());
    sequences.max_idle = Duration::from_millis(20);
    let fixture = Fixture::sequences(stateful(), spec).await;
    fixture.step(1, 1., true, false).await.unwrap();
    // Nobody ends the first one; the watch does.
    assert_eq!(fixture.step(2, 2., true, false).await.unwrap(), 2.);
    let error = fixture.step(1, 1., false, false).await.unwrap_err();
    assert!(error.message().contains("START flag"), "{error}");
}

#[tokio::test]
async fn a_start_that_leaves_takes_what_follows_with_it() {
    let fixture = Fixture::sequences(summing(), spec_with(oldest(8), false, true, 1)).await;
    fixture.engine.gate().close();
    let before = fixture.engine.gate().arrivals();
    let first = fixture.later(9, 0., true, true);
    fixture.engine.gate().arrived(before + 1).await;
    let start = fixture.later(1, 1., true, false);
    fixture.queued(1).await;
    let next = fixture.later(1, 1., false, false);
    fixture.queued(2).await;
    start.abort();
    let error = next.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("has ended before it could run"), "{error}");
    fixture.queued(0).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_replaced_instance_costs_what_it_knew_and_nothing_that_the_server_keeps() {
    let fixture =
        Fixture::sequences(summing().reacting_to(13., Reaction::Panic), spec_with(oldest(8), false, true, 1)).await;
    fixture.step(1, 1., true, false).await.unwrap();
    assert_eq!(fixture.step(1, 13., false, false).await.unwrap_err().kind(), ErrorKind::Engine);
    assert_eq!(fixture.step(1, 2., false, false).await.unwrap(), 3.);

    let spec = spec_with(SequenceStrategy::default(), true, false, 1);
    let fixture = Fixture::sequences(stateful().reacting_to(13., Reaction::Panic), spec).await;
    fixture.step(1, 1., true, false).await.unwrap();
    fixture.step(2, 1., true, false).await.unwrap();
    assert_eq!(fixture.step(1, 13., false, false).await.unwrap_err().kind(), ErrorKind::Engine);
    for id in [1, 2] {
        let error = fixture.step(id, 2., false, false).await.unwrap_err();
        assert!(error.message().contains("START flag"), "its state is gone: {error}");
        assert_eq!(fixture.step(id, 3., true, false).await.unwrap(), 3.);
    }
}

#[tokio::test]
async fn a_run_that_hangs_frees_its_sequences() {
    let mut spec = spec_with(oldest(8), false, true, 1);
    spec.config.run_timeout = Some(Duration::from_millis(20));
    let fixture = Fixture::sequences(summing().reacting_to(13., Reaction::Hang), spec).await;
    fixture.step(1, 1., true, false).await.unwrap();
    assert_eq!(fixture.step(1, 13., false, false).await.unwrap_err().kind(), ErrorKind::Engine);
    assert_eq!(fixture.step(1, 2., false, false).await.unwrap(), 3.);
    fixture.engine.hang_gate().open();
}

#[tokio::test]
async fn sequences_that_have_begun_end_on_the_version_where_they_began() {
    let fixture = Fixture::sequences(summing(), spec_with(oldest(8), false, true, 1)).await;
    fixture.step(1, 1., true, false).await.unwrap();
    fixture.source.set("m", Ok(vec![spec_with(oldest(8), false, true, 2)]));
    fixture.runtime.sync().await.unwrap();
    let asked = async |id, starts, ends| {
        let response = fixture.runtime.infer(step(id, 1., starts, ends), Context::default()).await.unwrap();
        (response.model.version, values_of(&response)[0])
    };
    assert_eq!(asked(2, true, false).await, (2, 1.));
    assert_eq!(asked(1, false, false).await, (1, 2.));
    assert_eq!(asked(2, false, false).await, (2, 2.));
    assert_eq!(fixture.engine.live_models(), 2);
    assert_eq!(asked(1, false, true).await, (1, 3.));
    while fixture.engine.live_models() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked(1, true, true).await, (2, 1.));
}

#[tokio::test]
async fn an_unloaded_model_finishes_its_sequences_and_begins_none() {
    let options = RuntimeOptions { control: ControlMode::Explicit, load: vec!["m".to_owned()], ..Default::default() };
    let fixture = Fixture::start(summing(), vec![spec_with(oldest(8), false, true, 1)], options).await;
    fixture.step(1, 1., true, false).await.unwrap();
    fixture.runtime.unload("m").await.unwrap();
    assert_eq!(fixture.step(1, 1., false, false).await.unwrap(), 2.);
    assert!(fixture.step(2, 1., true, false).await.is_err());
    // Stopping waits for nobody who rests.
    fixture.runtime.shutdown().await;
    assert_eq!(fixture.engine.live_models(), 0);
}

#[tokio::test]
async fn stopping_answers_those_who_wait_for_a_row() {
    let mut spec = spec_with(SequenceStrategy::default(), true, false, 1);
    spec.config.batch = BatchRule::Max(1);
    let fixture = Fixture::sequences(stateful(), spec).await;
    fixture.engine.gate().close();
    let before = fixture.engine.gate().arrivals();
    let first = fixture.later(1, 1., true, false);
    fixture.engine.gate().arrived(before + 1).await;
    let waiting = [2, 3].map(|id| fixture.later(id, id as f32, true, false));
    fixture.queued(2).await;
    let runtime = fixture.runtime.clone();
    let stopping = tokio::spawn(async move { runtime.shutdown().await });
    fixture.engine.gate().open();
    stopping.await.unwrap();
    assert_eq!(sum(first).await, 1.);
    for (answer, expected) in waiting.into_iter().zip([2., 3.]) {
        assert_eq!(sum(answer).await, expected);
    }
}

/// The sums of many clients, whose sequences share instances, batches and versions.
async fn run_clients(strategy: SequenceStrategy, seed: u64) {
    const CLIENTS: u64 = 100;
    let spec = |number| {
        let mut spec = spec_with(strategy.clone(), false, true, number);
        spec.config.instance_groups = vec![InstanceGroup { count: 2, ..InstanceGroup::default() }];
        spec
    };
    let engine = summing().reacting_to(-7_777., Reaction::Panic);
    let fixture = Arc::new(Fixture::start(engine, vec![spec(1)], RuntimeOptions::default()).await);
    let clients: Vec<_> = (1..=CLIENTS).map(|id| tokio::spawn(client(fixture.clone(), id, seed))).collect();
    for number in 2..8 {
        fixture.source.set("m", Ok(vec![spec(number)]));
        fixture.runtime.sync().await.unwrap();
        // A sequence of its own costs an instance.
        let _ = fixture.step(1_000 + number, -7_777., true, true).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    while fixture.engine.live_models() > 1 {
        tokio::task::yield_now().await;
    }
    fixture.runtime.shutdown().await;
    assert_eq!((fixture.engine.live_models(), fixture.engine.live_instances()), (0, 0));
}

async fn client(fixture: Arc<Fixture>, id: u64, seed: u64) {
    let mut random = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for _ in 0..3 {
        let (steps, mut expected, mut ran_on) = (1 + next(6), 0.0, None);
        for number in 0..steps {
            let value = 1.0 + next(1_000) as f32;
            let (starts, ends) = (number == 0, number + 1 == steps);
            if next(20) == 0 && !starts && !ends {
                // One that leaves at once, whether it runs or not, ends what can be predicted.
                let later = fixture.later(id, 0.0, false, false);
                later.abort();
                let _ = later.await;
            }
            let request = step(id, value, starts, ends);
            match fixture.runtime.infer(request, Context::default()).await {
                Ok(response) => {
                    expected += value;
                    assert_eq!(values_of(&response), [expected], "client {id}");
                    let version = *ran_on.get_or_insert(response.model.version);
                    assert_eq!(response.model.version, version, "client {id} is moved within a sequence");
                }
                // It shared a batch with the one that panics; what is kept stays as it was.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Engine, "client {id}: {error}"),
            }
            if next(4) == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_keep_their_sums_apart_where_the_oldest_go_first() {
    run_clients(oldest(8), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_keep_their_sums_apart_where_each_has_its_row() {
    run_clients(SequenceStrategy::default(), 2).await;
}
