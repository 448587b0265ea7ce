//! The outputs of a request's parts, joined again.

use salver_core::{DataType, Dim, Elements, ElementsBuilder, Error, Result, Shape, Tensor, TensorSpec};

/// Puts the rows of all parts below each other.
///
/// # Errors
/// `Engine` where the parts do not go together, or have not `rows` rows.
pub(super) fn join(specs: &[TensorSpec], mut parts: Vec<Vec<Tensor>>, rows: usize) -> Result<Vec<Tensor>> {
    if let Some(odd) = parts.iter().find(|part| part.len() != specs.len()) {
        return Err(Error::engine(format!("the model gave {} outputs, expected {}", odd.len(), specs.len())));
    }
    let joined = match parts.len() {
        0 => specs.iter().map(empty).collect::<Result<Vec<_>>>()?,
        1 => parts.remove(0),
        _ => {
            let column = |idx: usize| parts.iter().map(|part| &part[idx]).collect::<Vec<_>>();
            (0..specs.len()).map(|idx| stack(&column(idx))).collect::<Result<Vec<_>>>()?
        }
    };
    match joined.iter().find(|tensor| tensor.rows() != rows) {
        None => Ok(joined),
        Some(odd) => {
            Err(Error::engine(format!("output '{}' has shape {}, expected {rows} rows", odd.name(), odd.shape())))
        }
    }
}

fn stack(tensors: &[&Tensor]) -> Result<Tensor> {
    let first = tensors[0];
    let is_alike = |other: &&&Tensor| {
        other.dtype() == first.dtype() && other.shape().get(1..) == first.shape().get(1..) && !other.shape().is_empty()
    };
    if let Some(odd) = tensors.iter().find(|other| !is_alike(other)) {
        return Err(Error::engine(format!(
            "output '{}' is {} {} for some rows and {} {} for others",
            first.name(),
            first.dtype(),
            first.shape(),
            odd.dtype(),
            odd.shape()
        )));
    }
    let rows = tensors.iter().map(|tensor| tensor.rows()).sum();
    let shape = first.shape().with_rows(rows);
    if first.dtype() == DataType::Bytes {
        let mut all = ElementsBuilder::default();
        for element in tensors.iter().filter_map(|tensor| tensor.elements()).flat_map(Elements::iter) {
            all.push(element);
        }
        return Tensor::from_elements(first.name().clone(), shape, all.finish());
    }
    let mut data = Vec::with_capacity(tensors.iter().map(|tensor| tensor.payload_len()).sum());
    tensors.iter().filter_map(|tensor| tensor.bytes()).for_each(|bytes| data.extend_from_slice(bytes));
    Tensor::new(first.name().clone(), first.dtype(), shape, data.into())
}

/// An output of no rows.
fn empty(spec: &TensorSpec) -> Result<Tensor> {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free => 0,
    };
    let shape: Shape = std::iter::once(0).chain(spec.shape.iter().skip(1).map(extent)).collect();
    if spec.dtype == DataType::Bytes {
        return Tensor::from_elements(spec.name.clone(), shape, Elements::default());
    }
    Tensor::new(spec.name.clone(), spec.dtype, shape, Vec::new().into())
}
