//! The response cache as callers of the runtime see it, over the fake engine.

use std::future::Future;
use std::pin::Pin;

use futures::poll;
use proptest::prelude::*;
use salver_core::{Infer as _, ModelControl as _, ModelRef};
use salver_testkit::{FakeEngine, Reaction, tensor};

use super::fake::FakeShared;
use super::*;
use crate::RuntimeOptions;
use crate::tests::{Fixture, request, values_of, version};

fn cached() -> ModelSpec {
    let mut spec = version(1);
    spec.config.response_cache = true;
    spec
}

fn options() -> RuntimeOptions {
    RuntimeOptions { cache: CacheOptions { bytes: 1 << 20, shared: None }, ..RuntimeOptions::default() }
}

async fn serving(engine: FakeEngine) -> Fixture {
    Fixture::start(engine.adding(1.), vec![cached()], options()).await
}

type Asked<'a> = Pin<Box<dyn Future<Output = Result<InferResponse>> + Send + 'a>>;

fn ask(fixture: &Fixture, value: f32) -> Asked<'_> {
    fixture.runtime.infer(request(&[value, 0.]), Context::default())
}

/// Asks and returns the first value and where it came from.
async fn answer(fixture: &Fixture, value: f32, cache: CacheUse) -> (f32, Option<CacheOutcome>) {
    let ctx = Context { cache, ..Context::default() };
    let response = fixture.runtime.infer(request(&[value, 0.]), ctx).await.unwrap();
    assert_eq!(response.id.as_deref(), Some("7"));
    (values_of(&response)[0], response.cache)
}

fn counted(fixture: &Fixture, result: &str) -> u64 {
    let line = format!("salver_cache_requests_total{{model=\"m\",version=\"1\",result=\"{result}\"}} ");
    let text = fixture.metrics.render();
    text.lines().find_map(|text| text.strip_prefix(&line)).unwrap().parse().unwrap()
}

async fn until(fixture: &Fixture, line: &str) {
    while !fixture.metrics.render().contains(&format!("{line}\n")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_same_question_is_computed_once() {
    let fixture = serving(FakeEngine::new()).await;
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Miss)));
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Hit)));
    assert_eq!(answer(&fixture, 5., CacheUse::Use).await, (6., Some(CacheOutcome::Miss)));
    assert_eq!(fixture.engine.batch_rows(), [1, 1]);
    assert_eq!((counted(&fixture, "hit"), counted(&fixture, "miss")), (1, 2));
    let statistics = fixture.runtime.statistics(None).unwrap().remove(0);
    assert_eq!((statistics.cache_hit.count, statistics.cache_miss.count), (1, 2));
    assert_eq!((statistics.success.count, statistics.inference_count), (3, 2));
    assert!(fixture.metrics.render().contains("ml_inference_total{model=\"m\",version=\"1\",status=\"success\"} 3"));
}

#[tokio::test]
async fn a_model_that_does_not_ask_for_it_is_not_cached() {
    let fixture = Fixture::start(FakeEngine::new(), vec![version(1)], options()).await;
    for _ in 0..2 {
        assert_eq!(answer(&fixture, 1., CacheUse::Use).await, (1., None));
    }
    let off = Fixture::start(FakeEngine::new(), vec![cached()], RuntimeOptions::default()).await;
    assert_eq!(answer(&off, 1., CacheUse::Use).await, (1., None));
    assert_eq!((fixture.engine.batches().len(), off.engine.batches().len()), (2, 1));
}

#[tokio::test]
async fn a_bypass_touches_nothing_and_a_refresh_writes_only() {
    let fixture = serving(FakeEngine::new()).await;
    assert_eq!(answer(&fixture, 1., CacheUse::Bypass).await, (2., Some(CacheOutcome::Bypass)));
    assert_eq!(answer(&fixture, 1., CacheUse::Refresh).await, (2., Some(CacheOutcome::Miss)));
    assert_eq!(answer(&fixture, 1., CacheUse::Refresh).await, (2., Some(CacheOutcome::Miss)));
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Hit)));
    assert_eq!(answer(&fixture, 1., CacheUse::Bypass).await, (2., Some(CacheOutcome::Bypass)));
    assert_eq!(fixture.engine.batches().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lives_as_long_as_its_model_says() {
    let mut spec = cached();
    spec.config.cache_ttl = Some(Duration::from_secs(60));
    let fixture = Fixture::start(FakeEngine::new(), vec![spec], options()).await;
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await.1, Some(CacheOutcome::Miss));
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await.1, Some(CacheOutcome::Hit));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await.1, Some(CacheOutcome::Miss));
}

