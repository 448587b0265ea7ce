//! OpenAI's embeddings and chat completions under `/v1`, beside TF Serving.
//!
//! `GET /v1/models` and `GET /v1/models/NAME` answer clients of both: see `tfserving.rs`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{Request, Response};
use salver_core::{Error, InferRequest, InferResponse, Result};
use salver_protocol::Reply;
use salver_protocol::openai::{self, Options};

use super::AppState;
use super::exchange;
use crate::answer::{Protocol, text_work};
use crate::app::App;

struct Embeddings {
    options: Options,
}

impl Protocol for Embeddings {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        text_work(raw.len())
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        let (mut request, options) = openai::decode_embeddings(&raw, app.protocol_limits())?;
        // Of a model that is loaded for this request nothing is known yet; `encode` checks it too.
        if let Ok(info) = app.services.infer.describe(&request.model) {
            openai::fit_embeddings(&mut request, &info, options)?;
        }
        self.options = options;
        Ok(request)
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        openai::encode_embeddings(response, self.options)
    }

    fn encode_error(error: &Error) -> Reply {
        openai::encode_error(error)
    }
}

pub(super) async fn embeddings(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let options = Options { base64: false, dimensions: None };
    exchange::infer(&app, request, |_| Ok(Embeddings { options })).await
}

struct Chat {
    /// Of the request.
    id: Arc<str>,
}

impl Protocol for Chat {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        text_work(raw.len())
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        openai::decode_chat(&raw, app.protocol_limits(), |model| app.services.infer.describe(model).ok())
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        openai::encode_chat(response, &self.id, now.as_secs())
    }

    fn encode_error(error: &Error) -> Reply {
        openai::encode_error(error)
    }
}

pub(super) async fn chat(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let id = exchange::call_of(&app, &request).id;
    exchange::infer(&app, request, |_| Ok(Chat { id })).await
}
