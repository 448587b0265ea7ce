//! Data frames: split, records, columns and CSV, into the inputs of a model.
//!
//! How columns meet inputs is decided in one place, [`plan`].

use std::collections::{HashMap, HashSet};

use jiter::{Jiter, Peek};
use salver_core::{Dim, Error, ModelInfo, Result, Tensor, TensorSpec};

use crate::json::nested::{Leaves, Nested};
use crate::json::read::{self, OrNotJson as _};
use crate::rows::{RowOptions, Rows, UnknownKeys};
use crate::task::Task;

const OPTIONS: RowOptions = RowOptions { leaves: Leaves::Convertible, unknown: UnknownKeys::Skipped };

/// Decides what the columns of a frame are.
///
/// Declared columns and the names of inputs are matched by name. Only a single input of several
/// values per row, for which neither says anything, takes the frame as it is.
fn plan<'a>(info: &'a ModelInfo, names: &[String]) -> Rows<'a> {
    match whole_frame(info) {
        Some(spec) if !names.iter().any(|name| **name == *spec.name) => Rows::of_frame(info, OPTIONS, names),
        _ => Rows::of_columns(info, OPTIONS),
    }
}

/// Returns the single input that could take a whole frame.
fn whole_frame(info: &ModelInfo) -> Option<&TensorSpec> {
    let [spec] = &info.signature.inputs[..] else {
        return None;
    };
    let has_columns = info.columns.first().is_some_and(|columns| !columns.is_empty());
    let one_value_per_row = spec.shape.iter().skip(1).all(|&dim| dim == Dim::Fixed(1));
    (!has_columns && !one_value_per_row).then_some(spec)
}

/// Reads `{"columns": […], "data": [[…], …], "index": …}`.
pub(super) fn split(reader: &mut Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    if reader.peek().or_not_json()? != Peek::Object {
        return Err(Error::invalid_input("must be an object with 'columns' and 'data'"));
    }
    let (mut columns, mut early_data, mut tensors, mut has_index) = (None, None, None, false);
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        match name {
            "columns" if columns.is_none() => columns = Some(column_names(reader)?),
            "data" if tensors.is_none() && early_data.is_none() => match &columns {
                Some(columns) => tensors = Some(data(reader, columns, info, depth)?),
                // The rows cannot be read before their columns are known.
                None => early_data = Some(read::skip(reader, depth)?),
            },
            "index" if !has_index => {
                read::skip(reader, depth)?;
                has_index = true;
            }
            "columns" | "data" | "index" => return Err(read::duplicate(name, "the frame")),
            other => {
                return Err(Error::invalid_input(format!(
                    "has the key '{}'; expected 'columns', 'data' and 'index'",
                    read::clip(other)
                )));
            }
        }
        key = reader.next_key().or_not_json()?;
    }
    let columns = columns.ok_or_else(|| Error::invalid_input("lacks 'columns'"))?;
    match (tensors, early_data) {
        (Some(tensors), _) => Ok(tensors),
        (None, Some(text)) => data(&mut read::reader(text), &columns, info, depth),
        (None, None) => Err(Error::invalid_input("lacks 'data'")),
    }
}

/// A name costs far more memory than the few bytes that it takes in a body.
const MAX_COLUMNS: usize = 65_536;

fn check_width(columns: usize) -> Result<()> {
    if columns <= MAX_COLUMNS {
        return Ok(());
    }
    Err(Error::invalid_input(format!("a frame may have at most {MAX_COLUMNS} columns")))
}

/// Reads the names of columns; numbers count as names, as in pandas.
fn column_names(reader: &mut Jiter<'_>) -> Result<Vec<String>> {
    if reader.peek().or_not_json()? != Peek::Array {
        return Err(Error::invalid_input("'columns' must be a list of names"));
    }
    let mut names = Vec::new();
    let mut next = reader.known_array().or_not_json()?;
    while let Some(peek) = next {
        names.push(match peek {
            Peek::String => reader.known_str().or_not_json()?.to_owned(),
            _ if peek.is_num() => {
                let raw = reader.known_number_bytes(peek).or_not_json()?;
                String::from_utf8_lossy(raw).into_owned()
            }
            _ => return Err(Error::invalid_input("'columns' must be a list of names")),
        });
        check_width(names.len())?;
        next = reader.array_step().or_not_json()?;
    }
    Ok(names)
}

