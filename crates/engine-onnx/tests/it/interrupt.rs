//! Ending a run from another thread.

use std::sync::atomic::{AtomicBool, Ordering};

use salver_core::{Engine, ErrorKind, Inputs, Instance, Model, Placement, Result, Tensor};
use salver_testkit::{repository_path, spec_of, tensor};

fn instance(model: &dyn Model) -> Box<dyn Instance> {
    model.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).expect("an instance on the cpu")
}

/// Adds one to two numbers, `times` times.
fn count(instance: &mut dyn Instance, times: i64) -> Result<Vec<f32>> {
    let inputs: [Tensor; 2] = [tensor("n", &[1], &[times]), tensor("x", &[1, 2], &[0.0f32, 0.5])];
    let outputs = instance.run(Inputs::Direct(&inputs))?;
    Ok(outputs[0].to_vec().expect("FP32"))
}

#[test]
fn a_run_without_end_is_ended_and_harms_no_other_instance() {
    let Some(engine) = crate::engine() else { return };
    let model = engine.load(&spec_of(&repository_path("crates/engine-onnx/tests/models/loop.onnx"))).unwrap();
    let (mut endless, mut other) = (instance(&*model), instance(&*model));
    let interrupt = endless.interrupt().expect("a way to end a run");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let result = count(&mut *endless, i64::MAX);
            is_over.store(true, Ordering::Release);
            result
        });
        // Nothing says that the run has begun, and before it an interruption does nothing.
        while !is_over.load(Ordering::Acquire) {
            assert_eq!(count(&mut *other, 3).unwrap(), [3.0, 3.5]);
            interrupt();
        }
        let error = run.join().expect("no panic").unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Engine, "the run was interrupted"));
    });
    drop(endless);
    assert_eq!(count(&mut *other, 3).unwrap(), [3.0, 3.5]);
    assert_eq!(count(&mut *instance(&*model), 4).unwrap(), [4.0, 4.5]);
}

#[test]
fn between_runs_an_interruption_does_nothing() {
    let Some(engine) = crate::engine() else { return };
    let model = engine.load(&spec_of(&repository_path("crates/engine-onnx/tests/models/loop.onnx"))).unwrap();
    let mut instance = instance(&*model);
    let interrupt = instance.interrupt().expect("a way to end a run");
    for _ in 0..3 {
        interrupt();
        assert_eq!(count(&mut *instance, 2).unwrap(), [2.0, 2.5]);
    }
    drop(instance);
    interrupt();
}
