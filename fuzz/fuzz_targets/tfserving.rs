//! Fuzzes `salver_protocol::fuzz::tfserving`; its seeds stand in `crates/protocol/corpus/tfserving`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::tfserving(data));
