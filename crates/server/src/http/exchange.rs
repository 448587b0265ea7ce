//! What every handler does with a request's body and with its reply: reading within the limits,
//! codings, statuses and headers. It knows no protocol and no route.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use salver_core::{CacheOutcome, Context, Cost, Deferred, Error, ErrorKind, ModelRef, Result};
use salver_jobs::Content;
use salver_protocol::{Reply, oip_rest};

use crate::answer::{self, Answer, Answered, Pieces, Protocol};
use crate::app::App;
use crate::body::{BodyError, collect};
use crate::call::{CACHE, COST, Call, MODEL_VERSION};
use crate::coding::{self, Coding, DecodeLimits};

/// Where the JSON part of a body ends.
pub(super) const INFERENCE_HEADER_LEN: HeaderName = HeaderName::from_static(oip_rest::HEADER_LEN);

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
        add_cost(headers, self.error.cost());
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

/// Tells what others charged, if anybody did.
fn add_cost(headers: &mut HeaderMap, cost: Option<Cost>) {
    // A decimal number is always a good header.
    if let Some(value) = cost.and_then(|cost| HeaderValue::try_from(cost.to_string()).ok()) {
        headers.insert(COST, value);
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
    if coding == Coding::Identity {
        return Ok(bytes);
    }
    let decoded = Box::pin(coding::decode(bytes, coding, limits)).await?;
    if !call.held.add(decoded.len()) {
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
        Some(deadline) => match Box::pin(tokio::time::timeout_at(deadline.into(), reading)).await {
            Ok(read) => read,
            Err(_) => Err(Refused { closes: true, ..answer::deadline_passed().into() }),
        },
    }
}

/// Answers an inference request over HTTP: `make` reads path and headers.
pub(crate) async fn infer<P>(
    app: &Arc<App>,
    request: Request<Body>,
    make: impl FnOnce(&Parts) -> Result<P> + Send,
) -> Response<Body>
where
    P: Protocol<Raw = Bytes, Reply = Reply, Refusal = Reply>,
{
    let call = call_of(app, &request);
    infer_for(app, &call, request, make).await
}

/// Answers an inference request of which the edge has noted `call`.
pub(crate) fn infer_for<P>(
    app: &Arc<App>,
    call: &Call,
    request: Request<Body>,
    make: impl FnOnce(&Parts) -> Result<P> + Send,
) -> impl Future<Output = Response<Body>> + Send
where
    P: Protocol<Raw = Bytes, Reply = Reply, Refusal = Reply>,
{
    let (parts, body) = request.into_parts();
    async move {
        let refused = |refused: Refused| refused.respond(P::encode_error);
        let (protocol, ctx) = match call.context(&parts.headers).and_then(|ctx| Ok((make(&parts)?, ctx))) {
            Ok(asked) => asked,
            Err(error) => return refused(error.into()),
        };
        let raw = match read_in_time(app, call, &ctx, &parts.headers, body).await {
            Ok(raw) => raw,
            Err(why) => return refused(why),
        };
        // Boxed, as it is rare: the others need not carry room for it.
        let job = protocol.job_of(&raw, app).map(Box::new);
        let answered = match &job {
            None => answer::answer(app, protocol, raw, ctx).await.map(Answered::Now),
            Some(_) => Box::pin(answer::answer_or_defer(app, protocol, raw, ctx)).await,
        };
        let Answer { reply, version, cache, cost } = match (answered, job) {
            (Ok(Answered::Now(answer)), _) => answer,
            (Ok(Answered::Later(deferred)), Some(job)) => {
                return Box::pin(left_to_job(app, call, &parts.headers, &deferred, *job, refused)).await;
            }
            (Ok(Answered::Later(_)), None) => return refused(Error::engine("a job without a question").into()),
            (Err(error), _) => return refused(error.into()),
        };
        let mut response = response(&parts.headers, reply).await;
        let headers = response.headers_mut();
        headers.insert(MODEL_VERSION, HeaderValue::from(version));
        if let Some(outcome) = cache {
            headers.insert(CACHE, HeaderValue::from_static(outcome.as_str()));
        }
        add_cost(headers, cost);
        response
    }
}

/// Answers with the job that a request is left to.
async fn left_to_job(
    app: &Arc<App>,
    call: &Call,
    headers: &HeaderMap,
    deferred: &Deferred,
    (model, content): (ModelRef, Content),
    refused: impl FnOnce(Refused) -> Response<Body>,
) -> Response<Body> {
    let handed_out = async {
        let caller = super::jobs::caller_of(app, headers, call.address)?;
        super::deferred::hand_out(app, deferred, model, content, caller).await
    };
    let reply = match handed_out.await {
        Ok(reply) => reply,
        Err(error) => {
            answer::log_failure(&call.id, call.traceparent.as_deref(), &error);
            return refused(error.into());
        }
    };
    let mut response = plain_response(reply);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(MODEL_VERSION, HeaderValue::from(deferred.model.version));
    headers.insert(CACHE, HeaderValue::from_static(CacheOutcome::Miss.as_str()));
    response
}

/// Answers an inference request with events, one for each piece of the answer. What fails before the
/// first is an ordinary error; later failures are rendered by `render`, as events.
///
/// The connection takes an event when its client has room for it, and then the next one is made.
pub(super) async fn events<P>(
    app: &Arc<App>,
    request: Request<Body>,
    make: impl FnOnce(&Parts) -> Result<P> + Send,
    render: fn(&Error) -> Reply,
) -> Response<Body>
where
    P: Protocol<Raw = Bytes, Reply = Reply, Refusal = Reply> + Sync,
{
    let call = call_of(app, &request);
    let (parts, body) = request.into_parts();
    let asked = async {
        let ctx = call.context(&parts.headers)?;
        let protocol = make(&parts)?;
        let raw = read_in_time(app, &call, &ctx, &parts.headers, body).await?;
        let answered = answer::pieces(app, protocol, raw, ctx).await;
        Ok(answered.inspect_err(|error| answer::log_failure(&call.id, call.traceparent.as_deref(), error))?)
    };
    match asked.await {
        Ok(pieces) => event_stream(pieces, call, render),
        Err(refused) => Refused::respond(&refused, P::encode_error),
    }
}

fn event_stream(pieces: Pieces<Reply>, call: Call, render: fn(&Error) -> Reply) -> Response<Body> {
    let Pieces { first, rest, version, cost } = pieces;
    let content_type = first.content_type;
    let rest = rest.map(move |piece| match piece {
        Ok(reply) => reply.body,
        Err(error) => {
            answer::log_failure(&call.id, call.traceparent.as_deref(), &error);
            render(&error).body
        }
    });
    let events = stream::once(std::future::ready(first.body)).chain(rest);
    let mut response = Response::new(Body::from_stream(events.map(Ok::<_, Infallible>)));
    response.extensions_mut().insert(EventStream);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(MODEL_VERSION, HeaderValue::from(version));
    add_cost(headers, cost);
    response
}

/// Marks a response whose body comes in pieces, with silence between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventStream;

/// Answers a request that needs no model: `work` gets the body.
///
/// The reply is never compressed. As Triton's: its asyncio client asks for compression with every
/// request, and undoes it only where the reply is one of inference.
pub(crate) async fn manage<F: Future<Output = Result<Reply>>>(
    app: &Arc<App>,
    mut request: Request<Body>,
    work: impl FnOnce(Bytes) -> F,
) -> Response<Body> {
    request.headers_mut().remove(ACCEPT_ENCODING);
    manage_as(app, request, oip_rest::encode_error, work).await
}

/// The same, with errors in the shape that the protocol's clients read.
pub(crate) async fn manage_as<F: Future<Output = Result<Reply>>>(
    app: &Arc<App>,
    request: Request<Body>,
    render: impl FnOnce(&Error) -> Reply,
    work: impl FnOnce(Bytes) -> F,
) -> Response<Body> {
    let call = call_of(app, &request);
    let (parts, body) = request.into_parts();
    let outcome = async {
        let bytes = read_body(app, &call, &parts.headers, body).await?;
        Ok::<_, Refused>(work(bytes).await?)
    };
    match outcome.await {
        Ok(reply) => response(&parts.headers, reply).await,
        Err(refused) => {
            answer::log_failure(&call.id, call.traceparent.as_deref(), &refused.error);
            refused.respond(render)
        }
    }
}

/// Returns what the edge has noted of a request; one that comes another way gets a note of its own.
pub(crate) fn call_of(app: &App, request: &Request<Body>) -> Call {
    request.extensions().get::<Call>().cloned().unwrap_or_else(|| Call::new(request.headers(), &app.memory))
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
    match Box::pin(coding::encode(reply.body.clone(), coding)).await {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::*;
    use crate::memory::Memory;

    #[tokio::test]
    async fn events_are_made_when_they_are_taken_and_a_failure_is_one() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let rest = stream::iter(0..).map(move |number: usize| {
            counted.fetch_add(1, Ordering::Relaxed);
            if number == 2 { Err(Error::engine("it broke")) } else { Ok(Reply::text(200, format!("{number};"))) }
        });
        let pieces = Pieces { first: Reply::text(200, "first;"), rest: rest.boxed(), version: 3, cost: None };
        let call = Call::new(&HeaderMap::new(), &Memory::new(0));
        let mut body = event_stream(pieces, call, oip_rest::encode_error_event).into_body();
        let mut taken = Vec::new();
        for (idx, expected) in ["first;", "0;", "1;", "data: {\"error\":\"it broke\"}\n\n"].iter().enumerate() {
            taken.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
            assert_eq!(taken[idx], expected);
            assert_eq!(made.load(Ordering::Relaxed), idx, "nothing is made ahead");
        }
    }
}
