//! Fuzzes `salver_protocol::fuzz::plain`; its seeds stand in `crates/protocol/corpus/plain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::plain(data));
