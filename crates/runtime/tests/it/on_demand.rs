//! Models that load at first use, under a memory limit.

use std::time::Duration;

use salver_core::{Context, Error, ErrorKind, Infer as _, ModelControl as _, ModelRef, ModelState};
use salver_runtime::{ControlMode, RuntimeOptions};
use salver_testkit::FakeEngine;

use crate::support::{Fixture, MIB, count_from_env, request, room_beside, room_for, version, version_on};

fn named(names: &[&str]) -> Vec<salver_core::ModelSpec> {
    names.iter().map(|name| version(name, 1)).collect()
}

#[tokio::test]
async fn a_thousand_first_requests_load_once_and_are_all_answered() {
    let engine = FakeEngine::new().adding(1.);
    let fixture = Fixture::start(&[&engine], named(&["m"]), room_for(2, &engine)).await;
    assert!(fixture.runtime.is_ready() && fixture.runtime.is_model_ready(&"m".parse().unwrap()));
    engine.load_gate().close();
    let asked: Vec<_> = (0..1000u16).map(|value| fixture.ask("m", f32::from(value))).collect();
    engine.load_gate().arrived(1).await;
    engine.load_gate().open();
    for (value, asked) in (0..1000u16).zip(asked) {
        assert_eq!(asked.await.unwrap().unwrap(), f32::from(value) + 1.);
    }
    assert_eq!(engine.load_gate().arrivals(), 1);
    println!("P23: 1000 requests to an unloaded model: 1 load, 1000 answered");
}

#[tokio::test]
async fn a_thousand_requests_to_a_model_that_does_not_load_get_503_after_one_attempt() {
    let engine = FakeEngine::new();
    engine.fail_loads(Some(Error::invalid_input("not an ONNX file")));
    let fixture = Fixture::start(&[&engine], named(&["m"]), room_for(2, &engine)).await;
    engine.load_gate().close();
    let asked: Vec<_> = (0..1000).map(|_| fixture.ask("m", 0.)).collect();
    engine.load_gate().arrived(1).await;
    engine.load_gate().open();
    for asked in asked {
        let error = asked.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.retry_after().is_some()), (ErrorKind::NotReady, true), "{error}");
        assert!(error.message().contains("not an ONNX file"), "{error}");
    }
    // Nobody knocks again until the wait is over.
    assert_eq!(fixture.answer("m", 0.).await.unwrap_err().kind(), ErrorKind::NotReady);
    assert_eq!(engine.load_gate().arrivals(), 1);
    assert!(!fixture.runtime.is_model_ready(&"m".parse().unwrap()));
    // One bad model of many does not make the server unready.
    assert!(fixture.runtime.is_ready());
    println!("P23: 1000 requests to a model that fails to load: 1 attempt, 1000 times 503, 0 times 4xx");

    // Changed files get their own first try at once.
    engine.fail_loads(None);
    let mut mended = version("m", 1);
    mended.fingerprint = 2;
    fixture.source.set("m", vec![mended]);
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.answer("m", 5.).await.unwrap(), 5.);
}

#[tokio::test]
async fn the_least_recently_used_leaves_and_one_in_use_never_does() {
    let engine = FakeEngine::new();
    let fixture = Fixture::start(&[&engine], named(&["a", "b", "c"]), room_for(2, &engine)).await;
    fixture.answer("b", 0.).await.unwrap();
    engine.gate().close();
    let before = engine.gate().arrivals();
    let held = fixture.ask("a", 7.);
    engine.gate().arrived(before + 1).await;
    engine.gate().let_through(0);
    // `a` is older than a new use of `b`, and busy.
    let third = fixture.ask("c", 8.);
    engine.gate().arrived(before + 2).await;
    assert_eq!(fixture.resident(), ["a/1", "c/1"]);
    engine.gate().open();
    assert_eq!((held.await.unwrap().unwrap(), third.await.unwrap().unwrap()), (7., 8.));
    // Idle now, and the oldest.
    fixture.answer("b", 0.).await.unwrap();
    assert_eq!(fixture.resident(), ["b/1", "c/1"]);
    let metrics = fixture.metrics.render();
    assert!(metrics.contains("salver_model_evictions_total{model=\"a\"} 1"), "{metrics}");
    assert!(metrics.contains(&format!("salver_model_memory_bytes{{model=\"b\",version=\"1\"}} {MIB}")), "{metrics}");
    assert!(!metrics.contains("salver_model_memory_bytes{model=\"a\""), "{metrics}");
    let gone = fixture.runtime.index().into_iter().find(|status| status.name == "a").unwrap();
    assert_eq!(gone.state, Some(ModelState::Gone));
}

