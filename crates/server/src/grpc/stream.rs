//! `ModelStreamInfer`: many requests, for any models, over one call.
//!
//! Requests are worked on together and answered in their order. One that fails is answered with a
//! message and the stream lives on; it ends with its client, or with the server.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use salver_core::{Context, Error, ErrorKind, InferRequest, InferResponse};
use salver_protocol::oip_grpc::inference::{ModelInferRequest, ModelStreamInferResponse};
use salver_protocol::oip_grpc::{self, ReplyOptions};
use tonic::{Status, Streaming};

use super::oip::{raw_len, refusal};
use super::pieces::{self, Merged, Replies};
use super::turns::Turns;
use crate::answer::{Answer, Protocol, answer, payload_len};
use crate::app::App;
use crate::body::BodyError;
use crate::connection::Shutdown;
use crate::memory::Held;
use crate::shared_memory::InUse;

/// Requests of one stream that are worked on at the same time.
pub(super) const STREAM_IN_FLIGHT: usize = 64;
/// How many times as long as an idle one a busy stream is still read once shutdown began.
const BUSY_LINGERS: u32 = 4;

/// The replies of one stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// Answers the requests of one stream.
pub(super) fn answers(app: Arc<App>, ctx: Context, incoming: Streaming<ModelInferRequest>) -> Answers {
    let inbox = Inbox::new(incoming, &app);
    let requests = stream::unfold(inbox, |mut inbox| async move { Some((inbox.next().await?, inbox)) });
    let turns = Turns::default();
    let replies = requests.map(move |message| replies(app.clone(), ctx.clone(), turns.clone(), message));
    Box::pin(Merged::new(replies.buffered(STREAM_IN_FLIGHT)))
}

/// One request of a stream.
#[derive(Default)]
struct Streamed {
    options: ReplyOptions,
    mark_final: bool,
    memory: InUse,
}

impl Protocol for Streamed {
    type Raw = ModelInferRequest;
    type Reply = ModelStreamInferResponse;
    type Refusal = Status;

    fn decode_work(&self, raw: &ModelInferRequest) -> usize {
        raw_len(raw)
    }

    fn encode_work(&self, response: &InferResponse) -> usize {
        payload_len(response)
    }

    fn decode(&mut self, raw: ModelInferRequest, app: &App) -> salver_core::Result<InferRequest> {
        let (request, options) = oip_grpc::decode_infer(raw, app.protocol_limits())?;
        self.options = options;
        self.mark_final = oip_grpc::wants_final_response(&request.parameters);
        self.memory.attach(app, &mut self.options.shared)?;
        Ok(request)
    }

    fn missing(&self) -> usize {
        self.memory.missing()
    }

    fn complete(&mut self, request: &mut InferRequest) -> salver_core::Result<()> {
        self.memory.fetch(request)
    }

    fn encode(&self, response: &InferResponse) -> salver_core::Result<ModelStreamInferResponse> {
        self.memory.write(|| self.options.shared_blobs(response))?;
        oip_grpc::encode_stream(response, &self.options, self.mark_final)
    }

    fn encode_error(error: &Error) -> Status {
        refusal(error)
    }
}

/// Answers one request of a stream.
async fn replies(app: Arc<App>, ctx: Context, turns: Turns, message: Result<ModelInferRequest, Status>) -> Replies {
    match message {
        Err(status) => Replies::One(Err(status)),
        Ok(message) if pieces::is_decoupled(&app, &message, &ctx).await => {
            Replies::Many(pieces::replies(app, ctx, message))
        }
        Ok(message) => Replies::One(Ok(stream_answer(app, ctx, turns, message).await)),
    }
}

/// Answers one request with one reply; its failure is told there and the stream lives on.
async fn stream_answer(
    app: Arc<App>,
    ctx: Context,
    turns: Turns,
    message: ModelInferRequest,
) -> ModelStreamInferResponse {
    let id = message.id.clone();
    // Of a stream, no body is counted as it arrives: its messages are.
    let held = Arc::new(Held::new(app.memory.clone()));
    if !held.add(raw_len(&message)) {
        let error = Error::new(ErrorKind::Overloaded, BodyError::NoRoom.to_string());
        return oip_grpc::encode_stream_error(&error, &id);
    }
    let streamed = Streamed { memory: InUse::new(&app, &held), ..Streamed::default() };
    let _turn = turns.wait(&message).await;
    match answer(&app, streamed, message, ctx).await {
        Ok(Answer { reply, .. }) => reply,
        Err(error) => oip_grpc::encode_stream_error(&error, &id),
    }
}

/// The requests of one stream, until its client or the server ends it.
struct Inbox {
    incoming: Streaming<ModelInferRequest>,
    shutdown: Shutdown,
    linger: Duration,
    /// When reading ends at the latest; set once shutdown began.
    end: Option<Instant>,
    is_ended: bool,
}

impl Inbox {
    fn new(incoming: Streaming<ModelInferRequest>, app: &App) -> Self {
        let (shutdown, linger) = (app.shutdown.clone(), app.limits().drain_linger);
        Self { incoming, shutdown, linger, end: None, is_ended: false }
    }

    async fn next(&mut self) -> Option<Result<ModelInferRequest, Status>> {
        if self.is_ended {
            return None;
        }
        if self.shutdown.is_draining() {
            let now = Instant::now();
            if *self.end.get_or_insert(now + self.linger * BUSY_LINGERS) <= now {
                return Some(Err(self.stop()));
            }
        }
        let quiet = async {
            self.shutdown.drain.cancelled().await;
            tokio::time::sleep(self.linger).await;
        };
        tokio::select! {
            biased;
            message = self.incoming.next() => message.map(|message| message.map_err(super::correct)),
            () = quiet => Some(Err(self.stop())),
        }
    }

    fn stop(&mut self) -> Status {
        self.is_ended = true;
        Status::unavailable("the server is shutting down; open the stream anew elsewhere")
    }
}
