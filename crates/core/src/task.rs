//! What stands before and behind an engine: people's data to a model's tensors and back.
//!
//! A [`TaskSpec`] is what a model's files say; a [`TaskMaker`] makes the [`Task`] of it once the
//! graph is known. The runtime calls it around the queue, so that texts and pictures of different
//! requests share batches.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{ModelSpec, Padding, Result, Signature, Tensor};

/// Turns what people send into what a model takes, and its outputs into answers.
///
/// Everything is by rows: the first dimension of each of its inputs and outputs is the batch
/// dimension, whatever the graph's is.
pub trait Task: fmt::Debug + Send + Sync + 'static {
    /// Returns inputs and outputs as requests see them.
    fn signature(&self) -> &Signature;

    /// Returns how parts of different lengths share a batch; none: parts have one shape, or the
    /// model must say so itself.
    fn padding(&self) -> Option<Padding> {
        None
    }

    /// Whether `encode` takes these inputs in well under a millisecond, so that it may run on the
    /// thread that brought them.
    fn is_quick(&self, inputs: &[Tensor]) -> bool;

    /// Turns inputs, checked against the signature, into the graph's. Blocking; may take long.
    ///
    /// # Errors
    /// `InvalidInput` or `TooLarge`, naming the input and its row.
    fn encode(&self, inputs: Vec<Tensor>, limits: PartLimits<'_>) -> Result<Encoded>;

    /// Turns the graph's outputs of each part, in the order of the graph's signature, into the
    /// task's: all of them, in the order of its signature, rows as they came.
    ///
    /// # Errors
    /// `Engine` where an output is not what the task expects.
    fn decode(&self, outputs: Vec<Vec<Tensor>>, notes: Notes) -> Result<Vec<Tensor>>;

    /// Returns inputs of one row that the task accepts: an example for people, and the first
    /// request of a fresh model.
    fn example(&self) -> Vec<Tensor>;
}

/// What `encode` made of a request.
#[derive(Debug)]
pub struct Encoded {
    /// Requests to the graph, each a full set of its inputs. They join batches independently of
    /// each other.
    pub parts: Vec<Vec<Tensor>>,
    /// For `decode`.
    pub notes: Notes,
}

/// What `decode` has to know of the request, such as which rows stand in which part.
pub type Notes = Box<dyn Any + Send + Sync>;

/// How a request may be cut into parts.
#[derive(Debug, Clone, Copy)]
pub struct PartLimits<'a> {
    /// The most rows of a part.
    pub max_rows: usize,
    /// The bounds of length buckets, ascending; empty: [`quarter_steps`].
    pub buckets: &'a [usize],
}

impl PartLimits<'_> {
    /// Returns the bucket of a length: rows of one bucket belong into the same part.
    pub fn bucket(&self, length: usize) -> usize {
        bucket(self.buckets, length)
    }
}

/// Returns the bucket of a length, given the bounds that a model declares.
pub fn bucket(bounds: &[usize], length: usize) -> usize {
    match bounds.iter().find(|&&limit| length <= limit) {
        Some(&limit) => limit,
        // Beyond the declared ones nothing is known: only equal lengths.
        None if !bounds.is_empty() => length,
        None => quarter_steps(length),
    }
}

/// Rounds up to 8, or to a power of two or one of three steps between two of them: at most a
/// quarter is padding, and half of that on average.
pub fn quarter_steps(length: usize) -> usize {
    const SHORT: usize = 8;
    if length <= SHORT {
        return SHORT;
    }
    let below = 1usize << (usize::BITS - 1 - (length - 1).leading_zeros());
    let step = (below / 4).max(1);
    (length - 1) / step * step + step
}

/// Makes tasks.
pub trait TaskMaker: fmt::Debug + Send + Sync + 'static {
    /// Makes the task of a model whose graph, as its configuration shows it, is `graph`; none: it
    /// takes tensors. Reads files and blocks.
    ///
    /// # Errors
    /// `InvalidInput` naming the file or setting that does not fit.
    fn make(&self, spec: &ModelSpec, graph: &Signature) -> Result<Option<Arc<dyn Task>>>;
}

/// What the data of a model means.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum TaskSpec {
    /// Tensors, as they are.
    #[default]
    Tensor,
    /// Named columns that make up one tensor as they are: [`ModelSpec::columns`] names them.
    Rows,
    /// Named columns with types, missing values and categories.
    Tabular(TabularSpec),
    /// Texts.
    Text(TextSpec),
    /// Pictures.
    Image(ImageSpec),
}

impl TaskSpec {
    /// Returns the name used in `model.toml`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::Rows | Self::Tabular(_) => "tabular",
            Self::Text(spec) => spec.task.name(),
            Self::Image(_) => "image-classification",
        }
    }

    /// Returns the file that the task needs beside the model's own; none: it needs none.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Text(spec) => Some(&spec.tokenizer),
            Self::Tensor | Self::Rows | Self::Tabular(_) | Self::Image(_) => None,
        }
    }
}

/// A model of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSpec {
    /// What it says of a text.
    pub task: TextTask,
    /// The `tokenizer.json` of Hugging Face `tokenizers`.
    pub tokenizer: PathBuf,
    /// The most tokens, special ones included; none: the tokenizer's own truncation, else what the
    /// graph fixes, else 512.
    pub max_length: Option<usize>,
    /// What happens to longer texts.
    pub overlong: Overlong,
    /// Pads every text to this many tokens; 0: as little as a batch needs; none: the same where the
    /// graph has a mask to tell padding by, else as the tokenizer says.
    pub pad_to: Option<usize>,
    /// The classes, in the order of the model's scores; of `zero-shot` those asked for by default.
    pub labels: Vec<String>,
}

