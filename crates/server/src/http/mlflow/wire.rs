//! How MLflow writes arguments, answers and errors.
//!
//! The JSON is protobuf's with MLflow's own ways: names are snake_case, 64-bit integers are numbers
//! (and may come as text), what is unset is left out or null. GET takes its arguments from the
//! query, everything else, DELETE included, from a JSON body.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawPathParams, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response};
use salver_core::{Error, ErrorKind, Result};
use salver_protocol::Reply;
use salver_registry::Registry;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::http::AppState;
use crate::http::exchange::manage_as;

/// Renders an error as MLflow's clients read it.
pub(crate) fn encode_error(error: &Error) -> Reply {
    let (status, code) = match error.kind() {
        ErrorKind::InvalidInput => (400, "INVALID_PARAMETER_VALUE"),
        ErrorKind::TooLarge => (413, "INVALID_PARAMETER_VALUE"),
        // MLflow says 400 for what is there already, and its client looks at the code.
        ErrorKind::Conflict => (400, "RESOURCE_ALREADY_EXISTS"),
        ErrorKind::Unauthenticated => (401, "UNAUTHENTICATED"),
        ErrorKind::Forbidden => (403, "PERMISSION_DENIED"),
        ErrorKind::NotFound | ErrorKind::Gone => (404, "RESOURCE_DOES_NOT_EXIST"),
        ErrorKind::Overloaded => (429, "REQUEST_LIMIT_EXCEEDED"),
        ErrorKind::NotReady => (503, "TEMPORARILY_UNAVAILABLE"),
        ErrorKind::Deadline => (504, "DEADLINE_EXCEEDED"),
        ErrorKind::Unsupported => (501, "NOT_IMPLEMENTED"),
        ErrorKind::Cancelled | ErrorKind::Engine => (500, "INTERNAL_ERROR"),
        ErrorKind::Full => (507, "INTERNAL_ERROR"),
    };
    Reply::json_value(status, &json!({ "error_code": code, "message": error.message() }))
}

/// Who asks: the name of HTTP's Basic authorization. It is not checked.
#[derive(Debug, Clone)]
pub(in crate::http) struct Who(pub(in crate::http) String);

impl Who {
    pub(in crate::http) fn of(headers: &HeaderMap) -> Self {
        let name = || {
            let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
            let (scheme, rest) = value.split_once(' ')?;
            let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest.trim()).ok()).flatten()?;
            let name = String::from_utf8(decoded).ok()?.split(':').next()?.to_owned();
            (!name.is_empty() && name.len() <= 128 && !name.contains(char::is_control)).then_some(name)
        };
        Self(name().unwrap_or_else(|| "anonymous".to_owned()))
    }
}

/// Returns the registry.
///
/// # Errors
/// `Unsupported` where the server runs without one.
pub(in crate::http) fn registry(app: &App) -> Result<Registry> {
    let registry = app.services.registry.clone();
    registry.ok_or_else(|| Error::unsupported("this server runs without a registry (--registry=false)"))
}

