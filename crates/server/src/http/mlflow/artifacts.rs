//! Files of runs and models: the part of MLflow's server that its clients know as
//! `mlflow-artifacts`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{MethodRouter, get};
use futures::StreamExt as _;
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use salver_core::{Error, Result};
use salver_protocol::Reply;
use salver_registry::{FileInfo, Registry};
use serde_json::json;

use super::wire::{encode_error, page, registry};
use super::{BASES, not_offered};
use crate::app::App;
use crate::http::AppState;
use crate::http::exchange::reply_or;

/// What the path of a file begins with.
pub(super) const ROUTE: &str = "/mlflow-artifacts/artifacts/";
/// What a file's name keeps in a header.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

pub(super) fn calls() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/mlflow-artifacts/artifacts", get(list)),
        ("/mlflow-artifacts/artifacts/", get(list)),
        ("/mlflow-artifacts/artifacts/{*path}", get(download).put(upload).delete(delete)),
        ("/mlflow-artifacts/mpu/{*rest}", not_offered()),
        ("/mlflow-artifacts/presigned/{*rest}", not_offered()),
    ]
}

/// Takes the file's path out of the request's.
fn path_of(uri: &Uri) -> Result<String> {
    let path = uri.path();
    decoded(BASES.iter().find_map(|base| path.strip_prefix(base)?.strip_prefix(ROUTE)).unwrap_or_default())
}

/// How often a path may be encoded.
const MOST_LEVELS: usize = 8;

/// Undoes percent-encoding until there is none: MLflow's client sends the same name encoded once here
/// and twice there, and expects it to be one file.
fn decoded(path: &str) -> Result<String> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LEVELS {
        let decoded = percent_decode_str(&path).decode_utf8();
        let decoded =
            decoded.map_err(|_| Error::invalid_input("Invalid path: it is not UTF-8 once percent-decoded"))?;
        if decoded == path {
            return Ok(path);
        }
        path = decoded.into_owned();
    }
    Err(Error::invalid_input("Invalid path: it is percent-encoded too often"))
}

async fn list(State(app): AppState, uri: Uri) -> Response<Body> {
    let listed = async {
        let query = uri.query().unwrap_or_default();
        let folder = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "path");
        let folder = folder.map(|(_, value)| decoded(&value)).transpose()?;
        let files = registry(&app)?.list_files(folder.as_deref()).await?;
        Ok(Reply::json_value(200, &page("files", &files, None)))
    };
    reply_or(listed.await, encode_error)
}

/// Streams a file in. Whatever goes wrong on the way leaves what was there.
async fn upload(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let stored = async {
        let path = path_of(&parts.uri)?;
        if path.ends_with('/') {
            return Err(Error::invalid_input("Invalid path: a file's path does not end with '/'"));
        }
        registry(&app)?.put_file(&path, body.into_data_stream()).await?;
        Ok(Reply::json_value(200, &json!({})))
    };
    reply_or(stored.await, encode_error)
}

async fn delete(State(app): AppState, uri: Uri) -> Response<Body> {
    let deleted = async {
        registry(&app)?.delete_files(&path_of(&uri)?).await?;
        Ok(Reply::json_value(200, &json!({})))
    };
    reply_or(deleted.await, encode_error)
}

async fn download(State(app): AppState, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let found = async {
        let (registry, path) = (registry(&app)?, path_of(&uri)?);
        if path.is_empty() {
            return Err(Error::invalid_input("Invalid path: expected that of a file"));
        }
        let file = registry.file(&path).await?;
        send(&registry, &file, &headers).await
    };
    match found.await {
        Ok(response) => response,
        Err(error) => reply_or(Err(error), encode_error),
    }
}

async fn send(registry: &Registry, file: &FileInfo, headers: &HeaderMap) -> Result<Response<Body>> {
    let size = file.size.unsigned_abs();
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let asked = match range.map(|text| ranges(text, size)) {
        None | Some(Asked::Whole) => None,
        Some(Asked::Part(first, last)) => Some((first, last)),
        Some(Asked::Impossible) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
                response.headers_mut().insert(CONTENT_RANGE, value);
            }
            return Ok(response);
        }
    };
    let bytes = registry.read_file(file, asked.map(|(first, last)| first..last + 1)).await?;
    let mut response = Response::new(Body::from_stream(bytes.map(|piece| piece.map_err(std::io::Error::other))));
    let length = asked.map_or(size, |(first, last)| last - first + 1);
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let media_type = mime_guess::from_path(name).first_or_octet_stream();
    let disposition = format!("attachment; filename*=UTF-8''{}", utf8_percent_encode(name, NAME));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let texts = [(CONTENT_TYPE, media_type.to_string()), (CONTENT_DISPOSITION, disposition)];
    for (header, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header, value);
        }
    }
    if let Some((first, last)) = asked {
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {first}-{last}/{size}")) {
            headers.insert(CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Everything: there is no single range that is understood.
    Whole,
    /// From this byte to that one, both included.
    Part(u64, u64),
    /// Nothing of the file.
    Impossible,
}

fn ranges(text: &str, size: u64) -> Asked {
    let Ok(parsed) = http_range_header::parse_range_header(text) else {
        return Asked::Whole;
    };
    match parsed.validate(size) {
        Ok(ranges) => match ranges.as_slice() {
            [one] => Asked::Part(*one.start(), *one.end()),
            _ => Asked::Whole,
        },
        Err(_) => Asked::Impossible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_answered_and_what_is_not_understood_is_the_whole() {
        assert_eq!(ranges("bytes=0-3", 10), Asked::Part(0, 3));
        assert_eq!(ranges("bytes=5-", 10), Asked::Part(5, 9));
        assert_eq!(ranges("bytes=-4", 10), Asked::Part(6, 9));
        assert_eq!(ranges("bytes=8-100", 10), Asked::Part(8, 9));
        assert_eq!(ranges("bytes=0-1,4-5", 10), Asked::Whole);
        assert_eq!(ranges("lines=0-1", 10), Asked::Whole);
        assert_eq!(ranges("bytes=10-", 10), Asked::Impossible);
    }
}
