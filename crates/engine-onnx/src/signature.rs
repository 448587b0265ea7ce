//! A session's inputs and outputs as a signature.
//!
//! Inputs must be tensors of types that requests can carry. Outputs that are not are left out,
//! with a warning, except the rows of class probabilities that converters from scikit-learn emit
//! (`ZipMap`: a sequence of maps): those become an FP32 tensor of rows and classes.

use ort::value::{TensorElementType, ValueType};
use salver_core::{Batching, Dim, Error, Result, Signature, TensorSpec};

use crate::dtype;

/// What a session says of one input or output.
pub(crate) type Declared<'a> = (&'a str, &'a ValueType);

/// How an output comes out of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputForm {
    /// As a tensor.
    Tensor,
    /// As a sequence of maps from class to probability, one map for each row.
    MapRows,
}

/// Reads the signature, whose `optional` inputs may be left out, and the form of each of its outputs.
///
/// # Errors
/// `Unsupported` for an input that a request cannot carry, or if no output is left.
pub(crate) fn read(
    inputs: &[Declared<'_>],
    optional: &[Declared<'_>],
    outputs: &[Declared<'_>],
) -> Result<(Signature, Vec<OutputForm>)> {
    let mut inputs: Vec<TensorSpec> = inputs.iter().map(input).collect::<Result<_>>()?;
    for one in optional {
        inputs.push(TensorSpec { optional: true, ..input(one)? });
    }
    let (mut specs, mut forms) = (Vec::new(), Vec::new());
    for &(name, value) in outputs {
        match output(name, value) {
            Some((spec, form)) => {
                specs.push(spec);
                forms.push(form);
            }
            None => tracing::warn!(output = name, "{value} is no tensor that a response can carry; it is left out"),
        }
    }
    if specs.is_empty() {
        return Err(Error::unsupported("no output is a tensor that a response can carry"));
    }
    let batching = Batching::of(&inputs, &specs);
    Ok((Signature { inputs, outputs: specs, batching }, forms))
}

fn input(&(name, value): &Declared<'_>) -> Result<TensorSpec> {
    tensor(name, value).ok_or_else(|| {
        Error::unsupported(format!("input '{name}' is a {value}; requests can carry tensors of the common types only"))
    })
}

fn output(name: &str, value: &ValueType) -> Option<(TensorSpec, OutputForm)> {
    if is_map_rows(value) {
        let spec = TensorSpec::new(name, salver_core::DataType::Fp32, &[-1, -1]);
        return Some((spec, OutputForm::MapRows));
    }
    Some((tensor(name, value)?, OutputForm::Tensor))
}

fn is_map_rows(value: &ValueType) -> bool {
    let ValueType::Sequence(item) = value else {
        return false;
    };
    matches!(**item, ValueType::Map { value: TensorElementType::Float32, .. })
}

fn tensor(name: &str, value: &ValueType) -> Option<TensorSpec> {
    let ValueType::Tensor { ty, shape, .. } = value else {
        return None;
    };
    let shape = shape.iter().map(|&dim| usize::try_from(dim).map_or(Dim::Free, Dim::Fixed)).collect();
    Some(TensorSpec { name: name.into(), dtype: dtype::from_ort(*ty)?, shape, optional: false })
}

#[cfg(test)]
mod tests {
    use ort::value::{Shape, SymbolicDimensions};
    use salver_core::{DataType, ErrorKind};

    use super::*;

    fn tensor_type(ty: TensorElementType, shape: &[i64]) -> ValueType {
        let dimension_symbols = SymbolicDimensions::empty(shape.len());
        ValueType::Tensor { ty, shape: Shape::new(shape.iter().copied()), dimension_symbols }
    }

    fn map(value: TensorElementType) -> ValueType {
        ValueType::Sequence(Box::new(ValueType::Map { key: TensorElementType::Int64, value }))
    }

    #[test]
    fn tensors_keep_type_shape_and_order() {
        let (x, y) = (tensor_type(TensorElementType::String, &[-1, 3]), tensor_type(TensorElementType::Bool, &[-1]));
        let (signature, forms) = read(&[("x", &x)], &[], &[("b", &y), ("a", &y)]).unwrap();
        assert_eq!(signature.inputs, [TensorSpec::new("x", DataType::Bytes, &[-1, 3])]);
        assert_eq!(signature.outputs[1], TensorSpec::new("a", DataType::Bool, &[-1]));
        assert_eq!(forms, [OutputForm::Tensor, OutputForm::Tensor]);
        assert_eq!(signature.batching, Batching::Rows { limit: None });
    }

    #[test]
    fn one_fixed_first_dimension_rules_batching_out() {
        let (x, y) = (tensor_type(TensorElementType::Float32, &[-1]), tensor_type(TensorElementType::Int64, &[1]));
        assert_eq!(read(&[("x", &x)], &[], &[("y", &y)]).unwrap().0.batching, Batching::Fixed);
        assert_eq!(read(&[], &[], &[("x", &x)]).unwrap().0.batching, Batching::Fixed);
    }

    #[test]
    fn rows_of_maps_become_a_matrix_and_other_outputs_are_left_out() {
        let x = tensor_type(TensorElementType::Float32, &[-1, 4]);
        let outputs = [("p", &map(TensorElementType::Float32)), ("q", &map(TensorElementType::Float64)), ("x", &x)];
        let (signature, forms) = read(&[("x", &x)], &[], &outputs).unwrap();
        assert_eq!(signature.outputs[0], TensorSpec::new("p", DataType::Fp32, &[-1, -1]));
        assert_eq!(forms, [OutputForm::MapRows, OutputForm::Tensor]);
        let alone = read(&[("x", &x)], &[], &[("q", &map(TensorElementType::Float64))]).unwrap_err();
        assert_eq!(alone.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn inputs_that_requests_cannot_carry_are_named() {
        let optional = ValueType::Optional(Box::new(tensor_type(TensorElementType::Float32, &[1])));
        for value in [map(TensorElementType::Float32), optional, tensor_type(TensorElementType::Complex64, &[1])] {
            let error = read(&[("odd", &value)], &[], &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains("'odd'"), "{error}");
        }
    }
}
