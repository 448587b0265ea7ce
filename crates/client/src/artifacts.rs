//! The files of a server's registry: sent, fetched, listed, and handed on from one server to another.
//!
//! None is ever held in memory. What a server calls its files is checked here before anybody makes
//! a path of it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use salver_core::{Error, ErrorKind, Result};
use salver_protocol::paths;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::HttpClient;

/// Bytes of a file that are read at once.
const PIECE: usize = 256 << 10;
/// The most files of a folder, with all there is below it.
const MAX_FILES: usize = 100_000;
/// The deepest folder.
const MAX_DEPTH: usize = 64;
/// How long a server that hands on a file may say nothing.
const SILENCE: Duration = Duration::from_secs(120);

/// A file that a server has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteFile {
    /// Within the folder that was listed: plain names, joined by `/`.
    pub path: String,
    /// Bytes, where the server says so.
    pub size: Option<u64>,
}

impl HttpClient {
    /// Sends a file to `path` of the server's artifacts, without holding it in memory.
    ///
    /// # Errors
    /// `InvalidInput` for a file that cannot be read; the kind of the server's status.
    pub async fn put_artifact(&self, path: &str, file: &Path) -> Result<()> {
        let unreadable = |error: std::io::Error| {
            Error::invalid_input(format!("'{}' cannot be read: {error}", file.display())).with_source(error)
        };
        let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let size = opened.metadata().await.map_err(unreadable)?.len();
        let pieces = ReaderStream::with_capacity(opened, PIECE).map_ok(http_body::Frame::data);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let reply =
            self.send_body(Method::PUT, &artifact(path), headers, StreamBody::new(pieces).boxed_unsync()).await?;
        self.read(reply).await?.success().map(drop)
    }

