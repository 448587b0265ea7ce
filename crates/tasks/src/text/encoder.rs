//! Texts to tensors of tokens and nothing more: the first half of a task, for graphs that are
//! models of their own.

use salver_core::{Batching, DataType, Dim, Result, Signature, Tensor, TensorSpec, TokenPadding, TokenizeSpec};

use super::graph::{Graph, Shaping};
use super::tokenizer::{Offsets, Tokenizer, Tokens};
use crate::builtin::{Function, View};
use crate::parts;

/// The inputs of graphs that are filled; the types of tokens where they are asked for.
const NAMES: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// `tokenize`: makes the inputs of an encoder.
#[derive(Debug)]
pub(crate) struct Encoder {
    signature: Signature,
    tokenizer: Tokenizer,
    /// The encoder that it is for.
    graph: Graph,
    shaping: Shaping,
    /// What its file takes.
    file_bytes: u64,
}

impl Encoder {
    /// Reads the tokenizer.
    ///
    /// # Errors
    /// `InvalidInput` naming the file, or the setting that does not fit.
    pub(crate) fn new(spec: &TokenizeSpec) -> Result<Self> {
        let tokenizer = Tokenizer::read(spec, None, Offsets::Unwanted)?;
        let (length, pad_to) = match spec.pad {
            TokenPadding::Max => (Dim::Fixed(tokenizer.limit()), None),
            TokenPadding::Longest => (Dim::Free, Some(0)),
        };
        let names = if spec.token_types { &NAMES[..] } else { &NAMES[..2] };
        let shape = [-1, length.to_wire()];
        let outputs: Vec<_> = names.iter().map(|name| TensorSpec::new(*name, DataType::Int64, &shape)).collect();
        let batching = Batching::Rows { limit: None };
        let graph = Graph::new(&Signature { inputs: outputs.clone(), outputs: Vec::new(), batching })?;
        let shaping = graph.shaping(tokenizer.padding(), pad_to)?;
        let inputs = vec![TensorSpec::new("text", DataType::Bytes, &[-1])];
        let file_bytes = std::fs::metadata(&spec.tokenizer).map_or(0, |file| file.len());
        Ok(Self { signature: Signature { inputs, outputs, batching }, tokenizer, graph, shaping, file_bytes })
    }
}

impl Function for Encoder {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<Vec<Tensor>> {
        let texts = inputs[0].elements()?;
        let mut rows = Vec::with_capacity(texts.len());
        for (row, text) in texts.iter().enumerate() {
            let tokens = self.tokenizer.encode(text);
            rows.push(tokens.map_err(|error| error.context(format_args!("input 'text', row {row}")))?);
        }
        let rows: Vec<&Tokens> = rows.iter().collect();
        let row_bytes = self.shaping.length(&rows) * size_of::<i64>() * self.signature.outputs.len();
        parts::check_bytes("text", rows.len(), row_bytes)?;
        self.graph.tensors(&rows, &self.shaping)
    }

    fn memory_bytes(&self) -> u64 {
        self.file_bytes.max(1)
    }
}

#[cfg(test)]
mod tests;
