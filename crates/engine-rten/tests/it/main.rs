//! The contract suite of engines, and the words with which this one refuses a model.

use salver_core::{DataType, Engine, ErrorKind, Inputs, Placement, Tensor};
use salver_engine_rten::RtenEngine;
use salver_testkit::{EngineModels, engine_suite, repository_path, spec_of, tensor};

#[test]
fn rten_keeps_the_contract_of_engines() {
    let unsupported = ["sklearn/iris_ml.onnx", "sklearn/iris_zipmap.onnx", "sklearn/strings.onnx"]
        .into_iter()
        .chain(["triton/identity_bytes/1/model.onnx", "triton/identity_bf16/1/model.onnx"])
        .chain(["triton/identity_uint64/1/model.onnx", "triton/identity_int16/1/model.onnx"])
        .map(|path| repository_path("tests/models").join(path))
        .collect();
    let identities = vec![
        DataType::Bool,
        DataType::Int8,
        DataType::Int32,
        DataType::Int64,
        DataType::Uint8,
        DataType::Fp32,
        DataType::Fp64,
    ];
    // Not `slow`: rten works out its matrix at load, and a damaged size of terabytes ends the process.
    let damaged = EngineModels::all().damaged.into_iter().filter(|path| !path.ends_with("slow/1/model.onnx")).collect();
    engine_suite(&RtenEngine::new(), &EngineModels { identities, unsupported, damaged });
}

#[test]
fn a_refused_model_is_told_what_it_needs() {
    for name in ["sklearn/iris_ml.onnx", "triton/identity_bytes/1/model.onnx"] {
        let error = RtenEngine::new().load(&spec_of(&repository_path("tests/models").join(name))).err().unwrap();
        assert!(error.message().contains(name), "{error}");
        assert!(error.message().contains("`salver runtime install`"), "{error}");
    }
}

#[test]
fn an_integer_beyond_32_bits_is_the_requests_fault() {
    let model = RtenEngine::new().load(&spec_of(&repository_path("tests/models/triton/identity_int64/1/model.onnx")));
    let mut instance =
        model.unwrap().instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).unwrap();
    let input = Tensor::from_slice("INPUT0", [1, 1], &[1i64 << 40]).unwrap();
    let error = instance.run(Inputs::Direct(&[input])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("1099511627776"), "{error}");
}

#[test]
fn models_at_the_edges_are_refused_with_a_reason() {
    let folder = repository_path("crates/engine-onnx/tests/models");
    let load = |name: &str| RtenEngine::new().load(&spec_of(&folder.join(name)));
    for name in ["sequence_input.onnx", "nested_sequence_input.onnx", "unknown_operator.onnx"] {
        let error = load(name).err().unwrap_or_else(|| panic!("{name} was loaded"));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let outside = load("external_outside.onnx").err().expect("weights outside of the folder");
    assert_eq!(outside.kind(), ErrorKind::InvalidInput, "{outside}");

    let beside = load("external.onnx").expect("weights beside the model");
    let mut instance = beside.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).unwrap();
    let outputs = instance.run(Inputs::Direct(&[tensor("x", &[1, 2], &[1.0f32, 1.0])])).unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [2.0, 3.0]);
}

#[test]
fn data_that_an_operator_refuses_leaves_the_instance_whole() {
    let folder = repository_path("crates/engine-onnx/tests/models");
    let model = RtenEngine::new().load(&spec_of(&folder.join("gather.onnx"))).unwrap();
    let mut instance = model.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).unwrap();
    assert!(instance.run(Inputs::Direct(&[tensor("index", &[2], &[0i64, 3])])).is_err());
    let outputs = instance.run(Inputs::Direct(&[tensor("index", &[2], &[2i64, 0])])).unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [30.0, 10.0]);
}