#[tokio::test]
async fn what_does_not_fit_is_answered_and_not_kept() {
    let small = CacheOptions { bytes: 1 << 10, shared: None };
    let options = RuntimeOptions { cache: small, ..RuntimeOptions::default() };
    let fixture = Fixture::start(FakeEngine::new(), vec![cached()], options).await;
    for _ in 0..2 {
        assert_eq!(answer(&fixture, 1., CacheUse::Use).await, (1., Some(CacheOutcome::Miss)));
    }
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_refused_as_without_a_cache() {
    let fixture = serving(FakeEngine::new()).await;
    let plain = Fixture::start(FakeEngine::new(), vec![version(1)], options()).await;
    let mut wrong = [request(&[1., 1.]), request(&[1., 1.]), request(&[1., 1.]), request(&[1., 1.])];
    wrong[0].inputs = vec![tensor("x", &[1, 3], &[1f32, 2., 3.])];
    wrong[1].inputs = vec![tensor("q", &[1, 2], &[1f32, 2.])];
    wrong[2].inputs.push(tensor("x", &[1, 2], &[1f32, 2.]));
    wrong[3].outputs = vec!["q".into()];
    for request in wrong {
        let expected = plain.runtime.infer(request.clone(), Context::default()).await.unwrap_err();
        for _ in 0..2 {
            let error = fixture.runtime.infer(request.clone(), Context::default()).await.unwrap_err();
            assert_eq!((error.kind(), error.message()), (expected.kind(), expected.message()));
        }
    }
    assert!(fixture.engine.batches().is_empty());
}

#[tokio::test]
async fn identical_requests_in_flight_are_computed_once() {
    let fixture = serving(FakeEngine::new()).await;
    fixture.engine.gate().close();
    let mut all = [ask(&fixture, 1.), ask(&fixture, 1.), ask(&fixture, 1.)];
    for one in &mut all {
        assert!(poll!(one).is_pending());
    }
    fixture.engine.gate().open();
    let outcomes = futures::future::join_all(all).await.into_iter().map(|response| {
        let response = response.unwrap();
        assert_eq!(values_of(&response), [2., 1.]);
        response.cache.unwrap()
    });
    let expected = [CacheOutcome::Miss, CacheOutcome::Joined, CacheOutcome::Joined];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
    assert_eq!(fixture.engine.batches().len(), 1);
    assert!(fixture.metrics.render().contains("ml_inference_total{model=\"m\",version=\"1\",status=\"success\"} 3"));
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_waited_and_is_not_kept() {
    let poison = Reaction::Fail(Error::engine("division by zero"));
    let fixture = serving(FakeEngine::new().reacting_to(13., poison)).await;
    let alone = ask(&fixture, 13.).await.unwrap_err();
    let n_runs = fixture.engine.batches().len();
    fixture.engine.gate().close();
    let (mut leader, mut follower) = (ask(&fixture, 13.), ask(&fixture, 13.));
    assert!(poll!(&mut leader).is_pending() && poll!(&mut follower).is_pending());
    fixture.engine.gate().open();
    for error in [leader.await.unwrap_err(), follower.await.unwrap_err()] {
        assert_eq!((error.kind(), error.message()), (alone.kind(), alone.message()));
    }
    assert_eq!(fixture.engine.batches().len(), 2 * n_runs);
}

#[tokio::test]
async fn when_the_one_who_computes_leaves_another_takes_over() {
    let fixture = serving(FakeEngine::new()).await;
    let occupied = fixture.occupied().await;
    let (mut leader, mut second, mut third) = (ask(&fixture, 1.), ask(&fixture, 1.), ask(&fixture, 1.));
    for one in [&mut leader, &mut second, &mut third] {
        assert!(poll!(one).is_pending());
    }
    drop(leader);
    assert!(poll!(&mut second).is_pending());
    fixture.engine.gate().open();
    let (second, third) = (second.await.unwrap(), third.await.unwrap());
    assert_eq!((second.cache, third.cache), (Some(CacheOutcome::Miss), Some(CacheOutcome::Joined)));
    occupied.await.unwrap().unwrap();
    assert_eq!(fixture.engine.batches().len(), 2, "the one who left was never computed");
}

#[tokio::test]
async fn a_deadline_concerns_only_its_own_request() {
    let fixture = serving(FakeEngine::new()).await;
    let occupied = fixture.occupied().await;
    let late = || Context { deadline: Some(std::time::Instant::now()), ..Context::default() };
    let mut leader = fixture.runtime.infer(request(&[1., 0.]), late());
    assert!(poll!(&mut leader).is_pending());
    let mut follower = ask(&fixture, 1.);
    assert!(poll!(&mut follower).is_pending());
    let late_follower = fixture.runtime.infer(request(&[1., 0.]), late()).await.unwrap_err();
    fixture.engine.gate().open();
    let (leader, follower) = futures::join!(leader, follower);
    assert_eq!((late_follower.kind(), leader.unwrap_err().kind()), (ErrorKind::Deadline, ErrorKind::Deadline));
    assert_eq!(values_of(&follower.unwrap()), [2., 1.]);
    occupied.await.unwrap().unwrap();
}

#[tokio::test]
async fn those_who_wait_are_as_many_as_the_model_has_places() {
    let options = RuntimeOptions { max_queue: Some(2), ..options() };
    let fixture = Fixture::start(FakeEngine::new(), vec![cached()], options).await;
    fixture.engine.gate().close();
    let mut all = [ask(&fixture, 1.), ask(&fixture, 1.), ask(&fixture, 1.)];
    for one in &mut all {
        assert!(poll!(one).is_pending());
    }
    let error = ask(&fixture, 1.).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.retry_after().is_some());
    let patient = Context { class: Class::Background, ..Context::default() };
    let mut patient = fixture.runtime.infer(request(&[1., 0.]), patient);
    assert!(poll!(&mut patient).is_pending());
    fixture.engine.gate().open();
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    patient.await.unwrap();
}

#[tokio::test]
async fn a_version_that_goes_takes_its_answers_along() {
    let fixture = serving(FakeEngine::new()).await;
    answer(&fixture, 1., CacheUse::Use).await;
    until(&fixture, "salver_cache_entries 1").await;
    let mut changed = cached();
    changed.fingerprint += 1;
    fixture.source.set("m", Ok(vec![changed]));
    fixture.runtime.sync().await.unwrap();
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await.1, Some(CacheOutcome::Miss));
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await.1, Some(CacheOutcome::Hit));
    until(&fixture, "salver_cache_entries 1").await;
    fixture.source.set("m", Ok(vec![]));
    fixture.runtime.sync().await.unwrap();
    until(&fixture, "salver_cache_entries 0").await;
}