#[tokio::test]
async fn what_is_pinned_stays_and_says_so_where_nothing_else_fits() {
    let engine = FakeEngine::new();
    let mut options = room_for(2, &engine);
    options.pin = vec!["a".to_owned()];
    let fixture = Fixture::start(&[&engine], named(&["a", "b", "c"]), options).await;
    assert_eq!(fixture.resident(), ["a/1"]);
    for name in ["b", "c", "b"] {
        fixture.answer(name, 0.).await.unwrap();
    }
    assert_eq!(fixture.resident(), ["a/1", "b/1"]);
    fixture.runtime.pin("b").await.unwrap();
    let error = fixture.answer("c", 0.).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after().is_some()), (ErrorKind::NotReady, true));
    assert!(error.message().contains("no room") && error.message().contains("--memory-limit"), "{error}");
    assert_eq!(fixture.runtime.pin("c").await.unwrap_err().kind(), ErrorKind::NotReady);
    assert_eq!(fixture.runtime.pin("nope").await.unwrap_err().kind(), ErrorKind::NotFound);
    fixture.runtime.unpin("a").unwrap();
    let pinned: Vec<bool> = fixture.runtime.resident().into_iter().map(|model| model.pinned).collect();
    assert_eq!(pinned, [false, true]);
    let metrics = fixture.metrics.render();
    assert!(metrics.contains("salver_model_pinned{model=\"b\"} 1"), "{metrics}");
    assert!(metrics.contains("salver_model_pinned{model=\"a\"} 0"), "{metrics}");
}

#[tokio::test]
async fn the_first_model_comes_back_although_the_library_came_with_it() {
    let engine = FakeEngine::new();
    let fixture = Fixture::start(&[&engine], named(&["a", "b"]), room_beside(5, 1, &engine)).await;
    for (name, resident) in [("a", "a/1"), ("b", "b/1"), ("a", "a/1")] {
        fixture.answer(name, 0.).await.unwrap();
        assert_eq!(fixture.resident(), [resident]);
    }
}

#[tokio::test]
async fn a_load_waits_for_a_model_in_use_to_become_idle() {
    let engine = FakeEngine::new();
    let fixture = Fixture::start(&[&engine], named(&["a", "b"]), room_for(1, &engine)).await;
    engine.gate().close();
    let first = fixture.ask("a", 1.);
    engine.gate().arrived(1).await;
    let second = fixture.ask("b", 2.);
    tokio::task::yield_now().await;
    assert_eq!((fixture.resident(), engine.live_models()), (vec!["a/1".to_owned()], 1));
    engine.gate().open();
    assert_eq!((first.await.unwrap().unwrap(), second.await.unwrap().unwrap()), (1., 2.));
    assert_eq!((fixture.resident(), engine.live_models()), (vec!["b/1".to_owned()], 1));
}

