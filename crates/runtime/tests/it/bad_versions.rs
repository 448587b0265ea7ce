//! Bad versions beside a good one: whatever is wrong with the newcomer, the old one serves on.

use std::sync::Arc;
use std::time::Duration;

use salver_core::{
    Batching, DataType, Error, ErrorKind, IoConfig, ModelControl as _, ModelSpec, ModelState, Signature, TensorSpec,
    WarmupData, WarmupInput, WarmupRequest,
};
use salver_runtime::{ControlMode, RuntimeOptions};
use salver_testkit::FakeEngine;

use crate::support::{Fixture, count_from_env, version, version_on};

fn declares_another_input() -> ModelSpec {
    let mut spec = version("m", 2);
    spec.config.inputs = vec![IoConfig {
        name: "z".to_owned(),
        dtype: None,
        dims: None,
        reshape: None,
        label_filename: String::new(),
        optional: false,
        format: String::new(),
        allow_ragged_batch: false,
        is_shape_tensor: false,
    }];
    spec
}

fn fails_its_warmup() -> ModelSpec {
    let mut spec = version("m", 2);
    let input = WarmupInput { name: "x".to_owned(), dtype: DataType::Int8, dims: vec![3], data: WarmupData::Zeros };
    spec.config.warmup = vec![WarmupRequest { name: "w".to_owned(), batch_size: 1, count: 1, inputs: vec![input] }];
    spec
}

#[tokio::test]
async fn whatever_is_wrong_with_a_new_version_the_old_one_serves() {
    let good = FakeEngine::new();
    let corrupt = FakeEngine::new().named("corrupt");
    corrupt.fail_loads(Some(Error::invalid_input("protobuf parsing failed")));
    let truncated = FakeEngine::new().named("truncated");
    truncated.fail_loads(Some(Error::invalid_input("unexpected end of file")));
    let too_large = FakeEngine::new().named("too_large");
    too_large.fail_loads(Some(Error::new(ErrorKind::Full, "no memory for its weights")));
    let engines = [&good, &corrupt, &truncated, &too_large];
    let bad: Vec<(&str, ModelSpec)> = vec![
        ("protobuf", version_on("corrupt", "m", 2)),
        ("end of file", version_on("truncated", "m", 2)),
        ("no memory", version_on("too_large", "m", 2)),
        ("is unknown", version_on("no-such-engine", "m", 2)),
        ("missing in the configuration", declares_another_input()),
        ("model_warmup 'w'", fails_its_warmup()),
    ];
    let fixture = Fixture::start(&engines, vec![version("m", 1)], RuntimeOptions::default()).await;
    for (idx, (reason, mut spec)) in (10..).zip(bad) {
        spec.fingerprint = idx;
        fixture.source.set("m", vec![spec]);
        fixture.runtime.sync().await.unwrap();
        assert_eq!(fixture.answer("m", 3.).await.unwrap(), 3., "{reason}");
        let failed =
            fixture.runtime.index().into_iter().find(|status| status.state == Some(ModelState::Failed)).unwrap();
        assert!(failed.reason.contains(reason), "{failed:?}");
        assert!(fixture.runtime.is_ready(), "{reason}");
    }
    assert_eq!(good.live_models(), 1);
}

#[tokio::test]
async fn a_load_that_hangs_fails_in_time_and_what_it_makes_later_is_dropped() {
    let (good, hanging) = (FakeEngine::new(), FakeEngine::new().named("hanging"));
    hanging.load_gate().close();
    let options = RuntimeOptions { load_timeout: Some(Duration::from_millis(20)), ..RuntimeOptions::default() };
    let fixture = Fixture::start(&[&good, &hanging], vec![version("m", 1)], options).await;
    fixture.source.set("m", vec![version_on("hanging", "m", 2)]);
    fixture.source.set("n", vec![version("n", 1)]);
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.answer("m", 1.).await.unwrap(), 1.);
    assert_eq!(fixture.answer("n", 2.).await.unwrap(), 2.);
    let failed = fixture.runtime.index().into_iter().find(|status| status.state == Some(ModelState::Failed)).unwrap();
    assert!(failed.reason.contains("longer than 20 ms"), "{failed:?}");
    hanging.load_gate().open();
    // The thread that hung comes back, with an instance, and lets go of both.
    fixture.runtime.shutdown().await;
    while hanging.live_models() + hanging.live_instances() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_loads_and_unloads_of_one_model_end_in_order() {
    let changes = count_from_env("SALVER_CHANGES", 64);
    let engine = FakeEngine::new();
    let options = RuntimeOptions { control: ControlMode::Explicit, ..RuntimeOptions::default() };
    let specs = vec![version("m", 1), version("steady", 1)];
    let fixture = Arc::new(Fixture::start(&[&engine], specs, options).await);
    fixture.runtime.load("steady").await.unwrap();
    let clients: Vec<_> = (0..32usize)
        .map(|client| {
            let fixture = fixture.clone();
            tokio::spawn(async move {
                for turn in 0..changes {
                    match (client + turn) % 2 {
                        0 => fixture.runtime.load("m").await.unwrap(),
                        _ => fixture.runtime.unload("m").await.unwrap(),
                    }
                    assert_eq!(fixture.answer("steady", 1.).await.unwrap(), 1.);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    fixture.runtime.load("m").await.unwrap();
    assert_eq!(fixture.answer("m", 2.).await.unwrap(), 2.);
    fixture.runtime.unload("m").await.unwrap();
    println!(
        "P2: 32 clients x {changes} loads and unloads of one model: no deadlock, {} loads",
        engine.load_gate().arrivals()
    );
    fixture.runtime.shutdown().await;
    assert_eq!((engine.live_models(), engine.live_instances()), (0, 0));
}

/// A wrong signature is no reason not to load: requests are checked against the version they reach.
#[tokio::test]
async fn a_new_version_with_another_signature_refuses_what_does_not_fit_it() {
    let narrow = FakeEngine::new();
    let wide = FakeEngine::new().named("wide").with_signature(Signature {
        inputs: vec![TensorSpec::new("x", DataType::Fp32, &[-1, 3])],
        outputs: vec![TensorSpec::new("y", DataType::Fp32, &[-1, 3])],
        batching: Batching::Rows { limit: None },
    });
    let fixture = Fixture::start(&[&narrow, &wide], vec![version("m", 1)], RuntimeOptions::default()).await;
    fixture.source.set("m", vec![version_on("wide", "m", 2)]);
    fixture.runtime.sync().await.unwrap();
    assert_eq!(fixture.answer("m", 1.).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
