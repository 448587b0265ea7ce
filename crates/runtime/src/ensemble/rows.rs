//! Rows of tensors: taking some, putting them together again.

use std::sync::Arc;

use bytes::BytesMut;
use salver_core::{Elements, Error, Result, Shape, Tensor};

/// Returns the rows `which` of `tensor`, in that order, under its name.
///
/// # Errors
/// `Engine` for a row that is not there.
pub(crate) fn select(tensor: &Tensor, which: impl Iterator<Item = usize> + Clone) -> Result<Tensor> {
    pick(tensor.name(), &[tensor], which.map(|row| (0, row)))
}

/// Returns a tensor of the rows `which` of `tensors`: each a tensor's place, and a row of it.
///
/// # Errors
/// `InvalidInput` where rows have different shapes: each is right, but no tensor holds both. `Engine`
/// where the types differ, or a row is not there.
pub(crate) fn pick(
    name: &Arc<str>,
    tensors: &[&Tensor],
    which: impl Iterator<Item = (usize, usize)> + Clone,
) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        return Err(Error::engine(format!("no value for '{name}'")));
    };
    if let Some(odd) = tensors.iter().find(|odd| odd.dtype() != first.dtype()) {
        return Err(Error::engine(format!("'{name}' is {} and {}", first.dtype(), odd.dtype())));
    }
    let row_shape = |tensor: &Tensor| tensor.shape().with_rows(1);
    if let Some(odd) = tensors.iter().find(|odd| row_shape(odd) != row_shape(first)) {
        return Err(Error::invalid_input(format!(
            "rows of '{name}' have different shapes, {} and {}, which one tensor cannot hold: send fewer rows in a \
             request",
            row_shape(first),
            row_shape(odd)
        )));
    }
    let gone = || Error::engine(format!("a row of '{name}' is not there"));
    let (per_row, n_rows) = (row_elements(first), which.clone().count());
    let shape = first.shape().with_rows(n_rows);
    let Some(width) = first.dtype().size() else {
        let mut found = Vec::with_capacity(n_rows * per_row);
        for (idx, row) in which {
            let elements = tensors.get(idx).and_then(|tensor| tensor.elements()).ok_or_else(gone)?;
            for at in row * per_row..(row + 1) * per_row {
                found.push(elements.get(at).ok_or_else(gone)?);
            }
        }
        return Tensor::from_elements(name.clone(), shape, Elements::from_iter(found));
    };
    let len = per_row * width;
    let mut data = BytesMut::with_capacity(n_rows * len);
    for (idx, row) in which {
        let bytes = tensors.get(idx).and_then(|tensor| tensor.bytes()).ok_or_else(gone)?;
        data.extend_from_slice(bytes.get(row * len..(row + 1) * len).ok_or_else(gone)?);
    }
    Tensor::new(name.clone(), first.dtype(), shape, data.freeze())
}

/// Puts tensors behind each other, row by row. One alone is not copied.
///
/// # Errors
/// `InvalidInput` where their rows have different shapes, `Engine` where the types differ.
pub(crate) fn concat(name: &Arc<str>, mut tensors: Vec<Tensor>) -> Result<Tensor> {
    if tensors.len() == 1 {
        return Ok(tensors.remove(0));
    }
    let all: Vec<&Tensor> = tensors.iter().collect();
    let rows = all.iter().enumerate().flat_map(|(idx, tensor)| (0..tensor.rows()).map(move |row| (idx, row)));
    pick(name, &all, rows)
}

/// Joins the first two dimensions: the items of all rows become rows.
///
/// # Errors
/// `Engine` for a tensor of fewer dimensions.
pub(crate) fn flatten(tensor: Tensor) -> Result<Tensor> {
    match **tensor.shape() {
        [rows, items, ref rest @ ..] => {
            let shape: Shape = std::iter::once(rows * items).chain(rest.iter().copied()).collect();
            tensor.reshape(shape)
        }
        _ => Err(Error::engine(format!("'{}' {} holds no list in each row", tensor.name(), tensor.shape()))),
    }
}