fn data(reader: &mut Jiter<'_>, columns: &[String], info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    let mut rows = plan(info, columns);
    let order = rows.order(columns)?;
    if reader.peek().or_not_json()? != Peek::Array {
        return Err(Error::invalid_input("'data' must be a list of rows"));
    }
    let mut next = reader.known_array().or_not_json()?;
    while let Some(peek) = next {
        rows.list(reader, peek, &order, depth)?;
        next = reader.array_step().or_not_json()?;
    }
    rows.finish()
}

/// Reads `[{"column": value, …}, …]`.
pub(super) fn records(reader: &mut Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    if reader.peek().or_not_json()? != Peek::Array {
        return Err(Error::invalid_input("must be a list of objects"));
    }
    let names = if whole_frame(info).is_some() { first_keys(reader.clone(), depth)? } else { Vec::new() };
    if names.is_empty() {
        let mut rows = Rows::of_columns(info, OPTIONS);
        rows.objects(reader, depth)?;
        return rows.finish();
    }
    let mut rows = plan(info, &names);
    rows.objects(reader, depth)?;
    rows.finish()
}

/// Returns the keys of the first object of a list.
fn first_keys(mut reader: Jiter<'_>, depth: usize) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if reader.known_array().or_not_json()? != Some(Peek::Object) {
        return Ok(names);
    }
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        names.push(name.to_owned());
        check_width(names.len())?;
        read::skip(&mut reader, depth)?;
        key = reader.next_key().or_not_json()?;
    }
    Ok(names)
}

/// Reads `{"column": [value, …], …}`, where a key names an input or a column.
pub(super) fn columns(reader: &mut Jiter<'_>, info: &ModelInfo, depth: usize) -> Result<Vec<Tensor>> {
    let (inputs, task) = (inputs_by_key(info), Task::of(info));
    let mut given: Vec<Tensor> = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    let mut key = reader.known_object().or_not_json()?;
    while let Some(name) = key {
        let Some(spec) = inputs.get(name).copied().or_else(|| whole_frame(info)) else {
            read::skip(reader, depth)?;
            key = reader.next_key().or_not_json()?;
            continue;
        };
        let name = name.to_owned();
        let peek = reader.peek().or_not_json()?;
        let mut nested = Nested::new(spec.dtype, Leaves::Convertible).with_cells(task.cells(spec));
        nested.value(reader, peek).map_err(|error| error.context(format!("'{}'", read::clip(&name))))?;
        given.push(nested.finish(&name)?);
        check_width(given.len())?;
        if let Some(twice) = names.replace(name) {
            return Err(read::duplicate(&twice, "the frame"));
        }
        key = reader.next_key().or_not_json()?;
    }
    let mut tensors = Vec::with_capacity(info.signature.inputs.len());
    for (idx, spec) in info.signature.inputs.iter().enumerate() {
        match given.iter().find(|tensor| *tensor.name() == spec.name) {
            Some(tensor) => tensors.push(tensor.clone()),
            None => tensors.extend(stacked(info, idx, spec, &given)?),
        }
    }
    Ok(tensors)
}

/// Returns the input that each name of an input or a column belongs to.
fn inputs_by_key(info: &ModelInfo) -> HashMap<&str, &TensorSpec> {
    let specs = &info.signature.inputs;
    let of_columns = info
        .columns
        .iter()
        .zip(specs)
        .flat_map(|(columns, spec)| columns.iter().map(move |column| (column.as_str(), spec)));
    of_columns.chain(specs.iter().map(|spec| (&*spec.name, spec))).collect()
}

