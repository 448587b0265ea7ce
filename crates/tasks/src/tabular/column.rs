//! One column: its values to numbers or texts of the graph.

use std::collections::HashMap;
use std::sync::Arc;

use salver_core::{DataType, Element as _, Elements, Error, Result, Shape, Tensor, TensorSpec};

use super::number::{Cell, Number, misfit, whole, with_cell};

/// The most categories that a message lists.
const MAX_SHOWN: usize = 20;
/// The most characters of a value that a message repeats.
const MAX_ECHOED: usize = 64;

/// A column that fits the graph.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: Arc<str>,
    /// The type in requests.
    pub(super) dtype: DataType,
    pub(super) kind: Kind,
}

/// What becomes of the values, and of missing ones: none is refused.
#[derive(Debug)]
pub(super) enum Kind {
    Float { missing: Option<Number> },
    Int { missing: Option<Number> },
    Bool { missing: Option<Number> },
    Index { known: Categories, unknown: Option<Number>, missing: Option<Number> },
    OneHot { known: Categories, unknown: Option<Hot>, missing: Option<Hot> },
    Text { known: Option<Categories>, missing: Option<Box<[u8]>> },
}

/// The place of the only 1; none: there is none.
pub(super) type Hot = Option<usize>;

/// The known categories, by their text.
#[derive(Debug)]
pub(super) struct Categories {
    names: Vec<String>,
    by_name: HashMap<Box<[u8]>, usize>,
}

/// Where a column's values go: `at` bytes into each row of `row` bytes.
pub(super) struct Slots<'a> {
    pub(super) data: &'a mut [u8],
    pub(super) row: usize,
    pub(super) at: usize,
}

impl Column {
    /// Returns the input that requests see.
    pub(super) fn wire(&self) -> TensorSpec {
        TensorSpec { optional: self.is_optional(), ..TensorSpec::new(self.name.clone(), self.dtype, &[-1]) }
    }

    /// Whether rows may lack it.
    pub(super) fn is_optional(&self) -> bool {
        match &self.kind {
            Kind::Float { missing } | Kind::Int { missing } | Kind::Bool { missing } | Kind::Index { missing, .. } => {
                missing.is_some()
            }
            Kind::OneHot { missing, .. } => missing.is_some(),
            Kind::Text { missing, .. } => missing.is_some(),
        }
    }

    /// Returns how many values of the graph a row becomes.
    pub(super) fn width(&self) -> usize {
        match &self.kind {
            Kind::OneHot { known, .. } => known.names.len(),
            Kind::Float { .. } | Kind::Int { .. } | Kind::Bool { .. } | Kind::Index { .. } | Kind::Text { .. } => 1,
        }
    }

    /// Writes all rows; `given` is the column as a request has it, none: all of it is missing.
    ///
    /// # Errors
    /// `InvalidInput` naming row and column.
    pub(super) fn encode(&self, given: Option<&Tensor>, dtype: DataType, slots: Slots<'_>) -> Result<()> {
        with_cell!(dtype, C => self.encode_as::<C>(given, slots), Err(self.not_what_was_checked()))
    }

    fn encode_as<C: Cell>(&self, given: Option<&Tensor>, slots: Slots<'_>) -> Result<()> {
        match &self.kind {
            Kind::Float { missing } => {
                let value = |value: f64| Ok(Number::Float(value));
                self.floats::<C>(given, *missing, slots, value)
            }
            Kind::Int { missing } => {
                let value = |value: f64| whole(value).map(Number::Int).ok_or_else(|| not_whole(value));
                self.floats::<C>(given, *missing, slots, value)
            }
            Kind::Bool { missing } => {
                let value = |value: f64| match whole(value) {
                    Some(value @ 0..=1) => Ok(Number::Int(value)),
                    _ => Err(Error::invalid_input(format!("expected true or false (1 or 0), got {value}"))),
                };
                self.floats::<C>(given, *missing, slots, value)
            }
            Kind::Index { known, unknown, missing } => {
                let value = |text: &[u8]| match known.find(text) {
                    _ if text.is_empty() && missing.is_some() => missing.ok_or_else(missing_value),
                    Some(idx) => Ok(place(idx)),
                    None => unknown.ok_or_else(|| known.refuse(text)),
                };
                self.numbers::<C>(self.each_text(given)?.map(value), slots)
            }
            Kind::OneHot { known, unknown, missing } => {
                let value = |text: &[u8]| match known.find(text) {
                    _ if text.is_empty() && missing.is_some() => missing.ok_or_else(missing_value),
                    Some(idx) => Ok(Some(idx)),
                    None => unknown.ok_or_else(|| known.refuse(text)),
                };
                self.hots::<C>(self.each_text(given)?.map(value), slots)
            }
            Kind::Text { .. } => Err(self.not_what_was_checked()),
        }
    }

