//! The demo, as the README's first command runs it.

use crate::support::{Said, salver, succeed};

#[test]
fn the_demo_predicts_all_held_out_rows_over_every_protocol_and_ends() {
    let out = succeed(&["demo", "--exit", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
    for part in ["setosa", "0.9778", "0.9978", "HTTP JSON", "HTTP binary", "gRPC", "450", "WRONG", "█"] {
        assert!(out.contains(part), "{part:?} in {out}");
    }
}

#[test]
fn without_onnx_runtime_the_built_in_engine_serves_the_demo() {
    let nowhere = tempfile::tempdir().unwrap();
    let output = salver()
        .args(["demo", "--exit", "--http", "127.0.0.1:0", "--grpc", "off", "--no-runtime-install"])
        .env("SALVER_CACHE", nowhere.path())
        .env("PATH", nowhere.path())
        .env_remove("ORT_DYLIB_PATH")
        .output()
        .unwrap();
    let said = Said::from(output);
    assert_eq!(said.code, Some(0), "{said:#?}");
    for part in ["Engine: rten", "0.9778", "0.9978"] {
        assert!(said.out.contains(part), "{part:?} in {said:#?}");
    }
}
