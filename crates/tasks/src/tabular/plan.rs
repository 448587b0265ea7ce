//! Which column goes where, and whether it fits there. Everything that can be wrong between columns
//! and graph is found here.

use std::collections::HashSet;
use std::sync::Arc;

use salver_core::{
    CategoryEncoding, ColumnKind, ColumnSpec, DataType, Dim, Error, Filling, Result, Signature, TabularSpec,
    TensorSpec, UnknownCategory,
};

use super::column::{Categories, Column, Hot, Kind, place};
use super::number::{Number, fits, whole};

/// The columns, and the inputs of the graph that they make up.
pub(super) struct Plan {
    pub(super) columns: Vec<Column>,
    pub(super) targets: Vec<Target>,
}

/// An input of the graph.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: Arc<str>,
    pub(super) dtype: DataType,
    /// Its columns, side by side in this order.
    pub(super) columns: Vec<usize>,
    /// The values of a row.
    pub(super) width: usize,
    /// Whether its shape is `[n]`.
    pub(super) is_flat: bool,
}

pub(super) fn make(spec: &TabularSpec, graph: &Signature) -> Result<Plan> {
    if spec.columns.is_empty() {
        return Err(Error::invalid_input("there are no columns; add a [[column]] for each that the model takes"));
    }
    let mut names = HashSet::new();
    let mut columns = Vec::with_capacity(spec.columns.len());
    let mut members = vec![Vec::new(); graph.inputs.len()];
    for (idx, column) in spec.columns.iter().enumerate() {
        let context = |error: Error| error.context(format_args!("column '{}'", column.name));
        if column.name.is_empty() || !names.insert(&column.name) {
            return Err(context(Error::invalid_input("names must not be empty, and each may be given only once")));
        }
        let input = input_of(column, graph).map_err(context)?;
        members[input].push(idx);
        columns.push(fit(column, &graph.inputs[input]).map_err(context)?);
    }
    let targets: Result<Vec<Option<Target>>> =
        graph.inputs.iter().zip(members).map(|(input, members)| target(input, members, &columns)).collect();
    Ok(Plan { targets: targets?.into_iter().flatten().collect(), columns })
}

/// Finds the graph's input that a column goes into.
fn input_of(column: &ColumnSpec, graph: &Signature) -> Result<usize> {
    let find = |name: &str| graph.inputs.iter().position(|input| *input.name == *name);
    if let Some(name) = &column.input {
        let unknown = || {
            Error::invalid_input(format!(
                "the graph has no input '{name}'; its inputs are {}, set `input` to one of them",
                shown(graph)
            ))
        };
        return find(name).ok_or_else(unknown);
    }
    let only = (graph.inputs.len() == 1).then_some(0);
    find(&column.name).or(only).ok_or_else(|| {
        Error::invalid_input(format!(
            "no input of the graph is called so, and there are several; its inputs are {}, set `input` to one of them",
            shown(graph)
        ))
    })
}

/// Checks one column against the input that it goes into.
fn fit(column: &ColumnSpec, input: &TensorSpec) -> Result<Column> {
    let missing = column.missing.as_ref();
    let is_given = missing.is_none();
    let (kind, dtype) = match &column.kind {
        ColumnKind::Float => {
            takes(input, input.dtype.is_float(), "float", "a column of whole numbers is type = \"int\"")?;
            (Kind::Float { missing: number_filling(missing, input, |_| true)? }, DataType::Fp64)
        }
        ColumnKind::Int => {
            takes(
                input,
                is_numeric(input.dtype),
                "int",
                "a text is type = \"text\", true or false is type = \"bool\"",
            )?;
            let filling = number_filling(missing, input, |value| value.is_nan() || whole(value).is_some())?;
            (Kind::Int { missing: filling }, if is_given { DataType::Int64 } else { DataType::Fp64 })
        }
        ColumnKind::Bool => {
            takes(input, input.dtype != DataType::Bytes, "bool", "texts are type = \"text\" or \"category\"")?;
            let filling = number_filling(missing, input, |value| value.is_nan() || value == 0.0 || value == 1.0)?;
            (Kind::Bool { missing: filling }, if is_given { DataType::Bool } else { DataType::Fp64 })
        }
        ColumnKind::Text => {
            let hint = "a graph of numbers takes type = \"category\" with its `categories`, or a column of numbers";
            takes(input, input.dtype == DataType::Bytes, "text", hint)?;
            (Kind::Text { known: None, missing: text_filling(missing)? }, DataType::Bytes)
        }
        ColumnKind::Category { values, encoding, unknown } => {
            (category(Categories::new(values)?, *encoding, *unknown, missing, input)?, DataType::Bytes)
        }
    };
    Ok(Column { name: column.name.as_str().into(), dtype, kind })
}

