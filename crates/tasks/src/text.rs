//! Texts: to tokens, and from a graph's outputs to classes, vectors or entities.
//!
//! What the text tasks share is here: tokens, parts, and the outputs `tokens` and `truncated`.
//! What each makes of a graph's outputs is its [`Head`].

mod encoder;
mod entities;
mod graph;
mod labels;
mod limits;
mod outputs;
mod pooling;
mod prefix;
mod tokenizer;

use std::sync::Arc;

use salver_core::{
    Batching, DataType, Dim, Elements, Encoded, Error, Notes, PartLimits, Result, Shape, Signature, Task, Tensor,
    TensorSpec, TextSpec, TextTask as Kind,
};

pub(crate) use self::encoder::Encoder;
use self::entities::Tagger;
use self::graph::{Graph, Shaping};
use self::labels::{Asked, ZeroShot};
use self::pooling::Embedder;
use self::tokenizer::{Offsets, Tokenizer, Tokens};
use crate::parts::{self, Gathered};
use crate::scores::Ranking;

/// Requests of no more bytes than this are encoded where they came: prose of this length takes
/// 300 microseconds, what is made to take long ten times that.
const QUICK_BYTES: usize = 1024;

/// Makes the task of a model of texts.
pub(crate) fn make(spec: &TextSpec, signature: &Signature) -> Result<Arc<dyn Task>> {
    let graph = Graph::new(signature)?;
    let offsets = if spec.task == Kind::TokenClassification { Offsets::Wanted } else { Offsets::Unwanted };
    let tokenizer = Tokenizer::read(spec, graph.fixed(), offsets)?;
    let shaping = graph.shaping(tokenizer.padding(), spec.pad_to)?;
    let head = Head::new(spec, signature)?;
    let example = tokenizer.example();
    Ok(Arc::new(TextTask { signature: head.signature(), graph, tokenizer, shaping, head, example }))
}

/// A model of texts.
#[derive(Debug)]
struct TextTask {
    signature: Signature,
    graph: Graph,
    tokenizer: Tokenizer,
    shaping: Shaping,
    head: Head,
    example: String,
}

/// What a task makes of the graph's outputs.
#[derive(Debug)]
enum Head {
    Classes { output: usize, ranking: Ranking },
    Embedding(Embedder),
    Entities(Tagger),
    ZeroShot(ZeroShot),
}

/// What `decode` has to know of a request.
struct Request {
    /// The rows of each part; those from `texts.len()` are labels.
    parts: Vec<Vec<usize>>,
    texts: Elements,
    tokens: Vec<Tokens>,
    asked: Option<Asked>,
}

impl Task for TextTask {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn padding(&self) -> Option<salver_core::Padding> {
        self.graph.padding(&self.shaping)
    }

    fn is_quick(&self, inputs: &[Tensor]) -> bool {
        inputs.iter().map(Tensor::payload_len).sum::<usize>() <= QUICK_BYTES
    }

    fn encode(&self, inputs: Vec<Tensor>, limits: PartLimits<'_>) -> Result<Encoded> {
        let texts = input(&inputs, "text").cloned().unwrap_or_default();
        let mut tokens = Vec::with_capacity(texts.len());
        for (row, text) in texts.iter().enumerate() {
            tokens.push(self.tokenizer.encode(text).map_err(|error| error.context(format!("row {row}, 'text'")))?);
        }
        let asked = match &self.head {
            Head::ZeroShot(zero_shot) => Some(zero_shot.ask(&inputs, texts.len(), |label| {
                tokens.push(self.tokenizer.encode(label.as_bytes())?);
                Ok(tokens.len() - 1)
            })?),
            Head::Classes { .. } | Head::Embedding(_) | Head::Entities(_) => None,
        };
        let parts = self.graph.parts(&tokens, &self.shaping, limits);
        let tensors = |rows: &Vec<usize>| {
            let rows: Vec<&Tokens> = rows.iter().map(|&row| &tokens[row]).collect();
            self.graph.tensors(&rows, &self.shaping)
        };
        let encoded = parts.iter().map(tensors).collect::<Result<_>>()?;
        Ok(Encoded { parts: encoded, notes: Box::new(Request { parts, texts, tokens, asked }) })
    }

    fn decode(&self, outputs: Vec<Vec<Tensor>>, notes: Notes) -> Result<Vec<Tensor>> {
        let request = notes.downcast::<Request>().map_err(|_| Error::engine("these notes are of another task"))?;
        let mut answer = self.answer(&outputs, &request)?;
        let texts = &request.tokens[..request.texts.len()];
        let counts: Vec<i32> = texts.iter().map(|row| i32::try_from(row.ids.len()).unwrap_or(i32::MAX)).collect();
        let truncated: Vec<bool> = texts.iter().map(|row| row.truncated).collect();
        answer.push(Tensor::from_slice("tokens", [texts.len()], &counts)?);
        answer.push(Tensor::from_slice("truncated", [texts.len()], &truncated)?);
        Ok(answer)
    }

    fn example(&self) -> Vec<Tensor> {
        let text: Elements = std::iter::once(&self.example).collect();
        let mut inputs: Vec<Tensor> = Tensor::from_elements("text", [1], text).into_iter().collect();
        if let Head::ZeroShot(zero_shot) = &self.head {
            inputs.extend(zero_shot.example());
        }
        inputs
    }
}

