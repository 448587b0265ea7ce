//! The server over HTTP/1.1: inference in the Open Inference Protocol, and the plain routes.
//!
//! Connections are pooled. TLS, redirects and proxies are not spoken.

use std::sync::Arc;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use salver_core::{BoxFuture, Context, Error, Infer, InferRequest, InferResponse, ModelInfo, ModelRef, Result};
use salver_protocol::graph::Graph;
use salver_protocol::oip_rest::{self, HEADER_LEN};
use salver_protocol::paths;
use serde_json::Value;

use crate::base::BaseUrl;
use crate::cache;
use crate::deadline::{millis_left, within};
use crate::jobs::{self, SubmittedJob};
use crate::known::Known;
use crate::metadata;
use crate::registry::Asks;
use crate::status::from_http;

pub use salver_protocol::oip_rest::Form;

/// Replies beyond this size are refused.
const MAX_REPLY_BYTES: usize = 1 << 30;

/// A client of one server over HTTP. Clones share connections and what is known of the models.
#[derive(Clone)]
pub struct HttpClient {
    base: BaseUrl,
    form: Form,
    pool: Client<HttpConnector, Sent>,
    known: Arc<Known>,
    pub(crate) asks: Asks,
}

/// What a server replied.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl HttpReply {
    /// Returns this reply if it is a success.
    ///
    /// # Errors
    /// The kind of the status, with the server's message.
    pub fn success(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let retry_after = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Err(from_http(self.status, &self.body, retry_after))
    }

    /// Reads the job that a prediction was left to; none: the reply is the answer.
    ///
    /// # Errors
    /// `Engine` for a reply that is neither.
    pub fn job(&self) -> Result<Option<SubmittedJob>> {
        (self.status == 202).then(|| jobs::read(self)).transpose()
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// `Engine` if it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::engine("the server's reply is not JSON").with_source(error))
    }
}

