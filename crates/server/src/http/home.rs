//! What is asked by people and by those who watch the server: the page at `/`, `/health`,
//! `/metrics`, the description of the routes, and the constant reply that the bench compares with.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST};
use http::{HeaderMap, HeaderValue, Request, Response};
use salver_core::{ModelInfo, ModelName, ModelRef, ModelState, ModelStatus};
use salver_protocol::{Reply, openapi, plain};
use salver_telemetry::Metrics;
use serde_json::json;

use super::AppState;
use super::exchange::{manage, plain_response, response};
use crate::app::App;

pub(super) async fn health() -> Response<Body> {
    plain_response(Reply::text(200, Bytes::from_static(b"OK")))
}

pub(super) async fn metrics(State(app): AppState, headers: HeaderMap) -> Response<Body> {
    let body = app.services.metrics.render();
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
pub(super) async fn page(State(app): AppState, headers: HeaderMap) -> Response<Body> {
    let wants_html = headers.get(ACCEPT).is_some_and(|accept| {
        String::from_utf8_lossy(accept.as_bytes()).split(',').any(|item| item.trim().starts_with("text/html"))
    });
    if !wants_html {
        return response(&headers, summary(&app)).await;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| is_plain_host(host)).map_or_else(|| app.options.http.to_string(), str::to_owned);
    let reply = Reply { content_type: "text/html; charset=utf-8", ..Reply::text(200, html(&app, &host)) };
    let mut response = response(&headers, reply).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    response
}

/// Whether the name is safe to paste into a shell.
fn is_plain_host(host: &str) -> bool {
    host.len() <= 255 && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

fn summary(app: &App) -> Reply {
    let services = &app.services;
    let body = json!({
        // KServe's v1 client asks for exactly this.
        "status": "alive",
        "name": services.server_name,
        "version": services.server_version,
        "ready": app.is_ready(),
        "engines": services.engines,
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
            "state": status.state.map(state_name),
            "reason": (!status.reason.is_empty()).then_some(status.reason),
        })
    };
    let models: Vec<_> = app.services.control.index().into_iter().map(entry).collect();
    Reply::json_value(200, &json!({ "models": models }))
}

fn state_name(state: ModelState) -> &'static str {
    match state {
        ModelState::Pending => "pending",
        ModelState::Loading => "loading",
        ModelState::Warming => "warming",
        ModelState::Ready => "ready",
        ModelState::Draining => "draining",
        ModelState::Gone => "gone",
        ModelState::Failed => "failed",
    }
}

const PAGE_HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Salver</title>
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { background: #f4f4f4; padding: .75rem; overflow-x: auto; border-radius: 4px; }
h2 { margin-bottom: .25rem; } .state { color: #666; font-weight: normal; font-size: .9rem; } .failed { color: #a00; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } pre { background: #262626; } }
</style></head><body>
";

fn html(app: &App, host: &str) -> String {
    let services = &app.services;
    let mut page = String::from(PAGE_HEAD);
    let _ = write!(page, "<h1>{} {}</h1>\n<p>", escaped(&services.server_name), escaped(&services.server_version));
    for engine in &services.engines {
        let _ = write!(page, "{}<br>", escaped(engine));
    }
    page.push_str("<a href=\"/openapi.json\">openapi.json</a> · <a href=\"/metrics\">metrics</a></p>\n");
    let index = services.control.index();
    if index.is_empty() {
        page.push_str("<p>No model is loaded.</p>\n");
    }
    for status in &index {
        write_model(&mut page, app, status, host);
    }
    page.push_str("</body></html>\n");
    page
}

fn write_model(page: &mut String, app: &App, status: &ModelStatus, host: &str) {
    let state = status.state.map_or("not loaded", state_name);
    let version = status.version.map_or(String::new(), |version| format!(" version {version}"));
    let _ = writeln!(page, "<h2>{} <span class=\"state\">{version} {state}</span></h2>", escaped(&status.name));
    if !status.reason.is_empty() {
        let _ = writeln!(page, "<p class=\"failed\">{}</p>", escaped(&status.reason));
    }
    if let Some(info) = describe(app, status) {
        let _ = writeln!(page, "<pre>{}</pre>", escaped(&curl(&info, host)));
    }
}

fn describe(app: &App, status: &ModelStatus) -> Option<Arc<ModelInfo>> {
    let name = ModelName::new(&status.name).ok()?;
    app.services.infer.describe(&ModelRef::version(name, status.version?)).ok()
}

/// A command that works as it stands in a shell.
fn curl(info: &ModelInfo, host: &str) -> String {
    // In single quotes a shell takes everything but a single quote as it is.
    let body = plain::example(info).to_string().replace('\'', r"'\''");
    let (name, version) = (&info.name, info.version);
    format!("curl http://{host}/models/{name}/versions/{version}/predict -d '{body}'")
}

/// Makes text safe inside an HTML element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
