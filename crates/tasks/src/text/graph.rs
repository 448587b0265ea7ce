//! The inputs of a graph of texts: which there are, and tokens as tensors.

use std::collections::BTreeMap;
use std::sync::Arc;

use salver_core::{DataType, Dim, Error, PartLimits, Result, Signature, Tensor, TensorSpec};

use super::tokenizer::{Padding, Side, Tokens};
use crate::parts;

/// What an input of the graph holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
    Positions,
}

impl Role {
    const NAMES: [(&str, Role); 4] = [
        ("input_ids", Role::Ids),
        ("attention_mask", Role::Mask),
        ("token_type_ids", Role::Types),
        ("position_ids", Role::Positions),
    ];

    fn of(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
    }
}

/// One input.
#[derive(Debug)]
struct Input {
    name: Arc<str>,
    role: Role,
    is_wide: bool,
}

/// The inputs of a graph.
#[derive(Debug)]
pub(super) struct Graph {
    inputs: Vec<Input>,
    /// The only number of tokens that it takes.
    fixed: Option<usize>,
    /// The only number of rows that it takes.
    rows: Option<usize>,
    is_batched: bool,
}

/// How texts of different lengths get to be of one.
#[derive(Debug)]
pub(super) struct Shaping {
    padding: Padding,
    /// No text is shorter than this.
    least: usize,
    /// Whether the graph can tell padding from tokens.
    has_mask: bool,
    is_fixed: bool,
}

impl Graph {
    /// Finds the inputs.
    ///
    /// # Errors
    /// `InvalidInput` naming the input that is missing, unknown, or has an unexpected type or shape.
    pub(super) fn new(graph: &Signature) -> Result<Self> {
        let known: Vec<&TensorSpec> = graph.inputs.iter().filter(|spec| !is_left_out(spec)).collect();
        let inputs = known.iter().map(|spec| Input::new(spec)).collect::<Result<Vec<_>>>()?;
        if !inputs.iter().any(|input| input.role == Role::Ids) {
            return Err(Error::invalid_input(format!(
                "the graph has no input 'input_ids' for the numbers of tokens; its inputs are {}",
                names(&graph.inputs)
            )));
        }
        let rows = only(&known, 0)?;
        if rows.is_some_and(|rows| rows != 1) {
            return Err(Error::invalid_input(format!(
                "input '{}' has shape {:?}, a fixed number of texts; export the graph with a free first dimension",
                known[0].name,
                known[0].wire_shape()
            )));
        }
        Ok(Self { inputs, fixed: only(&known, 1)?, rows, is_batched: graph.is_batched() })
    }

    /// Returns the number of tokens that the graph takes, if there is only one.
    pub(super) fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    /// Decides how long texts become. `pad_to` is what the model's files ask for; 0 asks for as
    /// little as can be.
    ///
    /// # Errors
    /// `InvalidInput` where the graph takes another length.
    pub(super) fn shaping(&self, padding: Padding, pad_to: Option<usize>) -> Result<Shaping> {
        if let (Some(fixed), Some(asked)) = (self.fixed, pad_to)
            && asked != 0
            && asked != fixed
        {
            return Err(Error::invalid_input(format!(
                "pad_to is {asked}, but the graph takes {fixed} tokens; leave `pad_to` out"
            )));
        }
        let has_mask = self.inputs.iter().any(|input| input.role == Role::Mask);
        // A model with a mask gives the same with less padding, and sooner.
        let own = padding.fixed.filter(|_| !has_mask);
        let least = self.fixed.or(pad_to).or(own).unwrap_or(1).max(1);
        Ok(Shaping { padding, least, has_mask, is_fixed: self.fixed.is_some() })
    }

    /// Returns what the runtime has to know to put texts of different requests into one batch.
    pub(super) fn padding(&self, shaping: &Shaping) -> Option<salver_core::Padding> {
        let pads = shaping.has_mask && self.fixed.is_none() && self.is_batched;
        let value = |role| match role {
            Role::Ids => f64::from(shaping.padding.token),
            Role::Types => f64::from(shaping.padding.token_type),
            Role::Mask | Role::Positions => 0.0,
        };
        let inputs: BTreeMap<String, f64> =
            self.inputs.iter().map(|input| (input.name.to_string(), value(input.role))).collect();
        // No output is cut back: whatever reads one knows how many tokens are its own.
        pads.then(|| salver_core::Padding { inputs, ..salver_core::Padding::default() })
    }

    /// Sorts rows into parts.
    pub(super) fn parts(&self, rows: &[Tokens], shaping: &Shaping, limits: PartLimits<'_>) -> Vec<Vec<usize>> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len().max(shaping.least)).collect();
        let max_rows = self.rows.unwrap_or(limits.max_rows);
        // Without a mask, only texts of one length.
        let buckets = if shaping.has_mask { limits.buckets } else { &[0] };
        parts::by_length(&lengths, PartLimits { max_rows, buckets })
    }

