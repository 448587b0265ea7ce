//! Nested lists whose shape is found while reading.
//!
//! The elements go straight into packed bytes: no tree is built. Ragged lists are refused at the
//! first list that differs. The recursion is as deep as a tensor has dimensions, at most
//! [`Shape::MAX_RANK`], whatever the body says.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use jiter::{Jiter, Peek};
use salver_core::{DataType, Error, Result, Shape, Tensor, TensorSpec};

use super::packed::Packed;
use super::read::{self, OrNotJson as _};
use super::{base64, element, write};

/// What stands for an element beside the plain JSON form of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// `{"b64": "…"}` for BYTES.
    Base64Objects,
    /// `null` for the NaN of a float.
    NullIsNan,
    /// `null` for NaN, and text that spells the value.
    Convertible,
}

/// What else stands for an element, depending on what an input means to the model's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cells {
    /// Nothing else.
    Plain,
    /// base64 for BYTES, as text; not together with [`Leaves::Base64Objects`].
    Base64,
    /// The labels of zero-shot classification: only messages differ.
    Labels,
    /// A column that every row must have: no `null`.
    Required,
    /// A column that rows may leave out: `null` is the NaN of a float and a text of no characters.
    /// Floats take booleans as well, because a flag that may be missing is one.
    Optional,
}

/// Reads the value that `peek` announces as the whole input `spec`.
///
/// # Errors
/// As [`Nested::value`], naming the input.
pub(crate) fn input(
    reader: &mut Jiter<'_>,
    peek: Peek,
    spec: &TensorSpec,
    leaves: Leaves,
    cells: Cells,
) -> Result<Tensor> {
    let mut nested = Nested::new(spec.dtype, leaves).with_cells(cells);
    nested.value(reader, peek).map_err(|error| error.context(format!("input '{}'", spec.name)))?;
    nested.finish(&spec.name)
}

/// Reads nested lists into one tensor.
pub(crate) struct Nested {
    packed: Packed,
    leaves: Leaves,
    cells: Cells,
    /// The length of the lists at each depth; none while the first one is still open.
    extents: Vec<Option<usize>>,
    rows: usize,
}

impl Nested {
    /// Starts a tensor of `dtype`.
    pub(crate) fn new(dtype: DataType, leaves: Leaves) -> Self {
        Self { packed: Packed::new(dtype, 0), leaves, cells: Cells::Plain, extents: Vec::new(), rows: 0 }
    }

    /// Says what else stands for an element.
    pub(crate) fn with_cells(mut self, cells: Cells) -> Self {
        self.cells = cells;
        self
    }

    /// Reads the value that `peek` announces as the whole tensor.
    ///
    /// # Errors
    /// [`salver_core::ErrorKind::InvalidInput`] for ragged lists, too many dimensions, and
    /// elements that are not of the data type.
    pub(crate) fn value(&mut self, reader: &mut Jiter<'_>, peek: Peek) -> Result<()> {
        self.at(reader, peek, 0)
    }

    /// Reads the value that `peek` announces as the next row.
    ///
    /// # Errors
    /// As [`Nested::value`].
    pub(crate) fn row(&mut self, reader: &mut Jiter<'_>, peek: Peek) -> Result<()> {
        self.open_row();
        self.at(reader, peek, 1)
    }

    /// Appends `text` as the next row: one element, spelled out.
    ///
    /// # Errors
    /// [`salver_core::ErrorKind::InvalidInput`] if it does not spell an element.
    pub(crate) fn text_row(&mut self, text: &str) -> Result<()> {
        self.open_row();
        self.leaf_allowed(1)?;
        match self.cells {
            Cells::Base64 => self.base64(text),
            Cells::Required if self.packed.dtype().is_float() && is_missing(text.trim()) => {
                Err(Error::invalid_input(format!("expected {}, the value is missing", self.packed.dtype())))
            }
            Cells::Optional if self.packed.dtype().is_float() => {
                let flag = spelled_flag(text.trim()).map(|flag| if flag { "1" } else { "0" });
                push_text(flag.unwrap_or(text), &mut self.packed)
            }
            Cells::Plain | Cells::Labels | Cells::Required | Cells::Optional => push_text(text, &mut self.packed),
        }
    }

    /// Whether rows may leave this out.
    pub(crate) fn may_fill(&self) -> bool {
        let has_missing = self.packed.dtype().is_float() || self.packed.dtype() == DataType::Bytes;
        self.cells == Cells::Optional && has_missing
    }

    /// Appends missing values up to row `rows`.
    ///
    /// # Errors
    /// None that the data can cause; the result is that of the writer beneath.
    pub(crate) fn fill_to(&mut self, rows: usize) -> Result<()> {
        while self.rows < rows {
            self.open_row();
            self.missing()?;
        }
        Ok(())
    }

