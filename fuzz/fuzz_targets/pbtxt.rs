//! Fuzzes `salver_repository::fuzz::pbtxt`; its seeds stand in `crates/repository/corpus/pbtxt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_repository::fuzz::pbtxt(data));
