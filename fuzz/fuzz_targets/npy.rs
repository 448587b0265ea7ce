//! Fuzzes `salver_protocol::fuzz::npy`; its seeds stand in `crates/protocol/corpus/npy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::npy(data));
