//! Requests of models with a task, over a task of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use salver_core::{
    Batching, Context, DataType, Encoded, Error, ErrorKind, Infer as _, InferRequest, ModelControl as _, ModelSpec,
    Notes, Padding, PartLimits, Result, Signature, Task, TaskMaker, TaskSpec, Tensor, TensorSpec, TextSpec, TextTask,
};
use salver_testkit::{FakeEngine, Gate, tensor, text};

use super::{Fixture, version};
use crate::{CacheOptions, RuntimeOptions};

/// Sums the bytes of texts: each becomes a row as long as it is, and rows of one length bucket a part.
#[derive(Debug)]
struct Sums {
    signature: Signature,
    encoded: Arc<AtomicUsize>,
    /// What [`SLOW`] waits at.
    gate: Arc<Gate>,
    is_quick: bool,
}

/// A text that ends the task in an error, and one that makes it panic.
const REFUSED: &[u8] = b"refused";
const PANICS: &[u8] = b"panics";
/// A text that is encoded once the gate is open.
const SLOW: &[u8] = b"slow";

impl Task for Sums {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn padding(&self) -> Option<Padding> {
        Some(Padding { inputs: [("x".to_owned(), 0.0)].into(), outputs: vec!["y".to_owned()], buckets: Vec::new() })
    }

    fn is_quick(&self, _: &[Tensor]) -> bool {
        self.is_quick
    }

    fn encode(&self, inputs: Vec<Tensor>, limits: PartLimits<'_>) -> Result<Encoded> {
        self.encoded.fetch_add(1, Ordering::SeqCst);
        let texts: Vec<&[u8]> = inputs[0].elements().unwrap().iter().collect();
        if let Some(row) = texts.iter().position(|text| *text == REFUSED) {
            return Err(Error::invalid_input(format!("input 'text', row {row}: no")));
        }
        assert!(!texts.contains(&PANICS), "as asked");
        if texts.contains(&SLOW) {
            self.gate.pass();
        }
        let mut rows: Vec<usize> = (0..texts.len()).collect();
        rows.sort_by_key(|&row| texts[row].len());
        let chunks = rows.chunk_by(|a, b| limits.bucket(texts[*a].len()) == limits.bucket(texts[*b].len()));
        let rows: Vec<Vec<usize>> =
            chunks.flat_map(|bucket| bucket.chunks(limits.max_rows)).map(<[_]>::to_vec).collect();
        let part = |rows: &Vec<usize>| {
            let length = rows.iter().map(|&row| texts[row].len()).max().unwrap();
            let values = rows.iter().flat_map(|&row| {
                texts[row].iter().map(|&byte| f32::from(byte)).chain(std::iter::repeat(0.0)).take(length)
            });
            vec![tensor("x", &[rows.len(), length], &values.collect::<Vec<f32>>())]
        };
        Ok(Encoded { parts: rows.iter().map(part).collect(), notes: Box::new(rows) })
    }

    fn decode(&self, outputs: Vec<Vec<Tensor>>, notes: Notes) -> Result<Vec<Tensor>> {
        let rows = notes.downcast::<Vec<Vec<usize>>>().unwrap();
        let mut sums = vec![0f32; rows.iter().map(Vec::len).sum()];
        for (rows, outputs) in rows.iter().zip(&outputs) {
            let values: Vec<f32> = outputs[0].to_vec().unwrap();
            for (row, values) in rows.iter().zip(values.chunks(values.len() / rows.len())) {
                sums[*row] = values.iter().sum();
            }
        }
        let rows: Vec<i64> = (0..).take(sums.len()).collect();
        Ok(vec![tensor("sum", &[sums.len()], &sums), tensor("row", &[rows.len()], &rows)])
    }

    fn example(&self) -> Vec<Tensor> {
        vec![text("text", &[1], &[b"ab"])]
    }
}

#[derive(Debug, Default)]
struct Maker {
    encoded: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    is_quick: bool,
}

impl TaskMaker for Maker {
    fn make(&self, _: &ModelSpec, graph: &Signature) -> Result<Option<Arc<dyn Task>>> {
        assert_eq!(&*graph.inputs[0].name, "x");
        let signature = Signature {
            inputs: vec![TensorSpec::new("text", DataType::Bytes, &[-1])],
            outputs: vec![
                TensorSpec::new("sum", DataType::Fp32, &[-1]),
                TensorSpec::new("row", DataType::Int64, &[-1]),
            ],
            batching: Batching::Rows { limit: None },
        };
        Ok(Some(Arc::new(Sums {
            signature,
            encoded: self.encoded.clone(),
            gate: self.gate.clone(),
            is_quick: self.is_quick,
        })))
    }
}

