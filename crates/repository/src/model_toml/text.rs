//! `[text]`: how texts become tokens, and what is made of the graph's answer.

use salver_core::{Overlong, PoolingMode, ScoreRule};
use serde::Deserialize;
use toml::Spanned;

use super::fault::Fault;
use super::number::Whole;
use crate::task::{TextDraft, TextKind};

/// `[text]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Text {
    /// The file of the tokenizer; none: `tokenizer.json`.
    tokenizer: Option<String>,
    /// The most tokens; none: as the tokenizer says.
    max_length: Option<Tokens>,
    /// What happens to longer texts.
    overlong: Option<WhenOverlong>,
    /// How long every text becomes; 0: as long as the longest of its batch.
    pad_to: Option<Whole<0, TOKEN_LIMIT>>,
    /// How scores are made.
    scores: Option<Spanned<Scores>>,
    /// The most classes of an answer.
    top_k: Option<Spanned<Classes>>,
    /// Which tokens make the vector of a text.
    pooling: Option<Spanned<Mode>>,
    /// Whether vectors are scaled to length one.
    normalize: Option<Spanned<bool>>,
    /// The text that a label is put into.
    template: Option<Spanned<String>>,
    /// What cosines are multiplied with.
    scale: Option<Spanned<f64>>,
}

/// The most tokens that can be asked for.
const TOKEN_LIMIT: u32 = 16_777_216;
/// Tokens of a text.
pub(super) type Tokens = Whole<1, TOKEN_LIMIT>;
/// Classes of an answer.
pub(super) type Classes = Whole<1, 1_000_000>;

/// What happens to longer texts.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WhenOverlong {
    Cut,
    Refuse,
}

impl WhenOverlong {
    pub(super) fn rule(self) -> Overlong {
        match self {
            Self::Cut => Overlong::Cut,
            Self::Refuse => Overlong::Refuse,
        }
    }
}

/// How scores are made.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scores {
    Softmax,
    Sigmoid,
    AsIs,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Mean,
    Cls,
    Max,
    Last,
}

impl Scores {
    pub(super) fn rule(self) -> ScoreRule {
        match self {
            Self::Softmax => ScoreRule::Softmax,
            Self::Sigmoid => ScoreRule::Sigmoid,
            Self::AsIs => ScoreRule::AsIs,
        }
    }
}

/// Checks the keys of `[text]` against the task.
pub(super) fn draft(kind: TextKind, table: Option<&Text>) -> Result<TextDraft, Fault> {
    let draft = TextDraft::new(kind);
    let Some(table) = table else {
        return Ok(draft);
    };
    check_keys(kind, table)?;
    Ok(TextDraft {
        tokenizer: table.tokenizer.clone(),
        max_length: table.max_length.map(Whole::count),
        overlong: table.overlong.map(WhenOverlong::rule).unwrap_or_default(),
        pad_to: table.pad_to.map(Whole::count),
        scores: table.scores.as_ref().map(|scores| scores.get_ref().rule()),
        top_k: table.top_k.as_ref().map(|top_k| top_k.get_ref().count()),
        pooling: table.pooling.as_ref().map(|mode| match mode.get_ref() {
            Mode::Mean => PoolingMode::Mean,
            Mode::Cls => PoolingMode::Cls,
            Mode::Max => PoolingMode::Max,
            Mode::Last => PoolingMode::Last,
        }),
        normalize: table.normalize.as_ref().map(|normalize| *normalize.get_ref()),
        template: table.template.as_ref().map(template).transpose()?,
        scale: table.scale.as_ref().map(scale).transpose()?,
        ..draft
    })
}

/// Refuses keys that mean nothing to the task.
fn check_keys(kind: TextKind, table: &Text) -> Result<(), Fault> {
    let is_class = kind == TextKind::Classification;
    let is_vector = matches!(kind, TextKind::Embedding | TextKind::ZeroShot);
    let is_zero_shot = kind == TextKind::ZeroShot;
    belongs(table.scores.as_ref(), is_class, kind, "text-classification")?;
    belongs(table.top_k.as_ref(), is_class, kind, "text-classification")?;
    belongs(table.pooling.as_ref(), is_vector, kind, "text-embedding and zero-shot")?;
    belongs(table.normalize.as_ref(), is_vector, kind, "text-embedding and zero-shot")?;
    belongs(table.template.as_ref(), is_zero_shot, kind, "zero-shot")?;
    belongs(table.scale.as_ref(), is_zero_shot, kind, "zero-shot")
}

fn belongs<T>(key: Option<&Spanned<T>>, does: bool, kind: TextKind, of: &str) -> Result<(), Fault> {
    match key {
        Some(place) if !does => {
            let message = format_args!("belongs to task {of}, not to {}; leave it out", kind.name());
            Err(Fault::invalid(place, message))
        }
        _ => Ok(()),
    }
}

fn template(template: &Spanned<String>) -> Result<String, Fault> {
    let text = template.get_ref();
    match text.matches("{}").count() {
        1 => Ok(text.clone()),
        count => Err(Fault::invalid(
            template,
            format_args!(
                "must hold {{}} once, where the label goes, got it {count} times in '{}'",
                text.escape_debug()
            ),
        )),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what is too large or too small for it is refused")]
fn scale(scale: &Spanned<f64>) -> Result<f32, Fault> {
    let number = *scale.get_ref() as f32;
    if number.is_finite() && number > 0.0 {
        return Ok(number);
    }
    Err(Fault::invalid(scale, format_args!("must be a number above zero, got {}", scale.get_ref())))
}
