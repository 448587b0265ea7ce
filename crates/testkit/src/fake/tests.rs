use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use salver_core::{ErrorKind, InputLayout};

use super::*;
use crate::spec;

fn instance(engine: &FakeEngine) -> Box<dyn Instance> {
    let model = engine.load(&spec("m", Path::new("m.onnx"))).unwrap();
    model.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).unwrap()
}

fn run(engine: &FakeEngine, values: &[f32]) -> Result<Vec<f32>> {
    let input = tensor("x", &[values.len() / 2, 2], values);
    let outputs = instance(engine).run(Inputs::Direct(&[input]))?;
    Ok(outputs[0].to_vec().unwrap())
}

#[test]
fn it_copies_and_adds_and_records() {
    assert_eq!(run(&FakeEngine::new(), &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
    let engine = FakeEngine::new().adding(10.0);
    assert_eq!(run(&engine, &[1.0, 2.0, 3.0, 4.0]).unwrap(), [11.0, 12.0, 13.0, 14.0]);
    assert_eq!(engine.batch_rows(), [2]);
    assert!(!engine.batches()[0].staged);
}

#[test]
fn it_reads_what_was_staged() {
    let mut instance = instance(&FakeEngine::new());
    let input = InputLayout { name: "x".into(), dtype: DataType::Fp32, shape: [1, 2].into(), offset: 64, len: 8 };
    let layout = BatchLayout { inputs: vec![input], total_len: 72 };
    let buffer = instance.input_buffer(&layout).unwrap();
    buffer[64..68].copy_from_slice(&3.5f32.to_le_bytes());
    buffer[68..72].copy_from_slice(&4.5f32.to_le_bytes());
    let outputs = instance.run(Inputs::Staged(&layout)).unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [3.5, 4.5]);
    assert_eq!(&**outputs[0].name(), "y");
}

#[test]
fn it_reacts_to_marked_rows_only() {
    let engine = FakeEngine::new()
        .reacting_to(-1.0, Reaction::Fail(Error::invalid_input("marked")))
        .reacting_to(-2.0, Reaction::Panic);
    assert!(run(&engine, &[1.0, 2.0]).is_ok());
    assert_eq!(run(&engine, &[1.0, -1.0]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(catch_unwind(AssertUnwindSafe(|| run(&engine, &[-2.0, 0.0]))).is_err());
}

#[tokio::test]
async fn it_hangs_until_it_is_released() {
    let engine = FakeEngine::new().reacting_to(-3.0, Reaction::Hang);
    let hanging = std::thread::spawn({
        let engine = engine.clone();
        move || run(&engine, &[-3.0, 0.0])
    });
    engine.hang_gate().arrived(1).await;
    assert!(!hanging.is_finished());
    engine.hang_gate().open();
    assert_eq!(hanging.join().unwrap().unwrap(), [-3.0, 0.0]);
}

#[test]
fn it_refuses_to_load_and_counts_what_lives() {
    let engine = FakeEngine::new();
    engine.fail_loads(Some(Error::engine("no")));
    assert!(engine.load(&spec("m", Path::new("m.onnx"))).is_err());
    engine.fail_loads(None);
    let alive = instance(&engine);
    assert_eq!((engine.live_models(), engine.live_instances()), (1, 1));
    drop(alive);
    assert_eq!((engine.live_models(), engine.live_instances()), (0, 0));
}

#[test]
fn it_dies_when_asked_or_killed_and_may_not_come_back() {
    let engine = FakeEngine::new().elsewhere().reacting_to(-4.0, Reaction::Die);
    assert_eq!(run(&engine, &[-4.0, 0.0]).unwrap_err().kind(), ErrorKind::NotReady);
    let mut killed = instance(&engine);
    assert!(killed.is_sound(true) && !killed.computes_here());
    engine.kill();
    assert!(!killed.is_sound(false));
    assert!(instance(&engine).is_sound(false));
    engine.fail_instances(1, Error::engine("no"));
    let model = engine.load(&spec("m", Path::new("m.onnx"))).unwrap();
    let placement = Placement { device: "cpu".to_owned(), threads: 1, core: None };
    assert!(model.instance(&placement).is_err() && model.instance(&placement).is_ok());
}