/// What is asked of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum TextTask {
    /// `text-classification`: which class.
    Classification {
        /// How scores are made of what the graph gives.
        scores: ScoreRule,
        /// The most classes of an answer, best first.
        top_k: Option<usize>,
    },
    /// `text-embedding`: a vector.
    Embedding(Pooling),
    /// `token-classification`: which class, of each word.
    TokenClassification,
    /// `zero-shot`: which of any labels is nearest, by embeddings.
    ZeroShot {
        /// How texts and labels become vectors.
        pooling: Pooling,
        /// The text that is embedded for a label, with `{}` in its place.
        template: String,
        /// What cosines are multiplied with before they become scores.
        scale: f32,
    },
}

impl TextTask {
    /// Returns the name used in `model.toml`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Classification { .. } => "text-classification",
            Self::Embedding(_) => "text-embedding",
            Self::TokenClassification => "token-classification",
            Self::ZeroShot { .. } => "zero-shot",
        }
    }
}

/// What happens to a text with more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlong {
    /// It is cut, and the answer says so.
    #[default]
    Cut,
    /// It is refused.
    Refuse,
}

/// How the vectors of tokens become one of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Which are taken. Does not matter where the graph gives one vector per text.
    pub mode: PoolingMode,
    /// Whether vectors are scaled to length one.
    pub normalize: bool,
}

/// Which tokens make the vector of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolingMode {
    /// The mean of all that are not padding.
    #[default]
    Mean,
    /// The first.
    Cls,
    /// The greatest of each dimension.
    Max,
    /// The last that is not padding.
    Last,
}

/// How scores are made of a graph's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScoreRule {
    /// One class of all: softmax.
    #[default]
    Softmax,
    /// Any number of classes: the logistic function of each.
    Sigmoid,
    /// The graph gives scores already.
    AsIs,
}

/// A model of pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSpec {
    /// The classes, in the order of the model's scores.
    pub labels: Vec<String>,
    /// How scores are made of what the graph gives.
    pub scores: ScoreRule,
    /// The most classes of an answer, best first; none: five.
    pub top_k: Option<usize>,
    /// How pictures are brought to size; none: straight to what the graph takes.
    pub resize: Option<Resize>,
    /// The part in the middle that is taken, as height and width; none: all of it.
    pub crop: Option<(u32, u32)>,
    /// How pixels are made of others.
    pub filter: Filter,
    /// Which channels the graph takes, in its order; none: as many as it has (one is grey, three
    /// are red, green and blue).
    pub colours: Option<Colours>,
    /// What values from 0 to 255 are multiplied with; none: 1/255 for a graph of floats, one for
    /// a graph of whole numbers.
    pub rescale: Option<f32>,
    /// Taken away from each channel after that; empty: nothing.
    pub mean: Vec<f32>,
    /// Each channel is divided by this after that; empty: by one.
    pub std: Vec<f32>,
    /// Whether dark becomes light first: for models of light strokes on a dark ground.
    pub invert: bool,
}

/// How a picture is brought to size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Its shorter side becomes this long; its proportions stay.
    Shortest(u32),
    /// To this height and width.
    Exact {
        /// Pixels from top to bottom.
        height: u32,
        /// Pixels from left to right.
        width: u32,
    },
    /// Not at all.
    Keep,
}

/// How pixels of another size are made, as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter {
    /// The nearest one.
    Nearest,
    /// A triangle as wide as the change of scale.
    #[default]
    Bilinear,
    /// Pillow's bicubic (a = -0.5).
    Bicubic,
    /// Three lobes of sinc.
    Lanczos,
}

/// The channels of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// One: brightness.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// A model of rows of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TabularSpec {
    /// The columns, in the order in which they go into the graph's input.
    pub columns: Vec<ColumnSpec>,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSpec {
    /// Its name in requests.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
    /// What stands for a value that is missing or null; none: it must be there.
    pub missing: Option<Filling>,
    /// The input of the graph that it goes into; none: the one of its own name, else the only one.
    pub input: Option<String>,
}

/// What the values of a column are.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    /// Numbers.
    Float,
    /// Whole numbers.
    Int,
    /// True or false; 1 or 0 in the graph.
    Bool,
    /// Texts, handed to the graph as they are.
    Text,
    /// One of a few texts.
    Category {
        /// The texts.
        values: Vec<String>,
        /// How one becomes numbers.
        encoding: CategoryEncoding,
        /// What any other text becomes; none: it is refused.
        unknown: Option<UnknownCategory>,
    },
}

/// How a category becomes numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CategoryEncoding {
    /// Its place in the list, from 0.
    #[default]
    Index,
    /// A number for each category: 1 for its own, 0 for the others.
    OneHot,
    /// The text itself, for graphs that take texts.
    Text,
}

/// What an unknown category becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownCategory {
    /// Its index is this number; of [`CategoryEncoding::Text`] it goes through.
    Index(i64),
    /// All zeros, of [`CategoryEncoding::OneHot`].
    Zeros,
}

/// What stands for a missing value.
#[derive(Debug, Clone, PartialEq)]
pub enum Filling {
    /// A number; NaN where the graph knows what to do with it.
    Number(f64),
    /// A text, or the name of a category.
    Text(String),
}
