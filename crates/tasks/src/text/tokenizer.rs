//! A `tokenizer.json` at work: one text at a time to the numbers of its tokens.
//!
//! Takes the tokenizer's steps one by one instead of its `encode`: the model stops where the text
//! will be cut, whatever is cut off is not copied, and whether something was is known exactly.
//! Padding is not done here.

use std::path::Path;

use salver_core::{Error, Overlong, Result, TextSpec, TokenizeSpec};
use tokenizers::{
    Encoding, Model as _, ModelWrapper, OffsetType, PaddingDirection, PaddingStrategy, PostProcessor as _,
    PreTokenizer as _, TruncationDirection,
};

use super::{limits, prefix};

/// Which tokenizer, and how long its texts may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings<'a> {
    file: &'a Path,
    max_length: Option<usize>,
    overlong: Overlong,
}

impl<'a> From<&'a TextSpec> for Settings<'a> {
    fn from(spec: &'a TextSpec) -> Self {
        Self { file: &spec.tokenizer, max_length: spec.max_length, overlong: spec.overlong }
    }
}

impl<'a> From<&'a TokenizeSpec> for Settings<'a> {
    fn from(spec: &'a TokenizeSpec) -> Self {
        Self { file: &spec.tokenizer, max_length: spec.max_length, overlong: spec.overlong }
    }
}

/// A tokenizer and how long its texts may become.
pub(super) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The most tokens, special ones included.
    limit: usize,
    /// How many of them are special.
    special: usize,
    overlong: Overlong,
    direction: TruncationDirection,
    offsets: OffsetType,
    padding: Padding,
    /// Whether a text's first words give its first tokens.
    is_local: bool,
}

/// What a tokenizer says of padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padding {
    pub(super) token: u32,
    pub(super) token_type: u32,
    pub(super) side: Side,
    /// Every text is as long as this, or longer.
    pub(super) fixed: Option<usize>,
}

/// Where padding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// The tokens of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tokens {
    pub(super) ids: Vec<u32>,
    pub(super) type_ids: Vec<u32>,
    /// Whether the text had more.
    pub(super) truncated: bool,
    /// Where each stands in the text, in characters; where nobody asked, all (0, 0).
    pub(super) offsets: Vec<(usize, usize)>,
    /// 1 for tokens that the text did not have.
    pub(super) special: Vec<u32>,
}

/// The most tokens of a text where nothing says how many.
const USUAL_LENGTH: usize = 512;
/// The most that a tokenizer's own truncation may say, as that of `max_length`.
const LARGEST_LENGTH: usize = 1 << 24;

/// Whether a token's place in the text is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offsets {
    Wanted,
    Unwanted,
}