    /// Columns of numbers: the type in requests is FP64 where values may be missing.
    fn floats<C: Cell>(
        &self,
        given: Option<&Tensor>,
        missing: Option<Number>,
        slots: Slots<'_>,
        value: impl Fn(f64) -> Result<Number>,
    ) -> Result<()> {
        let fill = || missing.ok_or_else(missing_value);
        let Some(given) = given else {
            return self.numbers::<C>(std::iter::repeat_with(fill), slots);
        };
        let data = given.bytes().ok_or_else(|| self.not_what_was_checked())?;
        match given.dtype() {
            DataType::Int64 => {
                let cells = data.chunks_exact(size_of::<i64>()).map(|raw| Ok(Number::Int(i64::get(raw))));
                self.numbers::<C>(cells, slots)
            }
            DataType::Bool => self.numbers::<C>(data.iter().map(|&byte| Ok(Number::Int(i64::from(byte != 0)))), slots),
            DataType::Fp64 => {
                let cells = data.chunks_exact(size_of::<f64>()).map(f64::get);
                self.numbers::<C>(cells.map(|cell| if cell.is_nan() { fill() } else { value(cell) }), slots)
            }
            _ => Err(self.not_what_was_checked()),
        }
    }

    fn numbers<C: Cell>(&self, cells: impl Iterator<Item = Result<Number>>, slots: Slots<'_>) -> Result<()> {
        let range = slots.at..slots.at + size_of::<C>();
        for (row, (line, cell)) in slots.data.chunks_exact_mut(slots.row).zip(cells).enumerate() {
            let number = cell.map_err(|error| self.at(row, error))?;
            let value = C::of(number).ok_or_else(|| self.at(row, misfit(number, C::DTYPE)))?;
            value.store(&mut line[range.clone()]);
        }
        Ok(())
    }

    /// The data is zero to begin with.
    fn hots<C: Cell>(&self, cells: impl Iterator<Item = Result<Hot>>, slots: Slots<'_>) -> Result<()> {
        let one = C::of(Number::Int(1)).ok_or_else(|| self.not_what_was_checked())?;
        for (row, (line, cell)) in slots.data.chunks_exact_mut(slots.row).zip(cells).enumerate() {
            if let Some(idx) = cell.map_err(|error| self.at(row, error))? {
                let start = slots.at + idx * size_of::<C>();
                one.store(&mut line[start..start + size_of::<C>()]);
            }
        }
        Ok(())
    }

