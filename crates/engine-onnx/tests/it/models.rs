//! What only this engine carries: tree and linear models, maps, strings; and its own messages.

use std::path::Path;

use salver_core::{DataType, Engine, Inputs, Placement, Tensor};
use salver_engine_onnx::OnnxEngine;
use salver_testkit::{repository_path, spec_of, tensor, text};

fn run(engine: &OnnxEngine, path: &Path, inputs: &[Tensor]) -> salver_core::Result<Vec<Tensor>> {
    let model = engine.load(&spec_of(path))?;
    let placement = Placement { device: "cpu".to_owned(), threads: 1, core: None };
    model.instance(&placement)?.run(Inputs::Direct(inputs))
}

#[test]
fn rows_of_maps_come_out_as_the_matrix_of_the_same_model_without_maps() {
    let Some(engine) = crate::engine() else { return };
    let rows = tensor("X", &[2, 4], &[5.1f32, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5]);
    let plain =
        run(engine, &repository_path("tests/models/sklearn/iris_ml.onnx"), std::slice::from_ref(&rows)).unwrap();
    let zipped = run(engine, &repository_path("tests/models/sklearn/iris_zipmap.onnx"), &[rows]).unwrap();
    assert_eq!((zipped[1].dtype(), &**zipped[1].shape()), (DataType::Fp32, [2, 3].as_slice()));
    assert_eq!(zipped[1].to_vec::<f32>(), plain[1].to_vec::<f32>());
    assert_eq!(zipped[0].to_vec::<i64>().unwrap(), [0, 2]);
}

#[test]
fn text_is_encoded_by_the_model() {
    let Some(engine) = crate::engine() else { return };
    let words: [&[u8]; 3] = ["grüße".as_bytes(), b"cat", b"fish"];
    let outputs =
        run(engine, &repository_path("tests/models/sklearn/strings.onnx"), &[text("word", &[3], &words)]).unwrap();
    let kinds: Vec<&[u8]> = outputs[0].elements().unwrap().iter().collect();
    assert_eq!(kinds, [b"greeting".as_slice(), b"feline", b"unknown"]);
}

#[test]
fn the_loaded_library_is_known() {
    let Some(engine) = crate::engine() else { return };
    let library = engine.library().unwrap();
    assert!(library.path.is_file());
    let status = engine.status();
    assert!(status.chosen.is_some(), "{status:?}");
}
