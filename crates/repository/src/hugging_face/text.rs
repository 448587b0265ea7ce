//! How texts are prepared: lengths of tokenizers, and the modules of sentence-transformers.

use salver_core::{Error, PoolingMode, Result};

use super::files::{Config, Folder, Loose, PoolingConfig};
use crate::model_toml;
use crate::task::{TextDraft, TextKind};

/// Above it the length stands for none: the library writes 10^30 and the like.
const MAX_LENGTH: f64 = 1e6;

/// Kinds of models whose positions begin after that of padding.
const POSITIONS_AFTER_PADDING: [&str; 14] = [
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "lilt",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
    "markuplm",
];

/// Fills in what `draft` leaves open.
pub(super) fn fill(mut draft: TextDraft, found: &Folder) -> Result<TextDraft> {
    if draft.max_length.is_none() {
        draft.max_length = max_length(found);
    }
    // The library sets the padding of a tokenizer at each call, whatever its file says.
    draft.pad_to.get_or_insert(0);
    let is_vector = matches!(draft.kind, TextKind::Embedding | TextKind::ZeroShot);
    if is_vector && (draft.pooling.is_none() || draft.normalize.is_none()) && found.modules.is_some() {
        let (mode, normalize) = sentence(found)?;
        draft.pooling.get_or_insert(mode);
        draft.normalize.get_or_insert(normalize);
    }
    Ok(draft)
}

/// Returns the most tokens: what the tokenizer or sentence-transformers says, and no more than the
/// model has positions.
fn max_length(found: &Folder) -> Option<usize> {
    let said = found.sentence.max_seq_length.or_else(|| number(found.tokenizer.model_max_length.as_ref()));
    let lengths = [said.and_then(length), positions(&found.config)];
    lengths.into_iter().flatten().min()
}

fn positions(config: &Config) -> Option<usize> {
    let positions = number(config.max_position_embeddings.as_ref())?;
    let is_shifted = config.model_type.as_deref().is_some_and(|kind| POSITIONS_AFTER_PADDING.contains(&kind));
    let padding = number(config.pad_token_id.as_ref()).filter(|padding| *padding >= 0.0).unwrap_or(1.0);
    length(if is_shifted { positions - padding - 1.0 } else { positions })
}

fn number(value: Option<&Loose<f64>>) -> Option<f64> {
    value.and_then(Loose::value).copied()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
fn length(number: f64) -> Option<usize> {
    (1.0..=MAX_LENGTH).contains(&number).then_some(number as usize)
}

/// Returns the pooling of a model of sentence-transformers, and whether it normalises.
fn sentence(found: &Folder) -> Result<(PoolingMode, bool)> {
    let kinds: Vec<&str> = found.modules.iter().flatten().map(super::files::Module::kind).collect();
    let normalize = match kinds.as_slice() {
        ["Transformer", "Pooling"] => false,
        ["Transformer", "Pooling", "Normalize"] => true,
        _ => return Err(not_applied(&format!("modules.json lists {}", kinds.join(", ").escape_debug()))),
    };
    if found.prompts.default_prompt_name.is_some() {
        return Err(not_applied("config_sentence_transformers.json puts a prompt before each text"));
    }
    let lowers = found.tokenizer.do_lower_case.as_ref().and_then(Loose::value) == Some(&true);
    if found.sentence.do_lower_case == Some(true) && !lowers {
        return Err(not_applied("sentence_bert_config.json has do_lower_case"));
    }
    let Some(pooling) = &found.pooling else {
        return Err(not_applied("the module Pooling has no config.json"));
    };
    Ok((mode(pooling)?, normalize))
}

fn mode(config: &PoolingConfig) -> Result<PoolingMode> {
    let flags = [
        (config.pooling_mode_cls_token, "cls"),
        (config.pooling_mode_mean_tokens, "mean"),
        (config.pooling_mode_max_tokens, "max"),
        (config.pooling_mode_lasttoken, "lasttoken"),
        (config.pooling_mode_mean_sqrt_len_tokens, "mean_sqrt_len_tokens"),
        (config.pooling_mode_weightedmean_tokens, "weightedmean"),
    ];
    let named = config.pooling_mode.as_ref().and_then(Loose::value).map(String::as_str);
    let chosen: Vec<&str> = match named {
        Some(name) => vec![name],
        None => flags.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| *name).collect(),
    };
    match chosen.as_slice() {
        ["mean"] => Ok(PoolingMode::Mean),
        ["cls"] => Ok(PoolingMode::Cls),
        ["max"] => Ok(PoolingMode::Max),
        ["lasttoken"] => Ok(PoolingMode::Last),
        [] => Err(not_applied("the module Pooling names no mode")),
        others => Err(not_applied(&format!("the module Pooling has the mode {}", others.join(" and ").escape_debug()))),
    }
}

fn not_applied(what: &str) -> Error {
    Error::unsupported(format!(
        "{what}, which is not applied here; if the graph needs nothing of it, write a {} beside it with task = \
         \"text-embedding\" and in [text] the lines pooling = \"mean\" and normalize = true, or what is right for it",
        model_toml::MANIFEST
    ))
}
