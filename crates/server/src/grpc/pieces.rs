//! The replies of one stream: one for each request, in their order, and those of requests to
//! decoupled models as they come.
//!
//! Nothing is read ahead: a client that stops reading stops the models that answer it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use futures::stream::SelectAll;
use futures::{FutureExt, Stream, StreamExt, stream};
use salver_core::{BoxStream, Context, Error, ErrorKind, InferResponse, ModelInfo, ModelRef, Result};
use salver_protocol::oip_grpc::inference::{ModelInferRequest, ModelStreamInferResponse};
use salver_protocol::oip_grpc::{self, ReplyOptions};
use tonic::Status;

use super::oip::raw_len;
use super::stream::{Answers, STREAM_IN_FLIGHT};
use crate::answer::{OFFLOAD_BYTES, log_failure};
use crate::app::App;
use crate::body::BodyError;
use crate::coding::offload;
use crate::memory::Held;
use crate::shared_memory::InUse;
use crate::trace::Trace;

/// What one request gets.
pub(super) enum Replies {
    /// One reply, in its turn; an error ends the stream.
    One(Result<ModelStreamInferResponse, Status>),
    /// Any number, as they come.
    Many(Answers),
}

/// Whether a request is to a model that may answer several times.
pub(super) async fn is_decoupled(app: &App, message: &ModelInferRequest, ctx: &Context) -> bool {
    let Ok(model) = oip_grpc::model_ref(&message.model_name, &message.model_version) else {
        return false;
    };
    let infer = &app.services.infer;
    if let Some(wake) = infer.wake(&model, ctx.deadline) {
        // Whatever is wrong with it the request itself hears.
        let _ = wake.await;
    }
    infer.is_decoupled(&model)
}

/// Answers one request to a decoupled model.
pub(super) fn replies(app: Arc<App>, mut ctx: Context, message: ModelInferRequest) -> Answers {
    let id = message.id.clone();
    ctx.deadline.get_or_insert_with(|| Instant::now() + app.limits().default_deadline);
    let begun = begin(app, ctx.clone(), message).into_stream();
    Box::pin(begun.flat_map(move |begun| match begun {
        Ok(going) => going.replies().left_stream(),
        Err(error) => {
            log_failure(&ctx.id, ctx.traceparent.as_deref(), &error);
            let reply = oip_grpc::encode_stream_error(&error, &id);
            stream::once(std::future::ready(Ok(reply))).right_stream()
        }
    }))
}

async fn begin(app: Arc<App>, ctx: Context, message: ModelInferRequest) -> Result<Going> {
    let (id, size) = (message.id.clone(), raw_len(&message));
    let held = Arc::new(Held::new(app.memory.clone()));
    if !held.add(size) {
        return Err(Error::new(ErrorKind::Overloaded, BodyError::NoRoom.to_string()));
    }
    let started = Instant::now();
    let (mut request, mut options) = if size < OFFLOAD_BYTES {
        oip_grpc::decode_infer(message, app.protocol_limits())?
    } else {
        let app = app.clone();
        offload(move || oip_grpc::decode_infer(message, app.protocol_limits())).await??
    };
    let mut memory = InUse::new(&app, &held);
    memory.attach(&app, &mut options.shared)?;
    if memory.missing() < OFFLOAD_BYTES {
        memory.fetch(&mut request)?;
    } else {
        let fetch = move || memory.fetch(&mut request).map(|()| (memory, request));
        (memory, request) = offload(fetch).await??;
    }
    let decode = started.elapsed();
    let trace = app.traces.begin(&request, &ctx.id).map(|trace| (trace, decode));
    let (marks_end, model) = (oip_grpc::wants_final_response(&request.parameters), request.model.clone());
    let answers = app.services.infer.clone().infer_stream(request, ctx.clone());
    Ok(Going { app, ctx, id, model, options, memory, answers, trace, info: None, marks_end, _held: held })
}

/// A request whose answers come.
struct Going {
    app: Arc<App>,
    ctx: Context,
    id: String,
    model: ModelRef,
    options: ReplyOptions,
    /// Of the client. Each answer is written over the one before, as Triton does.
    memory: InUse,
    answers: BoxStream<'static, Result<InferResponse>>,
    /// Of the first answer.
    trace: Option<(Box<Trace>, Duration)>,
    /// Who answered.
    info: Option<Arc<ModelInfo>>,
    marks_end: bool,
    _held: Arc<Held>,
}

impl Going {
    fn replies(self) -> impl Stream<Item = Result<ModelStreamInferResponse, Status>> + Send {
        stream::unfold(Some(self), |going| async move {
            let mut going = going?;
            match going.next().await {
                Some(Ok(response)) => {
                    let marked = going.marks_end.then_some(false);
                    going.info = Some(response.model.clone());
                    match going.encode(&response, marked) {
                        Ok(reply) => Some((Ok(reply), Some(going))),
                        Err(error) => Some((Ok(going.failure(&error)), None)),
                    }
                }
                Some(Err(error)) => Some((Ok(going.failure(&error)), None)),
                None if going.marks_end => Some((Ok(going.end()), None)),
                None => None,
            }
        })
    }

    fn encode(&self, response: &InferResponse, marked: Option<bool>) -> Result<ModelStreamInferResponse> {
        self.memory.write(|| self.options.shared_blobs(response))?;
        oip_grpc::encode_piece(response, &self.options, marked)
    }

    async fn next(&mut self) -> Option<Result<InferResponse>> {
        let answer = self.answers.next().await?;
        Some(match self.trace.take() {
            None => answer,
            Some((trace, decode)) => trace.end(decode, answer),
        })
    }

    fn failure(&self, error: &Error) -> ModelStreamInferResponse {
        log_failure(&self.ctx.id, self.ctx.traceparent.as_deref(), error);
        oip_grpc::encode_stream_error(error, &self.id)
    }

    fn end(&self) -> ModelStreamInferResponse {
        let known = || self.app.services.infer.describe(&self.model).ok();
        match self.info.clone().or_else(known) {
            Some(info) => oip_grpc::encode_end(&info, &self.id),
            None => oip_grpc::encode_stream_error(&Error::not_ready("the model has gone meanwhile"), &self.id),
        }
    }
}

/// Joins what is answered in order with what is answered as it comes.
pub(super) struct Merged<S> {
    in_order: Pin<Box<S>>,
    /// How reading ended; none: it goes on.
    end: Option<Option<Status>>,
    many: SelectAll<Answers>,
}

impl<S> Merged<S> {
    pub(super) fn new(in_order: S) -> Self {
        Self { in_order: Box::pin(in_order), end: None, many: SelectAll::new() }
    }
}

impl<S: Stream<Item = Replies>> Stream for Merged<S> {
    type Item = Result<ModelStreamInferResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        while self.end.is_none() && self.many.len() < STREAM_IN_FLIGHT {
            match self.in_order.as_mut().poll_next(task) {
                Poll::Ready(Some(Replies::One(Ok(reply)))) => return Poll::Ready(Some(Ok(reply))),
                Poll::Ready(Some(Replies::Many(replies))) => self.many.push(replies),
                // What has begun is answered first.
                Poll::Ready(Some(Replies::One(Err(status)))) => self.end = Some(Some(status)),
                Poll::Ready(None) => self.end = Some(None),
                Poll::Pending => break,
            }
        }
        match self.many.poll_next_unpin(task) {
            Poll::Ready(Some(reply)) => Poll::Ready(Some(reply)),
            Poll::Ready(None) if self.end.is_some() => Poll::Ready(self.end.as_mut().and_then(Option::take).map(Err)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
