//! Triton's generate extension: one answer as JSON, or the answers as a stream of events.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use salver_core::{Error, InferRequest, InferResponse, ModelInfo, ModelRef, Result};
use salver_protocol::{Reply, oip_rest};

use super::AppState;
use super::exchange;
use super::target::Target;
use crate::answer::{Protocol, text_work};
use crate::app::App;

/// One generate request.
struct Generate {
    target: ModelRef,
    form: Form,
}

/// What the answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Event,
}

impl Protocol for Generate {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        text_work(raw.len())
    }

    // Only the model tells inputs from parameters.
    fn described(&self) -> Option<&ModelRef> {
        Some(&self.target)
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        let info: Arc<ModelInfo> = app.services.infer.describe(&self.target)?;
        oip_rest::decode_generate(&raw, self.target.clone(), &info, app.protocol_limits())
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        match self.form {
            Form::Json => oip_rest::encode_generate(response),
            Form::Event => oip_rest::encode_event(response),
        }
    }

    fn encode_error(error: &Error) -> Reply {
        oip_rest::encode_error(error)
    }
}

/// Triton takes no coded body here, and neither do we: a proxy that recodes would pass unnoticed.
fn check_coding(headers: &HeaderMap) -> Result<()> {
    let is_plain = |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        true => Ok(()),
        false => Err(Error::invalid_input("generate takes no Content-Encoding; send the body as it is")),
    }
}

fn make(target: Target, form: Form) -> impl FnOnce(&Parts) -> Result<Generate> + Send {
    move |parts| {
        check_coding(&parts.headers)?;
        Ok(Generate { target: target.model_ref()?, form })
    }
}

pub(super) async fn generate(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    exchange::infer(&app, request, make(target, Form::Json)).await
}

pub(super) async fn generate_stream(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    exchange::events(&app, request, make(target, Form::Event), oip_rest::encode_error_event).await
}
