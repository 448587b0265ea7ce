//! Instances that run elsewhere: they end, come back, or do not, and nobody else pays for it.

use salver_core::InstanceGroup;

use super::*;

/// What ends the instance, what fails as a row does, and what hangs.
const DEADLY: f32 = 13.;
const FAULTY: f32 = 12.;
const HANGS: f32 = 11.;
/// Far beyond the patience of any test.
const HOUR: Duration = Duration::from_secs(3600);
const QUICK: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(1) };

fn mortal() -> FakeEngine {
    FakeEngine::new()
        .elsewhere()
        .reacting_to(FAULTY, Reaction::Fail(Error::engine("division by zero")))
        .reacting_to(DEADLY, Reaction::Die)
        .reacting_to(HANGS, Reaction::Hang)
}

fn with_instances(count: usize) -> ModelSpec {
    let mut spec = version(1);
    spec.config.instance_groups = vec![InstanceGroup { count, ..InstanceGroup::default() }];
    spec
}

async fn serve(engine: FakeEngine, spec: ModelSpec, backoff: Backoff) -> Fixture {
    Fixture::start(engine, vec![spec], RuntimeOptions { backoff, ..RuntimeOptions::default() }).await
}

/// Two models on engines of their own: what befalls `m` cannot befall `n`.
async fn serve_two(options: RuntimeOptions) -> (Fixture, FakeEngine) {
    let (engine, other) = (mortal(), FakeEngine::new().named("other").elsewhere());
    let (source, metrics) = (Arc::new(Source::default()), Metrics::new());
    source.set("m", Ok(vec![version(1)]));
    let of_other = ModelSpec { name: ModelName::new("n").unwrap(), ..on_other(version(1)) };
    source.set("n", Ok(vec![of_other]));
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(engine.clone()), Arc::new(other.clone())];
    let runtime = Runtime::new(engines, source.clone(), metrics.clone(), options);
    runtime.start().await.unwrap();
    (Fixture { runtime, source, engine, metrics }, other)
}

fn on_other(spec: ModelSpec) -> ModelSpec {
    ModelSpec { engine: Some("other".to_owned()), fingerprint: 99, ..spec }
}

impl Fixture {
    /// Waits until a line of the metrics of model `m` is this.
    async fn counted(&self, metric: &str, labels: &str, count: usize) {
        let line = format!("{metric}{{model=\"m\",version=\"1\"{labels}}} {count}\n");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.metrics.render().contains(&line) {
            assert!(Instant::now() < deadline, "{line} in {}", self.metrics.render());
            tokio::task::yield_now().await;
        }
    }

    async fn died(&self, count: usize) {
        self.counted("salver_instances_replaced_total", ",reason=\"died\"", count).await;
    }

    /// Waits until version 1 of `m` is in this state, and returns the reason.
    async fn is_shown(&self, state: ModelState) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let index = self.runtime.index();
            let of_m = index.iter().find(|status| status.name == "m" && status.version == Some(1)).unwrap();
            if of_m.state == Some(state) {
                return of_m.reason.clone();
            }
            assert!(Instant::now() < deadline, "{index:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Kills the only instance and fails four attempts to make another; the next one waits at the
    /// gate.
    async fn breaks_down(&self) {
        self.engine.instance_gate().close();
        self.engine.fail_instances(4, Error::engine("No module named 'torch'"));
        self.engine.kill();
        self.engine.instance_gate().let_through(4);
        self.engine.instance_gate().arrived(6).await;
    }
}

#[tokio::test]
async fn an_instance_that_ended_while_idle_is_made_again_without_a_request() {
    let fixture = serve(mortal(), version(1), Backoff::default()).await;
    fixture.engine.kill();
    fixture.engine.instance_gate().arrived(2).await;
    fixture.died(1).await;
    assert_eq!(fixture.answer(&[1., 1.]).await.unwrap(), [1., 1.]);
    assert_eq!((fixture.engine.instance_gate().arrivals(), fixture.engine.live_instances()), (2, 1));
}

#[tokio::test]
async fn an_end_before_the_batch_costs_no_request() {
    let fixture = serve(mortal(), version(1), Backoff::default()).await;
    for round in 0..20 {
        fixture.engine.instance_gate().close();
        fixture.engine.kill();
        let waiting: Vec<_> = (0..3).map(|idx| fixture.ask(&[idx as f32, 0.])).collect();
        fixture.engine.instance_gate().arrived(round + 2).await;
        fixture.queued(3).await;
        fixture.engine.instance_gate().open();
        for (idx, answer) in waiting.into_iter().enumerate() {
            assert_eq!(values_of(&answer.await.unwrap().unwrap()), [idx as f32, 0.]);
        }
    }
    let stats = fixture.runtime.statistics(None).unwrap();
    assert_eq!((stats[0].success.count, stats[0].fail.count), (60, 0));
}

#[tokio::test]
async fn an_end_in_the_run_fails_the_whole_batch_and_nothing_else() {
    let fixture = serve(mortal(), version(1), Backoff::default()).await;
    let first = fixture.occupied().await;
    let waiting: Vec<_> = [1., DEADLY, 2.].iter().map(|&value| fixture.ask(&[value, 0.])).collect();
    fixture.queued(3).await;
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    for answer in waiting {
        let error = answer.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady);
        assert_eq!(error.message(), "model 'm' version 1: its worker ended by signal 9");
        assert!(error.is_of_lost_batch());
    }
    assert_eq!(fixture.answer(&[3., 3.]).await.unwrap(), [3., 3.]);
    // Not halved: that would have cost two more.
    assert_eq!((fixture.engine.batch_rows(), fixture.engine.live_instances()), (vec![1, 3, 1], 1));
    assert_eq!(fixture.runtime.statistics(None).unwrap()[0].fail.count, 3);
    fixture.died(1).await;
}

