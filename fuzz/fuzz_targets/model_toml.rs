//! Fuzzes `salver_repository::fuzz::model_toml`; its seeds stand in `crates/repository/corpus/model_toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_repository::fuzz::model_toml(data));
