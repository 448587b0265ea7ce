//! Fuzzes `salver_repository::fuzz::hugging_face`; its seeds stand in `crates/repository/corpus/hugging_face`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salver_repository::fuzz::hugging_face(data));
