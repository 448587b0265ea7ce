//! Fuzzes `salver_repository::fuzz::models_config`; its seeds stand in `crates/repository/corpus/models_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_repository::fuzz::models_config(data));