impl TextTask {
    /// Makes the head's outputs.
    fn answer(&self, outputs: &[Vec<Tensor>], request: &Request) -> Result<Vec<Tensor>> {
        let rows = request.texts.len();
        match &self.head {
            Head::Classes { output, ranking } => {
                let (scores, _) = self
                    .gather(outputs, request, |part, rows| parts::floats(parts::output(part, *output)?, rows.len()))?;
                ranking.rank(&scores)
            }
            Head::Embedding(embedder) => {
                let (vectors, width) = self.vectors(embedder, outputs, request)?;
                let width = match embedder.width() {
                    Dim::Fixed(declared) if rows == 0 => declared,
                    _ => width,
                };
                Ok(vec![Tensor::from_slice("embedding", [rows, width], &vectors)?])
            }
            Head::Entities(tagger) => {
                let mut found = vec![String::new(); rows];
                for (part, own) in outputs.iter().zip(&request.parts) {
                    let place = |row: usize, length| self.shaping.place(request.tokens[own[row]].ids.len(), length);
                    let text =
                        |row: usize| (&request.tokens[own[row]], request.texts.get(own[row]).unwrap_or_default());
                    for (row, entities) in own.iter().zip(tagger.tag(part, own.len(), place, text)?) {
                        found[*row] = entities;
                    }
                }
                Ok(vec![Tensor::from_elements("entities", [rows], found.iter().collect())?])
            }
            Head::ZeroShot(zero_shot) => {
                let (vectors, width) = self.vectors(zero_shot.embedder(), outputs, request)?;
                let asked = request.asked.as_ref().ok_or_else(|| Error::engine("the labels were not noted"))?;
                zero_shot.answer(&vectors, width, rows, asked)
            }
        }
    }

    fn vectors(&self, embedder: &Embedder, outputs: &[Vec<Tensor>], request: &Request) -> Result<(Vec<f32>, usize)> {
        self.gather(outputs, request, |part, rows| {
            let place = |row: usize, length| self.shaping.place(request.tokens[rows[row]].ids.len(), length);
            embedder.embed(part, rows.len(), place)
        })
    }

    /// Brings what `values` makes of each part into the order of rows.
    fn gather(
        &self,
        outputs: &[Vec<Tensor>],
        request: &Request,
        values: impl Fn(&[Tensor], &[usize]) -> Result<(Vec<f32>, usize)>,
    ) -> Result<(Vec<f32>, usize)> {
        let mut gathered = Gathered::new(request.tokens.len());
        for (part, rows) in outputs.iter().zip(&request.parts) {
            let (values, width) = values(part, rows)?;
            gathered.put(rows, &values, width)?;
        }
        Ok(gathered.finish())
    }
}

impl Head {
    fn new(spec: &TextSpec, signature: &Signature) -> Result<Self> {
        match &spec.task {
            Kind::Classification { scores, top_k } => {
                let output = outputs::logits(signature, 2)?;
                let top_k = top_k.unwrap_or(usize::MAX);
                let ranking = Ranking::new(&signature.outputs[output], &spec.labels, *scores, top_k)?;
                Ok(Self::Classes { output, ranking })
            }
            Kind::Embedding(pooling) => Ok(Self::Embedding(Embedder::new(signature, *pooling)?)),
            Kind::TokenClassification => Ok(Self::Entities(Tagger::new(signature, &spec.labels)?)),
            Kind::ZeroShot { pooling, template, scale } => {
                let embedder = Embedder::new(signature, *pooling)?;
                Ok(Self::ZeroShot(ZeroShot::new(embedder, template, *scale, &spec.labels)?))
            }
        }
    }

    /// Returns what requests see.
    fn signature(&self) -> Signature {
        let mut inputs = vec![TensorSpec::new("text", DataType::Bytes, &[-1])];
        let mut outputs = match self {
            Self::Classes { ranking, .. } => ranking.outputs(),
            Self::Embedding(embedder) => {
                vec![TensorSpec::new("embedding", DataType::Fp32, &[-1, embedder.width().to_wire()])]
            }
            Self::Entities(_) => vec![TensorSpec::new("entities", DataType::Bytes, &[-1])],
            Self::ZeroShot(zero_shot) => {
                inputs.push(zero_shot.input());
                vec![
                    TensorSpec::new("label", DataType::Bytes, &[-1, -1]),
                    TensorSpec::new("score", DataType::Fp32, &[-1, -1]),
                ]
            }
        };
        outputs.push(TensorSpec::new("tokens", DataType::Int32, &[-1]));
        outputs.push(TensorSpec::new("truncated", DataType::Bool, &[-1]));
        Signature { inputs, outputs, batching: Batching::Rows { limit: None } }
    }
}

/// Returns the elements of the input called `name`, if it was given.
fn input<'a>(inputs: &'a [Tensor], name: &str) -> Option<&'a Elements> {
    inputs.iter().find(|tensor| &**tensor.name() == name).and_then(Tensor::elements)
}

/// Returns a shape of rows by as many values.
fn table(rows: usize, columns: usize) -> Shape {
    Shape::new(&[rows, columns])
}

#[cfg(test)]
pub(crate) mod tests;
