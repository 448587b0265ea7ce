//! Fuzzes `salver_engine_python::fuzz::worker_packet`; its seeds stand in
//! `crates/engine-python/corpus/worker_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_engine_python::fuzz::worker_packet(data));
