//! The graph of an ensemble: as JSON for programs, as a picture for people.

use axum::body::Body;
use axum::extract::State;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Request, Response};
use salver_core::{Error, Result};
use salver_protocol::graph::{Graph, Look, svg};
use salver_protocol::{Reply, oip_rest};

use super::AppState;
use super::exchange::{reply_or, response};
use super::query::{Query, clip};
use super::target::Target;
use crate::app::App;

const SVG: &str = "image/svg+xml";

/// What a picture may do where it is opened as a page of its own: look as it says.
const PICTURE_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");

/// How the graph is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Svg,
}

/// Shows the steps of an ensemble, and what they did since it was loaded.
pub(super) async fn show(State(app): AppState, target: Target, request: Request<Body>) -> Response<Body> {
    let shown = Form::of(&request).and_then(|form| Ok((form, render(&app, &target, form)?)));
    let (form, reply) = match shown {
        Ok(shown) => shown,
        Err(error) => return reply_or(Err(error), oip_rest::encode_error),
    };
    let mut response = response(request.headers(), reply).await;
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if form == Form::Svg {
        headers.insert(CONTENT_SECURITY_POLICY, PICTURE_POLICY);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

fn render(app: &App, target: &Target, form: Form) -> Result<Reply> {
    let graph = Graph::from(&app.services.control.graph(&target.model_or_alias()?)?);
    Ok(match form {
        Form::Json => Reply::json_value(200, &graph),
        Form::Svg => Reply { content_type: SVG, ..Reply::text(200, svg::draw(&Look::so_far(graph))) },
    })
}

impl Form {
    /// Reads what is asked for: `?format=` says it, else the header `Accept`, else it is JSON.
    fn of(request: &Request<Body>) -> Result<Self> {
        let query = Query::of(request);
        query.check(&["format"], &[])?;
        match query.get("format") {
            Some("json") => Ok(Self::Json),
            Some("svg") => Ok(Self::Svg),
            Some(other) => Err(Error::invalid_input(format!("'format': expected json or svg, got '{}'", clip(other)))),
            None => Ok(Self::accepted(request.headers())),
        }
    }

    /// Whoever names the picture's type gets a picture: browsers do where a page shows one.
    fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut types = values.flat_map(|value| value.split(',')).filter_map(|one| one.split(';').next());
        let is_picture = |media: &str| media.trim().eq_ignore_ascii_case(SVG);
        if types.any(is_picture) { Self::Svg } else { Self::Json }
    }
}
