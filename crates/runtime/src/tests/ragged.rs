//! Models that take the elements of all requests of a batch one after the other.

use proptest::prelude::*;
use salver_core::{
    BatchInput, BatchInputKind, BatchOutput, Batching, DataType, Dim, InstanceGroup, IoConfig, NumberType, Signature,
    TensorSpec, WarmupData, WarmupInput, WarmupRequest,
};
use tokio::task::JoinHandle;

use super::*;

const MAX_ROWS: usize = 4;

fn io(name: &str, dims: &[i64], is_ragged: bool) -> IoConfig {
    IoConfig {
        name: name.to_owned(),
        dtype: None,
        dims: Some(dims.iter().filter_map(|&dim| Dim::from_wire(dim)).collect()),
        reshape: None,
        label_filename: String::new(),
        optional: false,
        format: String::new(),
        allow_ragged_batch: is_ragged,
        is_shape_tensor: false,
    }
}

fn ragged_spec(instances: usize) -> ModelSpec {
    let made = |kind, target: &str| BatchInput {
        kind,
        targets: vec![target.to_owned()],
        numbers: NumberType::Int32,
        source: "x".to_owned(),
    };
    let mut spec = version(1);
    spec.config.batch = BatchRule::Max(MAX_ROWS);
    spec.config.inputs = vec![io("x", &[-1], true), io("p", &[1], false)];
    spec.config.outputs = vec![io("sum", &[1], false), io("twice", &[-1], false)];
    spec.config.batch_inputs =
        vec![made(BatchInputKind::AccumulatedElementCount, "ends"), made(BatchInputKind::ItemShapeFlatten, "lengths")];
    spec.config.batch_outputs = vec![BatchOutput { targets: vec!["twice".to_owned()], source: "x".to_owned() }];
    spec.config.instance_groups = vec![InstanceGroup { count: instances, ..InstanceGroup::default() }];
    spec
}

/// Sums the elements of each row and adds its `p`, and doubles every element. Runs are recorded by
/// their rows, as `p` comes first.
fn summing() -> FakeEngine {
    let signature = Signature {
        inputs: vec![
            TensorSpec::new("p", DataType::Fp32, &[-1, 1]),
            TensorSpec::new("x", DataType::Fp32, &[-1]),
            TensorSpec::new("ends", DataType::Int32, &[-1]),
            TensorSpec::new("lengths", DataType::Int32, &[-1]),
        ],
        outputs: vec![
            TensorSpec::new("sum", DataType::Fp32, &[-1, 1]),
            TensorSpec::new("twice", DataType::Fp32, &[-1]),
        ],
        batching: Batching::Rows { limit: None },
    };
    let compute = |_: usize, inputs: &[Tensor]| {
        let [p, x, ends, lengths] = inputs else {
            return Err(Error::engine(format!("{inputs:?}")));
        };
        let (p, x) = (p.to_vec::<f32>().unwrap(), x.to_vec::<f32>().unwrap());
        let (ends, lengths) = (ends.to_vec::<i32>().unwrap(), lengths.to_vec::<i32>().unwrap());
        assert_eq!((ends.last().map(|end| *end as usize), lengths.len()), (Some(x.len()), p.len()));
        let mut start = 0;
        let sum = |(p, length): (&f32, &i32)| {
            let row = &x[start..start + *length as usize];
            start += row.len();
            p + row.iter().sum::<f32>()
        };
        let sums: Vec<f32> = p.iter().zip(&lengths).map(sum).collect();
        let doubled: Vec<f32> = x.iter().map(|value| value * 2.).collect();
        Ok(vec![tensor("sum", &[sums.len(), 1], &sums), tensor("twice", &[doubled.len()], &doubled)])
    };
    FakeEngine::new().computing(signature, Arc::new(compute))
}

fn ragged_request(rows: usize, length: usize, from: f32) -> InferRequest {
    let values: Vec<f32> = (0..rows * length).map(|idx| from + idx as f32).collect();
    let inputs = vec![tensor("x", &[rows, length], &values), tensor("p", &[rows, 1], &vec![from; rows])];
    InferRequest { inputs, ..request(&[]) }
}

/// What the request gets, by definition.
fn expected(rows: usize, length: usize, from: f32) -> Vec<f32> {
    let value = |idx: usize| from + idx as f32;
    let sum = |row: usize| from + (row * length..(row + 1) * length).map(value).sum::<f32>();
    (0..rows).map(sum).chain((0..rows * length).map(|idx| value(idx) * 2.)).collect()
}

fn ask(fixture: &Fixture, rows: usize, length: usize, from: f32) -> JoinHandle<Result<InferResponse>> {
    let (runtime, request) = (fixture.runtime.clone(), ragged_request(rows, length, from));
    tokio::spawn(async move { runtime.infer(request, Context::default()).await })
}

async fn serve(engine: FakeEngine, instances: usize) -> Fixture {
    Fixture::start(engine, vec![ragged_spec(instances)], RuntimeOptions::default()).await
}

