//! Merges requests into one batch and cuts its outputs apart again.
//!
//! Pure. Inputs of one batch have equal row shapes (`queue::BatchKey`), so merging is appending
//! bytes. A lone request is passed on as it came; a batch of fixed-size types is written straight
//! into the instance's own buffer; BYTES are appended into a new tensor.

use salver_core::{BatchLayout, DataType, ElementsBuilder, Error, InputLayout, Result, Tensor};

/// Lays out the inputs of `requests` one after the other, rows appended.
///
/// Returns `None` where an input is BYTES: those cannot be laid out in a flat buffer.
pub(crate) fn layout(requests: &[&[Tensor]]) -> Option<BatchLayout> {
    let first = requests.first()?;
    let mut layout = BatchLayout::default();
    for (idx, input) in first.iter().enumerate() {
        input.dtype().size()?;
        let rows = requests.iter().map(|inputs| inputs[idx].rows()).sum();
        let len = requests.iter().map(|inputs| inputs[idx].payload_len()).sum();
        let offset = layout.total_len.next_multiple_of(BatchLayout::ALIGN);
        layout.total_len = offset + len;
        layout.inputs.push(InputLayout {
            name: input.name().clone(),
            dtype: input.dtype(),
            shape: input.shape().with_rows(rows),
            offset,
            len,
        });
    }
    Some(layout)
}

/// Copies the inputs of `requests` to where `layout` says.
///
/// # Errors
/// `Engine` if the instance's buffer is smaller than the layout.
pub(crate) fn stage(requests: &[&[Tensor]], layout: &BatchLayout, buffer: &mut [u8]) -> Result<()> {
    for (idx, input) in layout.inputs.iter().enumerate() {
        let mut at = input.offset;
        for data in requests.iter().filter_map(|inputs| inputs[idx].bytes()) {
            let target = buffer
                .get_mut(at..at + data.len())
                .ok_or_else(|| Error::engine(format!("the engine's buffer is too small for input '{}'", input.name)))?;
            target.copy_from_slice(data);
            at += data.len();
        }
    }
    Ok(())
}

/// Appends the inputs of `requests` into new tensors; for batches with BYTES inputs.
pub(crate) fn merge(requests: &[&[Tensor]]) -> Result<Vec<Tensor>> {
    let Some(first) = requests.first() else {
        return Ok(Vec::new());
    };
    first.iter().enumerate().map(|(idx, head)| merge_one(head, requests.iter().map(|inputs| &inputs[idx]))).collect()
}

fn merge_one<'a>(head: &Tensor, parts: impl Iterator<Item = &'a Tensor> + Clone) -> Result<Tensor> {
    let rows = parts.clone().map(Tensor::rows).sum();
    let shape = head.shape().with_rows(rows);
    if head.dtype() == DataType::Bytes {
        let mut all = ElementsBuilder::default();
        for elements in parts.filter_map(Tensor::elements) {
            elements.iter().for_each(|element| all.push(element));
        }
        return Tensor::from_elements(head.name().clone(), shape, all.finish());
    }
    let mut data = Vec::with_capacity(parts.clone().map(Tensor::payload_len).sum());
    parts.filter_map(Tensor::bytes).for_each(|bytes| data.extend_from_slice(bytes));
    Tensor::new(head.name().clone(), head.dtype(), shape, data.into())
}

/// Cuts `outputs` of a merged batch into one set per request of `rows`, sharing the bytes.
///
/// # Errors
/// `Engine` if an output does not have one row per input row: then the model's first dimension
/// is no batch dimension, and its requests must not be merged.
pub(crate) fn split(outputs: &[Tensor], rows: &[usize]) -> Result<Vec<Vec<Tensor>>> {
    let total: usize = rows.iter().sum();
    if let Some(odd) = outputs.iter().find(|output| output.shape().is_empty() || output.rows() != total) {
        return Err(Error::engine(format!(
            "output '{}' has shape {} for a batch of {total} rows; a model whose outputs do not have one row per \
             input row must not be batched (set `max_batch_size: 0`, or `max_rows = 1` under [batching])",
            odd.name(),
            odd.shape()
        )));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(rows.len());
    for count in rows {
        let range = start..start + count;
        start = range.end;
        parts.push(outputs.iter().map(|output| output.slice_rows(range.clone())).collect::<Result<_>>()?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use salver_core::Elements;

    use super::*;

    fn request(start: usize, rows: usize) -> Vec<Tensor> {
        let wide: Vec<f32> = (start * 3..(start + rows) * 3).map(|value| value as f32).collect();
        let narrow: Vec<i8> = (start..start + rows).map(|value| value as i8).collect();
        let text: Elements = (start..start + rows).map(|value| value.to_string()).collect();
        vec![
            Tensor::from_slice("wide", [rows, 3], &wide).unwrap(),
            Tensor::from_slice("narrow", [rows], &narrow).unwrap(),
            Tensor::from_elements("text", [rows], text).unwrap(),
        ]
    }

    proptest! {
        #[test]
        fn what_is_merged_and_split_is_what_came(rows in proptest::collection::vec(0usize..5, 1..8)) {
            let mut start = 0;
            let requests: Vec<Vec<Tensor>> = rows.iter().map(|&rows| { start += rows; request(start - rows, rows) }).collect();
            let whole = request(0, start);

            let views: Vec<&[Tensor]> = requests.iter().map(Vec::as_slice).collect();
            let merged = merge(&views).unwrap();
            prop_assert_eq!(merged[0].bytes(), whole[0].bytes());
            prop_assert!(layout(&views).is_none());

            let fixed: Vec<&[Tensor]> = requests.iter().map(|inputs| &inputs[..2]).collect();
            let plan = layout(&fixed).unwrap();
            let mut buffer = vec![0; plan.total_len];
            stage(&fixed, &plan, &mut buffer).unwrap();
            for (input, expected) in plan.inputs.iter().zip(&whole) {
                prop_assert_eq!(input.offset % BatchLayout::ALIGN, 0);
                prop_assert_eq!(&buffer[input.offset..input.offset + input.len], &expected.bytes().unwrap()[..]);
                prop_assert_eq!(&input.shape, expected.shape());
            }

            for (part, request) in split(&merged, &rows).unwrap().iter().zip(&requests) {
                for (output, input) in part.iter().zip(request) {
                    prop_assert_eq!(output.shape(), input.shape());
                    prop_assert_eq!(output.bytes(), input.bytes());
                    let texts = |tensor: &Tensor| tensor.elements().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
                    prop_assert_eq!(texts(output), texts(input));
                }
            }
        }
    }

    #[test]
    fn an_output_without_a_row_per_row_is_an_error_that_says_what_to_set() {
        let output = Tensor::from_slice("sum", [1], &[3f32]).unwrap();
        let error = split(&[output], &[1, 1]).unwrap_err();
        assert!(error.message().starts_with("output 'sum' has shape [1] for a batch of 2 rows"), "{error}");
    }
}
