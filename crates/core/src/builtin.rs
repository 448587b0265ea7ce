//! Steps of pipelines that the server computes itself, as a model's files say.

use std::path::{Path, PathBuf};

use crate::{DataType, Filter, Overlong, ScoreRule};

/// A function of tensors that needs no graph.
#[derive(Debug, Clone, PartialEq)]
pub enum BuiltinSpec {
    /// `tokenize`: texts to the numbers of their tokens.
    Tokenize(TokenizeSpec),
    /// `crop`: parts of pictures, each brought to one size.
    Crop(CropSpec),
    /// `top-k`: the best of each row of scores.
    TopK(TopKSpec),
    /// `labels`: scores of classes to the names of the best ones.
    Labels(LabelsSpec),
    /// `image`: picture files to pixels.
    Image(DecodeSpec),
}

impl BuiltinSpec {
    /// Returns the name used in `model.toml`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tokenize(_) => "tokenize",
            Self::Crop(_) => "crop",
            Self::TopK(_) => "top-k",
            Self::Labels(_) => "labels",
            Self::Image(_) => "image",
        }
    }

    /// Returns the file that it reads; none: it needs none.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Tokenize(tokenize) => Some(&tokenize.tokenizer),
            Self::Crop(_) | Self::TopK(_) | Self::Labels(_) | Self::Image(_) => None,
        }
    }

    /// Whether an answer has the shape of the whole request, so that requests cannot share a batch.
    pub fn stands_alone(&self) -> bool {
        match self {
            Self::Tokenize(tokenize) => tokenize.pad == TokenPadding::Longest,
            Self::Image(decode) => decode.size.is_none(),
            Self::Crop(_) | Self::TopK(_) | Self::Labels(_) => false,
        }
    }

    /// Returns up to how many bytes of inputs are so little work that the thread which brought them
    /// may do it.
    pub fn quick_bytes(&self) -> usize {
        match self {
            // A picture of a few bytes may be a large one, and a box a large part of it.
            Self::Crop(_) | Self::Image(_) => 0,
            Self::Tokenize(_) => 1 << 10,
            Self::TopK(_) | Self::Labels(_) => 64 << 10,
        }
    }

    /// Whether rows are so much work that a batch of them is none the cheaper.
    pub fn is_heavy(&self) -> bool {
        match self {
            Self::Crop(_) | Self::Image(_) => true,
            Self::Tokenize(_) | Self::TopK(_) | Self::Labels(_) => false,
        }
    }
}

/// Texts to tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizeSpec {
    /// The `tokenizer.json` of Hugging Face `tokenizers`.
    pub tokenizer: PathBuf,
    /// The most tokens, special ones included; none: the tokenizer's own truncation, else 512.
    pub max_length: Option<usize>,
    /// What happens to longer texts.
    pub overlong: Overlong,
    /// How texts of different lengths get to be of one.
    pub pad: TokenPadding,
    /// Whether the types of tokens are answered too.
    pub token_types: bool,
}

/// How long texts become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenPadding {
    /// As long as the longest that is taken.
    #[default]
    Max,
    /// As long as the longest of the request.
    Longest,
}

/// Parts of pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct CropSpec {
    /// The element type of pictures: UINT8 or FP32.
    pub dtype: DataType,
    /// Height and width of each part after resizing.
    pub size: (u32, u32),
    /// How pixels lie in the answer.
    pub layout: PixelLayout,
    /// Whether boxes are parts of the picture's width and height instead of pixels.
    pub relative: bool,
    /// What values are multiplied with.
    pub rescale: f32,
    /// Taken away from each channel after that; empty: nothing.
    pub mean: Vec<f32>,
    /// Each channel is divided by this after that; empty: by one.
    pub std: Vec<f32>,
}

/// How the pixels of a picture lie in a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PixelLayout {
    /// A plane for each channel.
    #[default]
    Nchw,
    /// The channels of a pixel beside each other.
    Nhwc,
}

/// The best of each row.
#[derive(Debug, Clone, PartialEq)]
pub struct TopKSpec {
    /// How many.
    pub k: usize,
    /// The element type of what is scored, INT64 or BYTES; none: scores come without.
    pub ids: Option<DataType>,
}

/// Names of classes.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelsSpec {
    /// The classes, in the order of their scores.
    pub labels: Vec<String>,
    /// How scores are made of what comes.
    pub scores: ScoreRule,
    /// How many of each row, best first.
    pub k: usize,
}

/// Picture files to pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeSpec {
    /// Height and width; none: as the picture is.
    pub size: Option<(u32, u32)>,
    /// How pixels are made of others.
    pub filter: Filter,
}
