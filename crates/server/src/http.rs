//! The HTTP routes, and what is said where there is none.

mod api;
mod deferred;
mod exchange;
mod generate;
mod graph;
mod home;
mod jobs;
mod mlflow;
mod mlflow_scoring;
pub(crate) mod oip;
mod openai;
mod plain;
mod query;
mod registry;
mod settings;
mod shared_memory;
mod target;
pub(crate) mod tfserving;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{any, delete, get, post};
use http::{Method, Request, Response, StatusCode};
use salver_core::Error;
use salver_protocol::{Reply, oip_rest};

pub(crate) use self::exchange::{EventStream, plain_response};
pub(crate) use self::jobs::shown::event as job_event;
pub(crate) use self::mlflow::is_upload;
pub(crate) use self::oip::infer_for as infer;
use self::target::Target;
use crate::app::App;

type AppState = State<Arc<App>>;

/// OpenAI's routes that are not TF Serving's as well.
const EMBEDDINGS: &str = "/v1/embeddings";
const CHAT: &str = "/v1/chat/completions";

/// Every route. Whatever is not here is answered by [`unknown_route`].
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/", get(home::page))
        .route("/health", get(home::health))
        .route("/metrics", get(home::metrics))
        .route("/openapi.json", get(home::openapi))
        .route("/ping", get(mlflow_scoring::ping))
        .route("/version", get(mlflow_scoring::version))
        .route("/invocations", post(mlflow_scoring::invocations))
        .route("/models", get(plain::list))
        .route("/models/{model}", get(plain::describe))
        .route("/models/{model}/predict", post(plain::predict))
        .route("/models/{model}/versions/{version}", get(plain::describe))
        .route("/models/{model}/versions/{version}/predict", post(plain::predict))
        .route("/api/v1/cache", delete(api::purge_all))
        .route("/api/v1/models", get(api::list))
        .route("/api/v1/models/{model}", get(api::show))
        .route("/api/v1/models/{model}/cache", delete(api::purge))
        .route("/api/v1/models/{model}/graph", get(graph::show))
        .route("/api/v1/models/{model}/versions/{version}/graph", get(graph::show))
        .route("/api/v1/models/{model}/load", post(api::load))
        .route("/api/v1/models/{model}/unload", post(api::unload))
        .route("/api/v1/models/{model}/pin", post(api::pin))
        .route("/api/v1/models/{model}/unpin", post(api::unpin))
        .route(EMBEDDINGS, post(openai::embeddings))
        .route(CHAT, post(openai::chat))
        .route("/v1", any(tfserving::dispatch))
        .route("/v1/{*rest}", any(tfserving::dispatch));
    router = jobs::routes(registry::routes(mlflow::routes(oip_routes(router))));
    if app.options.constant_route {
        router = router.route("/bench/constant", post(home::constant));
    }
    router.fallback(unknown_route).method_not_allowed_fallback(wrong_method).with_state(app)
}

fn oip_routes(mut router: Router<Arc<App>>) -> Router<Arc<App>> {
    router = router
        .route("/v2", get(oip::server_metadata))
        .route("/v2/", get(oip::server_metadata))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
        .route("/v2/models", get(oip::model_list))
        .route("/v2/models/stats", get(oip::all_statistics))
        .route("/v2/repository/index", post(oip::repository_index))
        .route("/v2/repository/models/{model}/load", post(oip::load))
        .route("/v2/repository/models/{model}/unload", post(oip::unload))
        .route("/v2/cudasharedmemory/status", get(oip::no_cuda_regions))
        .route("/v2/cudasharedmemory/unregister", post(oip::unregister_cuda))
        .route("/v2/cudasharedmemory/region/{region}/status", get(oip::no_cuda_status))
        .route("/v2/cudasharedmemory/region/{region}/unregister", post(oip::unregister_cuda))
        .route("/v2/cudasharedmemory/{*rest}", any(oip::no_cuda_memory))
        .route("/v2/logging", get(settings::log).post(settings::change_log))
        .route("/v2/trace/setting", get(settings::trace).post(settings::change_trace))
        .route("/v2/models/{model}/trace/setting", get(settings::trace_of).post(settings::change_trace_of))
        .route("/v2/systemsharedmemory/status", get(shared_memory::status_of_all))
        .route("/v2/systemsharedmemory/unregister", post(shared_memory::unregister_all))
        .route("/v2/systemsharedmemory/region/{region}/status", get(shared_memory::status))
        .route("/v2/systemsharedmemory/region/{region}/register", post(shared_memory::register))
        .route("/v2/systemsharedmemory/region/{region}/unregister", post(shared_memory::unregister))
        .route("/v2/systemsharedmemory/{*rest}", any(shared_memory::unknown));
    let of_model = [
        ("", get(oip::model_metadata)),
        ("/ready", get(oip::model_ready)),
        ("/config", get(oip::model_config)),
        ("/stats", get(oip::model_statistics)),
        ("/infer", post(oip::infer)),
        ("/generate", post(generate::generate)),
        ("/generate_stream", post(generate::generate_stream)),
    ];
    for (suffix, handler) in of_model {
        router = router
            .route(&format!("/v2/models/{{model}}{suffix}"), handler.clone())
            .route(&format!("/v2/models/{{model}}/versions/{{version}}{suffix}"), handler);
    }
    router
}

/// Recognises the most frequent route, inference over the Open Inference Protocol, without the
/// router: finding its parameters takes as long as reading the request.
pub(crate) fn direct<B>(request: &Request<B>) -> Option<Target> {
    let model = request.uri().path().strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
    Target::plain(model).filter(|_| request.method() == Method::POST)
}

/// Whether a route may keep its thread busy for longer than requests for predictions on other
/// connections should wait: those that list, search, write, load or describe.
pub(crate) fn may_take_long(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "" | "api" | "ajax-api" | "metrics" | "openapi.json") || path.starts_with("/v2/repository/")
}

async fn unknown_route(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    if tfserving::is_path(path) {
        return tfserving::dispatch(State(app), request).await;
    }
    let shown: String = path.chars().take(200).collect();
    let error = Error::not_found(format!("no route '{shown}'; /openapi.json lists those there are"));
    plain_response(error_reply(path, &error))
}

/// axum adds the `Allow` header.
async fn wrong_method(request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let error = Error::invalid_input(format!("method {} is not allowed here", request.method()));
    let mut reply = error_reply(path, &error);
    reply.status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    plain_response(reply)
}

/// Renders an error in the shape that clients of the path expect.
fn error_reply(path: &str, error: &Error) -> Reply {
    if mlflow::is_path(path) {
        return mlflow::encode_error(error);
    }
    if path == EMBEDDINGS || path == CHAT {
        return salver_protocol::openai::encode_error(error);
    }
    match path.trim_start_matches('/').split('/').next() {
        Some("invocations" | "ping" | "version") => salver_protocol::mlflow_scoring::encode_error(error),
        Some("models") => salver_protocol::plain::encode_error(error),
        _ => oip_rest::encode_error(error),
    }
}
