//! The contract suite of engines.

use salver_testkit::{EngineModels, engine_suite};

#[test]
fn onnx_runtime_keeps_the_contract_of_engines() {
    let Some(engine) = crate::engine() else { return };
    engine_suite(engine, &EngineModels::all());
}
