//! The one skeleton of every inference request: decode, infer within the deadline, encode. One that
//! is answered in pieces has the same steps, and encodes a piece when its client takes it.
//!
//! A protocol says only how its bytes become an [`InferRequest`] and how an [`InferResponse`] or
//! an error becomes its reply. Deadlines, logs and where heavy work runs are settled here, once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::Either;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use salver_core::{
    Bill, CacheOutcome, Context, Cost, Deferred, Error, ErrorKind, InferRequest, InferResponse, Inferred, ModelRef,
    Result, Tensor,
};
use salver_jobs::Content;

use crate::app::App;
use crate::coding::offload;

/// Work that takes longer than copying so many bytes is done away from the async threads.
pub(crate) const OFFLOAD_BYTES: usize = 1 << 20;

/// About how many bytes are copied while one byte of text is read or written.
const TEXT_COSTS: usize = 16;
/// About how many bytes of text a byte of a number makes.
const TEXT_OF_NUMBER: usize = 4;

/// Returns how long `len` bytes of text take, as the number of bytes that are copied meanwhile.
pub(crate) fn text_work(len: usize) -> usize {
    len.saturating_mul(TEXT_COSTS)
}

/// Returns how long it takes to write tensors of `len` bytes as text, in the same way.
pub(crate) fn number_work(len: usize) -> usize {
    text_work(len.saturating_mul(TEXT_OF_NUMBER))
}

/// Returns the bytes of all outputs.
pub(crate) fn payload_len(response: &InferResponse) -> usize {
    response.outputs.iter().map(Tensor::payload_len).sum()
}

/// How one protocol's requests become core requests and back. One value serves one request.
pub(crate) trait Protocol: Send + Sized + 'static {
    /// What the socket gave.
    type Raw: Send + 'static;
    /// What the socket takes.
    type Reply: Send + 'static;
    /// What the socket takes instead, after an error.
    type Refusal;

    /// Returns about how long a raw request takes to decode, as the number of bytes that are copied
    /// meanwhile.
    fn decode_work(&self, raw: &Self::Raw) -> usize;

    /// Returns about how long a reply takes to encode, in the same way. Most are text.
    fn encode_work(&self, response: &InferResponse) -> usize {
        number_work(payload_len(response))
    }

    /// Returns the model that has to be described to decode the request, if one has to be.
    fn described(&self) -> Option<&ModelRef> {
        None
    }

    /// Decodes a request and keeps what the reply will need.
    ///
    /// # Errors
    /// Whatever the protocol finds wrong.
    fn decode(&mut self, raw: Self::Raw, app: &App) -> Result<InferRequest>;

    /// Returns how many bytes of a decoded request are still to be copied from elsewhere than its body.
    fn missing(&self) -> usize {
        0
    }

    /// Copies what is missing into the request.
    ///
    /// # Errors
    /// Where it is not there any more.
    fn complete(&mut self, request: &mut InferRequest) -> Result<()> {
        let _ = request;
        Ok(())
    }

    /// Returns what a job would ask, where the model may leave the question to one.
    fn job_of(&self, raw: &Self::Raw, app: &App) -> Option<(ModelRef, Content)> {
        let _ = (raw, app);
        None
    }

    /// Encodes a reply.
    ///
    /// # Errors
    /// `InvalidInput` where the protocol has no form for an output.
    fn encode(&self, response: &InferResponse) -> Result<Self::Reply>;

    /// Renders an error in the protocol's own shape.
    fn encode_error(error: &Error) -> Self::Refusal;
}

/// A reply and what made it.
pub(crate) struct Answer<R> {
    pub reply: R,
    pub version: u64,
    /// None where the model's answers are not cached.
    pub cache: Option<CacheOutcome>,
    /// What others charged; none: nobody did.
    pub cost: Option<Cost>,
}

/// Answers one request. A context without a deadline gets the default one.
///
/// # Errors
/// Those of the three steps; `Deadline` when time is up first.
pub(crate) fn answer<P: Protocol>(
    app: &Arc<App>,
    protocol: P,
    raw: P::Raw,
    mut ctx: Context,
) -> impl Future<Output = Result<Answer<P::Reply>>> + Send {
    let (started, is_asked_for) = (Instant::now(), ctx.deadline.is_some());
    let deadline = ctx.deadline.unwrap_or_else(|| started + app.limits().default_deadline);
    ctx.deadline = Some(deadline);
    let (id, trace) = (ctx.id.clone(), ctx.traceparent.clone());
    // `infer` keeps the deadline itself. A timer over all steps is for those who asked for one, and
    // for requests whose other steps wait too; the rest need not pay for it.
    let needs_timer = is_asked_for || protocol.decode_work(&raw) >= OFFLOAD_BYTES;
    let bill = needs_timer.then(|| bill_of(&mut ctx));
    let steps = run_steps(app, protocol, raw, ctx, started);
    let in_time = if let Some(bill) = bill {
        let timed = tokio::time::timeout_at(deadline.into(), steps);
        Either::Left(Box::pin(timed.map(move |done| done.unwrap_or_else(|_| Err(too_late(&bill))))))
    } else {
        Either::Right(steps)
    };
    in_time.map(move |outcome| outcome.inspect_err(|error| log_failure(&id, trace.as_deref(), error)))
}

