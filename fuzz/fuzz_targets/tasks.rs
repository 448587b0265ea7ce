//! Fuzzes `salver_protocol::fuzz::tasks`; its seeds stand in `crates/protocol/corpus/tasks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_protocol::fuzz::tasks(data));
