//! What a signature of MLflow says, as the tensors of a model in Python.
//!
//! One rule: each column is an input of its own with one value a row, whatever the others are;
//! tensors are what they are. Lists, objects and maps have no tensor.

use std::collections::BTreeSet;

use salver_core::{DataType, Dim, Error, PythonTensor, Result, TensorSpec};

use crate::signature::{Field, Side};

/// What the only input is called where the signature has no name for it.
const INPUT: &str = "input";
/// What the only output is called where the signature has no name for it.
const OUTPUT: &str = "predictions";

/// Makes the tensors of one side.
///
/// # Errors
/// `Unsupported` for a type that no tensor has, `InvalidInput` for names given twice; both name the
/// column.
pub(crate) fn tensors(side: Side, fields: &[Field]) -> Result<Vec<PythonTensor>> {
    let mut names = BTreeSet::new();
    let tensor = |(position, field): (usize, &Field)| {
        let name = name(side, fields.len(), position, field);
        if !names.insert(name.clone()) {
            return Err(Error::invalid_input(format!(
                "signature: the {side} '{}' is given twice",
                name.escape_debug()
            )));
        }
        tensor(side, name, field)
    };
    fields.iter().enumerate().map(tensor).collect()
}

/// Several columns without names are numbered, as pandas does.
fn name(side: Side, count: usize, position: usize, field: &Field) -> String {
    match (field.name.as_str(), side) {
        ("", Side::Input) if count == 1 => INPUT.to_owned(),
        ("", Side::Output) if count == 1 => OUTPUT.to_owned(),
        ("", _) => position.to_string(),
        (name, _) => name.to_owned(),
    }
}

fn tensor(side: Side, name: String, field: &Field) -> Result<PythonTensor> {
    let Some((dtype, is_text)) = element_type(&field.datatype) else {
        return Err(Error::unsupported(format!(
            "signature: the {side} '{}' is of type {}, which is not served; expected numbers, booleans, texts, bytes or \
             dates, one a row, or a tensor of these",
            name.escape_debug(),
            field.datatype.escape_debug()
        )));
    };
    let extents = field.shape.as_deref().unwrap_or(&[-1]);
    let Some(shape) = extents.iter().map(|&extent| Dim::from_wire(extent)).collect() else {
        let message = format!("signature: the {side} '{}' has the shape {extents:?}", name.escape_debug());
        return Err(Error::invalid_input(format!("{message}; expected extents of -1 or more")));
    };
    Ok(PythonTensor { spec: TensorSpec { name: name.into(), dtype, shape, optional: field.optional }, is_text })
}

/// What is read as BYTES is a text in Python; dates are sent as texts.
fn element_type(datatype: &str) -> Option<(DataType, bool)> {
    match datatype {
        "BYTES" | "datetime" => Some((DataType::Bytes, true)),
        "binary" | "bytes" => Some((DataType::Bytes, false)),
        other => DataType::from_wire(other).map(|dtype| (dtype, false)),
    }
}
