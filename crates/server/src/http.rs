//! The HTTP routes, and what every handler does with a request's body and with its reply.

mod home;
mod mlflow_scoring;
pub(crate) mod oip;
mod plain;
mod tfserving;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::routing::{any, get, post};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use salver_core::{Context, Error, ErrorKind, ModelName, ModelRef, Result, Selector};
use salver_protocol::{Reply, oip_rest};

use crate::answer::{self, Answer, Protocol};
use crate::app::App;
use crate::body::{BodyError, collect};
use crate::call::{Call, MODEL_VERSION};
use crate::coding::{self, Coding, DecodeLimits};

const INFERENCE_HEADER_LEN: HeaderName = HeaderName::from_static(oip_rest::HEADER_LEN);

type AppState = State<Arc<App>>;

/// Every route. Whatever is not here is answered by [`unknown_route`].
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/", get(home::page))
        .route("/health", get(home::health))
        .route("/metrics", get(home::metrics))
        .route("/openapi.json", get(home::openapi))
        .route("/ping", get(mlflow_scoring::ping))
        .route("/version", get(mlflow_scoring::version))
        .route("/invocations", post(mlflow_scoring::invocations))
        .route("/models", get(plain::list))
        .route("/models/{model}", get(plain::describe))
        .route("/models/{model}/predict", post(plain::predict))
        .route("/models/{model}/versions/{version}", get(plain::describe))
        .route("/models/{model}/versions/{version}/predict", post(plain::predict))
        .route("/v1", any(tfserving::dispatch))
        .route("/v1/{*rest}", any(tfserving::dispatch));
    router = oip_routes(router);
    if app.options.constant_route {
        router = router.route("/bench/constant", post(home::constant));
    }
    router.fallback(unknown_route).method_not_allowed_fallback(wrong_method).with_state(app)
}

fn oip_routes(mut router: Router<Arc<App>>) -> Router<Arc<App>> {
    router = router
        .route("/v2", get(oip::server_metadata))
        .route("/v2/", get(oip::server_metadata))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
        .route("/v2/models", get(oip::model_list))
        .route("/v2/models/stats", get(oip::all_statistics))
        .route("/v2/repository/index", post(oip::repository_index))
        .route("/v2/repository/models/{model}/load", post(oip::load))
        .route("/v2/repository/models/{model}/unload", post(oip::unload))
        .route("/v2/cudasharedmemory/status", get(oip::no_cuda_regions));
    let of_model = [
        ("", get(oip::model_metadata)),
        ("/ready", get(oip::model_ready)),
        ("/config", get(oip::model_config)),
        ("/stats", get(oip::model_statistics)),
        ("/infer", post(oip::infer)),
    ];
    for (suffix, handler) in of_model {
        router = router
            .route(&format!("/v2/models/{{model}}{suffix}"), handler.clone())
            .route(&format!("/v2/models/{{model}}/versions/{{version}}{suffix}"), handler);
    }
    // Known to the protocol's clients, and not offered: they are told so instead of a bare 404.
    for path in [
        "/v2/models/{model}/generate",
        "/v2/models/{model}/generate_stream",
        "/v2/models/{model}/versions/{version}/generate",
        "/v2/models/{model}/versions/{version}/generate_stream",
        "/v2/models/{model}/trace/setting",
        "/v2/trace/setting",
        "/v2/logging",
        "/v2/systemsharedmemory/{*rest}",
    ] {
        router = router.route(path, any(oip::not_offered));
    }
    router
}

async fn unknown_route(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    if tfserving::is_path(path) {
        return tfserving::dispatch(State(app), request).await;
    }
    let shown: String = path.chars().take(200).collect();
    let error = Error::not_found(format!("no route '{shown}'; /openapi.json lists those there are"));
    plain_response(error_reply(path, &error))
}

/// axum adds the `Allow` header.
async fn wrong_method(request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let error = Error::invalid_input(format!("method {} is not allowed here", request.method()));
    let mut reply = error_reply(path, &error);
    reply.status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    plain_response(reply)
}

/// Renders an error in the shape that clients of the path expect.
fn error_reply(path: &str, error: &Error) -> Reply {
    match path.trim_start_matches('/').split('/').next() {
        Some("invocations" | "ping" | "version") => salver_protocol::mlflow_scoring::encode_error(error),
        Some("models") => salver_protocol::plain::encode_error(error),
        _ => oip_rest::encode_error(error),
    }
}

