//! Merges requests into one batch and cuts its outputs apart again.
//!
//! Pure. Inputs of one batch have equal row shapes but for padded ones (`queue::BatchKey`), so
//! merging is appending bytes. A lone request is passed on as it came; a batch of fixed-size types
//! is written straight into the instance's own buffer; BYTES are appended into a new tensor.

use std::ops::AddAssign;

use salver_core::{BatchLayout, DataType, ElementsBuilder, Error, InputLayout, Result, Shape, Tensor};

use crate::padding::Padding;

/// One request of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) inputs: &'a [Tensor],
    pub(crate) rows: usize,
    /// The length of padded inputs.
    pub(crate) length: usize,
}

/// How much of a batch is padding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Padded {
    /// Elements of padded inputs, padding included.
    pub(crate) elements: usize,
    /// How many of them are padding.
    pub(crate) padding: usize,
}

impl AddAssign for Padded {
    fn add_assign(&mut self, other: Self) {
        self.elements += other.elements;
        self.padding += other.padding;
    }
}

fn longest(members: &[Member<'_>]) -> usize {
    members.iter().map(|member| member.length).max().unwrap_or(0)
}

/// Lays out the inputs of `members` one after the other, rows appended.
///
/// Returns `None` where an input is BYTES: those cannot be laid out in a flat buffer.
pub(crate) fn layout(members: &[Member<'_>], padding: Option<&Padding>) -> Option<BatchLayout> {
    let first = members.first()?.inputs;
    let longest = longest(members);
    let mut layout = BatchLayout::default();
    for (idx, input) in first.iter().enumerate() {
        let size = input.dtype().size()?;
        let rows = members.iter().map(|member| member.inputs[idx].rows()).sum();
        let is_padded = padding.is_some_and(|padding| padding.of_input(input.name()).is_some());
        let shape = if is_padded { with_length(input.shape(), longest) } else { input.shape().clone() };
        let shape = shape.with_rows(rows);
        let len = shape.element_count()?.checked_mul(size)?;
        let offset = layout.total_len.next_multiple_of(BatchLayout::ALIGN);
        layout.total_len = offset + len;
        layout.inputs.push(InputLayout { name: input.name().clone(), dtype: input.dtype(), shape, offset, len });
    }
    Some(layout)
}

fn with_length(shape: &Shape, length: usize) -> Shape {
    shape.iter().enumerate().map(|(idx, &extent)| if idx == 1 { length } else { extent }).collect()
}

/// Copies the inputs of `members` to where `layout` says, and pads those that are shorter.
///
/// # Errors
/// `Engine` if the instance's buffer is smaller than the layout.
pub(crate) fn stage(
    members: &[Member<'_>],
    padding: Option<&Padding>,
    layout: &BatchLayout,
    buffer: &mut [u8],
) -> Result<Padded> {
    let mut padded = Padded::default();
    for (idx, input) in layout.inputs.iter().enumerate() {
        let target = buffer
            .get_mut(input.offset..input.offset + input.len)
            .ok_or_else(|| Error::engine(format!("the engine's buffer is too small for input '{}'", input.name)))?;
        match padding.and_then(|padding| padding.of_input(&input.name)) {
            None => {
                append(members.iter().filter_map(|member| member.inputs[idx].bytes().map(|data| &data[..])), target)
            }
            Some(element) => padded += append_padded(members, idx, input, element, target),
        }
    }
    Ok(padded)
}

fn append<'a>(parts: impl Iterator<Item = &'a [u8]>, mut target: &mut [u8]) {
    for data in parts {
        let (head, rest) = target.split_at_mut(data.len());
        head.copy_from_slice(data);
        target = rest;
    }
}

fn append_padded(members: &[Member<'_>], idx: usize, input: &InputLayout, element: &[u8], target: &mut [u8]) -> Padded {
    let rows = input.shape.first().copied().unwrap_or(0);
    let row_len = input.len.checked_div(rows).unwrap_or(0);
    let mut padded = Padded { elements: input.len.checked_div(element.len()).unwrap_or(0), padding: 0 };
    let mut target_rows = target.chunks_exact_mut(row_len.max(1));
    for tensor in members.iter().map(|member| &member.inputs[idx]) {
        let own_len = tensor.payload_len().checked_div(tensor.rows()).unwrap_or(0);
        let data = tensor.bytes().map_or(&[][..], |data| data);
        for row_idx in 0..tensor.rows() {
            let Some(target) = target_rows.next() else {
                break;
            };
            let (head, tail) = target.split_at_mut(own_len);
            head.copy_from_slice(&data[row_idx * own_len..(row_idx + 1) * own_len]);
            for slot in tail.chunks_exact_mut(element.len()) {
                slot.copy_from_slice(element);
                padded.padding += 1;
            }
        }
    }
    padded
}

/// Appends the inputs of `members` into new tensors; for batches with BYTES inputs.
pub(crate) fn merge(members: &[Member<'_>]) -> Result<Vec<Tensor>> {
    let Some(first) = members.first() else {
        return Ok(Vec::new());
    };
    let column = |idx: usize| members.iter().map(move |member| &member.inputs[idx]);
    first.inputs.iter().enumerate().map(|(idx, head)| merge_one(head, column(idx))).collect()
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

/// Cuts `outputs` of a merged batch into one set per member, sharing the bytes where they are
/// contiguous.
///
/// # Errors
/// `Engine` if an output does not have one row per input row: then the model's first dimension
/// is no batch dimension, and its requests must not be merged.
pub(crate) fn split(outputs: &[Tensor], members: &[Member<'_>], padding: Option<&Padding>) -> Result<Vec<Vec<Tensor>>> {
    let total: usize = members.iter().map(|member| member.rows).sum();
    if let Some(odd) = outputs.iter().find(|output| output.shape().is_empty() || output.rows() != total) {
        return Err(Error::engine(format!(
            "output '{}' has shape {} for a batch of {total} rows; a model whose outputs do not have one row per \
             input row must not be batched (set `max_batch_size: 0`, or `max_rows = 1` under [batching])",
            odd.name(),
            odd.shape()
        )));
    }
    let longest = longest(members);
    let mut start = 0;
    let mut parts = Vec::with_capacity(members.len());
    for member in members {
        let range = start..start + member.rows;
        start = range.end;
        let cut = |output: &Tensor| {
            let own = output.slice_rows(range.clone())?;
            let is_longer = member.length < longest && padding.is_some_and(|padding| padding.cuts(own.name()));
            if is_longer { cut_length(&own, longest, member.length) } else { Ok(own) }
        };
        parts.push(outputs.iter().map(cut).collect::<Result<_>>()?);
    }
    Ok(parts)
}

/// Drops what belongs to the padding.
///
/// # Errors
/// `Engine` if the output is not as long as the batch was.
fn cut_length(output: &Tensor, padded: usize, length: usize) -> Result<Tensor> {
    let is_padded = output.shape().get(1) == Some(&padded);
    let (Some(data), true, Some(size)) = (output.bytes(), is_padded, output.dtype().size()) else {
        return Err(Error::engine(format!(
            "output '{}' has shape {} for a batch padded to length {padded}; only outputs of that length belong \
             under `outputs` of [batching.padding]",
            output.name(),
            output.shape()
        )));
    };
    let inner: usize = output.shape().iter().skip(2).product::<usize>() * size;
    let mut cut = Vec::with_capacity(output.rows() * length * inner);
    for row in data.chunks_exact((padded * inner).max(1)) {
        cut.extend_from_slice(&row[..length * inner]);
    }
    Tensor::new(output.name().clone(), output.dtype(), with_length(output.shape(), length), cut.into())
}

#[cfg(test)]
mod tests;
