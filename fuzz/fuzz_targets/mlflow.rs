//! Fuzzes `salver_protocol::fuzz::mlflow`; its seeds stand in `crates/protocol/corpus/mlflow`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::mlflow(data));