fn engine() -> FakeEngine {
    let free = |name: &str| TensorSpec::new(name, DataType::Fp32, &[-1, -1]);
    FakeEngine::new().with_signature(Signature {
        inputs: vec![free("x")],
        outputs: vec![free("y")],
        batching: Batching::Rows { limit: None },
    })
}

fn with_task() -> ModelSpec {
    let text = TextSpec {
        task: TextTask::TokenClassification,
        tokenizer: "tokenizer.json".into(),
        max_length: None,
        overlong: salver_core::Overlong::Cut,
        pad_to: None,
        labels: Vec::new(),
    };
    ModelSpec { task: TaskSpec::Text(text), ..version(1) }
}

async fn serving(engine: FakeEngine, maker: Maker, options: RuntimeOptions) -> Fixture {
    let options = RuntimeOptions { tasks: Some(Arc::new(maker)), ..options };
    Fixture::start(engine, vec![with_task()], options).await
}

fn request(texts: &[&[u8]]) -> InferRequest {
    let mut request = super::request(&[0., 0.]);
    request.inputs = vec![text("text", &[texts.len()], texts)];
    request
}

async fn sums(fixture: &Fixture, texts: &[&[u8]]) -> Result<Vec<f32>> {
    let response = fixture.runtime.infer(request(texts), Context::default()).await?;
    assert_eq!(&**response.outputs[0].name(), "sum");
    Ok(response.outputs[0].to_vec().unwrap())
}

fn sum(text: &[u8]) -> f32 {
    text.iter().map(|&byte| f32::from(byte)).sum()
}

#[tokio::test]
async fn requests_see_the_task_and_not_the_graph() {
    let fixture = serving(engine(), Maker::default(), RuntimeOptions::default()).await;
    let response = fixture.runtime.infer(request(&[b"abc"]), Context::default()).await.unwrap();
    assert_eq!(response.outputs.len(), 2);
    let info = &response.model;
    assert_eq!((&*info.signature.inputs[0].name, info.task.as_str()), ("text", "token-classification"));
    assert_eq!(info.example[0].elements().unwrap().get(0), Some(b"ab".as_slice()));
    let config = fixture.runtime.config(&"m".parse().unwrap()).unwrap();
    assert_eq!((config.inputs[0].name.as_str(), config.outputs[1].name.as_str()), ("text", "row"));
    // One output alone, and one that is not there.
    let wanted = |name: &str| InferRequest { outputs: vec![name.into()], ..request(&[b"abc"]) };
    let response = fixture.runtime.infer(wanted("row"), Context::default()).await.unwrap();
    assert_eq!((response.outputs.len(), &**response.outputs[0].name()), (1, "row"));
    let error = fixture.runtime.infer(wanted("y"), Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // The example ran before, as the first of all.
    assert!(fixture.metrics.render().contains("stage=\"preprocess\""));
}

#[tokio::test]
async fn rows_of_different_lengths_run_in_parts_and_come_back_in_their_order() {
    let fixture = serving(engine(), Maker::default(), RuntimeOptions::default()).await;
    let long = vec![b'x'; 100];
    let texts: Vec<&[u8]> = vec![&long, b"a", b"bcd", &long[..90], b"zz"];
    let expected: Vec<f32> = texts.iter().map(|text| sum(text)).collect();
    assert_eq!(sums(&fixture, &texts).await.unwrap(), expected);
    let mut batches = fixture.engine.batch_rows();
    batches.remove(0);
    batches.sort_unstable();
    // Up to 8 long, 90 and 100 long: each a batch, since one worker takes one bucket at a time.
    assert_eq!(batches.iter().sum::<usize>(), 5);
    assert!(batches.len() >= 2, "{batches:?}");
}

#[tokio::test]
async fn requests_of_similar_length_share_a_batch() {
    let fixture = serving(engine(), Maker { is_quick: true, ..Maker::default() }, RuntimeOptions::default()).await;
    fixture.engine.gate().close();
    let before = fixture.engine.gate().arrivals();
    let ask = |texts: Vec<&'static [u8]>| {
        let runtime = fixture.runtime.clone();
        tokio::spawn(async move { runtime.infer(request(&texts), Context::default()).await.unwrap() })
    };
    let first = ask(vec![b"a"]);
    fixture.engine.gate().arrived(before + 1).await;
    let (second, third) = (ask(vec![b"ab"]), ask(vec![b"abcdef", b"c"]));
    fixture.queued(2).await;
    fixture.engine.gate().open();
    for (asked, expected) in [(first, vec![97.]), (second, vec![195.]), (third, vec![597., 99.])] {
        assert_eq!(asked.await.unwrap().outputs[0].to_vec::<f32>().unwrap(), expected);
    }
    // The example, the first, then all rows of the others at once.
    assert_eq!(fixture.engine.batch_rows(), [1, 1, 3]);
}

