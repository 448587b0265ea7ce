//! The outputs of a graph of texts: which of them is meant.

use std::ops::Range;

use salver_core::{Error, Result, Signature, Tensor, TensorSpec};

use super::graph;

/// Returns the place of the output with vectors: one for each text if the graph makes them, else
/// one for each token.
///
/// # Errors
/// `InvalidInput` where none or several could be meant.
pub(super) fn vectors(signature: &Signature) -> Result<usize> {
    const KNOWN: [(&str, usize); 4] =
        [("sentence_embedding", 2), ("text_embeds", 2), ("last_hidden_state", 3), ("token_embeddings", 3)];
    let outputs = &signature.outputs;
    let by_name = KNOWN.iter().find_map(|&(name, rank)| named(outputs, name, rank));
    by_name.or_else(|| only(outputs, 3)).or_else(|| only(outputs, 2)).ok_or_else(|| {
        Error::invalid_input(format!(
            "none of the graph's outputs is known to hold vectors: {}; call one 'last_hidden_state' [texts, tokens, \
             width] or 'sentence_embedding' [texts, width]",
            graph::names(outputs)
        ))
    })
}

/// Returns the place of the output called `logits`, or of the only one with this rank.
///
/// # Errors
/// `InvalidInput` where there is neither.
pub(super) fn logits(signature: &Signature, rank: usize) -> Result<usize> {
    let outputs = &signature.outputs;
    named(outputs, "logits", rank).or_else(|| only(outputs, rank)).ok_or_else(|| {
        let shape = if rank == 2 { "[texts, classes]" } else { "[texts, tokens, classes]" };
        Error::invalid_input(format!(
            "none of the graph's outputs is known to hold scores: {}; call one 'logits' {shape}",
            graph::names(outputs)
        ))
    })
}

#[cold]
pub(super) fn too_short(output: &Tensor, place: &Range<usize>) -> Error {
    Error::engine(format!(
        "output '{}' has shape {}, expected {} tokens or more in its second dimension",
        output.name(),
        output.shape(),
        place.end
    ))
}

fn named(outputs: &[TensorSpec], name: &str, rank: usize) -> Option<usize> {
    outputs.iter().position(|spec| &*spec.name == name && is_float(spec, rank))
}

fn is_float(spec: &TensorSpec, rank: usize) -> bool {
    spec.dtype.is_float() && spec.shape.len() == rank
}

/// Returns the place of the only output of floating point with this rank.
fn only(outputs: &[TensorSpec], rank: usize) -> Option<usize> {
    let mut found = outputs.iter().enumerate().filter(|(_, spec)| is_float(spec, rank)).map(|(idx, _)| idx);
    let first = found.next();
    first.filter(|_| found.next().is_none())
}