#[tokio::test]
async fn a_purge_forgets_and_counts() {
    let fixture = serving(FakeEngine::new()).await;
    for value in [1., 2., 3.] {
        answer(&fixture, value, CacheUse::Use).await;
    }
    let model = |text: &str| text.parse::<ModelRef>().unwrap();
    let runtime = &fixture.runtime;
    assert_eq!(runtime.purge_cache(Some(&model("n"))).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(runtime.purge_cache(Some(&model("m/1"))).await.unwrap(), 3);
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await.1, Some(CacheOutcome::Miss));
    assert_eq!(runtime.purge_cache(None).await.unwrap(), 1);
    assert_eq!(runtime.purge_cache(None).await.unwrap(), 0);
}

/// A file that a fake model is loaded from, so that its version has a digest.
fn with_artifact(folder: &tempfile::TempDir, content: &str) -> ModelSpec {
    let mut spec = cached();
    spec.artifact = folder.path().join("m.onnx");
    std::fs::write(&spec.artifact, content).unwrap();
    spec
}

async fn sharing(place: &Arc<FakeShared>, spec: ModelSpec) -> Fixture {
    let shared: Arc<dyn SharedCache> = place.clone();
    let options = RuntimeOptions { cache: CacheOptions { bytes: 1 << 20, shared: Some(shared) }, ..options() };
    Fixture::start(FakeEngine::new().adding(1.), vec![spec], options).await
}

#[tokio::test]
async fn servers_share_answers_of_equal_files_only() {
    let place = Arc::new(FakeShared::default());
    let folders = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
    let first = sharing(&place, with_artifact(&folders[0], "weights")).await;
    assert_eq!(answer(&first, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Miss)));
    place.written(1).await;
    let second = sharing(&place, with_artifact(&folders[1], "weights")).await;
    assert_eq!(answer(&second, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Shared)));
    assert_eq!(answer(&second, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Hit)));
    assert!(second.engine.batches().is_empty());
    let other = sharing(&place, with_artifact(&folders[2], "other weights")).await;
    assert_eq!(answer(&other, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Miss)));

    first.runtime.purge_cache(Some(&"m".parse().unwrap())).await.unwrap();
    second.runtime.purge_cache(None).await.unwrap();
    assert_eq!(answer(&second, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Miss)));
}

