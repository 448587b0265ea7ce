//! The rten engine: neural models in pure Rust, always there.