/// What a path says about the model, percent-decoded.
pub(crate) struct Target {
    model: Option<String>,
    version: Option<String>,
    is_utf8: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let params: Result<RawPathParams, RawPathParamsRejection> =
            RawPathParams::from_request_parts(parts, state).await;
        let mut target = Self { model: None, version: None, is_utf8: params.is_ok() };
        for (name, value) in params.iter().flatten() {
            match name {
                "model" => target.model = Some(value.to_owned()),
                "version" => target.version = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(target)
    }
}

impl Target {
    /// Returns the model's name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no model can have.
    pub(crate) fn name(&self) -> Result<ModelName> {
        if !self.is_utf8 {
            return Err(Error::invalid_input("the model name in the path is not UTF-8 once percent-decoded"));
        }
        ModelName::new(self.model.as_deref().unwrap_or_default())
    }

    /// Returns the model and version.
    ///
    /// # Errors
    /// `InvalidInput` for a name or version that none can have; `NotFound` for a version that is
    /// not written in digits, which is no route.
    pub(crate) fn model_ref(&self) -> Result<ModelRef> {
        let name = self.name()?;
        let Some(version) = &self.version else {
            return Ok(ModelRef::latest(name));
        };
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::not_found(format!("a version of model '{name}' is written in decimal digits only")));
        }
        match version.parse::<i64>() {
            Ok(number) => Ok(ModelRef::version(name, number.unsigned_abs())),
            Err(_) => Err(Error::invalid_input(format!("the version of model '{name}' does not fit 63 bits"))),
        }
    }

    /// Returns the model and version, where the name may be `NAME@ALIAS`.
    ///
    /// # Errors
    /// As [`Target::model_ref`].
    pub(crate) fn model_or_alias(&self) -> Result<ModelRef> {
        match self.model.as_deref().and_then(|model| model.split_once('@')) {
            Some((name, alias)) if self.version.is_none() => {
                let alias = ModelName::new(alias).map_err(|error| error.context("alias"))?;
                Ok(ModelRef { name: ModelName::new(name)?, selector: Selector::Label(alias.to_string()) })
            }
            _ => self.model_ref(),
        }
    }
}

/// Why a request did not get as far as the model, with what HTTP says beyond the error.
pub(crate) struct Refused {
    error: Error,
    /// Where it is not the one of the error's kind.
    status: Option<StatusCode>,
    /// Whether what is left on the connection cannot be trusted.
    closes: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, status: None, closes: false }
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::TooLarge { .. } => Self { closes: true, ..Error::too_large(message).into() },
            BodyError::NoRoom => Self { closes: true, ..no_room(message).into() },
            BodyError::TooSlow(_) => {
                let error = Error::new(ErrorKind::Deadline, message);
                Self { error, status: Some(StatusCode::REQUEST_TIMEOUT), closes: true }
            }
            BodyError::Broken(source) => {
                Self { closes: true, ..Error::invalid_input(message).with_source(source).into() }
            }
        }
    }
}

fn no_room(message: String) -> Error {
    Error::new(ErrorKind::Overloaded, message).with_retry_after(Duration::from_secs(1))
}

