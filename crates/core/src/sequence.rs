//! How the requests of a stateful model belong together, in the terms of Triton's
//! `sequence_batching`.

use std::path::PathBuf;
use std::time::Duration;

use crate::{DataType, Dim};

/// Settings of a stateful model.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceBatching {
    /// How requests of different sequences share a batch.
    pub strategy: SequenceStrategy,
    /// How long a sequence may rest before it is forgotten.
    pub max_idle: Duration,
    /// Inputs that tell the model where in its sequence a request stands.
    pub controls: Vec<SequenceControl>,
    /// What the server keeps for the model from one request of a sequence to the next.
    pub states: Vec<SequenceState>,
}

impl SequenceBatching {
    /// How long a sequence may rest where nothing is said.
    pub const DEFAULT_IDLE: Duration = Duration::from_secs(1);
}

/// How requests of different sequences share a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceStrategy {
    /// A sequence has a row of its own in the batches of one instance for as long as it lasts.
    Direct {
        /// How long the oldest request may wait for company.
        max_queue_delay_microseconds: u64,
        /// The part of the rows that is worth running at once; 0: any.
        minimum_slot_utilization: f32,
    },
    /// A sequence stays with one instance; its row differs from batch to batch.
    Oldest {
        /// The most sequences of an instance that take turns; more wait.
        max_candidate_sequences: usize,
        /// Sizes that are worth waiting for, ascending.
        preferred_batch_size: Vec<usize>,
        /// How long the oldest request may wait for company.
        max_queue_delay_microseconds: u64,
        /// Whether answers keep the order of requests.
        preserve_ordering: bool,
    },
}

impl Default for SequenceStrategy {
    fn default() -> Self {
        Self::Direct { max_queue_delay_microseconds: 0, minimum_slot_utilization: 0.0 }
    }
}

/// An input that the server fills in, one value for each request.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceControl {
    /// The input's name in the graph.
    pub input: String,
    /// What it tells.
    pub kind: ControlKind,
}

/// What a control input tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ControlKind {
    /// Whether the request is the first of its sequence.
    Start(FalseTrue),
    /// Whether it is the last.
    End(FalseTrue),
    /// Whether the row holds a request at all.
    Ready(FalseTrue),
    /// The sequence's id, as a whole number of some width or as BYTES.
    CorrelationId(DataType),
}

/// The values that stand for false and true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FalseTrue {
    /// As INT32.
    Int32([i32; 2]),
    /// As FP32.
    Fp32([f32; 2]),
    /// As BOOL.
    Bool([bool; 2]),
}

impl FalseTrue {
    /// Returns the type of the values.
    pub const fn dtype(self) -> DataType {
        match self {
            Self::Int32(_) => DataType::Int32,
            Self::Fp32(_) => DataType::Fp32,
            Self::Bool(_) => DataType::Bool,
        }
    }
}

/// A tensor that a model gives with one request and takes with the next of the sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceState {
    /// The input that takes it.
    pub input: String,
    /// The output that gives it.
    pub output: String,
    /// Its element type.
    pub dtype: DataType,
    /// Its shape without the batch dimension.
    pub dims: Vec<Dim>,
    /// What the first request of a sequence gets; none: zeros, with an extent of 1 where it is free.
    pub initial: Option<InitialState>,
}

/// What the first request of a sequence gets.
#[derive(Debug, Clone, PartialEq)]
pub struct InitialState {
    /// Named in messages; may be empty.
    pub name: String,
    /// The shape without the batch dimension; every extent is fixed.
    pub dims: Vec<usize>,
    /// The file with its data, as written and where it lies; none: zeros.
    pub file: Option<(String, PathBuf)>,
}
