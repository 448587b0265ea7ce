//! Rows by column name, or by position, into the inputs of a model.
//!
//! Shared by the protocols that know tables. A key names either a column of an input (a table
//! model: its values become one `[rows, columns]` tensor, whatever the order of the keys) or a
//! whole input, of which each row gives one part. Which keys exist is decided once; after that
//! each row is checked for missing, repeated and unknown ones.

mod fit;
mod keys;
mod table;

use std::borrow::Cow;

use jiter::{Jiter, Peek};
use salver_core::{Dim, Error, InferRequest, ModelInfo, ModelRef, Parameters, Result, Shape, Tensor, TensorSpec};

use crate::json::nested::{Leaves, Nested};
use crate::json::packed::Packed;
use crate::json::read::{self, OrNotJson as _};
use crate::task::Task;

pub(crate) use self::fit::{Fit, fit};
use self::keys::{Keys, Target};
use self::table::Table;

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
    keys: Keys<'a>,
    /// Parallel to the inputs.
    sinks: Vec<Sink>,
    n_rows: usize,
    /// Values that rows left out so far.
    n_filled: usize,
}

/// The most values that rows may leave out: each takes memory that no byte of the request paid for.
const MOST_FILLED: usize = 1 << 22;

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
        let (mut targets, mut sinks, task) = (Vec::new(), Vec::new(), Task::of(info));
        for (input, spec) in info.signature.inputs.iter().enumerate() {
            let names = columns(input);
            let target = |key, column| Target { key, input, column, optional: spec.optional, seen_in: 0 };
            if names.is_empty() {
                targets.push(target((&*spec.name).into(), None));
                sinks.push(Sink::Tensor(Nested::new(spec.dtype, options.leaves).with_cells(task.cells(spec))));
            } else {
                sinks.push(Sink::Table(Table::new(spec.dtype, options.leaves, names.len())));
                targets.extend(names.into_iter().enumerate().map(|(column, key)| target(key, Some(column))));
            }
        }
        Self { info, options, keys: Keys::new(targets), sinks, n_rows: 0, n_filled: 0 }
    }

    /// Whether `key` names something.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.keys.find(key, 0).is_some()
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
            let target = self.keys.find(name, expected);
            if target.is_none() && self.options.unknown == UnknownKeys::Refused {
                return Err(self.unknown_key(name, row));
            }
            match target {
                Some(target) => {
                    self.cell(reader, target)?;
                    expected = target + 1;
                }
                None => drop(read::skip(reader, depth)?),
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
        let mut order_left = order.iter();
        let mut next = reader.known_array().or_not_json()?;
        while next.is_some() {
            match order_left.next().ok_or_else(|| wrong_width(row, order.len(), "more"))? {
                Some(target) => self.cell(reader, *target)?,
                None => drop(read::skip(reader, depth)?),
            }
            next = reader.array_step().or_not_json()?;
        }
        if order_left.next().is_some() {
            return Err(wrong_width(row, order.len(), "fewer"));
        }
        self.end_row()
    }

    /// Takes `fields` as the next row; `order` has the target of each position.
    pub(crate) fn texts<'t>(&mut self, fields: impl Iterator<Item = &'t str>, order: &[Option<usize>]) -> Result<()> {
        let row = self.n_rows;
        self.begin_row();
        let mut order_left = order.iter();
        for text in fields {
            if let Some(target) = order_left.next().ok_or_else(|| wrong_width(row, order.len(), "more"))? {
                self.text_cell(text, *target)?;
            }
        }
        if order_left.next().is_some() {
            return Err(wrong_width(row, order.len(), "fewer"));
        }
        self.end_row()
    }

    /// Returns the target of each of `columns`, none for those that are not wanted.
    ///
    /// # Errors
    /// `InvalidInput` for a column that is named twice or missing.
    pub(crate) fn order<S: AsRef<str>>(&self, columns: &[S]) -> Result<Vec<Option<usize>>> {
        let mut given = vec![false; self.keys.targets.len()];
        let mut order = Vec::with_capacity(columns.len());
        for column in columns {
            let target = self.keys.find(column.as_ref(), order.len());
            if let Some(target) = target
                && std::mem::replace(&mut given[target], true)
            {
                return Err(Error::invalid_input(format!("column '{}' is given twice", read::clip(column.as_ref()))));
            }
            order.push(target);
        }
        match self.keys.targets.iter().zip(given).find(|(target, given)| !given && !target.optional) {
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
    pub(crate) fn finish(mut self) -> Result<Vec<Tensor>> {
        let n_rows = self.n_rows;
        // Of rows that leave everything out, the first input still says how many they are.
        let is_bare = self.sinks.iter().all(|sink| sink.n_rows() == 0);
        for idx in 0..self.sinks.len() {
            if (is_bare && idx == 0) || self.sinks[idx].n_rows() > 0 {
                self.fill(idx, n_rows)?;
            }
        }
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
        match self.keys.targets.iter().find(|target| target.seen_in != n_rows && self.is_needed(target)) {
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
        let begun = matches!(&self.sinks[target.input], Sink::Table(table) if table.has_begun_row());
        !target.optional || begun
    }

    fn mark(&mut self, target: usize) -> Result<(&mut Sink, Option<usize>)> {
        let row = self.n_rows;
        let target = &mut self.keys.targets[target];
        if std::mem::replace(&mut target.seen_in, row) == row {
            return Err(read::duplicate(&target.key, &format!("row {}", row - 1)));
        }
        let (input, column) = (target.input, target.column);
        self.fill(input, row - 1)?;
        Ok((&mut self.sinks[input], column))
    }

    /// Adds the values that rows before `rows` left out, where a row may.
    fn fill(&mut self, input: usize, rows: usize) -> Result<()> {
        let Sink::Tensor(nested) = &mut self.sinks[input] else {
            return Ok(());
        };
        if nested.rows() >= rows || !nested.may_fill() {
            return Ok(());
        }
        self.n_filled += rows - nested.rows();
        if self.n_filled > MOST_FILLED {
            return Err(Error::too_large(format!(
                "the rows leave out more than {MOST_FILLED} values; send fewer rows at a time"
            )));
        }
        nested.fill_to(rows)
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
        error.context(format!("row {}, '{}'", self.n_rows.saturating_sub(1), self.keys.targets[target].key))
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

    /// Lists the keys for a message.
    pub(crate) fn expected_keys(&self) -> String {
        self.keys.shown()
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
            Self::Table(table) => table.n_rows(),
        }
    }
}

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

/// Makes a request for every output.
pub(crate) fn request(model: ModelRef, inputs: Vec<Tensor>) -> InferRequest {
    InferRequest { model, id: None, inputs, outputs: Vec::new(), parameters: Parameters::new() }
}

#[cfg(test)]
mod tests;
