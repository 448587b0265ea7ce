//! Fuzzes `salver_protocol::fuzz::generate`; its seeds stand in `crates/protocol/corpus/generate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::generate(data));
