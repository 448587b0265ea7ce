//! What the server makes for a model whose requests lie end to end in one flat tensor (ragged
//! inputs), in the terms of Triton's `batch_input` and `batch_output`.

use crate::DataType;

/// An input that the server makes from the requests of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchInput {
    /// What it tells.
    pub kind: BatchInputKind,
    /// The graph's inputs that take it.
    pub targets: Vec<String>,
    /// The type of its numbers.
    pub numbers: NumberType,
    /// The ragged input that it tells of.
    pub source: String,
}

/// What an input that the server makes tells. Counts are those of whole requests, however many rows
/// they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchInputKind {
    /// The elements of each request: `[requests]`.
    ElementCount,
    /// Where each request ends: `[requests]`.
    AccumulatedElementCount,
    /// Where each request begins, and the last one ends: `[requests + 1]`.
    AccumulatedElementCountWithZero,
    /// The elements of the longest request, as the extent of a tensor whose values mean nothing.
    MaxElementCountAsShape,
    /// The shape of each row, without the batch dimension: `[rows, rank - 1]`.
    ItemShape,
    /// The same, one after the other: `[rows * (rank - 1)]`.
    ItemShapeFlatten,
}

impl BatchInputKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::ElementCount,
        Self::AccumulatedElementCount,
        Self::AccumulatedElementCountWithZero,
        Self::MaxElementCountAsShape,
        Self::ItemShape,
        Self::ItemShapeFlatten,
    ];

    /// Returns Triton's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ElementCount => "BATCH_ELEMENT_COUNT",
            Self::AccumulatedElementCount => "BATCH_ACCUMULATED_ELEMENT_COUNT",
            Self::AccumulatedElementCountWithZero => "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
            Self::MaxElementCountAsShape => "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
            Self::ItemShape => "BATCH_ITEM_SHAPE",
            Self::ItemShapeFlatten => "BATCH_ITEM_SHAPE_FLATTEN",
        }
    }
}

/// The type of the numbers that the server makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberType {
    /// INT32.
    Int32,
    /// FP32.
    Fp32,
}

impl NumberType {
    /// Returns the element type.
    pub const fn dtype(self) -> DataType {
        match self {
            Self::Int32 => DataType::Int32,
            Self::Fp32 => DataType::Fp32,
        }
    }
}

/// Outputs that are flat as a ragged input is: each request gets as many elements as the output's
/// declared shape has, whose free extents are those of the request's input
/// (`BATCH_SCATTER_WITH_INPUT_SHAPE`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutput {
    /// The outputs.
    pub targets: Vec<String>,
    /// The ragged input.
    pub source: String,
}

impl BatchOutput {
    /// Triton's name of the only kind there is.
    pub const KIND: &'static str = "BATCH_SCATTER_WITH_INPUT_SHAPE";
}
