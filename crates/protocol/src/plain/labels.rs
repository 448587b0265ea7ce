//! One list of labels for all rows of zero-shot classification.

use salver_core::{Elements, Error, Result, Tensor};

use crate::Limits;
use crate::task::{LABELS, TEXT};

/// Gives every row the labels of the only list, where there are more rows. The bytes are shared.
///
/// # Errors
/// `TooLarge` where the rows and labels together are more than a body could hold.
pub(super) fn spread(tensors: &mut [Tensor], limits: &Limits) -> Result<()> {
    let Some(rows) = tensors.iter().find(|tensor| &**tensor.name() == TEXT).map(Tensor::rows) else {
        return Ok(());
    };
    let Some(tensor) = tensors.iter_mut().find(|tensor| &**tensor.name() == LABELS) else {
        return Ok(());
    };
    let (Some(labels), [1, count]) = (tensor.elements().filter(|_| rows > 1), &**tensor.shape()) else {
        return Ok(());
    };
    let size = (labels.total_len() + size_of::<(u32, u32)>() * count).checked_mul(rows);
    if size.is_none_or(|size| size > limits.max_body_bytes) {
        return Err(Error::too_large(format!(
            "input 'labels': {count} labels for each of {rows} rows are too many together; send fewer rows at a time"
        )));
    }
    *tensor = Tensor::from_elements(LABELS, [rows, *count], repeated(labels, rows)?)?;
    Ok(())
}

fn repeated(elements: &Elements, times: usize) -> Result<Elements> {
    let (mut buffer, mut spans) = (Vec::with_capacity(elements.total_len()), Vec::with_capacity(elements.len()));
    for element in elements.iter() {
        let start = buffer.len();
        buffer.extend_from_slice(element);
        spans.push((offset(start)?, offset(buffer.len())?));
    }
    Elements::new(buffer.into(), spans.repeat(times))
}

fn offset(at: usize) -> Result<u32> {
    u32::try_from(at).map_err(|_| Error::too_large("input 'labels' has more than 4 GiB"))
}
