//! MLflow's scoring server: `/invocations` for the default model, and its health routes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use salver_core::{Error, InferRequest, InferResponse, ModelRef, Result};
use salver_protocol::Reply;
use salver_protocol::mlflow_scoring::{self, ContentType};

use super::AppState;
use super::exchange::{self, plain_response};
use crate::answer::{Protocol, text_work};
use crate::app::App;

/// The MLflow whose protocol is spoken.
const MLFLOW_VERSION: &str = "3.18.0";

struct Invocation {
    target: ModelRef,
    kind: ContentType,
}

impl Protocol for Invocation {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        text_work(raw.len())
    }

    fn described(&self) -> Option<&ModelRef> {
        Some(&self.target)
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        let info = app.services.infer.describe(&self.target)?;
        mlflow_scoring::decode_invocations(&raw, self.kind, self.target.clone(), &info, app.protocol_limits())
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        mlflow_scoring::encode_invocations(response)
    }

    fn encode_error(error: &Error) -> Reply {
        mlflow_scoring::encode_error(error)
    }
}

pub(super) async fn invocations(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let header = request.headers().get(CONTENT_TYPE).map(HeaderValue::to_str);
    let kind = match header {
        None => mlflow_scoring::content_type(None),
        // A value that is no text is as unknown as any other.
        Some(value) => mlflow_scoring::content_type(Some(value.unwrap_or("unreadable"))),
    };
    match kind {
        Ok(kind) => invoke(&app, request, kind).await,
        Err(reply) => plain_response(reply),
    }
}

async fn invoke(app: &Arc<App>, request: Request<Body>, kind: ContentType) -> Response<Body> {
    exchange::infer(app, request, |_| Ok(Invocation { target: app.default_model()?, kind })).await
}

pub(super) async fn ping() -> Response<Body> {
    plain_response(Reply::json(200, Bytes::from_static(b"\n")))
}

pub(super) async fn version() -> Response<Body> {
    plain_response(Reply::text(200, Bytes::from_static(MLFLOW_VERSION.as_bytes())))
}