impl HttpClient {
    /// Makes a client of the server at `base`, such as `http://127.0.0.1:8080`. Connects on first need.
    ///
    /// # Errors
    /// `InvalidInput` for an address that cannot be one.
    pub fn new(base: &str) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { base: base.parse()?, form: Form::Binary, pool, known: Arc::default(), asks: Asks::Person })
    }

    /// Sends and asks for tensors in `form` from now on; binary where nothing is said.
    #[must_use]
    pub fn with_form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Returns the server's address.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Fetches what the Open Inference Protocol tells of a model; `describe` knows it from then on.
    ///
    /// # Errors
    /// `NotFound` for an unknown model, `NotReady` for a server that is not reached.
    pub async fn metadata(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        let reply = self.get(&format!("/v2/models/{}", paths::model(model))).await?;
        let info = Arc::new(metadata::from_json(&reply.json()?, model)?);
        self.known.insert(&info);
        Ok(info)
    }

    /// Fetches the description for people: columns, labels, metrics and an example body.
    ///
    /// # Errors
    /// As [`HttpClient::metadata`].
    pub async fn description(&self, model: &ModelRef) -> Result<Value> {
        self.get(&format!("/models/{}", paths::model(model))).await?.json()
    }

    /// Asks for predictions the plain way: `body` is the natural JSON for the model, or an `.npy` file.
    /// A model may leave what is not in its cache to a job: see [`HttpReply::job`].
    ///
    /// # Errors
    /// The kind of the server's status, with its message.
    pub async fn predict(&self, model: &ModelRef, content_type: &'static str, body: Bytes) -> Result<HttpReply> {
        let path = format!("/models/{}/predict", paths::model(model));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.send(Method::POST, &path, headers, body).await?.success()
    }

    /// Lists the server's models: its reply to the repository index request.
    ///
    /// # Errors
    /// `NotReady` for a server that is not reached.
    pub async fn index(&self) -> Result<Value> {
        self.post("/v2/repository/index", Bytes::new()).await?.json()
    }

    /// Lists what is in memory and what it takes: of one model, or of all.
    ///
    /// # Errors
    /// `NotFound` for an unknown model, `NotReady` for a server that is not reached.
    pub async fn residency(&self, model: Option<&str>) -> Result<Value> {
        let model = model.map(|model| format!("/{}", paths::segment(model))).unwrap_or_default();
        self.get(&format!("/api/v1/models{model}")).await?.json()
    }

    /// Fetches the steps of an ensemble, and what they did since it was loaded.
    ///
    /// # Errors
    /// `NotFound` for an unknown model, `InvalidInput` for one that is no ensemble, `NotReady` for a
    /// server that is not reached.
    pub async fn graph(&self, model: &ModelRef) -> Result<Graph> {
        let reply = self.get(&format!("/api/v1/models/{}/graph", paths::model(model))).await?;
        serde_json::from_slice(&reply.body)
            .map_err(|error| Error::engine("the server's reply is not the graph of an ensemble").with_source(error))
    }

    /// Does `load`, `unload`, `pin` or `unpin` to a model.
    ///
    /// # Errors
    /// What the server says.
    pub async fn administer(&self, model: &str, verb: &str) -> Result<()> {
        self.post(&format!("/api/v1/models/{}/{verb}", paths::segment(model)), Bytes::new()).await.map(drop)
    }

    /// Forgets the cached answers of one model, or of all; returns how many the server had.
    ///
    /// # Errors
    /// What the server says.
    pub async fn purge_cache(&self, model: Option<&str>) -> Result<Value> {
        let path = match model {
            Some(model) => format!("/api/v1/models/{}/cache", paths::segment(model)),
            None => "/api/v1/cache".to_owned(),
        };
        self.send(Method::DELETE, &path, HeaderMap::new(), Bytes::new()).await?.success()?.json()
    }

    /// Whether the server is ready: every model that should serve does.
    ///
    /// # Errors
    /// `NotReady` for a server that is not reached.
    pub async fn is_ready(&self) -> Result<bool> {
        let reply = self.send(Method::GET, "/v2/health/ready", HeaderMap::new(), Bytes::new()).await?;
        Ok(reply.status == 200)
    }

    /// Loads or reloads a model under explicit control.
    ///
    /// # Errors
    /// What the server says.
    pub async fn load(&self, model: &str) -> Result<()> {
        let path = format!("/v2/repository/models/{}/load", paths::segment(model));
        self.post(&path, Bytes::from_static(b"{}")).await.map(drop)
    }

    /// Unloads a model under explicit control.
    ///
    /// # Errors
    /// What the server says.
    pub async fn unload(&self, model: &str) -> Result<()> {
        let path = format!("/v2/repository/models/{}/unload", paths::segment(model));
        self.post(&path, Bytes::from_static(b"{}")).await.map(drop)
    }

    /// Gets `path`, successfully.
    ///
    /// # Errors
    /// The kind of the server's status, with its message; `NotReady` for a server that is not reached.
    pub async fn get(&self, path: &str) -> Result<HttpReply> {
        self.send(Method::GET, path, HeaderMap::new(), Bytes::new()).await?.success()
    }

    /// Posts JSON to `path`, successfully.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub async fn post(&self, path: &str, body: Bytes) -> Result<HttpReply> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(Method::POST, path, headers, body).await?.success()
    }

    /// Sends one request and reads the whole reply, whatever its status.
    ///
    /// # Errors
    /// `NotReady` for a server that is not reached or hangs up.
    pub async fn send(&self, method: Method, path: &str, headers: HeaderMap, body: Bytes) -> Result<HttpReply> {
        let reply = self.send_body(method, path, headers, whole(body)).await?;
        self.read(reply).await
    }

    /// Sends one request whose body may be a stream; the reply's body is still to be read.
    pub(crate) async fn send_body(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Sent,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        if let Asks::Fixed(Some(value)) = &self.asks {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let invalid =
            |error: ::http::uri::InvalidUri| Error::invalid_input("the request's path is not valid").with_source(error);
        *request.uri_mut() = self.base.url(path).parse().map_err(invalid)?;
        self.pool.request(request).await.map_err(|error| self.unreachable(&error))
    }

    /// Reads a reply to its end, up to a bound.
    pub(crate) async fn read(&self, reply: Response<Incoming>) -> Result<HttpReply> {
        let (parts, body) = reply.into_parts();
        let body = Limited::new(body, MAX_REPLY_BYTES).collect().await.map_err(|error| self.unreachable(&*error))?;
        Ok(HttpReply { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes() })
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> Error {
        let hint = match self.asks {
            Asks::Person => "is `salver serve` running there?",
            Asks::Fixed(_) => "is a tracking server running there?",
        };
        Error::not_ready(format!("no answer from {}: {}; {hint}", self.base, root(error)))
    }

    async fn infer_now(&self, request: InferRequest, ctx: &Context) -> Result<InferResponse> {
        let path = format!("/v2/models/{}/infer", paths::model(&request.model));
        let encoded = oip_rest::encode_request(&request, self.form)?;
        let headers = context_headers(ctx, encoded.header_len)?;
        let reply = self.send(Method::POST, &path, headers, encoded.body).await?.success()?;
        if let Some(job) = reply.job()? {
            return Err(job.not_yet());
        }
        let header_len = match reply.headers.get(HEADER_LEN) {
            Some(value) => Some(oip_rest::parse_header_len(value.to_str().unwrap_or_default())?),
            None => None,
        };
        let cache = cache::outcome(&reply.headers);
        let decoded = oip_rest::decode_response(reply.body, header_len).map_err(|error| {
            Error::engine(format!("the reply of {} to an inference request is not understood", self.base))
                .with_source(error)
        })?;
        let response = self.known.complete(decoded, async |model| self.metadata(&model).await).await?;
        Ok(InferResponse { cache, ..response })
    }
}

impl Infer for HttpClient {
    fn infer(&self, request: InferRequest, ctx: Context) -> BoxFuture<'_, Result<InferResponse>> {
        async move { within(ctx.deadline, self.infer_now(request, &ctx)).await }.boxed()
    }

    /// Describes what was fetched before, by [`HttpClient::metadata`] or with an answer.
    fn describe(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        self.known.describe(model)
    }
}

