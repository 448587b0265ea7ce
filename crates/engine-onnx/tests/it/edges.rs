//! Models at the edges; `tests/models/make.py` writes them.

use std::path::PathBuf;
use std::sync::Arc;

use salver_core::{Batching, DataType, Engine, ErrorKind, Inputs, Instance, Model, Placement, Tensor};
use salver_testkit::{run_staged, spec_of, tensor};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/models/{name}.onnx"))
}

fn instance(model: &Arc<dyn Model>) -> Box<dyn Instance> {
    model.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).expect("an instance on the cpu")
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().expect("FP32")
}

#[test]
fn data_that_an_operator_refuses_is_the_requests_fault_and_leaves_the_instance_whole() {
    let Some(engine) = crate::engine() else { return };
    let mut instance = instance(&engine.load(&spec_of(&path("gather"))).unwrap());
    for _ in 0..3 {
        let error = instance.run(Inputs::Direct(&[tensor("index", &[2], &[0i64, 3])])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().starts_with("indices element out of data bounds, idx=3"), "{error}");
        let outputs = instance.run(Inputs::Direct(&[tensor("index", &[2], &[2i64, 0])])).unwrap();
        assert_eq!(floats(&outputs[0]), [30.0, 10.0]);
    }
}

#[test]
fn outputs_that_are_constants_or_inputs_are_copies_of_their_own() {
    let Some(engine) = crate::engine() else { return };
    let model = engine.load(&spec_of(&path("constant_output"))).unwrap();
    let mut instance = instance(&model);
    let first = run_staged(&mut *instance, &[tensor("x", &[1, 2], &[1.0f32, 2.0])]).unwrap();
    let second = run_staged(&mut *instance, &[tensor("x", &[1, 2], &[3.0f32, 4.0])]).unwrap();
    let direct = {
        let input = tensor("x", &[1, 2], &[5.0f32, 6.0]);
        instance.run(Inputs::Direct(&[input])).unwrap()
    };
    drop(instance);
    drop(model);
    for (outputs, x) in [(first, [1.0, 2.0]), (second, [3.0, 4.0]), (direct, [5.0, 6.0])] {
        assert_eq!(floats(&outputs[0]), x);
        assert_eq!(floats(&outputs[1]), [10.0, 20.0, 30.0]);
        assert_eq!(floats(&outputs[2]), x);
    }
}

#[test]
fn empty_batches_give_empty_answers() {
    let Some(engine) = crate::engine() else { return };
    let mut instance = instance(&engine.load(&spec_of(&path("external"))).unwrap());
    let empty = tensor::<f32>("x", &[0, 2], &[]);
    assert_eq!(instance.run(Inputs::Direct(std::slice::from_ref(&empty))).unwrap()[0].shape()[..], [0, 2]);
    assert_eq!(run_staged(&mut *instance, &[empty]).unwrap()[0].shape()[..], [0, 2]);
}

#[test]
fn inputs_that_no_request_can_carry_are_named() {
    let Some(engine) = crate::engine() else { return };
    let error = engine.load(&spec_of(&path("sequence_input"))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("sequence_input.onnx: input 'x'"), "{error}");
    let nested = engine.load(&spec_of(&path("nested_sequence_input"))).err().unwrap();
    assert_eq!(nested.kind(), ErrorKind::Unsupported, "{nested}");
}

#[test]
fn outputs_that_no_response_can_carry_are_left_out() {
    let Some(engine) = crate::engine() else { return };
    let model = engine.load(&spec_of(&path("sequence_output"))).unwrap();
    let outputs: Vec<_> = model.signature().outputs.iter().map(|spec| (&*spec.name, spec.dtype)).collect();
    assert_eq!(outputs, [("y", DataType::Fp32)]);
    assert_eq!(model.signature().batching, Batching::Rows { limit: None });
    let outputs = instance(&model).run(Inputs::Direct(&[tensor("x", &[1, 2], &[1.0f32, 2.0])])).unwrap();
    assert_eq!(outputs.len(), 1);
}

#[test]
fn an_operator_that_nobody_has_is_unsupported() {
    let Some(engine) = crate::engine() else { return };
    let error = engine.load(&spec_of(&path("unknown_operator"))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("No Op registered for Frobnicate"), "{error}");
}

#[test]
fn weights_beside_the_model_are_read_and_those_outside_of_its_folder_are_not() {
    let Some(engine) = crate::engine() else { return };
    let model = engine.load(&spec_of(&path("external"))).unwrap();
    let outputs = instance(&model).run(Inputs::Direct(&[tensor("x", &[1, 2], &[1.0f32, 1.0])])).unwrap();
    assert_eq!(floats(&outputs[0]), [2.0, 3.0]);
    let error = engine.load(&spec_of(&path("external_outside"))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}
