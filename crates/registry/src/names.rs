//! Which names, keys, values and paths there may be.
//!
//! The rules are MLflow's, with a bound on everything and without control characters, which no
//! store, log or terminal is the better for. Lengths count characters unless they say bytes.

mod artifact;
mod reference;
mod stage;

use salver_core::{Error, Result};

pub use artifact::{MAX_ARTIFACT_PATH_BYTES, artifact_path, uri_has_traversal};
pub use reference::{VersionRef, Which};
pub use stage::Stage;

/// The most characters of an experiment's name.
pub const MAX_EXPERIMENT_NAME: usize = 500;
/// The most characters of a registered model's name.
pub const MAX_MODEL_NAME: usize = 250;
/// The most characters of an alias.
pub const MAX_ALIAS: usize = 255;
/// The most characters of the key of a metric, a parameter or a tag.
pub const MAX_KEY: usize = 250;
/// The most characters of a parameter's value.
pub const MAX_PARAM_VALUE: usize = 6_000;
/// The most characters of the value of a run's tag.
pub const MAX_RUN_TAG_VALUE: usize = 8_000;
/// The most characters of the value of an experiment's tag.
pub const MAX_EXPERIMENT_TAG_VALUE: usize = 20_000;
/// The most characters of the value of a model's or a model version's tag.
pub const MAX_MODEL_TAG_VALUE: usize = 100_000;

/// Checks the name of an experiment: not empty, at most [`MAX_EXPERIMENT_NAME`] long.
///
/// # Errors
/// `InvalidInput` saying which rule the name breaks.
pub fn experiment_name(name: &str) -> Result<()> {
    let rule = not_blank(name).or_else(|| too_long(name, MAX_EXPERIMENT_NAME)).or_else(|| control(name));
    refuse_if("experiment name", name, rule)
}

/// Checks the name of a registered model: not blank, without `/` and `:`, not beginning with `..`
/// nor `.` alone, at most [`MAX_MODEL_NAME`] long.
///
/// More names pass than can be served: [`salver_core::ModelName`] knows no spaces, for instance, and
/// stops at 128 bytes. Whether a model can be served under its name shows when it is to be.
///
/// # Errors
/// `InvalidInput` saying which rule the name breaks.
pub fn model_name(name: &str) -> Result<()> {
    let separator = || name.contains(['/', ':']).then(|| "must not contain '/' or ':'".to_owned());
    let rule = not_blank(name)
        .or_else(separator)
        .or_else(|| ambiguous_path(name))
        .or_else(|| too_long(name, MAX_MODEL_NAME))
        .or_else(|| control(name));
    refuse_if("registered model name", name, rule)
}

/// Checks an alias: letters, digits, `_` and `-`, at most [`MAX_ALIAS`]; neither `latest` nor a
/// version as in `v3`, which mean something of their own.
///
/// # Errors
/// `InvalidInput` saying which rule the alias breaks.
pub fn alias(alias: &str) -> Result<()> {
    let characters = || {
        let fits = alias.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        (!fits).then(|| "may hold letters, digits, '_' and '-' only".to_owned())
    };
    let rule = not_blank(alias).or_else(characters).or_else(|| too_long(alias, MAX_ALIAS)).or_else(|| reserved(alias));
    refuse_if("registered model alias", alias, rule)
}

fn reserved(alias: &str) -> Option<String> {
    let number = alias.strip_prefix(['v', 'V']);
    let is_version = number.is_some_and(|rest| !rest.is_empty() && rest.chars().all(char::is_numeric));
    let is_reserved = is_version || alias.eq_ignore_ascii_case("latest");
    is_reserved.then(|| "is reserved: 'latest' and 'v' with a number stand for versions; choose another".to_owned())
}

/// Checks the key of a metric: letters, digits and `_ - . : /` or space, at most [`MAX_KEY`], and as
/// a path nothing but itself, so unlike `a//b`, `../b`, `/a` and `a/./b`.
///
/// # Errors
/// `InvalidInput` saying which rule the key breaks.
pub fn metric_key(text: &str) -> Result<()> {
    key("metric key", text)
}