/// What goes out: a whole body, or one in pieces.
pub(crate) type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

/// Makes a body of bytes that are all there.
pub(crate) fn whole(body: Bytes) -> Sent {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn context_headers(ctx: &Context, header_len: Option<usize>) -> Result<HeaderMap> {
    let text = |name: &str, value: &str| {
        HeaderValue::from_str(value)
            .map_err(|_| Error::invalid_input(format!("{name} holds characters that a header cannot")))
    };
    let mut headers = HeaderMap::new();
    match header_len {
        Some(len) => {
            headers.insert(HEADER_LEN, HeaderValue::from(len));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        None => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
    }
    if !ctx.id.is_empty() {
        headers.insert("x-request-id", text("the request id", &ctx.id)?);
    }
    if let Some(trace) = &ctx.traceparent {
        headers.insert("traceparent", text("traceparent", trace)?);
    }
    if let Some(deadline) = ctx.deadline {
        headers.insert("x-salver-timeout-ms", HeaderValue::from(millis_left(deadline)));
    }
    cache::add_wish(&mut headers, ctx.cache);
    Ok(headers)
}

/// The innermost cause, which says most to a person: "Connection refused".
fn root(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let error = HttpClient::new(&addr.to_string()).unwrap().index().await.unwrap_err();
        assert_eq!(error.kind(), salver_core::ErrorKind::NotReady);
        assert!(error.message().contains(&addr.to_string()), "{error}");
    }
}
