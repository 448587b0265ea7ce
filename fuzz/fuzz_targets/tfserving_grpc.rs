//! Fuzzes `salver_protocol::fuzz::tfserving_grpc`; its seeds stand in `crates/protocol/corpus/tfserving_grpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::tfserving_grpc(data));