fn category(
    known: Categories,
    encoding: CategoryEncoding,
    unknown: Option<UnknownCategory>,
    missing: Option<&Filling>,
    input: &TensorSpec,
) -> Result<Kind> {
    let to_numbers = "use encoding = \"index\" or \"one-hot\" for a graph of numbers";
    let to_texts = "use encoding = \"text\" for a graph of texts";
    match encoding {
        CategoryEncoding::Index => {
            takes(input, is_numeric(input.dtype), "category by index", to_texts)?;
            let unknown = match unknown {
                None => None,
                Some(UnknownCategory::Index(index)) => Some(Number::Int(index)),
                Some(UnknownCategory::Zeros) => {
                    return Err(wrong_unknown("a number, such as -1, as its encoding is \"index\""));
                }
            };
            let missing = missing.map(|filling| index_filling(filling, &known, unknown)).transpose()?;
            let last = place(known.len().saturating_sub(1));
            match [Some(last), unknown, missing].into_iter().flatten().find(|&number| !fits(number, input.dtype)) {
                None => Ok(Kind::Index { known, unknown, missing }),
                Some(number) => {
                    Err(Error::invalid_input(format!("the index {number} does not fit into {}", described(input))))
                }
            }
        }
        CategoryEncoding::OneHot => {
            takes(input, input.dtype != DataType::Bytes, "category one-hot", to_texts)?;
            let unknown = match unknown {
                None => None,
                Some(UnknownCategory::Zeros) => Some(None),
                Some(UnknownCategory::Index(_)) => {
                    return Err(wrong_unknown("\"zeros\", as its encoding is \"one-hot\""));
                }
            };
            let missing = missing.map(|filling| hot_filling(filling, &known, unknown)).transpose()?;
            Ok(Kind::OneHot { known, unknown, missing })
        }
        CategoryEncoding::Text => {
            takes(input, input.dtype == DataType::Bytes, "category as text", to_numbers)?;
            let passes = match unknown {
                None => false,
                Some(UnknownCategory::Index(_)) => true,
                Some(UnknownCategory::Zeros) => return Err(wrong_unknown("\"pass\", as its encoding is \"text\"")),
            };
            // Where any text goes through, the list is only what people are told.
            let filling = text_filling(missing)?;
            match &filling {
                Some(text) if !passes && known.find(text).is_none() => Err(known.refuse(text).context("missing")),
                _ => Ok(Kind::Text { known: (!passes).then_some(known), missing: filling }),
            }
        }
    }
}

fn is_numeric(dtype: DataType) -> bool {
    dtype.is_float() || dtype.is_integer()
}

/// Refuses a column that its input cannot take.
fn takes(input: &TensorSpec, is_taken: bool, kind: &str, hint: &str) -> Result<()> {
    if is_taken {
        return Ok(());
    }
    Err(Error::invalid_input(format!("a column of type {kind} does not fit into {}; {hint}", described(input))))
}

fn wrong_unknown(expected: &str) -> Error {
    Error::invalid_input(format!("`unknown` must be {expected}"))
}

/// Checks what stands for a missing number.
fn number_filling(
    filling: Option<&Filling>,
    input: &TensorSpec,
    is_of_kind: fn(f64) -> bool,
) -> Result<Option<Number>> {
    let value = match filling {
        None => return Ok(None),
        Some(Filling::Text(text)) => {
            return Err(Error::invalid_input(format!(
                "`missing` must be a number here, got the text '{}'",
                text.escape_debug()
            )));
        }
        Some(Filling::Number(value)) => *value,
    };
    let number = if input.dtype.is_float() {
        Number::Float(value)
    } else {
        whole(value).map_or(Number::Float(value), Number::Int)
    };
    if !is_of_kind(value) {
        return Err(Error::invalid_input(format!("`missing` must be a value of the column's type, got {value}")));
    }
    if !fits(number, input.dtype) {
        return Err(Error::invalid_input(format!(
            "`missing` is {value}, which does not fit into {}",
            described(input)
        )));
    }
    Ok(Some(number))
}

fn text_filling(filling: Option<&Filling>) -> Result<Option<Box<[u8]>>> {
    match filling {
        None => Ok(None),
        Some(Filling::Text(text)) => Ok(Some(text.as_bytes().into())),
        Some(Filling::Number(value)) => {
            Err(Error::invalid_input(format!("`missing` must be a text here, got {value}")))
        }
    }
}

