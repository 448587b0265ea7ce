//! Rows by column name, or by position, into the inputs of a model.
//!
//! Shared by the protocols that know tables. A key names either a column of an input (a table
//! model: its values become one `[rows, columns]` tensor, whatever the order of the keys) or a
//! whole input, of which each row gives one part. Which keys exist is decided once; after that
//! each row is checked for missing, repeated and unknown ones.

use std::borrow::Cow;
use std::collections::HashMap;

use jiter::{Jiter, Peek};
use salver_core::{
    DataType, Dim, ElementsBuilder, Error, InferRequest, ModelInfo, ModelRef, Parameters, Result, Shape, Tensor,
    TensorSpec,
};

use crate::json::nested::{self, Leaves, Nested};
use crate::json::packed::Packed;
use crate::json::read::{self, OrNotJson as _};

/// How rows are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowOptions {
    pub(crate) leaves: Leaves,
    pub(crate) unknown: UnknownKeys,
}

/// What happens to keys that name nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownKeys {
    Refused,
    Skipped,
}

/// Collects rows.
pub(crate) struct Rows<'a> {
    info: &'a ModelInfo,
    options: RowOptions,
    targets: Vec<Target<'a>>,
    /// Parallel to the inputs.
    sinks: Vec<Sink>,
    /// Built for wide tables only: a few keys are found faster by looking.
    by_key: HashMap<Cow<'a, str>, usize>,
    n_rows: usize,
}

/// What a key stands for.
struct Target<'a> {
    key: Cow<'a, str>,
    input: usize,
    /// The column of a table; none: the whole input.
    column: Option<usize>,
    optional: bool,
    /// The last row that had this key, counted from 1.
    seen_in: usize,
}

enum Sink {
    Table(Table),
    Tensor(Nested),
}

impl<'a> Rows<'a> {
    /// Takes the columns that the model declares as keys, and the names of its other inputs.
    pub(crate) fn of_columns(info: &'a ModelInfo, options: RowOptions) -> Self {
        let columns = |idx: usize| info.columns.get(idx).map(Vec::as_slice).unwrap_or_default();
        Self::with_keys(info, options, |idx| columns(idx).iter().map(|name| name.as_str().into()).collect())
    }

    /// Takes the names of the inputs as keys, and no columns.
    pub(crate) fn of_inputs(info: &'a ModelInfo, options: RowOptions) -> Self {
        Self::with_keys(info, options, |_| Vec::new())
    }

    /// Takes `names` as the columns of the only input.
    pub(crate) fn of_frame(info: &'a ModelInfo, options: RowOptions, names: &[String]) -> Self {
        Self::with_keys(info, options, |_| names.iter().map(|name| name.clone().into()).collect())
    }

    /// `columns` returns the columns of an input, none where its own name is the key.
    fn with_keys(info: &'a ModelInfo, options: RowOptions, columns: impl Fn(usize) -> Vec<Cow<'a, str>>) -> Self {
        let mut rows =
            Self { info, options, targets: Vec::new(), sinks: Vec::new(), by_key: HashMap::new(), n_rows: 0 };
        for (input, spec) in info.signature.inputs.iter().enumerate() {
            let optional = spec.optional;
            let names = columns(input);
            if names.is_empty() {
                rows.targets.push(Target { key: (&*spec.name).into(), input, column: None, optional, seen_in: 0 });
                rows.sinks.push(Sink::Tensor(Nested::new(spec.dtype, options.leaves)));
                continue;
            }
            rows.sinks.push(Sink::Table(Table::new(spec.dtype, options.leaves, names.len())));
            let target = |(column, key)| Target { key, input, column: Some(column), optional, seen_in: 0 };
            rows.targets.extend(names.into_iter().enumerate().map(target));
        }
        if rows.targets.len() > MAX_LOOKED_THROUGH {
            rows.by_key = rows.targets.iter().enumerate().map(|(idx, target)| (target.key.clone(), idx)).collect();
        }
        rows
    }

