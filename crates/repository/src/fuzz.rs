//! Entry points for fuzzing: one for each parser of files that others wrote.
//!
//! Each takes any bytes and must return; what the parser says is of no interest. The tests run
//! them over `corpus/` and over changed copies of it.

use bytes::Bytes;

use crate::{hugging_face, mlflow, model_toml, onnx, pbtxt, tfserving};

/// Reads Triton's `config.pbtxt`.
pub fn pbtxt(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = pbtxt::parse(text, "model");
    }
}

/// Reads TF Serving's `models.config`.
pub fn models_config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = tfserving::parse(text);
    }
}

/// Reads `model.toml`.
pub fn model_toml(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = model_toml::parse(text);
    }
}

/// Reads MLflow's `MLmodel`.
pub fn mlmodel(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = mlflow::parse(text);
    }
}

/// Reads the files of a Hugging Face export: one JSON object of their names and contents.
pub fn hugging_face(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        hugging_face::fuzz(text);
    }
}

/// Reads an ONNX file.
pub fn onnx(data: &[u8]) {
    let _ = onnx::summarize_bytes(Bytes::copy_from_slice(data));
}