#[tokio::test]
async fn requests_of_different_lengths_share_a_batch() {
    let fixture = serve(summing(), 1).await;
    fixture.engine.gate().close();
    let before = fixture.engine.gate().arrivals();
    let first = ask(&fixture, 1, 2, 1.);
    fixture.engine.gate().arrived(before + 1).await;
    let sizes = [(1, 3), (1, 0), (2, 5), (1, 1)];
    let mut waiting = Vec::new();
    for (idx, (rows, length)) in sizes.into_iter().enumerate() {
        waiting.push(ask(&fixture, rows, length, 10. * idx as f32));
        fixture.queued(idx + 1).await;
    }
    fixture.engine.gate().open();
    let response = first.await.unwrap().unwrap();
    assert_eq!(values_of(&response), expected(1, 2, 1.));
    for (idx, (answer, (rows, length))) in waiting.into_iter().zip(sizes).enumerate() {
        let response = answer.await.unwrap().unwrap();
        assert_eq!(values_of(&response), expected(rows, length, 10. * idx as f32));
        let shapes: Vec<&[usize]> = response.outputs.iter().map(|output| &**output.shape()).collect();
        assert_eq!(shapes, [&[rows, 1][..], &[rows, length][..]]);
        assert_eq!(response.timings.batch_rows, if idx < 3 { 4 } else { 1 });
    }
    // The fifth row would be one too many.
    assert_eq!(fixture.engine.batch_rows(), [1, 4, 1]);
    assert_eq!(fixture.engine.batches().iter().map(|run| run.staged).collect::<Vec<_>>(), [false, true, false]);
}

#[tokio::test]
async fn a_request_that_fails_fails_alone() {
    let error = Error::engine("no thirteen");
    let fixture = serve(summing().reacting_to(13., Reaction::Fail(error)), 1).await;
    fixture.engine.gate().close();
    let before = fixture.engine.gate().arrivals();
    let first = ask(&fixture, 1, 1, 0.);
    fixture.engine.gate().arrived(before + 1).await;
    let waiting = [ask(&fixture, 1, 2, 1.), ask(&fixture, 1, 1, 13.), ask(&fixture, 1, 4, 20.)];
    fixture.queued(3).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    let mut results = Vec::new();
    for answer in waiting {
        results.push(answer.await.unwrap().map(|response| values_of(&response)));
    }
    assert_eq!(results[0].as_ref().unwrap(), &expected(1, 2, 1.));
    assert!(results[1].as_ref().unwrap_err().message().ends_with("no thirteen"));
    assert_eq!(results[2].as_ref().unwrap(), &expected(1, 4, 20.));
}

#[tokio::test]
async fn what_the_server_makes_is_not_asked_for() {
    let fixture = serve(summing(), 1).await;
    let info = fixture.runtime.describe(&"m".parse().unwrap()).unwrap();
    let inputs: Vec<_> = info.signature.inputs.iter().map(|spec| (&*spec.name, spec.wire_shape())).collect();
    assert_eq!(inputs, [("x", vec![-1, -1]), ("p", vec![-1, 1])]);
    let mut request = ragged_request(1, 2, 0.);
    request.inputs.push(Tensor::from_slice("ends", [1], &[2i32]).unwrap());
    let error = fixture.runtime.infer(request, Context::default()).await.unwrap_err();
    assert!(error.message().starts_with("unexpected inference input 'ends'"), "{error}");
    let mut request = ragged_request(1, 2, 0.);
    request.inputs[0] = tensor("x", &[2], &[0f32, 1.]);
    let error = fixture.runtime.infer(request, Context::default()).await.unwrap_err();
    assert!(error.message().contains("Expected [-1,-1], got [2]"), "{error}");
}

#[tokio::test]
async fn wanted_outputs_come_alone_and_in_their_order() {
    let fixture = serve(summing(), 1).await;
    for (names, values) in [(&["twice"][..], vec![6., 8.]), (&["twice", "sum"][..], vec![6., 8., 10.])] {
        let mut request = ragged_request(1, 2, 3.);
        request.outputs = names.iter().map(|name| (*name).into()).collect();
        let response = fixture.runtime.infer(request, Context::default()).await.unwrap();
        assert_eq!(values_of(&response), values);
    }
}

#[tokio::test]
async fn reshapes_are_undone_on_both_sides() {
    let mut spec = ragged_spec(1);
    let reshaped = |name: &str, is_ragged| IoConfig { reshape: Some(vec![Dim::Free]), ..io(name, &[1, -1], is_ragged) };
    spec.config.inputs[0] = reshaped("x", true);
    spec.config.outputs[1] = reshaped("twice", false);
    let fixture = Fixture::start(summing(), vec![spec], RuntimeOptions::default()).await;
    let mut request = ragged_request(2, 3, 1.);
    let x = request.inputs[0].clone().reshape([2, 1, 3].into()).unwrap();
    request.inputs[0] = x;
    let response = fixture.runtime.infer(request, Context::default()).await.unwrap();
    assert_eq!(values_of(&response), expected(2, 3, 1.));
    assert_eq!(&**response.outputs[1].shape(), [2, 1, 3]);
}

