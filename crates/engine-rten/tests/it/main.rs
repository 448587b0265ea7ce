//! The contract suite of engines, and the words with which this one refuses a model.

use salver_core::{DataType, Engine, ErrorKind, Inputs, Placement, Tensor};
use salver_engine_rten::RtenEngine;
use salver_testkit::{EngineModels, engine_suite, repository_path, spec_of};

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
    engine_suite(&RtenEngine::new(), &EngineModels { identities, unsupported });
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
    let mut instance = model.unwrap().instance(&Placement { device: "cpu".to_owned(), threads: 1 }).unwrap();
    let input = Tensor::from_slice("INPUT0", [1, 1], &[1i64 << 40]).unwrap();
    let error = instance.run(Inputs::Direct(&[input])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("1099511627776"), "{error}");
}