impl Tokenizer {
    /// Reads the file that `settings` name. `fixed` is the number of tokens that the graph takes, if
    /// it takes only one.
    ///
    /// # Errors
    /// `InvalidInput` naming the file, or the setting that does not fit.
    pub(super) fn read<'a>(settings: impl Into<Settings<'a>>, fixed: Option<usize>, offsets: Offsets) -> Result<Self> {
        let Settings { file, max_length, overlong } = settings.into();
        // Every core is in use by requests already; one text is never spread over threads.
        tokenizers::parallelism::set_parallelism(false);
        let mut inner = read_file(file)?;
        let padding = Padding::of(&inner);
        let own = inner.get_truncation().cloned();
        let _ = inner.with_truncation(None);
        inner.with_padding(None);
        bound(&mut inner);
        let special = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        let direction = own.as_ref().map_or(TruncationDirection::Right, |own| own.direction);
        let limit = limit(max_length, own.map(|own| own.max_length), fixed)?;
        if limit <= special {
            return Err(Error::invalid_input(format!(
                "max_length is {limit}, but {special} special tokens go around every text; allow more"
            )));
        }
        let is_local = prefix::is_local(&inner) && direction == TruncationDirection::Right;
        let offsets = if offsets == Offsets::Wanted { OffsetType::Char } else { OffsetType::None };
        Ok(Self { inner, limit, special, overlong, direction, offsets, padding, is_local })
    }

    /// Returns the most tokens of a text, special ones included.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn padding(&self) -> Padding {
        self.padding
    }

    /// Returns the tokens of one text.
    ///
    /// # Errors
    /// `InvalidInput` where it is not UTF-8, `TooLarge` where it exceeds a limit.
    pub(super) fn encode(&self, text: &[u8]) -> Result<Tokens> {
        let text = limits::checked(text)?;
        let cut = self.is_local.then_some(self.limit);
        for part in cut.into_iter().flat_map(|limit| prefix::parts(text, limit)) {
            let tokens = self.encode_text(part)?;
            if tokens.truncated {
                return Ok(tokens);
            }
        }
        self.encode_text(text)
    }

    fn encode_text(&self, text: &str) -> Result<Tokens> {
        let failed = |error: tokenizers::Error| Error::engine(format!("the tokenizer failed: {error}"));
        let mut encoding = self.tokenize(text).map_err(failed)?;
        let mut truncated = false;
        let room = self.limit - self.special;
        if encoding.len() > room {
            if self.overlong == Overlong::Refuse {
                return Err(self.too_long());
            }
            encoding.truncate(room, 0, self.direction);
            encoding.take_overflowing();
            truncated = true;
        }
        let encoding = self.inner.post_process(encoding, None, true).map_err(failed)?;
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            truncated,
            offsets: encoding.get_offsets().to_vec(),
            special: encoding.get_special_tokens_mask().to_vec(),
        })
    }

    /// Splits and looks up, until there is more than will be kept.
    fn tokenize(&self, text: &str) -> tokenizers::Result<Encoding> {
        let mut words = self.inner.get_added_vocabulary().extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(splitter) = self.inner.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut words)?;
        }
        let model = self.inner.get_model();
        // One more than is kept shows that the text is cut.
        let most = self.limit - self.special + 1;
        let few = |word: &tokenizers::NormalizedString| {
            let mut tokens = model.tokenize(word.get())?;
            match self.direction {
                TruncationDirection::Right => tokens.truncate(most),
                TruncationDirection::Left => drop(tokens.drain(..tokens.len().saturating_sub(most))),
            }
            Ok(tokens)
        };
        words.tokenize_with_limit(few, most, self.direction)?;
        words.into_encoding(None, 0, self.offsets)
    }

    #[cold]
    fn too_long(&self) -> Error {
        Error::too_large(format!(
            "the text has more than {} tokens, which is all that the model takes; shorten it, or set \
             `overlong = \"cut\"` in its model.toml",
            self.limit
        ))
    }

    /// Returns a sentence with the highest number of a token that a sentence can have, as far as
    /// that is soon found: a model with fewer tokens than its tokenizer fails on it.
    pub(super) fn example(&self) -> String {
        const SENTENCE: &str = "This is an example";
        /// How many of the highest numbers are looked at.
        const TRIES: usize = 4096;
        let mut vocabulary: Vec<(u32, String)> =
            self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        vocabulary.sort_unstable_by(|a, b| b.cmp(a));
        let sentence = |id: u32| {
            let word = self.inner.decode(&[id], true).ok()?.trim().to_owned();
            let sentence = format!("{SENTENCE} {word}");
            let is_found = !word.is_empty() && self.encode(sentence.as_bytes()).ok()?.ids.contains(&id);
            is_found.then_some((word, sentence))
        };
        let found = || vocabulary.iter().take(TRIES).filter_map(|&(id, _)| sentence(id));
        let is_plain = |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase());
        let best = found().find(|(word, _)| is_plain(word)).or_else(|| found().next());
        let short = || ["example", "a", ""].into_iter().find(|text| self.encode(text.as_bytes()).is_ok());
        match best {
            Some((_, sentence)) => sentence,
            None if self.encode(SENTENCE.as_bytes()).is_ok() => SENTENCE.to_owned(),
            None => short().unwrap_or_default().to_owned(),
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Padding {
    fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        const COMMON: [&str; 3] = ["[PAD]", "<pad>", "<|endoftext|>"];
        let common = || COMMON.iter().find_map(|token| tokenizer.token_to_id(token)).unwrap_or(0);
        let Some(params) = tokenizer.get_padding() else {
            return Self { token: common(), token_type: 0, side: Side::After, fixed: None };
        };
        let fixed = match params.strategy {
            PaddingStrategy::Fixed(length) => {
                Some(length.next_multiple_of(params.pad_to_multiple_of.unwrap_or(1).max(1)))
            }
            PaddingStrategy::BatchLongest => None,
        };
        let side = match params.direction {
            PaddingDirection::Left => Side::Before,
            PaddingDirection::Right => Side::After,
        };
        Self { token: params.pad_id, token_type: params.pad_type_id, side, fixed }
    }
}

fn read_file(path: &Path) -> Result<tokenizers::Tokenizer> {
    let content = std::fs::read(path)
        .map_err(|error| Error::invalid_input(format!("read tokenizer '{}': {error}", path.display())))?;
    tokenizers::Tokenizer::from_bytes(content).map_err(|error| {
        Error::invalid_input(format!(
            "'{}' is no tokenizer.json of Hugging Face's `tokenizers`: {error}",
            path.display()
        ))
    })
}

/// Returns how many tokens a text may have. There is always a bound: what attention takes grows with
/// the square of it. Truncation beyond what any model takes is how tokenizers say "none".
fn limit(asked: Option<usize>, own: Option<usize>, fixed: Option<usize>) -> Result<usize> {
    let own = own.filter(|&own| own <= LARGEST_LENGTH);
    match (asked, fixed) {
        (Some(asked), Some(fixed)) if asked > fixed => Err(Error::invalid_input(format!(
            "max_length is {asked}, but the graph takes {fixed} tokens; set it to {fixed} or less"
        ))),
        (Some(asked), _) => Ok(asked),
        (None, Some(fixed)) => Ok(own.map_or(fixed, |own| own.min(fixed))),
        (None, None) => Ok(own.unwrap_or(USUAL_LENGTH)),
    }
}

/// Bounds what a tokenizer takes.
///
/// The library keeps words of a BPE model in each thread, where they would stay when the model has
/// left. A word of WordPiece takes time by the square of its length; longer ones than this become
/// unknown, as they do from 100 characters with nearly every tokenizer.
fn bound(tokenizer: &mut tokenizers::Tokenizer) {
    const LONGEST_WORD: usize = 256;
    let bounded: ModelWrapper = match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) => {
            let mut bpe = bpe.clone();
            bpe.resize_cache(0);
            bpe.into()
        }
        ModelWrapper::WordPiece(pieces) if pieces.max_input_chars_per_word > LONGEST_WORD => {
            let mut pieces = pieces.clone();
            pieces.max_input_chars_per_word = LONGEST_WORD;
            pieces.into()
        }
        ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) | ModelWrapper::Unigram(_) => return,
    };
    tokenizer.with_model(bounded);
}

#[cfg(test)]
mod tests;