/// A category stands for a missing one, or a number that is no category's: NaN or -1, by habit.
fn index_filling(filling: &Filling, known: &Categories, unknown: Option<Number>) -> Result<Number> {
    match filling {
        Filling::Number(value) => Ok(whole(*value).map_or(Number::Float(*value), Number::Int)),
        Filling::Text(text) => match known.find(text.as_bytes()) {
            Some(idx) => Ok(place(idx)),
            None => unknown.ok_or_else(|| known.refuse(text.as_bytes()).context("missing")),
        },
    }
}

fn hot_filling(filling: &Filling, known: &Categories, unknown: Option<Hot>) -> Result<Hot> {
    match filling {
        Filling::Number(value) => Err(Error::invalid_input(format!("`missing` must be a category here, got {value}"))),
        Filling::Text(text) => match known.find(text.as_bytes()) {
            Some(idx) => Ok(Some(idx)),
            None => unknown.ok_or_else(|| known.refuse(text.as_bytes()).context("missing")),
        },
    }
}

/// Checks that the columns of one input are as wide as it is; an optional one may have none.
fn target(input: &TensorSpec, members: Vec<usize>, columns: &[Column]) -> Result<Option<Target>> {
    if members.is_empty() {
        return match input.optional {
            true => Ok(None),
            false => Err(Error::invalid_input(format!(
                "no column goes into {}; add a [[column]] of this name, or one with input = \"{}\"",
                described(input),
                input.name
            ))),
        };
    }
    let width = members.iter().map(|&idx| columns[idx].width()).sum();
    let taken = match (input.shape.as_slice(), width) {
        ([_], 1) | ([_, Dim::Free], _) => width,
        ([_], _) => 1,
        ([_, Dim::Fixed(taken)], _) => *taken,
        _ => {
            return Err(Error::invalid_input(format!(
                "the columns {} go into {}, which is no table: expected the shape [-1, {width}]; a model of other \
                 shapes is task = \"tensor\"",
                listed(&members, columns),
                described(input)
            )));
        }
    };
    if taken != width {
        return Err(Error::invalid_input(format!(
            "the columns of {} make {width} values for each row, but it takes {taken}: {}; declare each column that the \
             model was trained with, in its order, and one-hot where it was",
            described(input),
            listed(&members, columns)
        )));
    }
    if !matches!(input.shape.first(), Some(Dim::Free | Dim::Fixed(1))) {
        return Err(Error::invalid_input(format!(
            "{} takes only that many rows at a time; export the graph with a free first dimension",
            described(input)
        )));
    }
    Ok(Some(Target {
        name: input.name.clone(),
        dtype: input.dtype,
        columns: members,
        width,
        is_flat: input.shape.len() == 1,
    }))
}

/// Returns the graph's outputs as requests see them: rows, whatever number the graph fixes.
///
/// # Errors
/// `InvalidInput` where an output is not one of rows.
pub(super) fn outputs(graph: &Signature) -> Result<Vec<TensorSpec>> {
    let takes_one_row = takes_one_row(graph);
    let rows = |output: &TensorSpec| match output.shape.split_first() {
        Some((Dim::Free, _)) => Ok(output.clone()),
        Some((Dim::Fixed(1), others)) if takes_one_row => {
            let shape = std::iter::once(Dim::Free).chain(others.iter().copied()).collect();
            Ok(TensorSpec { shape, ..output.clone() })
        }
        _ => Err(Error::invalid_input(format!(
            "output '{}' has the shape {:?}, whose first dimension is not that of the rows; export the graph with a \
             free first dimension, or leave the output out",
            output.name,
            output.wire_shape()
        ))),
    };
    graph.outputs.iter().map(rows).collect()
}

/// Whether the graph takes one row at a time.
pub(super) fn takes_one_row(graph: &Signature) -> bool {
    graph.inputs.iter().any(|input| input.shape.first() == Some(&Dim::Fixed(1)))
}

fn shown(graph: &Signature) -> String {
    let inputs: Vec<String> = graph
        .inputs
        .iter()
        .map(|input| format!("'{}' ({} {:?})", input.name, input.dtype, input.wire_shape()))
        .collect();
    inputs.join(", ")
}

fn described(input: &TensorSpec) -> String {
    format!("the graph's input '{}' ({} {:?})", input.name, input.dtype, input.wire_shape())
}

/// Lists columns, with what each takes where that is more than one value.
fn listed(members: &[usize], columns: &[Column]) -> String {
    let one = |&idx: &usize| match columns[idx].width() {
        1 => format!("'{}'", columns[idx].name),
        width => format!("'{}' ({width} values)", columns[idx].name),
    };
    members.iter().map(one).collect::<Vec<_>>().join(", ")
}