/// Makes a handler of a call: its arguments come from the query or the body, and from the path.
pub(super) fn api<Q, F, R>(
    call: fn(Registry, Who, Q) -> F,
) -> impl Fn(State<Arc<App>>, RawPathParams, Request<Body>) -> futures::future::BoxFuture<'static, Response<Body>>
+ Clone
+ Send
+ Sync
+ 'static
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize,
    F: Future<Output = Result<R>> + Send + 'static,
{
    move |State(app): AppState, path: RawPathParams, request: Request<Body>| {
        Box::pin(async move {
            let who = Who::of(request.headers());
            let path: Vec<(String, String)> = path.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let query = (request.method() == Method::GET).then(|| request.uri().query().unwrap_or_default().to_owned());
            let is_json = is_json(request.headers());
            manage_as(&app, request, encode_error, async |body| {
                let mut arguments = match query {
                    Some(query) => from_query(&query),
                    None => from_body(&body, is_json)?,
                };
                arguments.extend(path.into_iter().map(|(name, value)| (name, Value::String(value))));
                let asked = serde_json::from_value(Value::Object(arguments)).map_err(|error| {
                    Error::invalid_input(format!("Invalid value for a parameter supplied: {error}"))
                })?;
                let answer = call(registry(&app)?, who, asked).await?;
                Ok(Reply::json_value(200, &answer))
            })
            .await
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}

/// Arguments that are lists: in a query, one that comes once is a list of one.
const LISTS: [&str; 3] = ["order_by", "stages", "experiment_ids"];

/// Takes arguments from a query; of one that comes again and is no list, the last counts.
fn from_query(query: &str) -> Map<String, Value> {
    let mut arguments = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Value::String(value.into_owned());
        if !LISTS.contains(&&*name) {
            arguments.insert(name.into_owned(), value);
        } else if let Value::Array(values) = arguments.entry(name).or_insert_with(|| json!([])) {
            values.push(value);
        }
    }
    arguments
}

fn from_body(body: &[u8], is_json: bool) -> Result<Map<String, Value>> {
    // Where the path says it all, clients send nothing else.
    if body.is_empty() {
        return Ok(Map::new());
    }
    if !is_json {
        return Err(Error::invalid_input("Bad Request. Content-Type should be application/json."));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err(Error::invalid_input("the body must be a JSON object")),
        Err(error) => Err(Error::invalid_input(format!("the body is not JSON: {error}"))),
    }
}

/// Returns a required argument; an empty text is none.
pub(super) fn need(value: Option<Text>, name: &str) -> Result<String> {
    let value = value.map(|text| text.0).filter(|text| !text.is_empty());
    value.ok_or_else(|| missing(name))
}

/// Says that an argument is missing.
pub(super) fn missing(name: &str) -> Error {
    Error::invalid_input(format!(
        "Missing value for required parameter '{name}'. See the API docs for more information about request parameters."
    ))
}

/// Returns a text that may be missing.
pub(super) fn text(value: Option<Text>) -> Option<String> {
    value.map(|text| text.0)
}

/// Reads the number of a version.
pub(super) fn version(value: Option<Text>) -> Result<i64> {
    let text = need(value, "version")?;
    text.parse().map_err(|_| {
        Error::invalid_input(format!(
            "Invalid value '{text}' for parameter 'version' supplied: expected a whole number"
        ))
    })
}

/// A text.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Text(pub(super) String);

/// A whole number, which may come as text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Int(pub(super) i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let whole = match &value {
            // Written as 1.0 by some clients.
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        whole.map(Self).ok_or_else(|| D::Error::custom(format!("expected a whole number, got {value}")))
    }
}

fn whole(number: f64) -> Option<i64> {
    // Doubles are exact up to here.
    (number.fract() == 0. && number.abs() < 9e15).then_some(number as i64)
}

/// A number, which may come as text: `"NaN"`, `"Infinity"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| D::Error::custom(format!("expected a number, got {value}")))
    }
}

/// A flag, which may come as text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(flag) => Ok(Self(flag)),
            Value::Null => Ok(Self(false)),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(Self(true)),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(Self(false)),
            other => Err(D::Error::custom(format!("expected true or false, got {}", kind(&other)))),
        }
    }
}

/// A list; null is an empty one.
#[derive(Debug, Clone)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            other => return Err(D::Error::custom(format!("expected a list, got {}", kind(&other)))),
        };
        let items = items.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
        items.map(Self).map_err(D::Error::custom)
    }
}

impl List<Text> {
    pub(super) fn texts(self) -> Vec<String> {
        self.0.into_iter().map(|text| text.0).collect()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Nothing to say.
#[derive(Debug, Serialize)]
pub(super) struct Nothing {}

/// Makes an answer of one page: `items` under `name`, left out where there are none.
pub(super) fn page<T: Serialize>(name: &str, items: &[T], next_page_token: Option<String>) -> Value {
    let mut answer = Map::new();
    if !items.is_empty() {
        answer.insert(name.to_owned(), json!(items));
    }
    if let Some(token) = next_page_token {
        answer.insert("next_page_token".to_owned(), Value::String(token));
    }
    Value::Object(answer)
}
