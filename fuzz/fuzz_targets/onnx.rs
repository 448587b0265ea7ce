//! Fuzzes `salver_repository::fuzz::onnx`; its seeds stand in `crates/repository/corpus/onnx`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_repository::fuzz::onnx(data));