// What is rare is boxed, so that each request need not carry room for it: these futures are moved
// several times, and small ones are quick to allocate.
async fn run_steps<P: Protocol>(
    app: &Arc<App>,
    mut protocol: P,
    raw: P::Raw,
    ctx: Context,
    mut started: Instant,
) -> Result<Answer<P::Reply>> {
    if let Some(wake) = protocol.described().and_then(|model| app.services.infer.wake(model, ctx.deadline)) {
        wake.await?;
        started = Instant::now();
    }
    let mut request = if protocol.decode_work(&raw) < OFFLOAD_BYTES {
        protocol.decode(raw, app)?
    } else {
        let decoding = decode_elsewhere(app.clone(), protocol, raw);
        let (back, request) = Box::pin(decoding).await?;
        protocol = back;
        request?
    };
    if protocol.missing() > 0 {
        (protocol, request) = Box::pin(complete(protocol, request)).await?;
    }
    let decode = started.elapsed();
    let trace = app.traces.begin(&request, &ctx.id);
    let outcome = app.services.infer.infer(request, ctx).await;
    let response = match trace {
        None => outcome?,
        Some(trace) => trace.end(decode, outcome)?,
    };
    finish(protocol, response, decode).await
}

/// Encodes the answer, elsewhere if that takes long.
async fn finish<P: Protocol>(protocol: P, response: InferResponse, decode: Duration) -> Result<Answer<P::Reply>> {
    let (version, cache, cost) = (response.model.version, response.cache, response.cost);
    let reply = if protocol.encode_work(&response) < OFFLOAD_BYTES {
        encode(&protocol, response, decode)
    } else {
        Box::pin(offload(move || encode(&protocol, response, decode))).await.and_then(|encoded| encoded)
    };
    // What cannot be told was paid for nevertheless.
    let reply = reply.map_err(|error| if cost.is_some() { error.with_cost(cost) } else { error })?;
    Ok(Answer { reply, version, cache, cost })
}

/// What became of a request that a job may answer.
pub(crate) enum Answered<R> {
    /// It was answered, as any.
    Now(Answer<R>),
    /// It is left to a job, which is to be handed out.
    Later(Deferred),
}

/// Answers one request, unless the model leaves it to a job. A context without a deadline gets the
/// default one.
///
/// # Errors
/// Those of [`answer`].
pub(crate) async fn answer_or_defer<P: Protocol>(
    app: &Arc<App>,
    protocol: P,
    raw: P::Raw,
    mut ctx: Context,
) -> Result<Answered<P::Reply>> {
    let (id, trace) = (ctx.id.clone(), ctx.traceparent.clone());
    let deadline = ctx.deadline.unwrap_or_else(|| Instant::now() + app.limits().default_deadline);
    ctx.deadline = Some(deadline);
    let bill = bill_of(&mut ctx);
    let steps = async {
        if let Some(wake) = protocol.described().and_then(|model| app.services.infer.wake(model, ctx.deadline)) {
            wake.await?;
        }
        let started = Instant::now();
        let (protocol, request) = read(app, protocol, raw).await?;
        let decode = started.elapsed();
        let trace = app.traces.begin(&request, &ctx.id);
        let response = match (app.services.infer.infer_or_defer(request, ctx).await, trace) {
            (Ok(Inferred::Later(deferred)), _) => return Ok(Answered::Later(deferred)),
            (Ok(Inferred::Now(response)), None) => response,
            (Ok(Inferred::Now(response)), Some(trace)) => trace.end(decode, Ok(response))?,
            (Err(error), None) => return Err(error),
            (Err(error), Some(trace)) => trace.end(decode, Err(error))?,
        };
        finish(protocol, response, decode).await.map(Answered::Now)
    };
    let outcome = tokio::time::timeout_at(deadline.into(), steps).await.unwrap_or_else(|_| Err(too_late(&bill)));
    outcome.inspect_err(|error| log_failure(&id, trace.as_deref(), error))
}

/// What answers one request bit by bit.
pub(crate) struct Pieces<R> {
    /// What came first: until then, a failure is that of the whole request.
    pub first: R,
    /// What follows. Nothing is made ahead: the next piece is asked for when this one is taken.
    pub rest: BoxStream<'static, Result<R>>,
    pub version: u64,
    /// What others charged for the first; none: nobody did.
    pub cost: Option<Cost>,
}