/// Splits the first dimension into `rows` rows of `items`: undoes [`flatten`].
///
/// # Errors
/// `Engine` where there are more or fewer.
pub(crate) fn unflatten(tensor: Tensor, rows: usize, items: usize) -> Result<Tensor> {
    let rest = tensor.shape().get(1..).unwrap_or_default();
    let shape: Shape = [rows, items].into_iter().chain(rest.iter().copied()).collect();
    tensor.reshape(shape).map_err(|error| Error::engine(error.message().to_owned()))
}

/// Puts a dimension of one before the others.
///
/// # Errors
/// `InvalidInput` for a tensor with as many dimensions as there may be.
pub(crate) fn as_row(tensor: Tensor) -> Result<Tensor> {
    let shape: Shape = std::iter::once(1).chain(tensor.shape().iter().copied()).collect();
    tensor.reshape(shape)
}

/// Takes away a first dimension of one.
///
/// # Errors
/// `Engine` where it is not one.
pub(crate) fn out_of_row(tensor: Tensor) -> Result<Tensor> {
    match **tensor.shape() {
        [1, ref rest @ ..] => {
            let shape = Shape::new(rest);
            tensor.reshape(shape)
        }
        _ => Err(Error::engine(format!("'{}' {} is not one row", tensor.name(), tensor.shape()))),
    }
}

fn row_elements(tensor: &Tensor) -> usize {
    tensor.shape().get(1..).unwrap_or_default().iter().product()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use salver_core::ErrorKind;
    use salver_testkit::{tensor, text};

    use super::*;

    fn floats(tensor: &Tensor) -> Vec<f32> {
        tensor.to_vec().unwrap()
    }

    #[test]
    fn rows_are_taken_in_the_order_asked_for() {
        let numbers = tensor("x", &[3, 2], &[0f32, 1., 10., 11., 20., 21.]);
        assert_eq!(floats(&select(&numbers, [2, 0].into_iter()).unwrap()), [20., 21., 0., 1.]);
        let words = text("w", &[3, 1], &[b"a", b"", b"ccc"]);
        let picked = select(&words, [2, 1].into_iter()).unwrap();
        assert_eq!(picked.elements().unwrap().iter().collect::<Vec<_>>(), [b"ccc".as_slice(), b""]);
        assert!(select(&numbers, std::iter::once(3)).is_err());
        assert_eq!(**select(&numbers, std::iter::empty()).unwrap().shape(), [0, 2]);
    }

    #[test]
    fn rows_of_other_shapes_do_not_fit_together() {
        let (narrow, wide) = (tensor("x", &[1, 2], &[0f32, 1.]), tensor("x", &[1, 3], &[0f32, 1., 2.]));
        let error = concat(&"x".into(), vec![narrow, wide]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("rows of 'x' have different shapes, [1,2] and [1,3]"), "{error}");
        let bytes = tensor("x", &[1, 2], &[0u8, 1]);
        let error = concat(&"x".into(), vec![tensor("x", &[1, 2], &[0f32, 1.]), bytes]).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Engine, "'x' is FP32 and UINT8"));
    }

    proptest! {
        #[test]
        fn what_was_cut_goes_together_again(rows in 1usize..6, cut in 0usize..6, items in 0usize..4) {
            let cut = cut.min(rows);
            let data: Vec<f32> = (0..rows * items * 2).map(|value| value as f32).collect();
            let whole = tensor("x", &[rows, items, 2], &data);
            let parts = [0..cut, cut..rows].into_iter().map(|range| select(&whole, range).unwrap()).collect();
            let again = concat(&"x".into(), parts).unwrap();
            prop_assert_eq!(floats(&again), data.clone());
            let flat = flatten(whole.clone()).unwrap();
            prop_assert_eq!(&**flat.shape(), &[rows * items, 2]);
            let again = unflatten(flat, rows, items).unwrap();
            prop_assert_eq!(again.shape(), whole.shape());
        }
    }
}