/// Checks the key of a parameter by the rules of [`metric_key`].
///
/// # Errors
/// `InvalidInput` saying which rule the key breaks.
pub fn param_key(text: &str) -> Result<()> {
    key("parameter key", text)
}

/// Checks the key of a tag by the rules of [`metric_key`].
///
/// # Errors
/// `InvalidInput` saying which rule the key breaks.
pub fn tag_key(text: &str) -> Result<()> {
    key("tag key", text)
}

fn key(what: &str, text: &str) -> Result<()> {
    let characters = || {
        let fits = text.chars().all(|c| c.is_alphanumeric() || "_-. :/".contains(c));
        (!fits).then(|| "may hold letters, digits, '_', '-', '.', ' ', ':' and '/' only".to_owned())
    };
    let empty = text.is_empty().then(|| "must not be empty".to_owned());
    let rule = empty.or_else(characters).or_else(|| ambiguous_path(text)).or_else(|| too_long(text, MAX_KEY));
    refuse_if(what, text, rule)
}

/// Checks the value of a parameter: at most [`MAX_PARAM_VALUE`] long, without NUL.
///
/// # Errors
/// `InvalidInput` saying which rule the value breaks.
pub fn param_value(text: &str) -> Result<()> {
    value("parameter value", text, MAX_PARAM_VALUE)
}

/// Checks the value of a run's tag: at most [`MAX_RUN_TAG_VALUE`] long, without NUL.
///
/// # Errors
/// `InvalidInput` saying which rule the value breaks.
pub fn run_tag_value(text: &str) -> Result<()> {
    value("tag value", text, MAX_RUN_TAG_VALUE)
}

/// Checks the value of an experiment's tag: at most [`MAX_EXPERIMENT_TAG_VALUE`] long, without NUL.
///
/// # Errors
/// `InvalidInput` saying which rule the value breaks.
pub fn experiment_tag_value(text: &str) -> Result<()> {
    value("tag value", text, MAX_EXPERIMENT_TAG_VALUE)
}

/// Checks the value of a model's or a version's tag: at most [`MAX_MODEL_TAG_VALUE`] long, without NUL.
///
/// # Errors
/// `InvalidInput` saying which rule the value breaks.
pub fn model_tag_value(text: &str) -> Result<()> {
    value("tag value", text, MAX_MODEL_TAG_VALUE)
}

fn value(what: &str, text: &str, most: usize) -> Result<()> {
    let nul = || text.contains('\0').then(|| "must not contain NUL".to_owned());
    refuse_if(what, text, too_long(text, most).or_else(nul))
}

/// Returns the first `most` characters of `value`: MLflow cuts long values of parameters and of runs'
/// tags where others would refuse them.
pub fn cut(value: &str, most: usize) -> &str {
    value.char_indices().nth(most).map_or(value, |(end, _)| &value[..end])
}

fn not_blank(text: &str) -> Option<String> {
    text.trim().is_empty().then(|| "must not be empty".to_owned())
}

fn too_long(text: &str, most: usize) -> Option<String> {
    // Bytes first: no text with few of them has many characters.
    let is_longer = text.len() > most && text.chars().count() > most;
    is_longer.then(|| format!("exceeds the maximum length of {most} characters"))
}

fn control(text: &str) -> Option<String> {
    text.contains(char::is_control).then(|| "must not contain control characters".to_owned())
}

/// Keys and names may become paths; then they must stay themselves and stay inside.
fn ambiguous_path(text: &str) -> Option<String> {
    let strays = text.starts_with("..") || text.split('/').any(|part| matches!(part, "" | "." | ".."));
    strays.then(|| "would mean something else as a path; leave out '.', '..' and empty parts".to_owned())
}

fn refuse_if(what: &str, text: &str, broken_rule: Option<String>) -> Result<()> {
    let Some(rule) = broken_rule else {
        return Ok(());
    };
    let shown: String = cut(text, 64).chars().flat_map(char::escape_debug).collect();
    Err(Error::invalid_input(format!("{what} '{shown}' {rule}")))
}

#[cfg(test)]
mod tests;
