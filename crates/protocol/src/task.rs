//! What the protocols know of tasks: which forms of an input stand for its tensor.

use salver_core::{DataType, ModelInfo, TensorSpec};

use crate::json::nested::Cells;

/// What people send to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Tensors, or rows of one tensor.
    Tensors,
    /// Texts.
    Text,
    /// Texts, each with labels.
    ZeroShot,
    /// Files of pictures.
    Image,
    /// Rows of which each column is an input.
    Columns,
}

/// The input of texts.
pub(crate) const TEXT: &str = "text";
/// The input of labels, of zero-shot classification.
pub(crate) const LABELS: &str = "labels";
/// The input of pictures.
pub(crate) const IMAGE: &str = "image";
/// The task whose answers are vectors.
pub(crate) const TEXT_EMBEDDING: &str = "text-embedding";

impl Task {
    /// Reads the task of a model. One whose inputs are not those of its task takes tensors.
    pub(crate) fn of(info: &ModelInfo) -> Self {
        match &*info.task {
            "text-classification" | TEXT_EMBEDDING | "token-classification" if takes(info, TEXT) => Self::Text,
            "zero-shot" if takes(info, TEXT) => Self::ZeroShot,
            "image-classification" if takes(info, IMAGE) => Self::Image,
            "tabular" if has_columns(info) => Self::Columns,
            _ => Self::Tensors,
        }
    }

    /// Returns the input that a body of nothing but its bytes is for.
    pub(crate) fn raw_input(self) -> Option<&'static str> {
        match self {
            Self::Text | Self::ZeroShot => Some(TEXT),
            Self::Image => Some(IMAGE),
            Self::Tensors | Self::Columns => None,
        }
    }

    /// Returns what stands for an element of an input beside its plain form.
    pub(crate) fn cells(self, spec: &TensorSpec) -> Cells {
        match self {
            Self::Image if &*spec.name == IMAGE => Cells::Base64,
            Self::ZeroShot if &*spec.name == LABELS => Cells::Labels,
            Self::Columns if spec.optional => Cells::Optional,
            Self::Columns => Cells::Required,
            Self::Tensors | Self::Text | Self::ZeroShot | Self::Image => Cells::Plain,
        }
    }
}

/// Whether the model takes one string of bytes a row under this name.
fn takes(info: &ModelInfo, name: &str) -> bool {
    info.signature.is_batched()
        && info.signature.input(name).is_some_and(|spec| spec.dtype == DataType::Bytes && spec.shape.len() == 1)
}

/// Whether each input is a column. Models whose columns make up one tensor name them instead.
fn has_columns(info: &ModelInfo) -> bool {
    info.signature.is_batched()
        && !info.example.is_empty()
        && info.columns.iter().all(Vec::is_empty)
        && info.signature.inputs.iter().all(|spec| spec.shape.len() == 1)
}
