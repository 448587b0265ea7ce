//! What a model takes and gives, as its files declare it: for people who compare versions.
//!
//! The signature of an `MLmodel`, the tensors that a `model.toml` declares of a model in Python, else
//! the inputs and outputs of the ONNX graph. Files are read in pieces, through whoever keeps them;
//! weights are passed over. Serving does not pass here.

mod change;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use salver_core::{BoxFuture, Error, PythonTensor, Result};
use serde::{Deserialize, Serialize};

pub use self::change::{Change, Side};
use crate::python::PythonDraft;
use crate::{files, mlflow, model_toml, onnx};

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Signature {
    /// What goes in, in order.
    pub inputs: Vec<Field>,
    /// What comes out, in order.
    pub outputs: Vec<Field>,
}

/// An input or output: a tensor, or a column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// May be empty where there is only one.
    pub name: String,
    /// As in the Open Inference Protocol (`FP32`); what it does not have is called as the file calls it.
    pub datatype: String,
    /// The extents, -1: any; none: a column, or a tensor of which not even the number is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<i64>>,
    /// Whether it may be left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl fmt::Display for Field {
    /// Writes the type: `FP32[-1,4]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.datatype)?;
        if let Some(shape) = &self.shape {
            let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
            write!(f, "[{}]", extents.join(","))?;
        }
        f.write_str(if self.optional { ", optional" } else { "" })
    }
}

/// The files of a model, wherever they are kept.
pub trait Files: Sync {
    /// Lists every file: its path within the model, and its length in bytes.
    fn list(&self) -> Vec<(&str, u64)>;

    /// Reads a range of a file, which ends where the file does.
    fn read<'a>(&'a self, path: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>>;
}

/// Reads the signature that a model's files declare; none where they declare none.
///
/// At most a configuration file is in memory at a time, whatever the size of the model.
///
/// # Errors
/// Those of `files`; `InvalidInput` for a file that is not what its name says.
pub async fn read(files: &dyn Files) -> Result<Option<Signature>> {
    let listed = files.list();
    let artifact = if let Some(text) = text(files, &listed, mlflow::MANIFEST).await? {
        let declared = mlflow::declared(&text)?;
        if declared.signature.is_some() {
            return Ok(declared.signature);
        }
        declared.artifact.and_then(|name| found(&listed, &[&name, &format!("{name}/model.onnx")]))
    } else if let Some(text) = text(files, &listed, model_toml::MANIFEST).await? {
        let manifest = model_toml::parse(&text)?;
        if let Some(python) = &manifest.python {
            return Ok(declared(python));
        }
        match manifest.artifact {
            Some(name) => found(&listed, &[&name]),
            None => only_onnx(&listed).or_else(|| found(&listed, &["model.onnx"])),
        }
    } else {
        only_onnx(&listed)
    };
    match artifact {
        Some((path, size)) if files::is_onnx(path) => onnx::signature(files, path, size).await.map(Some),
        Some(_) | None => Ok(None),
    }
}

/// Of a model in Python, no file but `model.toml` says anything: its code is not run here.
fn declared(python: &PythonDraft) -> Option<Signature> {
    let field = |tensor: &PythonTensor| Field {
        name: tensor.spec.name.to_string(),
        datatype: tensor.spec.dtype.to_string(),
        shape: Some(tensor.spec.wire_shape()),
        optional: tensor.spec.optional,
    };
    let fields = |tensors: &[PythonTensor]| tensors.iter().map(field).collect();
    let signature = Signature { inputs: fields(&python.inputs), outputs: fields(&python.outputs) };
    Some(signature).filter(|signature| *signature != Signature::default())
}

fn found<'a>(listed: &[(&'a str, u64)], names: &[&str]) -> Option<(&'a str, u64)> {
    let is_called = |path: &str, name: &str| path == name.strip_prefix("./").unwrap_or(name);
    listed.iter().copied().find(|(path, _)| names.iter().any(|name| is_called(path, name)))
}

/// The only ONNX file beside the manifest, as the one that is served.
fn only_onnx<'a>(listed: &[(&'a str, u64)]) -> Option<(&'a str, u64)> {
    let mut files = listed.iter().copied().filter(|(path, _)| !path.contains('/') && files::is_onnx(path));
    let first = files.next();
    first.filter(|_| files.next().is_none())
}

async fn text(files: &dyn Files, listed: &[(&str, u64)], name: &str) -> Result<Option<String>> {
    let Some((path, size)) = found(listed, &[name]) else {
        return Ok(None);
    };
    if size > files::CONFIG_LIMIT {
        return Err(Error::too_large(format!("{name} has {size} bytes, expected at most {}", files::CONFIG_LIMIT)));
    }
    let bytes = files.read(path, 0..size).await?;
    let text = String::from_utf8(bytes.into()).map_err(|_| Error::invalid_input(format!("{name} is not UTF-8 text")));
    text.map(Some)
}

#[cfg(test)]
mod tests;
