//! MLflow's tracking, registry and artifact interface, as its Python client 3.18 speaks it.
//!
//! A handler takes a request apart, calls the registry once and names the answer. How MLflow writes
//! JSON, arguments and errors stands in `wire`.

mod artifacts;
mod experiments;
mod logged;
mod models;
mod runs;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{MethodRouter, any, delete, get, patch, post};
use http::{Request, Response};
use salver_core::Error;
use salver_protocol::Reply;
use serde_json::json;

use self::wire::api;
use super::AppState;
use crate::app::App;

pub(super) use self::wire::{Who, encode_error, registry};

/// Where the Python client asks, and where MLflow's pages do.
const BASES: [&str; 2] = ["/api/2.0", "/ajax-api/2.0"];

/// Whether a request brings a file, whose size has no limit.
pub(crate) fn is_upload<B>(request: &Request<B>) -> bool {
    request.method() == http::Method::PUT
        && BASES.iter().any(|base| {
            let path = request.uri().path().strip_prefix(base);
            path.is_some_and(|path| path.starts_with(artifacts::ROUTE))
        })
}

/// Whether MLflow's clients read the errors of this path.
pub(super) fn is_path(path: &str) -> bool {
    BASES.iter().any(|base| path.strip_prefix(base).is_some_and(|rest| rest.starts_with("/mlflow")))
}

/// Adds the routes.
pub(super) fn routes(mut router: Router<Arc<App>>) -> Router<Arc<App>> {
    for base in BASES {
        for (path, handler) in calls().into_iter().chain(artifacts::calls()) {
            router = router.route(&format!("{base}{path}"), handler);
        }
    }
    for base in ["/api/3.0", "/ajax-api/3.0"] {
        router = router.route(&format!("{base}/mlflow/server-info"), get(server_info));
    }
    router
}

fn calls() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/mlflow/experiments/create", post(api(experiments::create))),
        ("/mlflow/experiments/get", get(api(experiments::get))),
        ("/mlflow/experiments/get-by-name", get(api(experiments::get_by_name))),
        ("/mlflow/experiments/search", post(api(experiments::search)).get(api(experiments::search))),
        ("/mlflow/experiments/update", post(api(experiments::update))),
        ("/mlflow/experiments/delete", post(api(experiments::delete))),
        ("/mlflow/experiments/restore", post(api(experiments::restore))),
        ("/mlflow/experiments/set-experiment-tag", post(api(experiments::set_tag))),
        ("/mlflow/experiments/delete-experiment-tag", post(api(experiments::delete_tag))),
        ("/mlflow/runs/create", post(api(runs::create))),
        ("/mlflow/runs/get", get(api(runs::get))),
        ("/mlflow/runs/update", post(api(runs::update))),
        ("/mlflow/runs/delete", post(api(runs::delete))),
        ("/mlflow/runs/restore", post(api(runs::restore))),
        ("/mlflow/runs/log-metric", post(api(runs::log_metric))),
        ("/mlflow/runs/log-parameter", post(api(runs::log_param))),
        ("/mlflow/runs/set-tag", post(api(runs::set_tag))),
        ("/mlflow/runs/delete-tag", post(api(runs::delete_tag))),
        ("/mlflow/runs/log-batch", post(api(runs::log_batch))),
        ("/mlflow/runs/log-inputs", post(api(runs::log_inputs))),
        ("/mlflow/runs/outputs", post(api(runs::log_outputs))),
        ("/mlflow/runs/search", post(api(runs::search))),
        ("/mlflow/metrics/get-history", get(api(runs::history))),
        ("/mlflow/artifacts/list", get(api(runs::artifacts))),
        ("/mlflow/registered-models/create", post(api(models::create))),
        ("/mlflow/registered-models/get", get(api(models::get))),
        ("/mlflow/registered-models/update", patch(api(models::update))),
        ("/mlflow/registered-models/rename", post(api(models::rename))),
        ("/mlflow/registered-models/delete", delete(api(models::delete))),
        ("/mlflow/registered-models/search", get(api(models::search))),
        (
            "/mlflow/registered-models/get-latest-versions",
            post(api(models::latest_versions)).get(api(models::latest_versions)),
        ),
        ("/mlflow/registered-models/set-tag", post(api(models::set_tag))),
        ("/mlflow/registered-models/delete-tag", delete(api(models::delete_tag))),
        (
            "/mlflow/registered-models/alias",
            post(api(models::set_alias)).get(api(models::get_alias)).delete(api(models::delete_alias)),
        ),
        ("/mlflow/model-versions/create", post(api(models::create_version))),
        ("/mlflow/model-versions/get", get(api(models::get_version))),
        ("/mlflow/model-versions/update", patch(api(models::update_version))),
        ("/mlflow/model-versions/delete", delete(api(models::delete_version))),
        ("/mlflow/model-versions/search", get(api(models::search_versions))),
        ("/mlflow/model-versions/get-download-uri", get(api(models::download_uri))),
        ("/mlflow/model-versions/transition-stage", post(api(models::transition))),
        ("/mlflow/model-versions/set-tag", post(api(models::set_version_tag))),
        ("/mlflow/model-versions/delete-tag", delete(api(models::delete_version_tag))),
        ("/mlflow/logged-models", post(api(logged::create))),
        ("/mlflow/logged-models/search", post(api(logged::search))),
        (
            "/mlflow/logged-models/{model_id}",
            get(api(logged::get)).patch(api(logged::finish)).delete(api(logged::delete)),
        ),
        ("/mlflow/logged-models/{model_id}/tags", patch(api(logged::set_tags))),
        ("/mlflow/logged-models/{model_id}/tags/{key}", delete(api(logged::delete_tag))),
        ("/mlflow/logged-models/{model_id}/params", post(api(logged::log_params))),
        ("/mlflow/logged-models/{model_id}/artifacts/directories", get(api(logged::artifacts))),
    ]
}

/// Says which of MLflow's extensions there are: none that a client has to know.
async fn server_info() -> Response<Body> {
    let body = json!({
        "store_type": "SqlStore",
        "workspaces_enabled": false,
        "multipart_uploads_enabled": false,
        "multipart_downloads_enabled": false,
        "artifacts_presigned_only": false,
        "artifact_serving_enabled": true,
        "features_enabled": {},
    });
    super::plain_response(Reply::json_value(200, &body))
}

/// Answers what clients try first and can do without.
fn not_offered() -> MethodRouter<Arc<App>> {
    any(async |State(_): AppState| {
        let error = Error::unsupported("uploads in parts and presigned URLs are not offered; send and get whole files");
        super::plain_response(encode_error(&error))
    })
}