    /// Makes the inputs of one part.
    ///
    /// # Errors
    /// None that could happen: shapes and data are made together.
    pub(super) fn tensors(&self, rows: &[&Tokens], shaping: &Shaping) -> Result<Vec<Tensor>> {
        let length = shaping.length(rows);
        self.inputs.iter().map(|input| input.tensor(rows, length, shaping)).collect()
    }
}

impl Shaping {
    /// Returns how long the rows of one part become.
    pub(super) fn length(&self, rows: &[&Tokens]) -> usize {
        rows.iter().map(|row| row.ids.len()).max().unwrap_or(0).max(self.least)
    }

    /// Returns where a text's tokens stand in an output of `length` tokens.
    pub(super) fn place(&self, tokens: usize, length: usize) -> std::ops::Range<usize> {
        let tokens = tokens.max(1);
        let start = if self.pads_before() { length.saturating_sub(tokens) } else { 0 };
        start..start + tokens
    }

    /// Whether padding stands before the text: only where the graph has one length, since whoever
    /// merges batches pads after it. With a mask it makes no difference.
    fn pads_before(&self) -> bool {
        self.padding.side == Side::Before && self.is_fixed
    }
}

impl Input {
    fn new(spec: &TensorSpec) -> Result<Self> {
        let Some(role) = Role::of(&spec.name) else {
            let known: Vec<&str> = Role::NAMES.iter().map(|(name, _)| *name).collect();
            return Err(Error::invalid_input(format!(
                "the graph's input '{}' ({} {:?}) is none that tokens go into; expected {}",
                spec.name,
                spec.dtype,
                spec.wire_shape(),
                known.join(", ")
            )));
        };
        let is_wide = match (spec.dtype, spec.shape.len()) {
            (DataType::Int64, 2) => true,
            (DataType::Int32, 2) => false,
            _ => {
                return Err(Error::invalid_input(format!(
                    "the graph's input '{}' is {} {:?}, expected INT64 or INT32 [-1, -1]: texts by tokens",
                    spec.name,
                    spec.dtype,
                    spec.wire_shape()
                )));
            }
        };
        Ok(Self { name: spec.name.clone(), role, is_wide })
    }

    fn tensor(&self, rows: &[&Tokens], length: usize, shaping: &Shaping) -> Result<Tensor> {
        let mut values: Vec<u32> = Vec::with_capacity(rows.len() * length);
        for row in rows {
            self.put(row, length, shaping, &mut values);
        }
        let shape = [rows.len(), length];
        if self.is_wide {
            let values: Vec<i64> = values.into_iter().map(i64::from).collect();
            Tensor::from_slice(self.name.clone(), shape, &values)
        } else {
            let values: Vec<i32> = values.into_iter().map(u32::cast_signed).collect();
            Tensor::from_slice(self.name.clone(), shape, &values)
        }
    }

    /// Appends one row of `length` values.
    fn put(&self, row: &Tokens, length: usize, shaping: &Shaping, values: &mut Vec<u32>) {
        let padding = shaping.padding;
        let start = values.len();
        let fill = match self.role {
            Role::Ids => padding.token,
            Role::Types => padding.token_type,
            Role::Mask | Role::Positions => 0,
        };
        values.resize(start + length, fill);
        // A text without any token is one of padding: what a graph makes of none is not defined.
        let place = shaping.place(row.ids.len(), length);
        let own = &mut values[start..][place];
        match self.role {
            Role::Ids => own[..row.ids.len()].copy_from_slice(&row.ids),
            Role::Types => own[..row.type_ids.len()].copy_from_slice(&row.type_ids),
            Role::Mask => own.fill(1),
            Role::Positions => own.iter_mut().zip(0..).for_each(|(value, position)| *value = position),
        }
    }
}

/// Whether an input may be left out, and is: it is none that tokens go into.
fn is_left_out(spec: &TensorSpec) -> bool {
    spec.optional && Role::of(&spec.name).is_none()
}

/// Returns the extent that inputs fix for dimension `dim`.
fn only(inputs: &[&TensorSpec], dim: usize) -> Result<Option<usize>> {
    let fixed = |spec: &&TensorSpec| match spec.shape.get(dim) {
        Some(Dim::Fixed(extent)) => Some(*extent),
        _ => None,
    };
    let first = inputs.iter().find_map(|spec| fixed(spec).map(|extent| (spec, extent)));
    let Some((first, extent)) = first else {
        return Ok(None);
    };
    match inputs.iter().find(|spec| fixed(spec).is_some_and(|other| other != extent)) {
        None => Ok(Some(extent)),
        Some(other) => Err(Error::invalid_input(format!(
            "inputs '{}' and '{}' have shapes {:?} and {:?}; expected the same",
            first.name,
            other.name,
            first.wire_shape(),
            other.wire_shape()
        ))),
    }
}

/// Lists tensors for a message.
pub(super) fn names(specs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| format!("'{}' ({} {:?})", spec.name, spec.dtype, spec.wire_shape());
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}