#[tokio::test]
async fn of_a_halved_batch_what_did_not_run_yet_is_put_back() {
    let fixture = serve(mortal(), version(1), Backoff::default()).await;
    let first = fixture.occupied().await;
    let mut waiting = Vec::new();
    for value in [DEADLY, 1., FAULTY, 2.] {
        waiting.push(fixture.ask(&[value, 0.]));
        fixture.queued(waiting.len()).await;
    }
    fixture.engine.gate().open();
    first.await.unwrap().unwrap();
    let mut kinds = Vec::new();
    for answer in waiting {
        kinds.push(answer.await.unwrap().map_err(|error| (error.kind(), error.is_of_lost_batch())).err());
    }
    let lost = Some((ErrorKind::NotReady, true));
    assert_eq!(kinds, [lost, lost, Some((ErrorKind::Engine, false)), None]);
    assert_eq!(fixture.engine.batch_rows(), [1, 4, 2, 2, 1, 1]);
}

#[tokio::test]
async fn a_row_that_fails_leaves_an_instance_elsewhere_as_it_is() {
    let fixture = serve(mortal(), version(1), Backoff::default()).await;
    assert_eq!(fixture.answer(&[FAULTY, 0.]).await.unwrap_err().kind(), ErrorKind::Engine);
    assert_eq!(fixture.answer(&[1., 0.]).await.unwrap(), [1., 0.]);
    assert_eq!(fixture.engine.instance_gate().arrivals(), 1);
    fixture.died(0).await;
}

#[tokio::test]
async fn other_instances_serve_while_one_is_made_again() {
    let fixture = serve(mortal(), with_instances(2), Backoff::default()).await;
    fixture.engine.instance_gate().close();
    let error = fixture.answer(&[DEADLY, 0.]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_of_lost_batch()), (ErrorKind::NotReady, false), "nobody else was there");
    fixture.engine.instance_gate().arrived(3).await;
    for _ in 0..10 {
        assert_eq!(fixture.answer(&[1., 0.]).await.unwrap(), [1., 0.]);
    }
    assert_eq!(fixture.engine.live_instances(), 1);
    fixture.engine.instance_gate().open();
}

#[tokio::test]
async fn a_crash_loop_makes_the_model_unavailable_until_it_is_mended() {
    let fixture = serve(mortal(), version(1), QUICK).await;
    let model: ModelRef = "m".parse().unwrap();
    fixture.engine.instance_gate().close();
    fixture.engine.fail_instances(4, Error::engine("No module named 'torch'"));
    fixture.engine.kill();
    let waiting = [fixture.ask(&[1., 0.]), fixture.ask(&[2., 0.])];
    fixture.queued(2).await;
    fixture.engine.instance_gate().let_through(3);
    fixture.engine.instance_gate().arrived(5).await;
    // Four ends in a row: it may still come back.
    assert!(fixture.runtime.is_model_ready(&model) && waiting.iter().all(|answer| !answer.is_finished()));
    fixture.engine.instance_gate().let_through(1);
    let text = "its worker ended or did not start 5 times in a row, last: No module named 'torch'; ";
    let is_told = |error: Error| {
        assert!(error.kind() == ErrorKind::NotReady && error.retry_after().is_some(), "{error}");
        assert!(error.message().starts_with(&format!("model 'm' version 1 is unavailable: {text}")), "{error}");
    };
    for answer in waiting {
        is_told(answer.await.unwrap().unwrap_err());
    }
    fixture.engine.instance_gate().arrived(6).await;
    is_told(fixture.answer(&[3., 0.]).await.unwrap_err());
    let reason = fixture.is_shown(ModelState::Failed).await;
    assert!(reason.starts_with(text), "{reason}");
    assert!(!fixture.runtime.is_model_ready(&model) && !fixture.runtime.is_ready());
    fixture.counted("salver_instance_restart_failures_total", "", 4).await;
    fixture.counted("salver_model_state", ",state=\"failed\"", 1).await;
    assert_eq!(fixture.runtime.statistics(None).unwrap()[0].fail.count, 2);

    // Back, but not for long: it has to answer once before it is trusted again.
    fixture.engine.instance_gate().let_through(1);
    assert_eq!(fixture.is_shown(ModelState::Ready).await, "");
    assert!(fixture.runtime.is_model_ready(&model) && fixture.runtime.is_ready());
    assert_eq!(fixture.answer(&[DEADLY, 0.]).await.unwrap_err().kind(), ErrorKind::NotReady);
    let reason = fixture.is_shown(ModelState::Failed).await;
    assert!(reason.contains("6 times in a row, last: its worker ended by signal 9"), "{reason}");

    fixture.engine.instance_gate().open();
    fixture.is_shown(ModelState::Ready).await;
    assert_eq!(fixture.answer(&[4., 0.]).await.unwrap(), [4., 0.]);
    assert_eq!(fixture.answer(&[DEADLY, 0.]).await.unwrap_err().kind(), ErrorKind::NotReady);
    assert_eq!(fixture.answer(&[5., 0.]).await.unwrap(), [5., 0.]);
    fixture.is_shown(ModelState::Ready).await;
}

