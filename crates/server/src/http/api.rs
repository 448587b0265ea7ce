//! Administration: what is in memory and what it takes, loading, unloading, pinning, and purging the
//! response cache.
//!
//! For people and for `salver models`. Clients of the Open Inference Protocol find loading and
//! unloading under `/v2/repository` as well.

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use salver_core::{Error, ModelRef, ModelState, ModelStatus, ResidentModel, Result};
use salver_protocol::{Reply, oip_rest};
use serde_json::{Value, json};

use super::AppState;
use super::exchange::{manage, reply_or, response};
use super::target::Target;
use crate::app::App;

/// Lists every version, in memory or not, and the memory of the process.
pub(super) async fn list(State(app): AppState, headers: HeaderMap) -> Response<Body> {
    let memory = app.services.control.memory();
    let body = json!({
        "memory": { "resident_bytes": memory.resident_bytes, "limit_bytes": memory.limit_bytes },
        "models": rows(&app, |_| true),
    });
    response(&headers, Reply::json_value(200, &body)).await
}

/// Lists the versions of one model.
pub(super) async fn show(State(app): AppState, target: Target) -> Response<Body> {
    let shown = target.name().and_then(|name| {
        let models = rows(&app, |status| status.name == *name);
        match models.is_empty() {
            true => Err(Error::not_found(format!("Request for unknown model: '{name}' is not found"))),
            false => Ok(Reply::json_value(200, &json!({ "models": models }))),
        }
    });
    reply_or(shown, oip_rest::encode_error)
}

pub(super) async fn load(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    change(&app, request, async || {
        app.check_explicit_control()?;
        app.services.control.load(&target.name()?).await
    })
    .await
}

pub(super) async fn unload(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    change(&app, request, async || {
        app.check_explicit_control()?;
        app.services.control.unload(&target.name()?).await
    })
    .await
}

pub(super) async fn pin(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    change(&app, request, async || app.services.control.pin(&target.name()?).await).await
}

pub(super) async fn unpin(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    change(&app, request, async || app.services.control.unpin(&target.name()?)).await
}

/// Forgets the cached answers of one model.
pub(super) async fn purge(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |_: Bytes| {
        let model = ModelRef::latest(target.name()?);
        purged(app.services.control.purge_cache(Some(&model)).await)
    })
    .await
}

/// Forgets all cached answers.
pub(super) async fn purge_all(State(app): AppState, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |_: Bytes| purged(app.services.control.purge_cache(None).await)).await
}

fn purged(count: Result<u64>) -> Result<Reply> {
    Ok(Reply::json_value(200, &json!({ "purged": count? })))
}

/// Does what needs no body and has nothing to say.
async fn change<F: Future<Output = Result<()>>>(
    app: &std::sync::Arc<App>,
    request: Request<Body>,
    work: impl FnOnce() -> F,
) -> Response<Body> {
    manage(app, request, async |_: Bytes| {
        work().await?;
        Ok(Reply::json(200, Bytes::from_static(b"{}")))
    })
    .await
}

fn rows(app: &App, wanted: impl Fn(&ModelStatus) -> bool) -> Vec<Value> {
    let resident = app.services.control.resident();
    let index = app.services.control.index().into_iter().filter(wanted);
    index
        .map(|status| {
            let is_it = |model: &&ResidentModel| model.name == status.name && Some(model.version) == status.version;
            row(&status, resident.iter().find(is_it))
        })
        .collect()
}

fn row(status: &ModelStatus, resident: Option<&ResidentModel>) -> Value {
    json!({
        "name": status.name,
        "version": status.version,
        "state": status.state.map(ModelState::as_str),
        "reason": (!status.reason.is_empty()).then_some(&status.reason),
        "resident": resident.map(|model| json!({
            "memory_bytes": model.memory_bytes,
            "pinned": model.pinned,
            "in_flight": model.in_flight,
            "last_used_ms_ago": model.last_used_ms_ago,
            "loads": model.loads,
        })),
    })
}