#[tokio::test]
async fn who_cannot_wait_is_told_when_to_come_back() {
    let engine = FakeEngine::new();
    let mut options = room_for(1, &engine);
    options.residency.as_mut().unwrap().load_wait = Duration::from_millis(20);
    let fixture = Fixture::start(&[&engine], named(&["m"]), options).await;
    engine.load_gate().close();
    let error = fixture.answer("m", 0.).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after().is_some()), (ErrorKind::NotReady, true), "{error}");
    let deadline = std::time::Instant::now();
    let ctx = Context { deadline: Some(deadline), ..Context::default() };
    assert_eq!(fixture.runtime.infer(request("m", 0.), ctx).await.unwrap_err().kind(), ErrorKind::NotReady);
    // The load that those had begun goes on without them, and is the only one.
    engine.load_gate().open();
    while fixture.resident().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.answer("m", 3.).await.unwrap(), 3.);
    assert_eq!(engine.load_gate().arrivals(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_models_in_little_room_are_all_answered_right() {
    const MODELS: u64 = 30;
    const FIT: u64 = 5;
    let asks = count_from_env("SALVER_ASKS", 60);
    let engine = FakeEngine::new().adding(0.5);
    let names: Vec<String> = (0..MODELS).map(|idx| format!("m{idx}")).collect();
    let specs = names.iter().map(|name| version(name, 1)).collect();
    let fixture = std::sync::Arc::new(Fixture::start(&[&engine], specs, room_for(FIT, &engine)).await);
    let askers: Vec<_> = (0..16u64)
        .map(|asker| {
            let (fixture, engine) = (fixture.clone(), engine.clone());
            tokio::spawn(async move {
                let mut most = 0;
                for turn in 0..asks as u64 {
                    let model = (asker * 7919 + turn * 104_729 + turn * turn) % MODELS;
                    let value = (asker * 1000 + turn) as f32;
                    assert_eq!(fixture.answer(&format!("m{model}"), value).await.unwrap(), value + 0.5);
                    most = most.max(engine.live_models());
                }
                most
            })
        })
        .collect();
    let mut most = 0;
    for asker in askers {
        most = most.max(asker.await.unwrap());
    }
    // A first load is guessed at one byte here, so it may come up before the oldest leaves.
    assert!(most as u64 <= FIT + 1, "{most} models in memory, room for {FIT}");
    println!(
        "{MODELS} models, room for {FIT}: {} requests answered right, {} loads, at most {most} in memory",
        16 * asks,
        engine.load_gate().arrivals()
    );
    fixture.runtime.shutdown().await;
    assert_eq!((engine.live_models(), engine.live_instances()), (0, 0));
}

#[tokio::test]
async fn the_latest_version_is_the_latest_also_when_only_an_older_one_is_in_memory() {
    let engine = FakeEngine::new();
    let specs = vec![version("m", 1), version("m", 2)];
    let fixture = Fixture::start(&[&engine], specs, room_for(5, &engine)).await;
    fixture.answer("m/1", 0.).await.unwrap();
    assert_eq!(fixture.resident(), ["m/1"]);
    let response = fixture.runtime.infer(request("m", 0.), Context::default()).await.unwrap();
    assert_eq!(response.model.version, 2);
    let response = fixture.runtime.infer(request("m@stable", 0.), Context::default()).await.unwrap();
    assert_eq!(response.model.version, 1);
    assert_eq!(fixture.answer("m/3", 0.).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.answer("nope", 0.).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn new_files_replace_what_is_in_memory_and_wait_for_use_elsewhere() {
    let engine = FakeEngine::new();
    let fixture = Fixture::start(&[&engine], named(&["used", "unused"]), room_for(5, &engine)).await;
    fixture.answer("used", 0.).await.unwrap();
    for name in ["used", "unused"] {
        fixture.source.set(name, vec![version(name, 2)]);
    }
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.resident(), ["used/2"]);
    fixture.answer("unused", 0.).await.unwrap();
    assert_eq!(fixture.resident(), ["unused/2", "used/2"]);
    fixture.source.remove("used");
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.resident(), ["unused/2"]);
    assert_eq!(fixture.answer("used", 0.).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_broken_new_version_does_not_hurt_an_old_one_that_left_memory() {
    let (engine, broken) = (FakeEngine::new(), FakeEngine::new().named("broken"));
    broken.fail_loads(Some(Error::invalid_input("truncated")));
    let fixture = Fixture::start(&[&engine, &broken], named(&["m", "other"]), room_for(1, &engine)).await;
    for name in ["m", "other"] {
        fixture.answer(name, 0.).await.unwrap();
    }
    assert_eq!(fixture.resident(), ["other/1"]);
    fixture.source.set("m", vec![version_on("broken", "m", 2)]);
    for _ in 0..2 {
        fixture.runtime.sync().await.unwrap();
        assert_eq!(fixture.answer("m", 4.).await.unwrap(), 4.);
        assert_eq!(fixture.resident(), ["m/1"]);
    }
    assert_eq!(broken.load_gate().arrivals(), 1);
    assert_eq!(fixture.answer("m/2", 4.).await.unwrap_err().kind(), ErrorKind::NotReady);
}

#[tokio::test]
async fn what_was_unloaded_by_hand_stays_out_until_it_is_loaded_by_hand() {
    let engine = FakeEngine::new();
    let options = RuntimeOptions { control: ControlMode::Explicit, ..room_for(5, &engine) };
    let fixture = Fixture::start(&[&engine], named(&["m"]), options).await;
    assert_eq!(fixture.answer("m", 1.).await.unwrap(), 1.);
    fixture.runtime.unload("m").await.unwrap();
    assert_eq!(fixture.answer("m", 1.).await.unwrap_err().kind(), ErrorKind::NotFound);
    fixture.runtime.load("m").await.unwrap();
    assert_eq!(fixture.answer("m", 1.).await.unwrap(), 1.);
}

#[tokio::test]
async fn a_model_out_of_memory_is_still_described() {
    let engine = FakeEngine::new();
    let fixture = Fixture::start(&[&engine], named(&["a", "b"]), room_for(1, &engine)).await;
    let model: ModelRef = "a".parse().unwrap();
    assert_eq!(fixture.runtime.describe(&model).unwrap_err().kind(), ErrorKind::NotReady);
    fixture.runtime.wake(&model, None).unwrap().await.unwrap();
    fixture.answer("b", 0.).await.unwrap();
    assert_eq!(fixture.resident(), ["b/1"]);
    assert_eq!(&*fixture.runtime.describe(&model).unwrap().name, "a");
    assert_eq!(fixture.runtime.config(&model).unwrap().instance_groups.len(), 1);
    assert!(fixture.runtime.wake(&model, None).is_none());
}
