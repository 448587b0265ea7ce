//! Our own way for people: natural JSON in, named results out.

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use salver_core::{Error, InferRequest, InferResponse, ModelRef, Result};
use salver_jobs::{Content, Form};
use salver_protocol::{Reply, plain};

use super::AppState;
use super::exchange::{self, reply_or, response};
use super::target::Target;
use crate::answer::{Protocol, text_work};
use crate::app::App;

struct Plain {
    target: ModelRef,
    content_type: Option<String>,
}

impl Protocol for Plain {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        // A picture is a tensor as it is.
        let is_picture = self.content_type.as_deref().is_some_and(|kind| kind.starts_with("image/"));
        if is_picture { raw.len() } else { text_work(raw.len()) }
    }

    fn described(&self) -> Option<&ModelRef> {
        Some(&self.target)
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        let info = app.services.infer.describe(&self.target)?;
        let content_type = self.content_type.as_deref();
        plain::decode_predict(raw, content_type, self.target.clone(), &info, app.protocol_limits())
    }

    fn job_of(&self, raw: &Bytes, app: &App) -> Option<(ModelRef, Content)> {
        let ask = || Content {
            form: Form::Plain,
            content_type: self.content_type.clone(),
            header_len: None,
            body: raw.clone(),
        };
        app.may_defer(&self.target).then(|| (self.target.clone(), ask()))
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        plain::encode_predict(response)
    }

    fn encode_error(error: &Error) -> Reply {
        plain::encode_error(error)
    }
}

pub(super) async fn predict(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    exchange::infer(&app, request, |parts| {
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Plain { target: target.model_or_alias()?, content_type })
    })
    .await
}

pub(super) async fn describe(State(app): AppState, target: Target) -> Response<Body> {
    let description = async {
        let model = target.model_or_alias()?;
        let info = app.describe(&model).await?;
        Ok(plain::describe(&info, &app.ready_versions(&model.name)))
    };
    reply_or(description.await, plain::encode_error)
}

/// Lists every model with its versions and their states.
pub(super) async fn list(State(app): AppState, headers: HeaderMap) -> Response<Body> {
    response(&headers, super::home::model_list(&app)).await
}
