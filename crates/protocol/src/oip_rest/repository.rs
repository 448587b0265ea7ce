//! The model repository extension: the index, and the bodies of load and unload requests.

use jiter::JsonValue;
use salver_core::{Error, ModelStatus, Result};
use serde_json::{Map, Value, json};

use super::oip;
use crate::Reply;
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

/// Reads the body of a load or unload request.
///
/// # Errors
/// `InvalidInput` for bad JSON and parameters of the wrong type, `Unsupported` for a configuration
/// or files sent along.
pub fn decode_load_request(body: &[u8]) -> Result<()> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let value = read::parse(body, DEPTH)?;
    let Some(parameters) = read::member(read::object(&value, "request")?, "parameters") else {
        return Ok(());
    };
    for (name, value) in read::object(parameters, "'parameters'")?.iter() {
        check_load_parameter(name)?;
        if name == "unload_dependents" && !matches!(value, JsonValue::Bool(_)) {
            return Err(oip::wrong_parameter("the request", name, "a boolean"));
        }
    }
    Ok(())
}

/// Refuses the parameters that would override a model's files.
pub(crate) fn check_load_parameter(name: &str) -> Result<()> {
    if name == "config" || name.starts_with("file:") {
        return Err(oip::not_offered(
            "the request",
            &format!("loading with the parameter '{}' instead of the model's own folder", clip(name)),
        ));
    }
    Ok(())
}