fn left_to_jobs(folder: &tempfile::TempDir, weights: &str) -> ModelSpec {
    let mut spec = with_artifact(folder, weights);
    spec.config.on_miss = OnMiss::Job;
    spec.config.cache_ttl = Some(Duration::from_secs(60));
    spec
}

/// Asks as one who can be given a job; the question, if it is left to one.
async fn ask_or_defer(fixture: &Fixture, value: f32, cache: CacheUse) -> Result<CacheKey, (f32, CacheOutcome)> {
    let ctx = Context { cache, ..Context::default() };
    match fixture.runtime.infer_or_defer(request(&[value, 0.]), ctx).await.unwrap() {
        Inferred::Later(deferred) => {
            assert_eq!((&*deferred.model.name, deferred.ttl), ("m", Some(Duration::from_secs(60))));
            Ok(deferred.question)
        }
        Inferred::Now(response) => Err((values_of(&response)[0], response.cache.unwrap())),
    }
}

#[tokio::test]
async fn what_is_not_kept_is_left_to_a_job_and_answered_once_it_is() {
    let folders = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
    let engine = || FakeEngine::new().adding(1.);
    let fixture = Fixture::start(engine(), vec![left_to_jobs(&folders[0], "weights")], options()).await;
    assert!(fixture.runtime.may_defer(&"m".parse().unwrap()));
    let question = ask_or_defer(&fixture, 1., CacheUse::Use).await.unwrap();
    assert_eq!(ask_or_defer(&fixture, 1., CacheUse::Use).await, Ok(question));
    let other = ask_or_defer(&fixture, 2., CacheUse::Use).await.unwrap();
    assert_ne!(other, question);
    assert!(fixture.engine.batches().is_empty());
    // What a job does.
    assert_eq!(answer(&fixture, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Miss)));
    assert_eq!(ask_or_defer(&fixture, 1., CacheUse::Use).await, Err((2., CacheOutcome::Hit)));
    assert_eq!(ask_or_defer(&fixture, 2., CacheUse::Use).await, Ok(other));
    let counts = ["deferred", "hit", "miss"].map(|result| counted(&fixture, result));
    assert_eq!((counts, fixture.engine.batch_rows()), ([4, 1, 1], vec![1]));

    let again = Fixture::start(engine(), vec![left_to_jobs(&folders[1], "weights")], options()).await;
    assert_eq!(ask_or_defer(&again, 1., CacheUse::Use).await, Ok(question), "equal files are the same question");
    let changed = Fixture::start(engine(), vec![left_to_jobs(&folders[2], "other weights")], options()).await;
    assert_ne!(ask_or_defer(&changed, 1., CacheUse::Use).await, Ok(question));
}

#[tokio::test]
async fn who_passes_the_cache_by_or_contradicts_the_model_gets_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let engine = FakeEngine::new().adding(1.);
    let fixture = Fixture::start(engine, vec![left_to_jobs(&folder, "weights")], options()).await;
    assert_eq!(ask_or_defer(&fixture, 1., CacheUse::Bypass).await, Err((2., CacheOutcome::Bypass)));
    assert_eq!(ask_or_defer(&fixture, 2., CacheUse::Refresh).await, Err((3., CacheOutcome::Miss)));
    assert_eq!(ask_or_defer(&fixture, 2., CacheUse::Use).await, Err((3., CacheOutcome::Hit)));
    for inputs in [vec![tensor("q", &[1, 2], &[1f32, 0.])], vec![tensor("x", &[1, 3], &[1f32, 0., 0.])], vec![]] {
        let request = InferRequest { inputs, ..request(&[1., 0.]) };
        let alone = fixture.runtime.infer(request.clone(), Context::default()).await.unwrap_err();
        let error = fixture.runtime.infer_or_defer(request, Context::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidInput, alone.message()));
    }
    assert_eq!(counted(&fixture, "deferred"), 0);
}

#[tokio::test]
async fn only_the_models_that_want_it_leave_anything_to_jobs() {
    let fixture = serving(FakeEngine::new()).await;
    assert!(!fixture.runtime.may_defer(&"m".parse().unwrap()));
    assert_eq!(ask_or_defer(&fixture, 1., CacheUse::Use).await, Err((2., CacheOutcome::Miss)));
    let folder = tempfile::tempdir().unwrap();
    let options = RuntimeOptions { no_jobs: Some("there is no queue".to_owned()), ..options() };
    let refused = Fixture::start(FakeEngine::new(), vec![left_to_jobs(&folder, "weights")], options).await;
    let reason = refused.runtime.index().remove(0).reason;
    assert!(reason.contains("on_miss") && reason.ends_with("there is no queue"), "{reason}");
}