    fn missing(&mut self) -> Result<()> {
        match self.packed.dtype() {
            dtype if dtype.is_float() => element::push_number(b"NaN", &mut self.packed),
            _ => self.packed.push_bytes(b""),
        }
    }

    fn open_row(&mut self) {
        if self.extents.is_empty() {
            self.extents.push(None);
        }
        self.rows += 1;
    }

    /// Returns the number of rows read one by one.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Makes the tensor of everything read.
    ///
    /// # Errors
    /// [`salver_core::ErrorKind::InvalidInput`] if nothing was read at all.
    pub(crate) fn finish(mut self, name: &str) -> Result<Tensor> {
        if let Some(extent @ None) = self.extents.first_mut() {
            *extent = Some(self.rows);
        }
        let shape: Shape = self.extents.iter().map(|extent| extent.unwrap_or(0)).collect();
        self.packed.finish(name, shape)
    }

    fn at(&mut self, reader: &mut Jiter<'_>, peek: Peek, depth: usize) -> Result<()> {
        // A cell of a column is no list, whatever the rows before it had.
        if peek != Peek::Array || (self.is_column() && depth > 0) {
            return self.leaf(reader, peek, depth);
        }
        if depth >= Shape::MAX_RANK {
            return Err(read::too_deep(reader.current_index(), Shape::MAX_RANK));
        }
        if self.extents.len() <= depth {
            if !self.packed.is_empty() {
                return Err(ragged(reader, "a list stands where a value was expected"));
            }
            self.extents.push(None);
        }
        let count = self.items(reader, depth)?;
        match self.extents[depth] {
            None => self.extents[depth] = Some(count),
            Some(expected) if expected == count => {}
            Some(expected) if self.cells == Cells::Labels => {
                return Err(self.other_labels(depth, count, expected));
            }
            Some(expected) => {
                return Err(ragged(reader, &format!("a list of {count} follows lists of {expected}")));
            }
        }
        Ok(())
    }

    fn is_column(&self) -> bool {
        matches!(self.cells, Cells::Required | Cells::Optional)
    }

    #[cold]
    fn other_labels(&self, depth: usize, count: usize, expected: usize) -> Error {
        let row = self.packed.len().saturating_sub(count).checked_div(expected).unwrap_or(0);
        let place = if depth == 1 && self.rows == 0 { format!("row {row} has ") } else { String::new() };
        Error::invalid_input(format!(
            "{place}{count} labels, the rows before have {expected}; give every row as many, or one list for all rows"
        ))
    }

    /// Reads an open list to its end and returns how many items it had.
    fn items(&mut self, reader: &mut Jiter<'_>, depth: usize) -> Result<usize> {
        let mut count = 0;
        let mut next = reader.known_array().or_not_json()?;
        while let Some(peek) = next {
            self.at(reader, peek, depth + 1)?;
            count += 1;
            next = reader.array_step().or_not_json()?;
        }
        Ok(count)
    }

    #[inline]
    fn leaf(&mut self, reader: &mut Jiter<'_>, peek: Peek, depth: usize) -> Result<()> {
        if self.extents.len() != depth {
            return Err(ragged(reader, "a value stands where a list was expected"));
        }
        let read = match self.cells {
            Cells::Plain | Cells::Labels => leaf(reader, peek, self.leaves, &mut self.packed),
            Cells::Base64 | Cells::Required | Cells::Optional => self.cell(reader, peek),
        };
        // The row is named by whoever reads rows.
        let is_named = self.is_column() && self.rows > 0;
        read.map_err(|error| if is_named { error } else { error.context(format!("element {}", self.packed.len())) })
    }

    fn cell(&mut self, reader: &mut Jiter<'_>, peek: Peek) -> Result<()> {
        let is_float = self.packed.dtype().is_float();
        match (self.cells, peek) {
            (Cells::Base64, Peek::String) if self.leaves != Leaves::Base64Objects => {
                let text = reader.known_str().or_not_json()?;
                self.packed.push_bytes(&base64::decode(text)?)
            }
            (Cells::Base64, Peek::Object) => leaf(reader, peek, Leaves::Base64Objects, &mut self.packed),
            (Cells::Required, Peek::Null) => element::element(reader, peek, &mut self.packed),
            (Cells::Optional, Peek::Null) if is_float || self.packed.dtype() == DataType::Bytes => {
                reader.known_null().or_not_json()?;
                self.missing()
            }
            (Cells::Optional, Peek::True | Peek::False) if is_float => {
                let flag = reader.known_bool(peek).or_not_json()?;
                element::push_number(if flag { b"1" } else { b"0" }, &mut self.packed)
            }
            _ => leaf(reader, peek, self.leaves, &mut self.packed),
        }
    }

