//! What is asked by people and by those who watch the server: the page at `/`, `/health`,
//! `/metrics`, the description of the routes, and the constant reply that the bench compares with.

mod page;
mod triton;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use salver_core::{ModelInfo, ModelName, ModelRef, ModelState, ModelStatus};
use salver_protocol::{Reply, openapi};
use salver_telemetry::Metrics;
use serde_json::json;

use self::page::{Entry, View};
use super::AppState;
use super::exchange::{manage, plain_response, response};
use crate::app::App;

pub(super) async fn health() -> Response<Body> {
    plain_response(Reply::text(200, Bytes::from_static(b"OK")))
}

pub(super) async fn metrics(State(app): AppState, headers: HeaderMap) -> Response<Body> {
    let metrics = &app.services.metrics;
    let body =
        if app.options.triton_metrics { metrics.render_with_triton(&triton::counters(&app)) } else { metrics.render() };
    let reply = Reply { content_type: Metrics::CONTENT_TYPE, ..Reply::text(200, body) };
    response(&headers, reply).await
}

pub(super) async fn openapi(State(app): AppState, headers: HeaderMap) -> Response<Body> {
    let document = app.openapi.get_or_init(|| openapi::document(&app.services.server_version).into());
    response(&headers, Reply::json(200, document.clone())).await
}

/// The reply of `/bench/constant`: what iris would answer.
const CONSTANT: &[u8] = br#"{"model_name":"iris","model_version":"1","outputs":[{"name":"probabilities","datatype":"FP32","shape":[1,3],"data":[0.9795,0.0205,0.0]}]}"#;

/// Reads the body, parses nothing, and answers the same every time.
pub(super) async fn constant(State(app): AppState, request: Request<Body>) -> Response<Body> {
    manage(&app, request, async |_| Ok(Reply::json(200, Bytes::from_static(CONSTANT)))).await
}

/// A page for browsers, short JSON for programs.
pub(super) async fn page(State(app): AppState, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let wants_html = headers.get(ACCEPT).is_some_and(|accept| {
        String::from_utf8_lossy(accept.as_bytes()).split(',').any(|item| item.trim().starts_with("text/html"))
    });
    if !wants_html {
        return response(&headers, summary(&app)).await;
    }
    let host = named_host(&uri, &headers).map_or_else(|| app.options.http.to_string(), str::to_owned);
    let reply = Reply { content_type: "text/html; charset=utf-8", ..Reply::text(200, html(&app, &host)) };
    let mut response = response(&headers, reply).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    response
}

/// Nothing is loaded, run or framed; the page brings its own style and an empty icon.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

fn html(app: &App, host: &str) -> String {
    let services = &app.services;
    let mut index = services.control.index();
    index.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
    let entry = |status: ModelStatus| Entry { info: info_of(app, &status), status };
    let models: Vec<Entry> = index.into_iter().map(entry).collect();
    let default_model = app.default_model().ok();
    page::render(&View {
        server: (&services.server_name, &services.server_version),
        engines: &services.control.engines(),
        is_ready: app.is_ready(),
        degraded: &app.degraded(),
        default_model: default_model.as_ref().map(|model| &*model.name),
        explicit_control: app.options.explicit_control,
        host,
        models: &models,
    })
}

fn info_of(app: &App, status: &ModelStatus) -> Option<Arc<ModelInfo>> {
    let name = ModelName::new(&status.name).ok()?;
    app.services.infer.describe(&ModelRef::version(name, status.version?)).ok()
}

/// Returns host and port as the reader reached them, if they can be pasted. HTTP/2 has no `Host`.
fn named_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let header = headers.get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| uri.authority().map(Authority::as_str)).filter(|host| is_plain_host(host))
}

/// Whether the name is safe to paste into a shell.
fn is_plain_host(host: &str) -> bool {
    (1..=255).contains(&host.len()) && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

fn summary(app: &App) -> Reply {
    let services = &app.services;
    let body = json!({
        // KServe's v1 client asks for exactly this.
        "status": "alive",
        "name": services.server_name,
        "version": services.server_version,
        "ready": app.is_ready(),
        "degraded": app.degraded(),
        "engines": services.control.engines(),
        "models": app.model_names(),
    });
    Reply::json_value(200, &body)
}

/// Lists every version with its state.
pub(super) fn model_list(app: &App) -> Reply {
    let entry = |status: ModelStatus| {
        json!({
            "name": status.name,
            "version": status.version,
            "state": status.state.map(ModelState::as_str),
            "reason": (!status.reason.is_empty()).then_some(status.reason),
        })
    };
    let models: Vec<_> = app.services.control.index().into_iter().map(entry).collect();
    Reply::json_value(200, &json!({ "models": models }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_one_that_the_reader_used_if_a_shell_takes_it() {
        #[track_caller]
        fn check(uri: &str, header: Option<&str>, expected: Option<&str>) {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|value| (HOST, HeaderValue::from_str(value).unwrap())));
            assert_eq!(named_host(&uri.parse().unwrap(), &headers), expected);
        }
        check("/", Some("models.example:8080"), Some("models.example:8080"));
        check("/", Some("[::1]:8080"), Some("[::1]:8080"));
        check("http://h2.example:8080/", None, Some("h2.example:8080"));
        check("/", None, None);
        for bad in ["a;b", "$(id)", "a b", "a'b", "", &"a".repeat(256)] {
            check("/", Some(bad), None);
        }
    }
}