    /// The texts of a column; what was left out is empty.
    fn each_text<'a>(&self, given: Option<&'a Tensor>) -> Result<Box<dyn Iterator<Item = &'a [u8]> + 'a>> {
        match given {
            None => Ok(Box::new(std::iter::repeat(&[][..]))),
            Some(tensor) => {
                let elements = tensor.elements().ok_or_else(|| self.not_what_was_checked())?;
                Ok(Box::new(elements.iter()))
            }
        }
    }

    /// Returns the text that the graph gets for `text`; none was left out.
    ///
    /// # Errors
    /// `InvalidInput` naming row and column.
    pub(super) fn text<'a>(&'a self, text: Option<&'a [u8]>, row: usize) -> Result<&'a [u8]> {
        let Kind::Text { known, missing } = &self.kind else {
            return Err(self.not_what_was_checked());
        };
        let text = text.unwrap_or_default();
        match (missing, known) {
            (Some(filling), _) if text.is_empty() => Ok(filling),
            (_, Some(known)) if known.find(text).is_none() => Err(self.at(row, known.refuse(text))),
            _ => Ok(text),
        }
    }

    /// Whether texts reach the graph as they are.
    pub(super) fn takes_any_text(&self) -> bool {
        matches!(self.kind, Kind::Text { known: None, missing: None })
    }

    /// Returns the bytes of what stands for a missing text.
    pub(super) fn filling_len(&self) -> usize {
        match &self.kind {
            Kind::Text { missing: Some(filling), .. } => filling.len(),
            _ => 0,
        }
    }

    /// Returns one row that is accepted.
    pub(super) fn example(&self) -> Result<Tensor> {
        let (name, shape) = (self.name.clone(), Shape::new(&[1]));
        match (&self.kind, self.dtype) {
            (Kind::Index { known, .. } | Kind::OneHot { known, .. } | Kind::Text { known: Some(known), .. }, _) => {
                let first = known.names.first().map(String::as_str).unwrap_or_default();
                Tensor::from_elements(name, shape, Elements::from_iter([first]))
            }
            (Kind::Text { known: None, .. }, _) => Tensor::from_elements(name, shape, Elements::from_iter(["text"])),
            (_, DataType::Int64) => Tensor::from_slice(name, shape, &[1i64]),
            (_, DataType::Bool) => Tensor::from_slice(name, shape, &[true]),
            (Kind::Float { .. } | Kind::Int { .. } | Kind::Bool { .. }, _) => Tensor::from_slice(name, shape, &[1f64]),
        }
    }

    #[cold]
    fn at(&self, row: usize, error: Error) -> Error {
        error.context(format_args!("row {row}, '{}'", self.name))
    }

    /// Requests are checked against the signature before they come here.
    #[cold]
    fn not_what_was_checked(&self) -> Error {
        Error::invalid_input(format!("column '{}' is not of the type {}", self.name, self.dtype))
    }
}

impl Categories {
    /// Takes the categories in their order.
    ///
    /// # Errors
    /// `InvalidInput` where there are none, or one is given twice.
    pub(super) fn new(names: &[String]) -> Result<Self> {
        if names.is_empty() {
            return Err(Error::invalid_input("there are no categories; list them in `categories`"));
        }
        let mut by_name = HashMap::with_capacity(names.len());
        for (idx, name) in names.iter().enumerate() {
            if by_name.insert(name.as_bytes().into(), idx).is_some() {
                return Err(Error::invalid_input(format!("the category '{}' is listed twice", echo(name.as_bytes()))));
            }
        }
        Ok(Self { names: names.to_vec(), by_name })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn find(&self, text: &[u8]) -> Option<usize> {
        self.by_name.get(text).copied()
    }

    #[cold]
    pub(super) fn refuse(&self, text: &[u8]) -> Error {
        let shown: Vec<String> =
            self.names.iter().take(MAX_SHOWN).map(|name| format!("'{}'", echo(name.as_bytes()))).collect();
        let more = match self.names.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = if text.is_empty() {
            "the value is missing or empty".to_owned()
        } else {
            format!("'{}' is no known category", echo(text))
        };
        Error::invalid_input(format!("{what}; expected one of {}{more}", shown.join(", ")))
    }
}

/// The number of a category.
pub(super) fn place(idx: usize) -> Number {
    Number::Int(i64::try_from(idx).unwrap_or(i64::MAX))
}

#[cold]
fn missing_value() -> Error {
    Error::invalid_input(
        "the value is missing (null or NaN), and the model declares nothing that stands for it; give a number",
    )
}

#[cold]
fn not_whole(value: f64) -> Error {
    Error::invalid_input(format!("{value:?} is not a whole number of 64 bits"))
}

/// Repeats a bounded part of a text for a message.
fn echo(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(MAX_ECHOED).flat_map(char::escape_debug).collect()
}
