//! The model repository extension: the index, and the bodies of load and unload requests.

use jiter::JsonValue;
use salver_core::{Error, LoadOverride, ModelStatus, OverrideFile, Result};
use serde_json::{Map, Value, json};

use super::oip;
use crate::Reply;
use crate::json::base64;
use crate::json::read::{self, clip};

/// The deepest nesting of the bodies that this file reads.
const DEPTH: usize = 16;

/// Writes the index; a model that was never loaded has only its name.
pub fn repository_index(all: &[ModelStatus]) -> Reply {
    let entry = |status: &ModelStatus| {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), json!(status.name));
        if let Some(version) = status.version {
            entry.insert("version".to_owned(), json!(version.to_string()));
        }
        if status.state.is_some() {
            entry.insert("state".to_owned(), json!(oip::index_state(status.state)));
        }
        if !status.reason.is_empty() {
            entry.insert("reason".to_owned(), json!(status.reason));
        }
        Value::Object(entry)
    };
    Reply::json_value(200, &all.iter().map(entry).collect::<Vec<_>>())
}

/// Reads the body of an index request: whether only ready models are wanted.
///
/// # Errors
/// `InvalidInput` for anything but an empty body or an object whose `ready` is a boolean.
pub fn decode_index_request(body: &[u8]) -> Result<bool> {
    if body.trim_ascii().is_empty() {
        return Ok(false);
    }
    let value = read::parse(body, DEPTH)?;
    match read::member(read::object(&value, "request")?, "ready") {
        None => Ok(false),
        Some(JsonValue::Bool(ready)) => Ok(*ready),
        Some(other) => Err(Error::invalid_input(format!("'ready' must be a boolean, got {}", read::kind(other)))),
    }
}

/// Reads the body of a load request: what it brings along in place of the model's own, if anything.
///
/// # Errors
/// `InvalidInput` for bad JSON, parameters of the wrong type, data that are not base64, and files
/// without a configuration.
pub fn decode_load_request(body: &[u8]) -> Result<Option<LoadOverride>> {
    let mut draft = OverrideDraft::default();
    each_parameter(body, |name, value| {
        let kind = OverrideKind::of(name);
        let text = match (kind, value) {
            (OverrideKind::Other, _) => return Ok(()),
            (_, JsonValue::Str(text)) => text,
            (_, _) => return Err(oip::wrong_parameter("the request", name, kind.expected())),
        };
        match kind {
            OverrideKind::File(path) => {
                let data = base64::decode(text).map_err(|error| error.context(format_args!("'{}'", clip(name))))?;
                draft.files.push(OverrideFile { path: path.to_owned(), data: data.into() });
            }
            OverrideKind::Config | OverrideKind::Other => draft.config = Some(text.to_string()),
        }
        Ok(())
    })?;
    draft.finish()
}

/// Reads the body of an unload request.
///
/// # Errors
/// `InvalidInput` for bad JSON and parameters of the wrong type.
pub fn decode_unload_request(body: &[u8]) -> Result<()> {
    each_parameter(body, |name, value| {
        if name == "unload_dependents" && !matches!(value, JsonValue::Bool(_)) {
            return Err(oip::wrong_parameter("the request", name, "a boolean"));
        }
        Ok(())
    })
}

fn each_parameter(body: &[u8], mut visit: impl FnMut(&str, &JsonValue<'_>) -> Result<()>) -> Result<()> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let value = read::parse(body, DEPTH)?;
    let Some(parameters) = read::member(read::object(&value, "request")?, "parameters") else {
        return Ok(());
    };
    read::object(parameters, "'parameters'")?.iter().try_for_each(|(name, value)| visit(name, value))
}

/// What a parameter of a load request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverrideKind<'a> {
    /// The configuration.
    Config,
    /// A file of this path.
    File(&'a str),
    /// Nothing that is known here.
    Other,
}

impl<'a> OverrideKind<'a> {
    pub(crate) fn of(name: &'a str) -> Self {
        match name.strip_prefix("file:") {
            Some(path) => Self::File(path),
            None if name == "config" => Self::Config,
            None => Self::Other,
        }
    }

    /// What a parameter of this kind holds over REST.
    fn expected(self) -> &'static str {
        match self {
            Self::Config | Self::Other => "a string that holds the configuration as JSON",
            Self::File(_) => "a string of base64",
        }
    }
}

/// What a load request brings along, as far as it is read.
#[derive(Debug, Default)]
pub(crate) struct OverrideDraft {
    pub(crate) config: Option<String>,
    pub(crate) files: Vec<OverrideFile>,
}

impl OverrideDraft {
    pub(crate) fn finish(self) -> Result<Option<LoadOverride>> {
        match (self.config, self.files.first()) {
            (Some(config), _) => Ok(Some(LoadOverride { config, files: self.files })),
            (None, None) => Ok(None),
            (None, Some(file)) => Err(Error::invalid_input(format!(
                "parameter 'file:{}' needs the parameter 'config' beside it: the configuration of the files",
                clip(&file.path)
            ))),
        }
    }
}
