//! The elements of a BYTES tensor: one buffer, and where each element lies in it.

use bytes::Bytes;

use crate::{Error, Result};

/// Byte strings of any length over one shared buffer.
///
/// A length-prefixed wire form needs no copy: the spans simply leave the prefixes out.
#[derive(Clone, Default)]
pub struct Elements {
    buffer: Bytes,
    spans: Vec<(u32, u32)>,
}

impl Elements {
    /// Joins a buffer and the `(start, end)` of each element in it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if a span is reversed or leaves the buffer.
    pub fn new(buffer: Bytes, spans: Vec<(u32, u32)>) -> Result<Self> {
        let valid = |&(start, end): &(u32, u32)| start <= end && end as usize <= buffer.len();
        match spans.iter().position(|span| !valid(span)) {
            None => Ok(Self { buffer, spans }),
            Some(idx) => Err(Error::invalid_input(format!("BYTES element {idx} lies outside its buffer"))),
        }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns element `idx`, if there is one.
    pub fn get(&self, idx: usize) -> Option<&[u8]> {
        let &(start, end) = self.spans.get(idx)?;
        self.buffer.get(start as usize..end as usize)
    }

    /// Walks over the elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.spans.iter().map(|&(start, end)| &self.buffer[start as usize..end as usize])
    }

    /// Returns elements `range` over the same buffer.
    ///
    /// # Panics
    /// If `range` leaves the elements.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self { buffer: self.buffer.clone(), spans: self.spans[range].to_vec() }
    }

    /// Returns the summed length of all elements, in bytes.
    pub fn total_len(&self) -> usize {
        self.spans.iter().map(|(start, end)| (end - start) as usize).sum()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Elements {
    /// # Panics
    /// If the elements together exceed 4 GiB; requests are far smaller by their body limit.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut builder = ElementsBuilder::default();
        for item in items {
            builder.push(item.as_ref());
        }
        builder.finish()
    }
}

/// Builds [`Elements`] one at a time.
#[derive(Default)]
pub struct ElementsBuilder {
    buffer: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

impl ElementsBuilder {
    /// Appends one element.
    ///
    /// # Panics
    /// If the elements together exceed 4 GiB; requests are far smaller by their body limit.
    pub fn push(&mut self, element: &[u8]) {
        let start = u32::try_from(self.buffer.len()).expect("BYTES tensors are bounded by the body limit, below 4 GiB");
        self.buffer.extend_from_slice(element);
        let end = u32::try_from(self.buffer.len()).expect("BYTES tensors are bounded by the body limit, below 4 GiB");
        self.spans.push((start, end));
    }

    /// Returns the number of elements so far.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Ends the building.
    pub fn finish(self) -> Elements {
        Elements { buffer: self.buffer.into(), spans: self.spans }
    }
}
