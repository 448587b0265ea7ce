//! Fuzzes `salver_protocol::fuzz::oip_grpc`; its seeds stand in `crates/protocol/corpus/oip_grpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::oip_grpc(data));
