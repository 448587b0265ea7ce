//! Fuzzes `salver_repository::fuzz::config_json`; its seeds stand in `crates/repository/corpus/config_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_repository::fuzz::config_json(data));
