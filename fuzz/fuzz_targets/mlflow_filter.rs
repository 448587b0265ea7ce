//! Fuzzes `salver_registry::fuzz::mlflow_filter`; its seeds stand in `crates/registry/corpus/mlflow_filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_registry::fuzz::mlflow_filter(data));
