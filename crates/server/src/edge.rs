//! The outermost layer, the same for every request of every protocol.
//!
//! Checks the head against the limits, gives the request its id, bounds its body, sends it to the
//! gRPC services or the HTTP routes, and adds what every reply carries. A panic further in becomes
//! a 500 here.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use salver_core::BoxFuture;
use salver_protocol::Reply;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::Limits;
use crate::app::App;
use crate::body::{GuardedBody, MinRate};
use crate::call::{Call, REQUEST_ID};
use crate::connection::activity::{Activity, Busy};
use crate::connection::io::{HeadLength, HeadReport};
use crate::cors::Cors;
use crate::{browser, grpc, http as routes};

/// RFC 9113 §6.5.2: what a field costs beyond its name and value.
const FIELD_OVERHEAD: usize = 32;

const OTHER_HOST: &str = "the Host header names a host that is not this server's: start the server with \
                          --allowed-host NAME if it is";
const OTHER_ORIGIN: &str = "pages of other origins may change nothing here: start the server with --cors ORIGIN to \
                            allow those of ORIGIN";

/// What the edge knows of the connection that a request came on.
#[derive(Clone)]
pub(crate) struct Peer {
    pub activity: Arc<Activity>,
    pub head_report: Arc<HeadReport>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// The outermost service.
pub(crate) struct Edge {
    app: Arc<App>,
    /// Where requests are answered that may keep their thread busy; none: where they came in.
    elsewhere: Option<Handle>,
    http: Router,
    grpc: Router,
}

/// Which family of routes a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Http(&'static str),
    Grpc,
    GrpcStream,
}

impl Edge {
    /// Builds the routes.
    pub(crate) fn new(app: Arc<App>, elsewhere: Option<Handle>) -> Self {
        let (http, grpc) = (routes::router(app.clone()), grpc::router(&app));
        Self { app, elsewhere, http, grpc }
    }