#[tokio::test]
async fn what_the_task_refuses_never_reaches_the_engine() {
    let fixture = serving(engine(), Maker::default(), RuntimeOptions::default()).await;
    let before = fixture.engine.batches().len();
    let error = sums(&fixture, &[b"a", REFUSED]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidInput, "input 'text', row 1: no"));
    let error = sums(&fixture, &[PANICS]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Engine, "the task of model 'm' failed"));
    assert_eq!(fixture.engine.batches().len(), before);
    assert_eq!(sums(&fixture, &[b"a"]).await.unwrap(), [97.]);
}

#[tokio::test]
async fn a_full_model_spends_nothing_on_encoding() {
    let maker = Maker::default();
    let encoded = maker.encoded.clone();
    let fixture = serving(engine(), maker, RuntimeOptions { max_queue: Some(1), ..RuntimeOptions::default() }).await;
    fixture.engine.gate().close();
    let before = fixture.engine.gate().arrivals();
    let runtime = fixture.runtime.clone();
    let first = tokio::spawn(async move { runtime.infer(request(&[b"a", &[b'b'; 60]]), Context::default()).await });
    fixture.engine.gate().arrived(before + 1).await;
    let so_far = encoded.load(Ordering::SeqCst);
    assert_eq!(sums(&fixture, &[b"c"]).await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(encoded.load(Ordering::SeqCst), so_far);
    fixture.engine.gate().open();
    // Its two parts had the one place together.
    assert_eq!(first.await.unwrap().unwrap().outputs[0].to_vec::<f32>().unwrap(), [97., 60. * 98.]);
    assert_eq!(sums(&fixture, &[b"c"]).await.unwrap(), [99.]);
}

#[tokio::test]
async fn a_deadline_holds_while_a_request_is_prepared() {
    let gate = Arc::new(Gate::closed());
    let maker = Maker { gate: gate.clone(), ..Maker::default() };
    let fixture = serving(engine(), maker, RuntimeOptions::default()).await;
    let deadline = Instant::now() + Duration::from_millis(20);
    let ctx = Context { deadline: Some(deadline), ..Context::default() };
    let error = fixture.runtime.infer(request(&[SLOW]), ctx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    gate.open();
    assert_eq!(sums(&fixture, &[b"a"]).await.unwrap(), [97.]);
}

#[tokio::test]
async fn an_example_that_does_not_run_keeps_a_model_from_serving() {
    // `a` stands in the example.
    let engine = engine().reacting_to(97., salver_testkit::Reaction::Fail(Error::engine("no such token")));
    let fixture = serving(engine, Maker::default(), RuntimeOptions::default()).await;
    let index = fixture.runtime.index();
    let expected = "the task does not fit the model: its example does not run";
    assert!(index[0].reason.contains(expected), "{index:?}");
}

#[tokio::test]
async fn a_task_that_nobody_makes_is_refused() {
    let fixture = Fixture::start(engine(), vec![with_task()], RuntimeOptions::default()).await;
    assert!(fixture.runtime.index()[0].reason.contains("task 'token-classification' is not offered here"));
}

#[tokio::test]
async fn the_same_text_again_comes_from_the_cache() {
    let maker = Maker::default();
    let encoded = maker.encoded.clone();
    let mut spec = with_task();
    spec.config.response_cache = true;
    let options = RuntimeOptions {
        tasks: Some(Arc::new(maker)),
        cache: CacheOptions { bytes: 1 << 20, shared: None },
        ..RuntimeOptions::default()
    };
    let fixture = Fixture::start(engine(), vec![spec], options).await;
    assert_eq!(sums(&fixture, &[b"a"]).await.unwrap(), [97.]);
    let before = encoded.load(Ordering::SeqCst);
    assert_eq!(sums(&fixture, &[b"a"]).await.unwrap(), [97.]);
    assert_eq!(encoded.load(Ordering::SeqCst), before);
    assert_eq!(sums(&fixture, &[b"b"]).await.unwrap(), [98.]);
}
