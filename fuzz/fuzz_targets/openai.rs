//! Fuzzes `salver_protocol::fuzz::openai`; its seeds stand in `crates/protocol/corpus/openai`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::openai(data));