    /// Returns the bounds on requests and connections.
    pub(crate) fn limits(&self) -> &Limits {
        self.app.limits()
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Response<ReplyBody> {
        let mut busy = peer.activity.begin();
        let call = Call { address: peer.address, ..Call::new(request.headers(), &self.app.memory) };
        let family = Family::of(&request);
        let is_http1 = request.version() < Version::HTTP_2;
        let origin = self.app.cors.allowed(request.headers());
        let access = AccessLog::new(&call, &request);
        let framing = check_framing(&peer, &request);
        let (mut response, is_refused) = match self.refusal(family, framing, &request) {
            Some(refusal) => (refusal.respond(family), true),
            None => {
                let routed = AssertUnwindSafe(self.route(family, &call, request)).catch_unwind().await;
                (routed.unwrap_or_else(|_| panicked(&call, family)), false)
            }
        };

        self.decorate(&call, origin, response.headers_mut());
        if is_http1 {
            self.decide_end(&peer, is_refused || framing != Framing::Sound, response.headers_mut());
        }
        self.app.services.metrics.count_request(family.label(), code_of(family, &response));
        access.write(&response);
        // A stream of calls may be silent for long; a single reply is to be read.
        if family != Family::GrpcStream {
            busy.replying();
        }
        let comes_in_pieces = response.extensions().get::<routes::EventStream>().is_some();
        response.map(|inner| ReplyBody { inner, busy, comes_in_pieces })
    }

    fn refusal(&self, family: Family, framing: Framing, request: &Request<Incoming>) -> Option<Refusal> {
        if let Framing::Refused(message) = framing {
            return Some(refuse(400, message));
        }
        check_head(self.limits(), request).or_else(|| self.check_browser(family, request))
    }

    /// No browser speaks gRPC.
    fn check_browser(&self, family: Family, request: &Request<Incoming>) -> Option<Refusal> {
        if !matches!(family, Family::Http(_)) {
            return None;
        }
        if !self.app.hosts.allow(request) {
            return Some(refuse(403, OTHER_HOST));
        }
        browser::is_foreign(request, &self.app.cors).then(|| refuse(403, OTHER_ORIGIN))
    }

    fn decorate(&self, call: &Call, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if let Ok(mut id) = HeaderValue::from_str(&call.id) {
            // No secret, but never the same again: HTTP/2 leaves it out of the table of headers that
            // come back, where each would drive out one that does.
            id.set_sensitive(true);
            headers.insert(REQUEST_ID, id);
        }
        self.app.cors.decorate(origin, headers);
    }

    /// Says whether the HTTP/1 connection goes on, and what becomes of a request not read to its end.
    fn decide_end(&self, peer: &Peer, is_unsound: bool, headers: &mut HeaderMap) {
        let leaves_unread = is_unsound || headers.contains_key(CONNECTION);
        if leaves_unread {
            peer.activity.leave_unread();
        }
        if leaves_unread || self.app.shutdown.is_draining() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Sends a request to where its answer is made. Boxed, because a connection makes room for the
    /// largest of these futures and moves it with each request.
    fn route<'a>(
        &'a self,
        family: Family,
        call: &'a Call,
        mut request: Request<Incoming>,
    ) -> BoxFuture<'a, Response<Body>> {
        if self.app.cors.is_preflight(request.method(), request.headers()) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Cors::permit(response.headers_mut());
            return Box::pin(std::future::ready(response));
        }
        let limits = self.limits();
        let rate = MinRate {
            window: limits.body_grace,
            bytes: (limits.min_body_rate as f64 * limits.body_grace.as_secs_f64()) as usize,
        };
        let guard = |body, limit| GuardedBody::new(body, limit, Some(rate), call.held.clone());
        if let (Family::Http(_), Some(target)) = (family, routes::direct(&request)) {
            let request = request.map(|body| Body::new(guard(body, limits.body_bytes)));
            return routes::infer(&self.app, target, call, request);
        }
        request.extensions_mut().insert(call.clone());
        let certain = |routed: Result<_, Infallible>| routed.unwrap_or_else(|never| match never {});
        match family {
            Family::Http(_) => {
                let elsewhere = self.elsewhere.as_ref().filter(|_| routes::may_take_long(request.uri().path()));
                let is_upload = routes::is_upload(&request);
                let request = match is_upload {
                    // A file goes to its place as it comes: its size has no limit, only its speed.
                    true => request.map(|body| Body::new(GuardedBody::passing(body, Some(rate)))),
                    false => request.map(|body| Body::new(guard(body, limits.body_bytes))),
                };
                let http = self.http.clone();
                match elsewhere {
                    Some(elsewhere) => Box::pin(async move {
                        let request = if is_upload { request } else { begin_reading(request).await };
                        run_on(elsewhere, http.oneshot(request).map(certain)).await
                    }),
                    None => Box::pin(http.oneshot(request).map(certain)),
                }
            }
            // A stream is as long as its client wants; each of its messages is bounded by tonic.
            Family::GrpcStream => Box::pin(self.grpc.clone().oneshot(request.map(Body::new)).map(certain)),
            Family::Grpc => {
                let limit = grpc::body_limit(limits);
                let request = request.map(|body| Body::new(grpc::guard(guard(body, limit))));
                let routed = self.grpc.clone().oneshot(request).map(certain);
                Box::pin(routed.map(grpc::correct_status))
            }
        }
    }
}

/// Reads what comes first of a body, which of most is all. A connection ends where a request's body
/// is still under way when it is answered; elsewhere, an answer that needs no body is made at once.
async fn begin_reading(request: Request<Body>) -> Request<Body> {
    let (parts, mut body) = request.into_parts();
    // Who waits to be told to go on may be refused first.
    if body.is_end_stream() || parts.headers.contains_key(EXPECT) {
        return Request::from_parts(parts, body);
    }
    let body = match body.frame().await.map(|frame| frame.map(Frame::into_data)) {
        None => Body::empty(),
        Some(Ok(Ok(data))) if body.is_end_stream() => Body::from(data),
        Some(first) => {
            let first = first.map(|data| Frame::data(data.unwrap_or_default()));
            let frames = stream::iter([first]).chain(BodyStream::new(body));
            // What is wrong with a body is told from the error itself.
            Body::new(StreamBody::new(frames.map_err(axum::Error::into_inner)))
        }
    };
    Request::from_parts(parts, body)
}

/// Answers a request on another runtime. Dropped, it goes no further there.
async fn run_on(runtime: &Handle, answer: impl Future<Output = Response<Body>> + Send + 'static) -> Response<Body> {
    let mut task = JoinSet::new();
    task.spawn_on(answer, runtime);
    match task.join_next().await {
        Some(Ok(response)) => response,
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => refuse(503, "the server is stopping").respond(Family::Http("other")),
    }
}

impl Family {
    fn of(request: &Request<Incoming>) -> Self {
        let path = request.uri().path();
        let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if request.version() == Version::HTTP_2 && grpc::is_grpc(content_type) {
            return if grpc::is_streaming(path) { Self::GrpcStream } else { Self::Grpc };
        }
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        Self::Http(match first {
            "v2" => "oip",
            "v1" => "tfserving",
            "invocations" | "ping" | "version" => "mlflow",
            "models" => "plain",
            "api" | "ajax-api" if path.contains("/mlflow") => "mlflow",
            _ => "other",
        })
    }