    fn base64(&mut self, text: &str) -> Result<()> {
        self.packed.push_bytes(&base64::decode(text)?)
    }

    fn leaf_allowed(&self, depth: usize) -> Result<()> {
        if self.extents.len() == depth {
            return Ok(());
        }
        Err(Error::invalid_input("a value stands where a list was expected"))
    }
}

#[cold]
fn ragged(reader: &Jiter<'_>, what: &str) -> Error {
    Error::invalid_input(format!("lists are ragged: {what} at byte {}", reader.current_index()))
}

/// Reads the value that `peek` announces as one element.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] if it is none of the data type.
#[inline]
pub(crate) fn leaf(reader: &mut Jiter<'_>, peek: Peek, leaves: Leaves, out: &mut Packed) -> Result<()> {
    match (leaves, peek) {
        (Leaves::Base64Objects, Peek::Object) if out.dtype() == DataType::Bytes => base64_object(reader, out),
        (Leaves::NullIsNan | Leaves::Convertible, Peek::Null) if out.dtype().is_float() => {
            reader.known_null().or_not_json()?;
            element::push_number(b"NaN", out)
        }
        (Leaves::Convertible, Peek::String) if out.dtype() != DataType::Bytes => {
            let text = reader.known_str().or_not_json()?;
            push_text(text, out)
        }
        _ => element::element(reader, peek, out),
    }
}

/// Appends the element that `text` spells: a CSV field, or a quoted number.
///
/// Nothing, `NaN` and their usual spellings are the NaN of a float.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] naming the text and the type.
pub(crate) fn push_text(text: &str, out: &mut Packed) -> Result<()> {
    if let Packed::Bytes(..) = out {
        return out.push_bytes(text.as_bytes());
    }
    let dtype = out.dtype();
    let word = text.trim();
    let spelling = match (dtype, word) {
        (DataType::Bool, _) => spelled_flag(word).map_or_else(|| word.to_owned(), |flag| flag.to_string()),
        _ if dtype.is_float() => float_spelling(word).unwrap_or_default(),
        _ => word.to_owned(),
    };
    let mut reader = read::reader(spelling.as_bytes());
    let appended = match reader.peek() {
        Ok(peek) if peek.is_num() || dtype == DataType::Bool => element::element(&mut reader, peek, out),
        _ => Err(Error::invalid_input("")),
    };
    match appended {
        Ok(()) if reader.finish().is_ok() => Ok(()),
        _ => Err(Error::invalid_input(format!("'{}' is not {dtype}", read::clip(word)))),
    }
}

fn spelled_flag(word: &str) -> Option<bool> {
    match word {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn is_missing(word: &str) -> bool {
    matches!(word, "" | "NA" | "N/A" | "n/a" | "null" | "NULL" | "None" | "<NA>")
}

/// Spells a float as JSON does: files also have `.5`, `5.`, `+1`, `inf`, and words for a missing value.
fn float_spelling(word: &str) -> Option<String> {
    if is_missing(word) {
        return Some("NaN".to_owned());
    }
    let value: f64 = word.parse().ok()?;
    if value.is_infinite() && !word.contains(['n', 'N']) {
        return None;
    }
    let mut out = Vec::new();
    write::f64(&mut out, value);
    String::from_utf8(out).ok()
}

/// Whether the object that `reader` stands before begins with the key `b64`.
pub(crate) fn is_base64(reader: &Jiter<'_>) -> bool {
    matches!(reader.clone().next_object(), Ok(Some("b64")))
}

/// Reads `{"b64": "…"}`, exactly that.
fn base64_object(reader: &mut Jiter<'_>, out: &mut Packed) -> Result<()> {
    let start = reader.current_index();
    let refuse =
        || Error::invalid_input(format!("expected text or {{\"b64\": \"...\"}}, got another object at byte {start}"));
    if reader.known_object().or_not_json()? != Some("b64") {
        return Err(refuse());
    }
    if reader.peek().or_not_json()? != Peek::String {
        return Err(refuse());
    }
    let text = reader.known_str().or_not_json()?;
    let bytes = STANDARD_PAD_INDIFFERENT
        .decode(text)
        .map_err(|error| Error::invalid_input(format!("b64 at byte {start} is not base64: {error}")))?;
    out.push_bytes(&bytes)?;
    match reader.next_key().or_not_json()? {
        None => Ok(()),
        Some(_) => Err(refuse()),
    }
}

#[cfg(test)]
mod tests;
