//! Fuzzes `salver_runtime::fuzz::cached_value`; it needs no seeds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_runtime::fuzz::cached_value(data));