    fn label(self) -> &'static str {
        match self {
            Self::Http(label) => label,
            Self::Grpc | Self::GrpcStream => "grpc",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// One length, or none.
    Sound,
    /// Doubtful, and why: what one side takes for a body, another may take for a request.
    Refused(&'static str),
    /// Chunked, and the raw head was not seen; the connection is closed after the reply.
    Unseen,
}

fn check_framing(peer: &Peer, request: &Request<Incoming>) -> Framing {
    if request.version() >= Version::HTTP_2 {
        return Framing::Sound;
    }
    // Taken for every request, so that no report is left for a later one.
    let head = peer.head_report.take();
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Framing::Sound;
    };
    // hyper undoes one `chunked` and leaves what stands before it in the body.
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Framing::Refused("the only Transfer-Encoding taken is chunked, once");
    }
    match head {
        HeadLength::Absent => Framing::Sound,
        HeadLength::Present => Framing::Refused("Content-Length and Transfer-Encoding together are refused"),
        HeadLength::Unseen => Framing::Unseen,
    }
}

/// A reply to a request that no route has seen.
struct Refusal {
    status: u16,
    message: &'static str,
}

fn refuse(status: u16, message: &'static str) -> Refusal {
    Refusal { status, message }
}

impl Refusal {
    fn respond(self, family: Family) -> Response<Body> {
        match family {
            Family::Http(_) => {
                let body = serde_json::json!({ "error": self.message });
                routes::plain_response(Reply::json_value(self.status, &body))
            }
            Family::Grpc | Family::GrpcStream => {
                let code = match self.status {
                    400 => tonic::Code::InvalidArgument,
                    500 => tonic::Code::Internal,
                    _ => tonic::Code::ResourceExhausted,
                };
                tonic::Status::new(code, self.message).into_http()
            }
        }
    }
}

fn check_head(limits: &Limits, request: &Request<Incoming>) -> Option<Refusal> {
    let uri_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri_bytes > limits.uri_bytes {
        return Some(refuse(414, "the path and query are longer than the server allows"));
    }
    if request.headers().len() > limits.headers {
        return Some(refuse(431, "there are more header fields than the server allows"));
    }
    let header_bytes = header_bytes(request.headers());
    (header_bytes > limits.header_bytes).then(|| refuse(431, "the header fields are larger than the server allows"))
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum()
}

fn panicked(call: &Call, family: Family) -> Response<Body> {
    tracing::error!(request_id = &*call.id, "the handler of a request panicked");
    refuse(500, "the server made a mistake; its log tells more under this request's id").respond(family)
}

/// Returns the HTTP status, or the gRPC code where it is known when the reply begins.
fn code_of(family: Family, response: &Response<Body>) -> u16 {
    match family {
        Family::Http(_) => response.status().as_u16(),
        Family::Grpc | Family::GrpcStream => {
            let status = response.headers().get("grpc-status").and_then(|value| value.to_str().ok());
            status.and_then(|code| code.parse().ok()).unwrap_or(0)
        }
    }
}

/// One line per request at debug level; costs nothing where that is off.
struct AccessLog(Option<Access>);

struct Access {
    call: Call,
    method: http::Method,
    path: String,
}

impl AccessLog {
    fn new(call: &Call, request: &Request<Incoming>) -> Self {
        let is_wanted = tracing::enabled!(target: "salver::access", tracing::Level::DEBUG);
        Self(is_wanted.then(|| Access {
            call: call.clone(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }))
    }

    fn write(self, response: &Response<Body>) {
        let Some(Access { call, method, path }) = self.0 else {
            return;
        };
        tracing::debug!(
            target: "salver::access",
            request_id = &*call.id,
            traceparent = call.traceparent.as_deref(),
            %method,
            path,
            status = response.status().as_u16(),
            took_us = call.started.elapsed().as_micros() as u64,
            "request"
        );
    }
}

/// A reply's body; the request counts as open until it is gone.
pub(crate) struct ReplyBody {
    inner: Body,
    busy: Busy,
    /// Whether the peer may have read all there is, and waits for more.
    comes_in_pieces: bool,
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if self.comes_in_pieces {
            match polled {
                Poll::Pending => self.busy.working(),
                Poll::Ready(_) => self.busy.replying(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
