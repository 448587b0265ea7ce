//! What is known of a model's task before every file has been asked.
//!
//! `model.toml` and the files of a Hugging Face export each give a [`Draft`]; the one fills what
//! the other leaves open, and what is open then gets its default.

use std::path::PathBuf;

use salver_core::{
    Colours, Error, Filter, ImageSpec, Overlong, Pooling, PoolingMode, Resize, Result, ScoreRule, TabularSpec,
    TaskSpec, TextSpec, TextTask,
};

/// Where a tokenizer lies unless something else is said.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// The names of `task`.
pub(crate) const NAMES: [&str; 7] = [
    "tensor",
    "tabular",
    "text-classification",
    "text-embedding",
    "token-classification",
    "zero-shot",
    "image-classification",
];

/// What a zero-shot label is put into, and what cosines are multiplied with, as in CLIP.
const TEMPLATE: &str = "This text is about {}.";
const SCALE: f32 = 100.0;

/// A task, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Draft {
    Tensor,
    Rows,
    Tabular(TabularSpec),
    Text(TextDraft),
    Image(ImageDraft),
}

/// A task of texts, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TextDraft {
    pub(crate) kind: TextKind,
    pub(crate) tokenizer: Option<String>,
    pub(crate) max_length: Option<usize>,
    pub(crate) overlong: Overlong,
    pub(crate) pad_to: Option<usize>,
    pub(crate) scores: Option<ScoreRule>,
    pub(crate) top_k: Option<usize>,
    pub(crate) pooling: Option<PoolingMode>,
    pub(crate) normalize: Option<bool>,
    pub(crate) template: Option<String>,
    pub(crate) scale: Option<f32>,
}

/// What is asked of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    Classification,
    Embedding,
    TokenClassification,
    ZeroShot,
}

/// A task of pictures, as far as it is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ImageDraft {
    pub(crate) scores: Option<ScoreRule>,
    pub(crate) top_k: Option<usize>,
    pub(crate) resize: Option<Resize>,
    pub(crate) crop: Option<(u32, u32)>,
    pub(crate) filter: Option<Filter>,
    pub(crate) colours: Option<Colours>,
    pub(crate) rescale: Option<f32>,
    pub(crate) mean: Option<Vec<f32>>,
    pub(crate) std: Option<Vec<f32>>,
    pub(crate) invert: bool,
}

impl Draft {
    /// Whether classes belong to the task rather than to outputs of the graph.
    pub(crate) fn owns_labels(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Image(_))
    }

    /// Makes the task. `find` looks a file up that belongs to the model.
    pub(crate) fn finish(self, labels: Vec<String>, find: impl Fn(&str) -> Result<PathBuf>) -> Result<TaskSpec> {
        Ok(match self {
            Self::Tensor => TaskSpec::Tensor,
            Self::Rows => TaskSpec::Rows,
            Self::Tabular(table) => TaskSpec::Tabular(table),
            Self::Text(text) => {
                let tokenizer = find(text.tokenizer.as_deref().unwrap_or(TOKENIZER));
                TaskSpec::Text(text.finish(labels, tokenizer.map_err(|error| error.context("text.tokenizer"))?))
            }
            Self::Image(image) => TaskSpec::Image(image.finish(labels)?),
        })
    }
}

impl TextDraft {
    /// A task of which only the name is known.
    pub(crate) fn new(kind: TextKind) -> Self {
        Self {
            kind,
            tokenizer: None,
            max_length: None,
            overlong: Overlong::default(),
            pad_to: None,
            scores: None,
            top_k: None,
            pooling: None,
            normalize: None,
            template: None,
            scale: None,
        }
    }

    fn finish(self, labels: Vec<String>, tokenizer: PathBuf) -> TextSpec {
        let pooling = |normalize: bool| Pooling {
            mode: self.pooling.unwrap_or_default(),
            normalize: self.normalize.unwrap_or(normalize),
        };
        let task = match self.kind {
            TextKind::Classification => {
                TextTask::Classification { scores: self.scores.unwrap_or_default(), top_k: self.top_k }
            }
            TextKind::Embedding => TextTask::Embedding(pooling(false)),
            TextKind::TokenClassification => TextTask::TokenClassification,
            TextKind::ZeroShot => TextTask::ZeroShot {
                pooling: pooling(true),
                template: self.template.unwrap_or_else(|| TEMPLATE.to_owned()),
                scale: self.scale.unwrap_or(SCALE),
            },
        };
        let Self { max_length, overlong, pad_to, .. } = self;
        TextSpec { task, tokenizer, max_length, overlong, pad_to, labels }
    }
}

impl TextKind {
    /// Returns the name used in `model.toml`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classification => "text-classification",
            Self::Embedding => "text-embedding",
            Self::TokenClassification => "token-classification",
            Self::ZeroShot => "zero-shot",
        }
    }
}

impl ImageDraft {
    fn finish(self, labels: Vec<String>) -> Result<ImageSpec> {
        self.check_crop().map_err(|error| error.context("image.crop"))?;
        self.check_channels().map_err(|error| error.context("image.mean and std"))?;
        Ok(ImageSpec {
            labels,
            scores: self.scores.unwrap_or_default(),
            top_k: self.top_k,
            resize: self.resize,
            crop: self.crop,
            filter: self.filter.unwrap_or_default(),
            colours: self.colours,
            rescale: self.rescale,
            mean: self.mean.unwrap_or_default(),
            std: self.std.unwrap_or_default(),
            invert: self.invert,
        })
    }

    /// A crop is taken out of a picture that was brought to size.
    pub(crate) fn check_crop(&self) -> Result<()> {
        let Some((height, width)) = self.crop else {
            return Ok(());
        };
        let (most_high, most_wide) = match self.resize {
            None => {
                let message = "needs resize beside it: the size before the crop, or \"keep\"";
                return Err(Error::invalid_input(message));
            }
            Some(Resize::Keep) => return Ok(()),
            Some(Resize::Shortest(side)) => (side, side),
            Some(Resize::Exact { height, width }) => (height, width),
        };
        if height <= most_high && width <= most_wide {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "must not be larger than resize ({most_high} high, {most_wide} wide), got {height} high, {width} wide"
        )))
    }

    /// One number for each channel, or one for all of them.
    pub(crate) fn check_channels(&self) -> Result<()> {
        let lengths = |values: &Option<Vec<f32>>| values.as_ref().map(Vec::len);
        let (mean, std) = (lengths(&self.mean), lengths(&self.std));
        if let (Some(mean), Some(std)) = (mean, std)
            && mean != std
        {
            return Err(Error::invalid_input(format!("must have as many numbers as mean ({mean}), got {std}")));
        }
        match (self.colours, mean.or(std)) {
            (Some(Colours::Grey), Some(count)) if count != 1 => {
                Err(Error::invalid_input(format!("must have one number where colours = \"grey\", got {count}")))
            }
            _ => Ok(()),
        }
    }
}
