//! Triton's trace and log settings.

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{Request, Response};
use salver_core::{ModelRef, Result};
use salver_protocol::oip_rest;
use salver_protocol::settings::LogUpdate;

use super::AppState;
use super::exchange::{manage, reply_or};
use super::target::Target;
use crate::app::App;
use crate::settings;

pub(super) async fn trace(State(app): AppState) -> Response<Body> {
    show_trace(&app, Ok(None))
}

pub(super) async fn trace_of(State(app): AppState, target: Target) -> Response<Body> {
    show_trace(&app, target.model_ref().map(Some))
}

fn show_trace(app: &App, model: Result<Option<ModelRef>>) -> Response<Body> {
    let outcome = model.and_then(|model| settings::trace(app, model.as_ref(), None));
    reply_or(outcome.map(|settings| oip_rest::trace_settings(&settings)), oip_rest::encode_error)
}

pub(super) async fn change_trace(State(app): AppState, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |body: Bytes| {
        let update = oip_rest::decode_trace_update(&body)?;
        Ok(oip_rest::trace_settings(&settings::trace(&app, None, Some(update))?))
    })
    .await
}

pub(super) async fn change_trace_of(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |body: Bytes| {
        let (model, update) = (target.model_ref()?, oip_rest::decode_trace_update(&body)?);
        Ok(oip_rest::trace_settings(&settings::trace(&app, Some(&model), Some(update))?))
    })
    .await
}

pub(super) async fn log(State(app): AppState) -> Response<Body> {
    let outcome = settings::log(&app, LogUpdate::default());
    reply_or(outcome.map(|settings| oip_rest::log_settings(&settings)), oip_rest::encode_error)
}

pub(super) async fn change_log(State(app): AppState, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |body: Bytes| {
        let update = oip_rest::decode_log_update(&body)?;
        Ok(oip_rest::log_settings(&settings::log(&app, update)?))
    })
    .await
}