    /// Writes a file of the server's artifacts to `to`, without holding it in memory.
    ///
    /// # Errors
    /// `NotFound` for nothing there; `Full` for a disk without room.
    pub async fn get_artifact(&self, path: &str, to: &Path) -> Result<()> {
        let reply =
            self.send_body(Method::GET, &artifact(path), HeaderMap::new(), crate::http::whole(Bytes::new())).await?;
        if !reply.status().is_success() {
            return self.read(reply).await?.success().map(drop);
        }
        let unwritable = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::StorageFull => ErrorKind::Full,
                _ => ErrorKind::InvalidInput,
            };
            Error::new(kind, format!("'{}' cannot be written: {error}", to.display())).with_source(error)
        };
        let mut file = tokio::fs::File::create(to).await.map_err(unwritable)?;
        let mut body = reply.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Error::not_ready(format!("the server broke off while sending '{path}'")).with_source(error)
            })?;
            if let Some(piece) = frame.data_ref() {
                file.write_all(piece).await.map_err(unwritable)?;
            }
        }
        file.flush().await.map_err(unwritable)
    }

    /// Hands a file of this server's artifacts on to another server; `passed` grows with its bytes.
    ///
    /// # Errors
    /// The kind of either server's status; `NotReady` where this one breaks off, or sends another
    /// number of bytes than `file` says. The other server then has no such file.
    pub async fn hand_on(
        &self,
        (root, file): (&str, &RemoteFile),
        to: &Self,
        path: &str,
        passed: &Arc<AtomicU64>,
    ) -> Result<()> {
        let from = format!("{root}/{}", file.path);
        let call = artifact(&from);
        let asked = self.send_body(Method::GET, &call, HeaderMap::new(), crate::http::whole(Bytes::new()));
        let reply = tokio::time::timeout(SILENCE, asked).await.map_err(|_| silent(&from))??;
        if !reply.status().is_success() {
            return self.read(reply).await?.success().map(drop);
        }
        let body = reply.into_body();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(size) = body.size_hint().exact() {
            // A body of a known length is read no further than that: its end would tell nothing.
            if let Some(expected) = file.size.filter(|expected| *expected != size) {
                return Err(another_size(&from, size, expected));
            }
            headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        let fault = Arc::new(OnceLock::new());
        let pieces = pieces(body, from, file.size, (passed.clone(), fault.clone()));
        let sent = to.send_body(Method::PUT, &artifact(path), headers, StreamBody::new(pieces).boxed_unsync()).await;
        let stored = match sent {
            Ok(reply) => to.read(reply).await.and_then(crate::HttpReply::success).map(drop),
            Err(error) => Err(error),
        };
        // What went wrong on this side shows on the other one as a request that broke off.
        fault.get().map_or(stored, |fault| Err(fault.clone()))
    }

    /// Deletes a file of the server's artifacts, or a folder with all there is below it.
    ///
    /// # Errors
    /// The kind of the server's status.
    pub async fn delete_artifacts(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, &artifact(path), HeaderMap::new(), Bytes::new()).await?.success().map(drop)
    }

    /// Lists all files below a folder of the server's artifacts, by path.
    ///
    /// # Errors
    /// The kind of the server's status; `InvalidInput` for a name that no file may have, `TooLarge`
    /// for more files or deeper folders than a model has.
    pub async fn artifacts(&self, folder: &str) -> Result<Vec<RemoteFile>> {
        let (mut found, mut folders) = (Vec::new(), vec![(String::new(), 0)]);
        while let Some((below, depth)) = folders.pop() {
            let path = format!("{folder}/{below}");
            let call =
                format!("/api/2.0/mlflow-artifacts/artifacts?path={}", paths::segment(path.trim_end_matches('/')));
            let listed = self.get(&call).await?.json()?;
            for file in listed["files"].as_array().into_iter().flatten() {
                let path = format!("{below}{}", plain_name(&file["path"], &path)?);
                if file["is_dir"] == true {
                    folders.push((format!("{path}/"), depth + 1));
                } else {
                    let text = |size: &Value| size.as_str().and_then(|size| size.parse().ok());
                    let size = file["file_size"].as_u64().or_else(|| text(&file["file_size"]));
                    found.push(RemoteFile { path, size });
                }
                if found.len() + folders.len() > MAX_FILES || depth >= MAX_DEPTH {
                    let limits = format!("{MAX_FILES} files or {MAX_DEPTH} folders within each other");
                    return Err(Error::too_large(format!("'{folder}' has more than {limits}")));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// A name in a list stands for something in that folder, and nowhere else.
fn plain_name<'a>(name: &'a Value, folder: &str) -> Result<&'a str> {
    let name = name.as_str().unwrap_or_default();
    let leads_elsewhere =
        matches!(name, "" | "." | "..") || name.contains(|c: char| "/\\".contains(c) || c.is_control());
    if leads_elsewhere {
        return Err(Error::invalid_input(format!(
            "the server lists a file '{}' in '{folder}', which is no name that a file can have",
            name.escape_debug()
        )));
    }
    Ok(name)
}

/// Passes a body on, counting its bytes; what goes wrong is left in the lock as well.
fn pieces(
    body: Incoming,
    path: String,
    size: Option<u64>,
    (passed, fault): (Arc<AtomicU64>, Arc<OnceLock<Error>>),
) -> impl futures::Stream<Item = std::io::Result<Frame<Bytes>>> {
    stream::try_unfold((body, 0), move |(mut body, count)| {
        let (path, passed, fault) = (path.clone(), passed.clone(), fault.clone());
        async move {
            let broken = |error: Error| {
                let text = error.to_string();
                let _ = fault.set(error);
                std::io::Error::other(text)
            };
            loop {
                let frame = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| broken(silent(&path)))?;
                let piece = match frame {
                    None if size.is_some_and(|size| size != count) => {
                        return Err(broken(another_size(&path, count, size.unwrap_or_default())));
                    }
                    None => return Ok(None),
                    Some(Ok(frame)) => frame.into_data(),
                    Some(Err(error)) => {
                        let text = format!("the server broke off while sending '{path}': try again");
                        return Err(broken(Error::not_ready(text).with_source(error)));
                    }
                };
                if let Ok(piece) = piece {
                    let len = piece.len() as u64;
                    passed.fetch_add(len, Ordering::Relaxed);
                    return Ok(Some((Frame::data(piece), (body, count + len))));
                }
            }
        }
    })
}

fn another_size(path: &str, found: u64, expected: u64) -> Error {
    Error::not_ready(format!("the server sends {found} bytes of '{path}', expected {expected} as it lists: try again"))
}

fn silent(path: &str) -> Error {
    Error::not_ready(format!("the server sent nothing of '{path}' for {} s", SILENCE.as_secs()))
}

fn artifact(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(paths::segment).collect();
    format!("/api/2.0/mlflow-artifacts/artifacts/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc", "..\\x", "a\u{0}"] {
            let error = plain_name(&json!(name), "models/m-1").unwrap_err();
            assert!(error.message().contains("'models/m-1'"), "{error}");
        }
        assert!(plain_name(&json!(7), "x").is_err());
        for name in ["MLmodel", "model..onnx", "a b", "ü%2F"] {
            assert_eq!(plain_name(&json!(name), "x").unwrap(), name);
        }
    }
}