#[tokio::test]
async fn a_crash_loop_is_no_other_models_business() {
    let options = RuntimeOptions { backoff: QUICK, ..RuntimeOptions::default() };
    let (fixture, other) = serve_two(options).await;
    fixture.breaks_down().await;
    fixture.is_shown(ModelState::Failed).await;
    let request = request_to("n".parse().unwrap(), &[1., 1.]);
    assert_eq!(values_of(&fixture.runtime.infer(request, Context::default()).await.unwrap()), [1., 1.]);
    assert_eq!(other.instance_gate().arrivals(), 1);
    fixture.engine.instance_gate().open();
}

#[tokio::test]
async fn other_files_replace_a_version_that_is_unavailable() {
    let options = RuntimeOptions { backoff: QUICK, ..RuntimeOptions::default() };
    let (fixture, other) = serve_two(options).await;
    fixture.breaks_down().await;
    fixture.is_shown(ModelState::Failed).await;
    fixture.source.set("m", Ok(vec![on_other(version(1))]));
    fixture.runtime.sync().await.unwrap();
    fixture.is_shown(ModelState::Ready).await;
    assert_eq!(fixture.answer(&[1., 1.]).await.unwrap(), [1., 1.]);
    assert_eq!(other.live_models(), 2);
    // What the old one still tries shows nowhere.
    fixture.engine.fail_instances(1, Error::engine("still no torch"));
    fixture.engine.instance_gate().open();
    while fixture.engine.live_models() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.is_shown(ModelState::Ready).await, "");
}

#[tokio::test]
async fn the_end_of_a_version_that_was_replaced_shows_nowhere() {
    let options = RuntimeOptions { backoff: QUICK, ..RuntimeOptions::default() };
    let (fixture, _other) = serve_two(options).await;
    fixture.breaks_down().await;
    fixture.engine.gate().close();
    fixture.engine.instance_gate().let_through(1);
    fixture.is_shown(ModelState::Ready).await;
    let last = fixture.ask(&[DEADLY, 0.]);
    fixture.engine.gate().arrived(1).await;
    fixture.source.set("m", Ok(vec![on_other(version(1))]));
    fixture.runtime.sync().await.unwrap();
    fixture.engine.gate().open();
    assert_eq!(last.await.unwrap().unwrap_err().kind(), ErrorKind::NotReady);
    fixture.engine.instance_gate().open();
    while fixture.engine.live_models() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.is_shown(ModelState::Ready).await, "");
    assert_eq!(fixture.answer(&[1., 1.]).await.unwrap(), [1., 1.]);
}

#[tokio::test]
async fn unloading_does_not_wait_for_the_next_try() {
    let backoff = Backoff { first: HOUR, longest: HOUR };
    let options = RuntimeOptions { backoff, control: ControlMode::Explicit, ..RuntimeOptions::default() };
    let fixture = Fixture::start(mortal(), vec![version(1)], options).await;
    for round in 1..3 {
        fixture.runtime.load("m").await.unwrap();
        fixture.engine.fail_instances(1, Error::engine("No module named 'torch'"));
        fixture.engine.kill();
        // Its second end in a row: the next try is in an hour.
        fixture.counted("salver_instance_restart_failures_total", "", 1).await;
        if round == 1 {
            fixture.runtime.unload("m").await.unwrap();
            fixture.is_shown(ModelState::Gone).await;
        } else {
            fixture.runtime.shutdown().await;
        }
        assert_eq!(fixture.engine.live_models(), 0);
    }
}

