//! How people name a version of a registered model: MLflow's URIs, and the same without `models:/`.

use std::fmt;
use std::str::FromStr;

use salver_core::{Error, Result};

use super::Stage;

/// The scheme of MLflow's URIs of models.
const SCHEME: &str = "models:/";
/// What there may be, for messages.
const FORMS: &str = "expected models:/NAME/VERSION, models:/NAME/STAGE or models:/NAME@ALIAS, with or without models:/; \
                     the stages are None, Staging, Production and Archived";

/// A version of a registered model: `models:/NAME/VERSION`, `models:/NAME/STAGE` or
/// `models:/NAME@ALIAS`. Which version that is may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionRef {
    /// The registered model's name.
    pub name: String,
    /// Which of its versions.
    pub which: Which,
}

/// Which version of a model is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Which {
    /// Exactly this one.
    Number(i64),
    /// The highest one in this stage.
    Stage(Stage),
    /// The one that has this alias.
    Alias(String),
}

impl VersionRef {
    /// Reads a reference that may leave open which version is meant.
    ///
    /// # Errors
    /// `InvalidInput` saying what there may be.
    pub fn split(text: &str) -> Result<(String, Option<Which>)> {
        let bare = text.strip_prefix(SCHEME).unwrap_or(text);
        // As in MLflow, a name may hold an '@' where a '/' follows.
        let (name, which) = if let Some((name, which)) = bare.rsplit_once('/') {
            (name, Some(number_or_stage(text, which)?))
        } else if let Some((name, alias)) = bare.rsplit_once('@') {
            super::alias(alias).map_err(|error| refused(text, error))?;
            (name, Some(Which::Alias(alias.to_owned())))
        } else {
            (bare, None)
        };
        super::model_name(name).map_err(|error| refused(text, error))?;
        Ok((name.to_owned(), which))
    }
}

impl FromStr for VersionRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, which) = Self::split(text)?;
        let which = which.ok_or_else(|| refused(text, "it names no version"))?;
        Ok(Self { name, which })
    }
}

fn number_or_stage(text: &str, which: &str) -> Result<Which> {
    let is_number = !which.is_empty() && which.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && let Some(number) = which.parse().ok().filter(|number| *number > 0) {
        return Ok(Which::Number(number));
    }
    let stage = which.parse().ok().filter(|_| !is_number);
    stage.map(Which::Stage).ok_or_else(|| {
        let which = super::cut(which, 64).escape_debug();
        refused(text, format_args!("'{which}' is neither a version nor a stage"))
    })
}

fn refused(text: &str, why: impl fmt::Display) -> Error {
    Error::invalid_input(format!("'{}': {why}; {FORMS}", super::cut(text, 128).escape_debug()))
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.which {
            Which::Number(number) => write!(f, "{SCHEME}{name}/{number}"),
            Which::Stage(stage) => write!(f, "{SCHEME}{name}/{stage}"),
            Which::Alias(alias) => write!(f, "{SCHEME}{name}@{alias}"),
        }
    }
}
