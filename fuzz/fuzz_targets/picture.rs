//! Fuzzes `salver_tasks::fuzz::picture`; its seeds stand in `crates/tasks/corpus/picture`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_tasks::fuzz::picture(data));
