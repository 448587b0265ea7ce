//! Fuzzes `salver_repository::fuzz::mlmodel`; its seeds stand in `crates/repository/corpus/mlmodel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_repository::fuzz::mlmodel(data));
