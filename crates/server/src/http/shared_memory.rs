//! The routes of the system shared memory extension.

use axum::body::Body;
use axum::extract::State;
use axum::extract::{Path, rejection::PathRejection};
use bytes::Bytes;
use http::{Request, Response};
use salver_core::{Error, Result};
use salver_protocol::{Reply, oip_rest};

use super::AppState;
use super::exchange::{manage, plain_response, reply_or};

/// A region's name as the path has it, percent-decoded.
type Name = Result<Path<String>, PathRejection>;

fn named(name: Name) -> Result<String> {
    let Path(name) = name.map_err(|_| Error::invalid_input("the region's name in the path is not UTF-8"))?;
    Ok(name)
}

pub(super) async fn status_of_all(State(app): AppState) -> Response<Body> {
    let outcome = app.regions().and_then(|regions| regions.status(None));
    reply_or(outcome.map(|all| oip_rest::region_status(&all)), oip_rest::encode_error)
}

pub(super) async fn status(State(app): AppState, name: Name) -> Response<Body> {
    let outcome = app.regions().and_then(|regions| regions.status(Some(&named(name)?)));
    reply_or(outcome.map(|one| oip_rest::region_status(&one)), oip_rest::encode_error)
}

pub(super) async fn register(State(app): AppState, name: Name, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |body: Bytes| {
        let regions = app.regions()?;
        let region = oip_rest::decode_register(named(name)?, &body, app.protocol_limits())?;
        regions.register(region)?;
        Ok(Reply::json(200, Bytes::new()))
    })
    .await
}

pub(super) async fn unregister(State(app): AppState, name: Name, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |_| {
        app.regions()?.unregister(Some(&named(name)?));
        Ok(Reply::json(200, Bytes::new()))
    })
    .await
}

pub(super) async fn unregister_all(State(app): AppState, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |_| {
        app.regions()?.unregister(None);
        Ok(Reply::json(200, Bytes::new()))
    })
    .await
}

/// What else stands below `/v2/systemsharedmemory`.
pub(super) async fn unknown(State(app): AppState) -> Response<Body> {
    let error = match app.regions() {
        Ok(_) => Error::not_found("no such route of system shared memory; /openapi.json lists those there are"),
        Err(off) => off,
    };
    plain_response(oip_rest::encode_error(&error))
}