impl Refused {
    fn respond(&self, render: impl FnOnce(&Error) -> Reply) -> Response<Body> {
        let mut reply = render(&self.error);
        if let Some(status) = self.status {
            reply.status = status.as_u16();
        }
        let mut response = plain_response(reply);
        let headers = response.headers_mut();
        add_retry_after(headers, &self.error);
        if self.status == Some(StatusCode::UNSUPPORTED_MEDIA_TYPE) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn add_retry_after(headers: &mut HeaderMap, error: &Error) {
    if let Some(after) = error.retry_after() {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
}

/// Reads and decompresses a request's body.
async fn read_body(app: &App, call: &Call, headers: &HeaderMap, body: Body) -> Result<Bytes, Refused> {
    let Some(coding) = Coding::of_request(headers) else {
        let error = Error::invalid_input("the request's Content-Encoding is not one of gzip, deflate and identity");
        return Err(Refused { status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), ..error.into() });
    };
    let bytes = match collect(body).await {
        Ok(bytes) => bytes,
        Err(error) => return Err(body_error(error)),
    };
    let limits = app.limits();
    let limits = DecodeLimits { bytes: limits.body_bytes, ratio: limits.decompressed_ratio };
    let decoded = coding::decode(bytes, coding, limits).await?;
    if coding != Coding::Identity && !call.held.add(decoded.len()) {
        return Err(BodyError::NoRoom.into());
    }
    Ok(decoded)
}

fn body_error(error: axum::Error) -> Refused {
    match error.into_inner().downcast::<BodyError>() {
        Ok(error) => Refused::from(*error),
        Err(_) => Error::invalid_input("the request body cannot be read").into(),
    }
}

/// Reads the body within the time that the request itself allows.
async fn read_in_time(
    app: &App,
    call: &Call,
    ctx: &Context,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Refused> {
    let reading = read_body(app, call, headers, body);
    match ctx.deadline {
        None => reading.await,
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), reading).await {
            Ok(read) => read,
            Err(_) => Err(Refused { closes: true, ..answer::deadline_passed().into() }),
        },
    }
}

/// Answers an inference request over HTTP: `make` reads path and headers.
pub(crate) async fn infer<P>(
    app: &Arc<App>,
    request: Request<Body>,
    make: impl FnOnce(&Parts) -> Result<P>,
) -> Response<Body>
where
    P: Protocol<Raw = Bytes, Reply = Reply, Refusal = Reply>,
{
    let (parts, body) = request.into_parts();
    let call = call_of(app, &parts);
    let outcome = async {
        let ctx = call.context(&parts.headers)?;
        let protocol = make(&parts)?;
        let raw = read_in_time(app, &call, &ctx, &parts.headers, body).await?;
        Ok::<_, Refused>(answer::answer(app, protocol, raw, ctx).await?)
    };
    match outcome.await {
        Ok(Answer { reply, version }) => {
            let mut response = response(&parts.headers, reply).await;
            response.headers_mut().insert(MODEL_VERSION, HeaderValue::from(version));
            response
        }
        Err(refused) => refused.respond(P::encode_error),
    }
}

/// Answers a request that needs no model: `work` gets the body.
pub(crate) async fn manage<F: Future<Output = Result<Reply>>>(
    app: &Arc<App>,
    request: Request<Body>,
    work: impl FnOnce(Bytes) -> F,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let call = call_of(app, &parts);
    let outcome = async {
        let bytes = read_body(app, &call, &parts.headers, body).await?;
        Ok::<_, Refused>(work(bytes).await?)
    };
    match outcome.await {
        Ok(reply) => response(&parts.headers, reply).await,
        Err(refused) => {
            answer::log_failure(&call.id, &refused.error);
            refused.respond(oip_rest::encode_error)
        }
    }
}

fn call_of(app: &App, parts: &Parts) -> Call {
    // The edge has put it there; a request that comes another way gets one of its own.
    parts.extensions.get::<Call>().cloned().unwrap_or_else(|| Call::new(&parts.headers, &app.memory))
}

/// Makes a response of a reply, compressed if the request asks for it and it is no error.
pub(crate) async fn response(request: &HeaderMap, mut reply: Reply) -> Response<Body> {
    let coding = match Coding::for_reply(request) {
        wanted if reply.status < 300 && !reply.body.is_empty() => wanted,
        _ => Coding::Identity,
    };
    if coding == Coding::Identity {
        return plain_response(reply);
    }
    match coding::encode(reply.body.clone(), coding).await {
        Ok(coded) => reply.body = coded,
        Err(error) => return plain_response(oip_rest::encode_error(&error)),
    }
    let mut response = plain_response(reply);
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// Makes a response of a reply as it is.
pub(crate) fn plain_response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Some(len) = reply.inference_header_len {
        headers.insert(INFERENCE_HEADER_LEN, HeaderValue::from(len));
    }
    response
}

/// Makes a response of a result; an error is rendered by `render`.
pub(crate) fn reply_or(outcome: Result<Reply>, render: impl FnOnce(&Error) -> Reply) -> Response<Body> {
    match outcome {
        Ok(reply) => plain_response(reply),
        Err(error) => Refused::from(error).respond(render),
    }
}