/// Answers one request in pieces. A context without a deadline gets the default one.
///
/// # Errors
/// Those of decoding, and what becomes of the first piece.
pub(crate) async fn pieces<P: Protocol + Sync>(
    app: &Arc<App>,
    protocol: P,
    raw: P::Raw,
    mut ctx: Context,
) -> Result<Pieces<P::Reply>> {
    let started = Instant::now();
    ctx.deadline = Some(ctx.deadline.unwrap_or_else(|| started + app.limits().default_deadline));
    if let Some(wake) = protocol.described().and_then(|model| app.services.infer.wake(model, ctx.deadline)) {
        wake.await?;
    }
    let (protocol, request) = read(app, protocol, raw).await?;
    let decode = started.elapsed();
    let trace = app.traces.begin(&request, &ctx.id);
    let mut responses = app.services.infer.clone().infer_stream(request, ctx);
    let first = responses.next().await.unwrap_or_else(|| Err(Error::engine("the model ended without an answer")));
    let first = match trace {
        None => first?,
        Some(trace) => trace.end(decode, first)?,
    };
    let (version, cost, protocol) = (first.model.version, first.cost, Arc::new(protocol));
    let first = piece(protocol.clone(), first, decode).await?;
    let rest = responses.then(move |response| {
        let protocol = protocol.clone();
        async move { piece(protocol, response?, Duration::ZERO).await }
    });
    Ok(Pieces { first, rest: rest.boxed(), version, cost })
}

async fn piece<P: Protocol + Sync>(protocol: Arc<P>, response: InferResponse, decode: Duration) -> Result<P::Reply> {
    match protocol.encode_work(&response) < OFFLOAD_BYTES {
        true => encode(&*protocol, response, decode),
        false => offload(move || encode(&*protocol, response, decode)).await?,
    }
}

/// Decodes a request, elsewhere if that takes long.
async fn read<P: Protocol>(app: &Arc<App>, mut protocol: P, raw: P::Raw) -> Result<(P, InferRequest)> {
    if protocol.decode_work(&raw) < OFFLOAD_BYTES {
        let request = protocol.decode(raw, app)?;
        return complete(protocol, request).await;
    }
    let (protocol, request) = decode_elsewhere(app.clone(), protocol, raw).await?;
    complete(protocol, request?).await
}

/// Copies what is missing in a decoded request, elsewhere if that takes long.
async fn complete<P: Protocol>(mut protocol: P, mut request: InferRequest) -> Result<(P, InferRequest)> {
    if protocol.missing() < OFFLOAD_BYTES {
        protocol.complete(&mut request)?;
        return Ok((protocol, request));
    }
    offload(move || {
        protocol.complete(&mut request)?;
        Ok((protocol, request))
    })
    .await?
}

/// Decodes away from the async threads, and gives the protocol back: it has the reply to encode.
async fn decode_elsewhere<P: Protocol>(
    app: Arc<App>,
    mut protocol: P,
    raw: P::Raw,
) -> Result<(P, Result<InferRequest>)> {
    let decode = move || {
        let request = protocol.decode(raw, &app);
        (protocol, request)
    };
    offload(decode).await
}

/// Encodes a reply and tells the model's observer how long both ways took.
fn encode<P: Protocol>(protocol: &P, response: InferResponse, decode: Duration) -> Result<P::Reply> {
    let started = Instant::now();
    let reply = protocol.encode(&response)?;
    if let Some(observer) = &response.model.observer {
        observer.protocol(decode, started.elapsed());
    }
    Ok(reply)
}

/// Returns the bill of a request, which outlives its steps.
fn bill_of(ctx: &mut Context) -> Arc<Bill> {
    ctx.bill.get_or_insert_with(|| Bill::part_of(None)).clone()
}

/// Says that time is up, and what was charged by then.
fn too_late(bill: &Bill) -> Error {
    deadline_passed().with_cost(Some(bill.total()).filter(|total| *total > Cost::ZERO))
}

/// Says that time is up.
pub(crate) fn deadline_passed() -> Error {
    Error::new(ErrorKind::Deadline, "the deadline passed before the answer was there")
}

/// Logs what somebody has to look into; the rest is the client's to know.
pub(crate) fn log_failure(id: &str, traceparent: Option<&str>, error: &Error) {
    match error.kind() {
        ErrorKind::Engine | ErrorKind::Full => tracing::error!(request_id = id, traceparent, ?error, "request failed"),
        ErrorKind::InvalidInput
        | ErrorKind::TooLarge
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Overloaded
        | ErrorKind::NotReady
        | ErrorKind::Deadline
        | ErrorKind::Cancelled
        | ErrorKind::Unsupported
        | ErrorKind::Gone => tracing::debug!(request_id = id, traceparent, ?error, "request refused"),
    }
}