    /// Whether `key` names something.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.find(key, 0).is_some()
    }

    /// Keys mostly come in the model's order, so the `expected` one is tried first.
    fn find(&self, key: &str, expected: usize) -> Option<usize> {
        if self.targets.get(expected).is_some_and(|target| target.key == key) {
            return Some(expected);
        }
        if self.by_key.is_empty() {
            return self.targets.iter().position(|target| target.key == key);
        }
        self.by_key.get(key).copied()
    }

    /// Reads a list of objects to its end.
    pub(crate) fn objects(&mut self, reader: &mut Jiter<'_>, depth: usize) -> Result<()> {
        let first = reader.next_array().or_not_json()?;
        self.objects_from(reader, first, depth)
    }

    /// Reads the objects of an open list to its end, beginning with what `next` announces.
    pub(crate) fn objects_from(&mut self, reader: &mut Jiter<'_>, mut next: Option<Peek>, depth: usize) -> Result<()> {
        while let Some(peek) = next {
            self.object(reader, peek, depth)?;
            next = reader.array_step().or_not_json()?;
        }
        Ok(())
    }

    /// Reads the object that `peek` announces as the next row.
    pub(crate) fn object(&mut self, reader: &mut Jiter<'_>, peek: Peek, depth: usize) -> Result<()> {
        let row = self.n_rows;
        if peek != Peek::Object {
            return Err(Error::invalid_input(format!(
                "row {row} is no object, but rows must be alike; expected the keys {}",
                self.expected_keys()
            )));
        }
        self.begin_row();
        let mut expected = 0;
        let mut key = reader.known_object().or_not_json()?;
        while let Some(name) = key {
            let target = self.find(name, expected);
            if target.is_none() && self.options.unknown == UnknownKeys::Refused {
                return Err(self.unknown_key(name, row));
            }
            match target {
                Some(target) => {
                    self.cell(reader, target)?;
                    expected = target + 1;
                }
                None => {
                    read::skip(reader, depth)?;
                }
            }
            key = reader.next_key().or_not_json()?;
        }
        self.end_row()
    }

    /// Reads the list that `peek` announces as the next row; `order` has the target of each position.
    pub(crate) fn list(
        &mut self,
        reader: &mut Jiter<'_>,
        peek: Peek,
        order: &[Option<usize>],
        depth: usize,
    ) -> Result<()> {
        let row = self.n_rows;
        if peek != Peek::Array {
            return Err(Error::invalid_input(format!("row {row} is not a list of {} values", order.len())));
        }
        self.begin_row();
        let mut position = 0;
        let mut next = reader.known_array().or_not_json()?;
        while next.is_some() {
            match order.get(position) {
                Some(&Some(target)) => self.cell(reader, target)?,
                Some(None) => {
                    read::skip(reader, depth)?;
                }
                None => return Err(wrong_width(row, order.len(), "more")),
            }
            position += 1;
            next = reader.array_step().or_not_json()?;
        }
        if position < order.len() {
            return Err(wrong_width(row, order.len(), "fewer"));
        }
        self.end_row()
    }

    /// Takes `fields` as the next row; `order` has the target of each position.
    pub(crate) fn texts<'t>(&mut self, fields: impl Iterator<Item = &'t str>, order: &[Option<usize>]) -> Result<()> {
        let row = self.n_rows;
        self.begin_row();
        let mut n_fields = 0;
        for text in fields {
            match order.get(n_fields) {
                Some(&Some(target)) => self.text_cell(text, target)?,
                Some(None) => {}
                None => return Err(wrong_width(row, order.len(), "more")),
            }
            n_fields += 1;
        }
        if n_fields < order.len() {
            return Err(wrong_width(row, order.len(), "fewer"));
        }
        self.end_row()
    }

    /// Returns the target of each of `columns`, none for those that are not wanted.
    ///
    /// # Errors
    /// `InvalidInput` for a column that is named twice or missing.
    pub(crate) fn order<S: AsRef<str>>(&self, columns: &[S]) -> Result<Vec<Option<usize>>> {
        let mut given = vec![false; self.targets.len()];
        let mut order = Vec::with_capacity(columns.len());
        for column in columns {
            let target = self.find(column.as_ref(), order.len());
            if let Some(target) = target
                && std::mem::replace(&mut given[target], true)
            {
                return Err(Error::invalid_input(format!("column '{}' is given twice", read::clip(column.as_ref()))));
            }
            order.push(target);
        }
        match self.targets.iter().zip(given).find(|(target, given)| !given && !target.optional) {
            None => Ok(order),
            Some((target, _)) => Err(Error::invalid_input(format!(
                "column '{}' of model '{}' is missing; expected {}",
                target.key,
                self.info.name,
                self.expected_keys()
            ))),
        }
    }

    /// Makes the tensors, in the model's order; an optional input that no row had is left out.
    pub(crate) fn finish(self) -> Result<Vec<Tensor>> {
        let n_rows = self.n_rows;
        let mut tensors = Vec::with_capacity(self.sinks.len());
        for (spec, sink) in self.info.signature.inputs.iter().zip(self.sinks) {
            let tensor = match sink {
                _ if spec.optional && n_rows > 0 && sink.n_rows() == 0 => continue,
                Sink::Tensor(nested) if nested.rows() == 0 => empty(spec)?,
                Sink::Tensor(nested) => nested.finish(&spec.name)?,
                Sink::Table(table) => table.finish(&spec.name)?,
            };
            if tensor.rows() != n_rows {
                return Err(Error::invalid_input(format!(
                    "input '{}' is given in {} of {n_rows} rows; give it in all or none",
                    spec.name,
                    tensor.rows()
                )));
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn begin_row(&mut self) {
        self.n_rows += 1;
    }

    fn end_row(&mut self) -> Result<()> {
        let n_rows = self.n_rows;
        match self.targets.iter().find(|target| target.seen_in != n_rows && self.is_needed(target)) {
            None => {
                self.sinks.iter_mut().for_each(Sink::end_row);
                Ok(())
            }
            Some(target) => Err(Error::invalid_input(format!(
                "row {} lacks '{}'; expected the keys {}",
                n_rows - 1,
                target.key,
                self.expected_keys()
            ))),
        }
    }

    /// Whether the open row must have `target`: an optional table may be absent, but not in part.
    fn is_needed(&self, target: &Target<'_>) -> bool {
        let begun = matches!(&self.sinks[target.input], Sink::Table(table) if !table.open.is_empty());
        !target.optional || begun
    }

    fn mark(&mut self, target: usize) -> Result<(&mut Sink, Option<usize>)> {
        let row = self.n_rows;
        let target = &mut self.targets[target];
        if std::mem::replace(&mut target.seen_in, row) == row {
            return Err(read::duplicate(&target.key, &format!("row {}", row - 1)));
        }
        Ok((&mut self.sinks[target.input], target.column))
    }

    fn cell(&mut self, reader: &mut Jiter<'_>, target: usize) -> Result<()> {
        let peek = reader.peek().or_not_json()?;
        let result = match self.mark(target)? {
            (Sink::Table(table), Some(column)) => table.cell(reader, peek, column),
            (Sink::Tensor(nested), _) => nested.row(reader, peek),
            (Sink::Table(_), None) => Ok(()),
        };
        result.map_err(|error| self.at_cell(error, target))
    }

    fn text_cell(&mut self, text: &str, target: usize) -> Result<()> {
        let result = match self.mark(target)? {
            (Sink::Table(table), Some(column)) => table.text(text, column),
            (Sink::Tensor(nested), _) => nested.text_row(text),
            (Sink::Table(_), None) => Ok(()),
        };
        result.map_err(|error| self.at_cell(error, target))
    }

    #[cold]
    fn at_cell(&self, error: Error, target: usize) -> Error {
        error.context(format!("row {}, '{}'", self.n_rows.saturating_sub(1), self.targets[target].key))
    }

    #[cold]
    fn unknown_key(&self, name: &str, row: usize) -> Error {
        Error::invalid_input(format!(
            "row {row} has the key '{}', which model '{}' does not know; expected the keys {}",
            read::clip(name),
            self.info.name,
            self.expected_keys()
        ))
    }

    /// Lists the keys for a message, some of them where they are many.
    pub(crate) fn expected_keys(&self) -> String {
        let shown: Vec<String> = self.targets.iter().take(20).map(|target| format!("'{}'", target.key)).collect();
        let more = self.targets.len().saturating_sub(shown.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{rest}", shown.join(", "))
    }
}

impl Sink {
    fn end_row(&mut self) {
        if let Self::Table(table) = self {
            table.end_row();
        }
    }

    fn n_rows(&self) -> usize {
        match self {
            Self::Tensor(nested) => nested.rows(),
            Self::Table(table) => table.n_rows,
        }
    }
}

/// Up to so many keys no map is built.
const MAX_LOOKED_THROUGH: usize = 16;

fn wrong_width(row: usize, expected: usize, found: &str) -> Error {
    Error::invalid_input(format!("row {row} has {found} values than the {expected} columns"))
}

/// An input of no rows, whose other extents only the model knows.
fn empty(spec: &TensorSpec) -> Result<Tensor> {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free => 1,
    };
    let shape: Shape = std::iter::once(0).chain(spec.shape.iter().skip(1).map(extent)).collect();
    Packed::new(spec.dtype, 0).finish(spec.name.clone(), shape)
}

/// One input that takes a whole table.
struct Table {
    cells: Packed,
    leaves: Leaves,
    width: usize,
    n_rows: usize,
    /// The columns of the open row, in the order of its keys.
    open: Vec<usize>,
    /// Of BYTES the columns of all rows, since text cannot be moved before the end.
    text_columns: Vec<u32>,
    in_order: bool,
    scratch: Vec<u8>,
}

impl Table {
    fn new(dtype: DataType, leaves: Leaves, width: usize) -> Self {
        Self {
            cells: Packed::new(dtype, width),
            leaves,
            width,
            n_rows: 0,
            open: Vec::with_capacity(width),
            text_columns: Vec::new(),
            in_order: true,
            scratch: Vec::new(),
        }
    }

    fn cell(&mut self, reader: &mut Jiter<'_>, peek: Peek, column: usize) -> Result<()> {
        self.open.push(column);
        nested::leaf(reader, peek, self.leaves, &mut self.cells)
    }

    fn text(&mut self, text: &str, column: usize) -> Result<()> {
        self.open.push(column);
        nested::push_text(text, &mut self.cells)
    }

    /// Puts the cells of the open row into the order of the columns. A row is complete or absent.
    fn end_row(&mut self) {
        if self.open.len() != self.width {
            return;
        }
        let is_ordered = self.open.iter().enumerate().all(|(place, &column)| place == column);
        match &mut self.cells {
            Packed::Fixed(dtype, data) if !is_ordered => {
                let size = dtype.size().unwrap_or(1);
                let row = data.len() - self.width * size;
                self.scratch.clear();
                self.scratch.extend_from_slice(&data[row..]);
                for (cell, &column) in self.scratch.chunks_exact(size).zip(&self.open) {
                    data[row + column * size..][..size].copy_from_slice(cell);
                }
            }
            Packed::Fixed(..) => {}
            Packed::Bytes(..) => {
                self.in_order &= is_ordered;
                self.text_columns.extend(self.open.iter().map(|&column| u32::try_from(column).unwrap_or(u32::MAX)));
            }
        }
        self.open.clear();
        self.n_rows += 1;
    }

    fn finish(self, name: &str) -> Result<Tensor> {
        let tensor = self.cells.finish(name, [self.n_rows, self.width])?;
        let Some(elements) = tensor.elements().filter(|_| !self.in_order) else {
            return Ok(tensor);
        };
        let mut builder = ElementsBuilder::default();
        let mut cell_of = vec![0; self.width];
        for (row, columns) in self.text_columns.chunks_exact(self.width).enumerate() {
            for (cell, &column) in columns.iter().enumerate() {
                cell_of[column as usize] = row * self.width + cell;
            }
            cell_of.iter().for_each(|&cell| builder.push(elements.get(cell).unwrap_or_default()));
        }
        Tensor::from_elements(name, tensor.shape().clone(), builder.finish())
    }
}

/// Adds or drops what people leave out: the batch dimension, and a last one of 1.
///
/// A tensor that fits none of these ways is returned as it is, for the model's check to refuse.
pub(crate) fn fit(tensor: Tensor, spec: &TensorSpec, ways: Fit) -> Result<Tensor> {
    if spec.accepts(tensor.shape()) || tensor.shape().len() > spec.shape.len() + 1 {
        return Ok(tensor);
    }
    let same: Vec<usize> = tensor.shape().to_vec();
    let (batch, unit, both) =
        ([&[1], &same[..]].concat(), [&same[..], &[1]].concat(), [&[1], &same[..], &[1]].concat());
    let mut candidates = vec![unit];
    if ways == Fit::BatchToo {
        candidates.splice(0..0, [batch]);
        candidates.push(both);
        if let [1, rest @ ..] = &same[..] {
            candidates.push(rest.to_vec());
        }
    }
    match candidates.into_iter().map(Shape::from_iter).find(|shape| spec.accepts(shape)) {
        Some(shape) => tensor.reshape(shape),
        None => Ok(tensor),
    }
}

/// Which dimensions may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// A last one of 1: a column of values for an input of one value per row.
    UnitOnly,
    /// The first one too.
    BatchToo,
}

/// Makes a request for every output.
pub(crate) fn request(model: ModelRef, inputs: Vec<Tensor>) -> InferRequest {
    InferRequest { model, id: None, inputs, outputs: Vec::new(), parameters: Parameters::new() }
}

#[cfg(test)]
mod tests;
