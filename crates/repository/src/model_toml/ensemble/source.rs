//! Where a value comes from: `STEP.OUTPUT`, the name of an input, a constant, or a list of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use salver_core::{Constant, Source};
use serde::Deserialize;
use toml::Spanned;

use super::super::fault::Fault;

/// What may be read.
pub(super) struct Names<'a> {
    /// The inputs that the file names.
    pub(super) inputs: BTreeSet<&'a str>,
    /// All steps.
    pub(super) steps: &'a [Arc<str>],
}

/// One source, or several of which the first that is there counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "must be \"STEP.OUTPUT\", the name of an input, a number, true, false, { text = \"…\" } \
                               or a list of these"
)]
pub(in super::super) enum Sources {
    /// The only one.
    One(Written),
    /// In the order in which they are looked at.
    More(Vec<Written>),
}

/// A source as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(in super::super) enum Written {
    /// A constant.
    Bool(bool),
    /// A constant.
    Int(i64),
    /// A constant.
    Float(f64),
    /// The name of a value.
    Name(String),
    /// A constant.
    Text(Text),
}

/// `{ text = "…" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Text {
    text: String,
}

impl Names<'_> {
    /// Reads sources; at least one.
    pub(super) fn sources(&self, sources: &Spanned<Sources>) -> Result<Vec<Source>, Fault> {
        let one = |written: &Written| match written {
            Written::Bool(value) => Ok(Source::Constant(Constant::Bool(*value))),
            Written::Int(value) => Ok(Source::Constant(Constant::Int(*value))),
            Written::Float(value) => Ok(Source::Constant(Constant::Float(*value))),
            Written::Text(value) => Ok(Source::Constant(Constant::Text(value.text.as_str().into()))),
            Written::Name(name) => self.value(name).map_err(|why| Fault::invalid(sources, why)),
        };
        match sources.get_ref() {
            Sources::One(written) => Ok(vec![one(written)?]),
            Sources::More(several) if several.is_empty() => {
                Err(Fault::invalid(sources, "must name at least one value, got none"))
            }
            Sources::More(several) => several.iter().map(one).collect(),
        }
    }

    /// Reads the name of a value. Before the dot stands a step, unless the whole is an input that
    /// the file names.
    pub(super) fn value(&self, name: &str) -> Result<Source, String> {
        let shown: String = name.chars().take(128).flat_map(char::escape_debug).collect();
        if self.inputs.contains(name) {
            return Ok(Source::Input(name.into()));
        }
        match name.split_once('.') {
            _ if name.is_empty() => Err("must name a value, got ''".to_owned()),
            None => Ok(Source::Input(name.into())),
            Some((step, output)) => match self.steps.iter().find(|known| ***known == *step) {
                Some(_) if output.is_empty() => Err(format!("must be STEP.OUTPUT, got '{shown}'")),
                Some(step) => Ok(Source::Step { step: step.clone(), output: output.into() }),
                None => {
                    let steps: Vec<String> = self.steps.iter().map(|step| format!("'{step}'")).collect();
                    Err(format!(
                        "'{shown}' is an output of no step: the steps are {}. For an input of that name, add [[input]] \
                         name = \"{shown}\"",
                        steps.join(", ")
                    ))
                }
            },
        }
    }
}
