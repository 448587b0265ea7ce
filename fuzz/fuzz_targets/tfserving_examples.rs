//! Fuzzes `salver_protocol::fuzz::tfserving_examples`; its seeds stand in `crates/protocol/corpus/tfserving_examples`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::tfserving_examples(data));
