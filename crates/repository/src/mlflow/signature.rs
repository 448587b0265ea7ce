//! The signature of an `MLmodel`, of whatever flavour: two texts of JSON within the YAML.

use serde_json::{Map, Value};

use super::{File, Text, options};
use crate::signature::{Field, Signature};
use salver_core::{Error, Result};

/// What an `MLmodel` declares, as far as it helps to compare models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    /// What goes in and out; none: nothing is said of either.
    pub(crate) signature: Option<Signature>,
    /// The ONNX file, or the folder that it lies in.
    pub(crate) artifact: Option<String>,
}

/// Reads the text of an `MLmodel`.
///
/// # Errors
/// `InvalidInput` for what is none, or a signature that MLflow did not write.
pub(crate) fn declared(text: &str) -> Result<Declared> {
    let mut file: File = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| Error::invalid_input(format!("not an MLmodel: {error}")))?;
    let artifact = match file.flavors.remove("onnx").and_then(|flavor| flavor.data) {
        Some(Text::Text(artifact)) => Some(artifact),
        Some(Text::Other(_)) | None => None,
    };
    let signature = file.signature.map(|signature| {
        let fields = |text: Option<String>| text.map_or(Ok(Vec::new()), |text| fields(&text));
        Ok(Signature { inputs: fields(signature.inputs)?, outputs: fields(signature.outputs)? })
    });
    let signature = signature.transpose()?.filter(|signature| *signature != Signature::default());
    Ok(Declared { signature, artifact })
}

fn fields(text: &str) -> Result<Vec<Field>> {
    let wrong = |why: String| Error::invalid_input(format!("not a signature of MLflow: {why}"));
    let fields: Option<Vec<Map<String, Value>>> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    fields
        .unwrap_or_default()
        .iter()
        .map(|of| field(of).ok_or_else(|| wrong("an entry has no type".to_owned())))
        .collect()
}

fn field(of: &Map<String, Value>) -> Option<Field> {
    let name = of.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let optional = of.get("required") == Some(&Value::Bool(false));
    if of.get("type")?.as_str()? != "tensor" {
        return Some(Field { name, datatype: type_text(of)?, shape: None, optional });
    }
    let tensor = of.get("tensor-spec")?.as_object()?;
    let shape = tensor.get("shape")?.as_array()?.iter().map(|extent| extent.as_i64().unwrap_or(-1));
    Some(Field { name, datatype: datatype(tensor.get("dtype")?.as_str()?), shape: Some(shape.collect()), optional })
}

/// Says a type in words; the reader of JSON bounds its depth.
fn type_text(of: &Map<String, Value>) -> Option<String> {
    let inner =
        |key: &str| of.get(key).and_then(Value::as_object).and_then(type_text).unwrap_or_else(|| "any".to_owned());
    Some(match of.get("type")?.as_str()? {
        "array" => format!("array({})", inner("items")),
        "map" => format!("map({})", inner("values")),
        "object" => {
            let property = |(name, of): (&String, &Value)| Some(format!("{name}: {}", type_text(of.as_object()?)?));
            let properties = of.get("properties").and_then(Value::as_object).into_iter().flatten().filter_map(property);
            format!("object({})", properties.collect::<Vec<_>>().join(", "))
        }
        other => datatype(other),
    })
}

/// Types of columns and of numpy as the Open Inference Protocol calls them, where it has them.
fn datatype(name: &str) -> String {
    match name {
        "boolean" | "bool" => "BOOL",
        "integer" | "int32" => "INT32",
        "long" | "int64" => "INT64",
        "float" | "float32" => "FP32",
        "double" | "float64" => "FP64",
        "string" | "str" | "object" => "BYTES",
        "float16" => "FP16",
        "bfloat16" => "BF16",
        "int8" => "INT8",
        "int16" => "INT16",
        "uint8" => "UINT8",
        "uint16" => "UINT16",
        "uint32" => "UINT32",
        "uint64" => "UINT64",
        other => other,
    }
    .to_owned()
}
