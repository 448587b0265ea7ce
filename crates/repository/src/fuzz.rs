//! Entry points for fuzzing: one for each parser of files that others wrote.
//!
//! Each takes any bytes and must return; what the parser says is of no interest. The tests run
//! them over `corpus/` and over changed copies of it.

use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use salver_core::{BoxFuture, Result};

use crate::signature::{self, Files, Side};
use crate::{hugging_face, mlflow, model_toml, onnx, pbtxt, tfserving};

/// Reads Triton's `config.pbtxt`.
pub fn pbtxt(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = pbtxt::parse(text, "model");
    }
}

/// Reads a configuration as JSON, as load requests carry it.
pub fn config_json(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = pbtxt::parse_json(text, "model");
    }
}

/// Reads TF Serving's `models.config`, as text and as clients send it.
pub fn models_config(data: &[u8]) {
    let _ = tfserving::decode(data, Path::new("/no/such/folder"));
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
        let declared = mlflow::declared(text).ok().and_then(|declared| declared.signature).unwrap_or_default();
        let _ = mlflow::tensors(Side::Input, &declared.inputs);
        let _ = mlflow::tensors(Side::Output, &declared.outputs);
    }
}

/// Reads the files of a Hugging Face export: one JSON object of their names and contents.
pub fn hugging_face(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        hugging_face::fuzz(text);
    }
}

/// Reads an ONNX file, whole and in pieces.
pub fn onnx(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let _ = onnx::summarize_bytes(data.clone());
    // What is in memory keeps nobody waiting.
    let _ = pin!(signature::read(&OneFile(data))).poll(&mut Context::from_waker(Waker::noop()));
}

/// A model that is one file in memory.
struct OneFile(Bytes);

impl Files for OneFile {
    fn list(&self) -> Vec<(&str, u64)> {
        vec![("model.onnx", self.0.len() as u64)]
    }

    fn read<'a>(&'a self, _: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(std::future::ready(Ok(self.0.slice(range.start as usize..range.end as usize))))
    }
}
