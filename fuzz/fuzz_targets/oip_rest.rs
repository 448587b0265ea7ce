//! Fuzzes `salver_protocol::fuzz::oip_rest`; its seeds stand in `crates/protocol/corpus/oip_rest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::oip_rest(data));