/// Puts the columns of input `idx` beside each other; none if the input may be left out and is.
fn stacked(info: &ModelInfo, idx: usize, spec: &TensorSpec, given: &[Tensor]) -> Result<Option<Tensor>> {
    let declared = info.columns.get(idx).filter(|columns| !columns.is_empty());
    let find = |column: &str| given.iter().find(|tensor| &**tensor.name() == column);
    let parts: Vec<&Tensor> = match declared {
        Some(columns) => match columns.iter().find(|column| find(column).is_none()) {
            None => columns.iter().filter_map(|column| find(column)).collect(),
            Some(_) if spec.optional => return Ok(None),
            Some(missing) => return Err(Error::invalid_input(format!("column '{missing}' is missing"))),
        },
        None if whole_frame(info).is_some() => given.iter().collect(),
        None => Vec::new(),
    };
    match parts.first() {
        Some(first) => side_by_side(spec, &parts, first.rows()).map(Some),
        None if spec.optional => Ok(None),
        None => Err(Error::invalid_input(format!("column '{}' is missing", spec.name))),
    }
}

fn side_by_side(spec: &TensorSpec, parts: &[&Tensor], rows: usize) -> Result<Tensor> {
    if let Some(odd) = parts.iter().find(|part| part.element_count() != rows || part.rows() != rows) {
        return Err(Error::invalid_input(format!(
            "column '{}' has shape {}, expected [{rows}]",
            read::clip(odd.name()),
            odd.shape()
        )));
    }
    let shape = [rows, parts.len()];
    let Some(size) = spec.dtype.size() else {
        let cells =
            (0..rows).flat_map(|row| parts.iter().map(move |part| part.elements().and_then(|all| all.get(row))));
        return Tensor::from_elements(spec.name.clone(), shape, cells.map(Option::unwrap_or_default).collect());
    };
    let mut out = Vec::with_capacity(rows * parts.len() * size);
    for row in 0..rows {
        for bytes in parts.iter().filter_map(|part| part.bytes()) {
            out.extend_from_slice(&bytes[row * size..][..size]);
        }
    }
    Tensor::new(spec.name.clone(), spec.dtype, shape, out.into())
}

/// Reads a header row and the rows after it.
pub(super) fn csv(body: &[u8], info: &ModelInfo) -> Result<Vec<Tensor>> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Error::invalid_input(format!("CSV is not valid UTF-8 at byte {}", error.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_fields(text)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let broken = |error: csv::Error| Error::invalid_input(format!("CSV: {}", read::clip(&error.to_string())));
    let mut record = csv::StringRecord::new();
    if !reader.read_record(&mut record).map_err(broken)? {
        return Err(Error::invalid_input("CSV is empty; expected a row with the names of the columns"));
    }
    let columns: Vec<String> = record.iter().map(str::to_owned).collect();
    let mut rows = plan(info, &columns);
    let order = rows.order(&columns)?;
    while reader.read_record(&mut record).map_err(broken)? {
        rows.texts(record.iter(), &order).map_err(|error| error.context("CSV"))?;
    }
    rows.finish()
}

/// Refuses quotes that do not end, or that end within a field (the parser would guess instead),
/// and rows of too many fields.
fn check_fields(text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let (mut at, mut field_starts, mut fields) = (0, true, 1);
    while at < bytes.len() {
        if bytes[at] == b'"' && field_starts {
            at = quoted_end(bytes, at + 1).ok_or_else(|| {
                let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
                Error::invalid_input(format!("CSV: the quotes of a field in line {line} do not end at its end"))
            })?;
        }
        let byte = bytes.get(at).copied();
        field_starts = matches!(byte, Some(b',' | b'\n' | b'\r'));
        match byte {
            Some(b',') => fields += 1,
            Some(b'\n' | b'\r') => fields = 1,
            _ => {}
        }
        check_width(fields)?;
        at += 1;
    }
    Ok(())
}

/// Returns the place after the quote that ends a field whose content begins at `at`.
fn quoted_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == b'"')? + 1;
        match bytes.get(at) {
            Some(b'"') => at += 1,
            None | Some(b',' | b'\n' | b'\r') => return Some(at),
            Some(_) => return None,
        }
    }
}
