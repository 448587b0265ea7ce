//! The registry of a server: MLflow's calls, files, and Salver's own routes.

use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt as _, StreamBody};
use salver_core::{Error, ErrorKind, Result};
use salver_protocol::paths;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::HttpClient;

/// Bytes of a file that are read at once.
const PIECE: usize = 256 << 10;

impl HttpClient {
    /// Calls MLflow's interface, such as `POST runs/create`; arguments of GET go into the query.
    ///
    /// # Errors
    /// The kind of the server's status, with its message.
    pub async fn mlflow(&self, method: Method, call: &str, arguments: &Value) -> Result<Value> {
        let mut path = format!("/api/2.0/mlflow/{call}");
        let mut headers = HeaderMap::new();
        let body = if method == Method::GET {
            let pairs = arguments.as_object().into_iter().flatten();
            for (idx, (name, value)) in pairs.enumerate() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let separator = if idx == 0 { '?' } else { '&' };
                path.push_str(&format!("{separator}{name}={}", paths::segment(&text)));
            }
            Bytes::new()
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            arguments.to_string().into()
        };
        self.add_user(&mut headers);
        self.send(method, &path, headers, body).await?.success()?.json()
    }

    /// Calls Salver's own routes of the registry, such as `POST models/iris/promote`.
    ///
    /// # Errors
    /// As [`HttpClient::mlflow`].
    pub async fn registry(&self, method: Method, call: &str, body: Option<&Value>) -> Result<Value> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.add_user(&mut headers);
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.send(method, &format!("/api/v1/registry/{call}"), headers, body).await?.success()?.json()
    }

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

    /// Lists all files below a folder of the server's artifacts, as paths relative to it.
    ///
    /// # Errors
    /// The kind of the server's status.
    pub async fn artifacts(&self, folder: &str) -> Result<Vec<String>> {
        let (mut found, mut folders) = (Vec::new(), vec![String::new()]);
        while let Some(below) = folders.pop() {
            let path = format!("{folder}/{below}");
            let call =
                format!("/api/2.0/mlflow-artifacts/artifacts?path={}", paths::segment(path.trim_end_matches('/')));
            let listed = self.get(&call).await?.json()?;
            for file in listed["files"].as_array().into_iter().flatten() {
                let name = file["path"].as_str().unwrap_or_default();
                match file["is_dir"].as_bool() {
                    Some(true) => folders.push(format!("{below}{name}/")),
                    _ => found.push(format!("{below}{name}")),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Who makes a change stands in the server's audit log.
    fn add_user(&self, headers: &mut HeaderMap) {
        let user = ["SALVER_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        if let Some(user) = user.filter(|user| !user.is_empty() && !user.contains(':')) {
            let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{user}:"));
            if let Ok(value) = HeaderValue::from_str(&format!("Basic {encoded}")) {
                headers.insert(AUTHORIZATION, value);
            }
        }
    }
}

fn artifact(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(paths::segment).collect();
    format!("/api/2.0/mlflow-artifacts/artifacts/{}", segments.join("/"))
}