#[tokio::test]
async fn a_hanging_instance_is_replaced_and_nobody_waits_for_that() {
    let spec = ModelSpec {
        config: salver_core::ModelConfig { run_timeout: Some(Duration::from_millis(20)), ..version(1).config },
        ..version(1)
    };
    let fixture = serve(mortal(), spec, Backoff::default()).await;
    fixture.engine.instance_gate().close();
    // As an interrupt does it: what hangs comes back in the end, with an error.
    let error = fixture.answer(&[HANGS, DEADLY]).await.unwrap_err();
    assert_eq!(error.message(), "model 'm' version 1: the engine did not come back within 20 ms");
    fixture.engine.instance_gate().arrived(2).await;
    // A deadline that far away is the business of the watch, which must not be making instances.
    let deadline = Instant::now() + 2 * crate::slot::NEAR;
    let late = Context { deadline: Some(deadline), ..Context::default() };
    let error = fixture.runtime.infer(request(&[1., 0.]), late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    fixture.engine.instance_gate().open();
    assert_eq!(fixture.answer(&[2., 0.]).await.unwrap(), [2., 0.]);
    fixture.engine.hang_gate().open();
    while fixture.engine.live_instances() > 1 {
        tokio::task::yield_now().await;
    }
    fixture.counted("salver_instances_replaced_total", ",reason=\"timeout\"", 1).await;
    fixture.died(0).await;
}

#[tokio::test]
async fn instances_elsewhere_are_made_side_by_side_after_the_first() {
    let engine = mortal();
    engine.instance_gate().close();
    let starting = {
        let engine = engine.clone();
        tokio::spawn(async move { serve(engine, with_instances(4), Backoff::default()).await })
    };
    engine.instance_gate().arrived(1).await;
    engine.instance_gate().let_through(1);
    engine.instance_gate().arrived(4).await;
    engine.instance_gate().open();
    let fixture = starting.await.unwrap();
    assert_eq!(fixture.engine.live_instances(), 4);
    fixture.engine.fail_instances(1, Error::engine("No module named 'torch'"));
    fixture.source.set("m", Ok(vec![ModelSpec { fingerprint: 7, ..with_instances(4) }]));
    fixture.runtime.sync().await.unwrap();
    // The first one failed, and no other was tried.
    assert_eq!((fixture.engine.instance_gate().arrivals(), fixture.engine.live_instances()), (5, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_elsewhere_is_never_waited_for_on_the_threads_that_ask() {
    let options = RuntimeOptions {
        tuning: Some(TuningOptions { budget: Duration::from_millis(10), notes: None }),
        ..RuntimeOptions::default()
    };
    let fixture = Fixture::start(mortal(), vec![version(1)], options).await;
    let before = fixture.engine.batches().len();
    for _ in 0..100 {
        fixture.answer(&[1., 1.]).await.unwrap();
    }
    let batches = fixture.engine.batches().split_off(before);
    assert!(batches.len() == 100 && batches.iter().all(|batch| batch.thread == batches[0].thread));
    assert_ne!(batches[0].thread, std::thread::current().id());
}

/// Instances end at any moment, under load: every caller hears once, with own rows or that the
/// model was not ready, and nothing stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_end_at_any_moment_lose_and_cross_nothing() {
    let unordered = with_instances(3);
    let mut in_order = with_instances(3);
    in_order.config.dynamic_batching = Some(DynamicBatching { preserve_ordering: true, ..Default::default() });
    for spec in [unordered, in_order] {
        end_at_any_moment(spec).await;
    }
}

async fn end_at_any_moment(spec: ModelSpec) {
    let fixture = Arc::new(serve(mortal().adding(0.5), spec, QUICK).await);
    let askers: Vec<_> = (0..16u16)
        .map(|asker| {
            let fixture = fixture.clone();
            tokio::spawn(async move {
                let mut answered = 0usize;
                for turn in 0..300u16 {
                    let value = 100. + f32::from(asker) * 1000. + f32::from(turn);
                    match fixture.answer(&[value, value]).await {
                        Ok(values) => {
                            assert_eq!(values, [value + 0.5; 2]);
                            answered += 1;
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotReady, "{error}"),
                    }
                    if (turn + asker) % 16 == 0 {
                        fixture.engine.kill();
                    }
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for asker in askers {
        answered += asker.await.unwrap();
    }
    assert!(answered > 0);
    let stats = fixture.runtime.statistics(None).unwrap();
    assert_eq!(stats[0].success.count, answered as u64);
    fixture.queued(0).await;
    fixture.is_shown(ModelState::Ready).await;
    fixture.runtime.shutdown().await;
    assert_eq!(fixture.runtime.shared.waiting.taken(), 0);
    assert_eq!((fixture.engine.live_models(), fixture.engine.live_instances()), (0, 0));
}