#[tokio::test]
async fn a_model_without_batches_takes_flat_requests_one_by_one() {
    let mut spec = ragged_spec(1);
    spec.config.batch = BatchRule::Never;
    spec.config.inputs = vec![io("x", &[-1, 2], true)];
    spec.config.outputs = vec![io("sum", &[1, 1], false), io("twice", &[-1, 2], false)];
    spec.config.batch_inputs.truncate(1);
    let signature = Signature {
        inputs: vec![TensorSpec::new("x", DataType::Fp32, &[-1]), TensorSpec::new("ends", DataType::Int32, &[-1])],
        outputs: vec![
            TensorSpec::new("sum", DataType::Fp32, &[-1, 1]),
            TensorSpec::new("twice", DataType::Fp32, &[-1]),
        ],
        batching: Batching::Rows { limit: None },
    };
    let compute = |_: usize, inputs: &[Tensor]| {
        let x = inputs[0].to_vec::<f32>().unwrap();
        assert_eq!((inputs[1].to_vec::<i32>().unwrap(), &**inputs[0].shape()), (vec![x.len() as i32], &[x.len()][..]));
        let doubled: Vec<f32> = x.iter().map(|value| value * 2.).collect();
        Ok(vec![tensor("sum", &[1, 1], &[x.iter().sum::<f32>()]), tensor("twice", &[x.len()], &doubled)])
    };
    let engine = FakeEngine::new().computing(signature, Arc::new(compute));
    let fixture = Fixture::start(engine, vec![spec], RuntimeOptions::default()).await;
    let mut request = ragged_request(2, 2, 1.);
    request.inputs.truncate(1);
    let response = fixture.runtime.infer(request, Context::default()).await.unwrap();
    assert_eq!(values_of(&response), [10., 2., 4., 6., 8.]);
    assert_eq!(&**response.outputs[1].shape(), [2, 2]);
}

#[tokio::test]
async fn a_warm_up_gets_what_the_server_makes() {
    let mut spec = ragged_spec(1);
    let input = |name: &str, extent| WarmupInput {
        name: name.to_owned(),
        dtype: DataType::Fp32,
        dims: vec![extent],
        data: WarmupData::Zeros,
    };
    let inputs = vec![input("x", 5), input("p", 1)];
    spec.config.warmup = vec![WarmupRequest { name: "w".to_owned(), batch_size: 3, count: 1, inputs }];
    let fixture = Fixture::start(summing(), vec![spec], RuntimeOptions::default()).await;
    assert_eq!(fixture.engine.batch_rows(), [3]);
    assert_eq!(values_of(&ask(&fixture, 1, 2, 1.).await.unwrap().unwrap()), expected(1, 2, 1.));
}

#[tokio::test]
async fn what_cannot_be_ragged_too_does_not_load() {
    let refused = |change: fn(&mut ModelSpec), engine: FakeEngine, expected: &'static str| async move {
        let mut spec = ragged_spec(1);
        change(&mut spec);
        let fixture = Fixture::start(engine, vec![spec], RuntimeOptions::default()).await;
        let reasons: Vec<String> = fixture.runtime.index().into_iter().map(|status| status.reason).collect();
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{reasons:?}");
    };
    refused(|_| {}, summing().repeating(2), "generator cannot have allow_ragged_batch").await;
    let pad = |spec: &mut ModelSpec| {
        let padding = salver_core::Padding { inputs: [("x".to_owned(), 0.)].into(), ..Default::default() };
        spec.config.dynamic_batching = Some(DynamicBatching { padding: Some(padding), ..DynamicBatching::default() });
    };
    refused(pad, summing(), "neither with batching.padding nor with sequence_batching").await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nobody_sees_with_whom_a_batch_was_shared(
        sizes in proptest::collection::vec((1usize..=MAX_ROWS, 0usize..7, 0usize..4), 1..40),
        threads in 1usize..3,
        instances in 1usize..3,
    ) {
        let runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
            threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        };
        runtime.unwrap().block_on(async {
            let fixture = serve(summing(), instances).await;
            let mut alone = Vec::new();
            for (idx, &(rows, length, _)) in sizes.iter().enumerate() {
                alone.push(values_of(&ask(&fixture, rows, length, idx as f32).await.unwrap().unwrap()));
                prop_assert_eq!(&alone[idx], &expected(rows, length, idx as f32));
            }
            let mut together = Vec::new();
            for (idx, &(rows, length, pause)) in sizes.iter().enumerate() {
                together.push(ask(&fixture, rows, length, idx as f32));
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
            }
            for (answer, alone) in together.into_iter().zip(alone) {
                prop_assert_eq!(values_of(&answer.await.unwrap().unwrap()), alone);
            }
            prop_assert!(fixture.engine.batch_rows().iter().all(|&rows| rows <= MAX_ROWS));
            // Each row ran once alone and once with others: a batch that failed would have been halved.
            let n_rows: usize = sizes.iter().map(|(rows, ..)| rows).sum();
            prop_assert_eq!(fixture.engine.batch_rows().iter().sum::<usize>(), 2 * n_rows);
            fixture.runtime.shutdown().await;
            Ok(())
        })?;
    }
}
