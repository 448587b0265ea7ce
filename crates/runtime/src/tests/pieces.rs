//! Decoupled models: any number of answers to a request.

use futures::StreamExt as _;
use salver_core::BoxStream;

use super::*;

fn ask(fixture: &Fixture, values: &[f32], ctx: Context) -> BoxStream<'static, Result<InferResponse>> {
    fixture.runtime.clone().infer_stream(request(values), ctx)
}

/// Waits until nothing of the model is in flight.
async fn idle(fixture: &Fixture) {
    let ended = |stats: &salver_core::ModelStatistics| stats.execution_count + stats.fail.count > 0;
    while !ended(&fixture.runtime.statistics(None).unwrap()[0]) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_answer_comes_and_then_the_end() {
    let fixture = Fixture::serving(FakeEngine::new().adding(1.).repeating(20)).await;
    let mut answers = ask(&fixture, &[1., 2.], Context::default());
    for _ in 0..20 {
        let response = answers.next().await.unwrap().unwrap();
        assert_eq!((values_of(&response), response.id.as_deref()), (vec![2., 3.], Some("7")));
    }
    assert!(answers.next().await.is_none() && answers.next().await.is_none());
    assert_eq!(fixture.runtime.statistics(None).unwrap()[0].success.count, 1);
}

#[tokio::test]
async fn an_ordinary_model_gives_one_answer_and_a_decoupled_one_no_plain_one() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let answers: Vec<_> = ask(&fixture, &[1., 2.], Context::default()).collect().await;
    assert_eq!(answers.len(), 1);
    assert_eq!(values_of(answers[0].as_ref().unwrap()), [1., 2.]);
    assert!(!fixture.runtime.is_decoupled(&"m".parse().unwrap()));

    let fixture = Fixture::serving(FakeEngine::new().repeating(0)).await;
    assert!(fixture.runtime.is_decoupled(&"m".parse().unwrap()));
    let error = fixture.answer(&[1., 2.]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("doesn't support models with decoupled transaction policy"), "{error}");
    assert!(ask(&fixture, &[1., 2.], Context::default()).next().await.is_none(), "no answer is one too");
}

#[tokio::test]
async fn a_runner_rests_while_nobody_reads_and_goes_on_when_the_reader_has_left() {
    let fixture = Fixture::serving(FakeEngine::new().repeating(usize::MAX)).await;
    let mut answers = ask(&fixture, &[1., 2.], Context::default());
    answers.next().await.unwrap().unwrap();
    drop(answers);
    idle(&fixture).await;
    let mut answers = ask(&fixture, &[3., 4.], Context::default());
    assert_eq!(values_of(&answers.next().await.unwrap().unwrap()), [3., 4.]);
}

#[tokio::test]
async fn a_deadline_ends_answers_that_nobody_reads() {
    let fixture = Fixture::serving(FakeEngine::new().repeating(usize::MAX)).await;
    let deadline = Some(Instant::now() + Duration::from_millis(300));
    let mut answers = ask(&fixture, &[1., 2.], Context { deadline, ..Context::default() });
    answers.next().await.unwrap().unwrap();
    // Nobody reads; the runner gives up by itself.
    idle(&fixture).await;
    let mut last = None;
    while let Some(answer) = answers.next().await {
        last = Some(answer);
    }
    assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::Deadline);
}

#[tokio::test]
async fn time_that_the_reader_takes_does_not_count_as_the_runs() {
    let mut spec = version(1);
    spec.config.run_timeout = Some(Duration::from_millis(20));
    let fixture = Fixture::start(FakeEngine::new().repeating(12), vec![spec], RuntimeOptions::default()).await;
    let mut answers = ask(&fixture, &[1., 2.], Context::default());
    answers.next().await.unwrap().unwrap();
    // Longer than a run may take: the watch looks around meanwhile.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(answers.map(|answer| answer.unwrap()).count().await, 11);
}

#[tokio::test]
async fn a_decoupled_model_cannot_be_cached() {
    let mut spec = version(1);
    spec.config.response_cache = true;
    let fixture = Fixture::start(FakeEngine::new().repeating(2), vec![spec], RuntimeOptions::default()).await;
    let reason = &fixture.runtime.index()[0].reason;
    assert!(reason.contains("a model whose predict is a generator cannot have [cache]"), "{reason}");
}