#[tokio::test]
async fn a_shared_level_that_fails_or_lies_costs_only_the_computation() {
    let place = Arc::new(FakeShared::default());
    let folder = tempfile::tempdir().unwrap();
    let first = sharing(&place, with_artifact(&folder, "weights")).await;
    answer(&first, 1., CacheUse::Use).await;
    place.written(1).await;
    place.garble();
    let second = sharing(&place, with_artifact(&folder, "weights")).await;
    assert_eq!(answer(&second, 1., CacheUse::Use).await, (2., Some(CacheOutcome::Miss)));
    assert!(second.metrics.render().contains("salver_cache_shared_errors_total 1\n"));
    place.set_down(true);
    for value in 2..20u8 {
        assert_eq!(answer(&second, f32::from(value), CacheUse::Use).await.0, f32::from(value) + 1.);
    }
    assert_eq!(second.runtime.purge_cache(None).await.unwrap_err().kind(), ErrorKind::NotReady);
    until(&second, "salver_cache_entries 0").await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_answer_lives_no_longer_than_it_has_left() {
    let place = Arc::new(FakeShared::default());
    let folder = tempfile::tempdir().unwrap();
    let spec = |ttl_s| {
        let mut spec = with_artifact(&folder, "weights");
        spec.config.cache_ttl = Some(Duration::from_secs(ttl_s));
        spec
    };
    let first = sharing(&place, spec(10)).await;
    answer(&first, 1., CacheUse::Use).await;
    place.written(1).await;
    let second = sharing(&place, spec(60)).await;
    assert_eq!(answer(&second, 1., CacheUse::Use).await.1, Some(CacheOutcome::Shared));
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(answer(&second, 1., CacheUse::Use).await.1, Some(CacheOutcome::Hit));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(answer(&second, 1., CacheUse::Use).await.1, Some(CacheOutcome::Shared), "asked again");
}

/// What happens to a random crowd of identical requests.
#[derive(Debug, Clone)]
enum Step {
    /// A caller comes with one of a few questions.
    Come(u8),
    /// A caller looks whether its answer is there.
    Look(usize),
    /// A caller goes away.
    Leave(usize),
    /// The engine gets on.
    Run(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8).prop_map(Step::Come),
        3 => (0..40usize).prop_map(Step::Look),
        2 => (0..40usize).prop_map(Step::Leave),
        1 => (1..3usize).prop_map(Step::Run),
    ]
}

/// Plays the steps, then lets everybody who is left have an answer.
async fn play(steps: Vec<Step>) {
    let fixture = serving(FakeEngine::new()).await;
    fixture.engine.gate().close();
    let mut callers: Vec<(u8, Asked<'_>)> = Vec::new();
    let mut asked = std::collections::BTreeSet::new();
    let mut n_left = 0;
    let check = |question: u8, response: Result<InferResponse>| {
        assert_eq!(values_of(&response.unwrap()), [f32::from(question) + 1., 1.]);
    };
    for step in steps {
        let pick = |idx: usize| idx % callers.len().max(1);
        match step {
            Step::Come(question) => {
                asked.insert(question);
                callers.push((question, ask(&fixture, f32::from(question))));
            }
            Step::Look(idx) if !callers.is_empty() => {
                let idx = pick(idx);
                if let std::task::Poll::Ready(response) = poll!(&mut callers[idx].1) {
                    check(callers.swap_remove(idx).0, response);
                }
            }
            Step::Leave(idx) if !callers.is_empty() => {
                n_left += 1;
                drop(callers.swap_remove(pick(idx)));
            }
            Step::Run(count) => fixture.engine.gate().let_through(count),
            Step::Look(_) | Step::Leave(_) => {}
        }
    }
    fixture.engine.gate().open();
    for (question, response) in futures::future::join_all(callers.into_iter().map(async |(q, r)| (q, r.await))).await {
        check(question, response);
    }
    let n_rows: usize = fixture.engine.batch_rows().iter().sum();
    assert!(n_rows <= asked.len() + n_left, "{n_rows} rows for {} questions, {n_left} left", asked.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_caller_of_a_crowd_is_answered_and_nothing_is_computed_twice(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(play(steps));
    }
}
