//! The registry for people and for `salver models`: versions with what was measured of them,
//! promotion and the way back, who changed what, and clearing away.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::routing::{MethodRouter, get, post};
use http::{Method, Request, Response};
use salver_core::{Error, Result};
use salver_protocol::{Reply, oip_rest};
use salver_registry::names::Stage;
use salver_registry::{Registry, Search, Transition};
use serde_json::{Map, Value, json};

use super::AppState;
use super::exchange::manage_as;
use super::mlflow::{Who, registry};
use super::query::Query;
use crate::app::App;

/// Changes that one answer lists.
const MOST_CHANGES: usize = 1_000;
/// How old a blob must be before it is cleared away, where nothing is said.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// Adds the routes.
pub(super) fn routes(router: Router<Arc<App>>) -> Router<Arc<App>> {
    let calls: [(&str, MethodRouter<Arc<App>>); 10] = [
        ("/models", get(call(list))),
        ("/models/{name}", get(call(show)).delete(call(delete_model))),
        ("/models/{name}/compare", get(call(compare))),
        ("/models/{name}/promote", post(call(promote))),
        ("/models/{name}/rollback", post(call(rollback))),
        ("/models/{name}/stages", get(call(stages))),
        ("/models/{name}/versions/{version}", get(call(show_version)).delete(call(delete_version))),
        ("/models/{name}/versions/{version}/stage", post(call(set_stage))),
        ("/history", get(call(history))),
        ("/gc", post(call(gc))),
    ];
    calls.into_iter().fold(router, |router, (path, handler)| router.route(&format!("/api/v1/registry{path}"), handler))
}

/// What is asked: of whom, by whom, with what.
struct Asked {
    registry: Registry,
    who: String,
    path: Vec<(String, String)>,
    query: Query,
    body: Map<String, Value>,
}

impl Asked {
    fn name(&self) -> &str {
        self.path.iter().find(|(name, _)| name == "name").map_or("", |(_, value)| value)
    }

    fn version(&self) -> Result<i64> {
        let text = self.path.iter().find(|(name, _)| name == "version").map_or("", |(_, value)| value);
        number("version", text)
    }

    fn asked_for<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.all(wanted)
    }

    fn numbers(&self, wanted: &str) -> Result<Vec<i64>> {
        self.asked_for(wanted).flat_map(|text| text.split(',')).map(|text| number(wanted, text)).collect()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }

    /// Reads a whole number of the body, which may be written as text.
    fn int(&self, name: &str) -> Result<Option<i64>> {
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => number(name, text).map(Some),
            Some(value) => {
                let wrong = || Error::invalid_input(format!("'{name}': expected a whole number, got {value}"));
                value.as_i64().ok_or_else(wrong).map(Some)
            }
        }
    }
}

fn number(name: &str, text: &str) -> Result<i64> {
    text.trim().parse().map_err(|_| Error::invalid_input(format!("'{name}': expected a whole number, got '{text}'")))
}

fn call<F>(
    work: fn(Asked) -> F,
) -> impl Fn(State<Arc<App>>, RawPathParams, Request<Body>) -> futures::future::BoxFuture<'static, Response<Body>>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Future<Output = Result<Value>> + Send + 'static,
{
    move |State(app): AppState, path: RawPathParams, request: Request<Body>| {
        Box::pin(async move {
            let who = Who::of(request.headers());
            let path = path.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let query = Query::of(&request);
            let has_body = request.method() == Method::POST;
            manage_as(&app, request, oip_rest::encode_error, async |body| {
                let body = match has_body && !body.is_empty() {
                    true => serde_json::from_slice(&body)
                        .map_err(|error| Error::invalid_input(format!("the body is no JSON object: {error}")))?,
                    false => Map::new(),
                };
                let asked = Asked { registry: registry(&app)?, who: who.0, path, query, body };
                Ok(Reply::json_value(200, &work(asked).await?))
            })
            .await
        })
    }
}

async fn list(asked: Asked) -> Result<Value> {
    let search = Search {
        filter: asked.asked_for("filter").next().unwrap_or_default().to_owned(),
        page_token: asked.asked_for("page_token").next().map(str::to_owned),
        max_results: asked.numbers("max_results")?.first().copied(),
        ..Search::default()
    };
    let found = asked.registry.search_models(&search).await?;
    Ok(json!({ "models": found.items, "next_page_token": found.next_page_token }))
}

async fn show(asked: Asked) -> Result<Value> {
    let (model, versions) = (asked.registry.model(asked.name()).await?, asked.registry.cards(asked.name(), &[]).await?);
    Ok(json!({ "model": model, "versions": versions }))
}

async fn compare(asked: Asked) -> Result<Value> {
    let versions = asked.numbers("version")?;
    if versions.len() < 2 {
        return Err(Error::invalid_input("name two versions or more, such as ?version=1&version=2"));
    }
    let cards = asked.registry.cards(asked.name(), &versions).await?;
    let differences: Vec<_> = match cards.split_first() {
        Some((first, others)) => others.iter().map(|other| first.difference(other)).collect(),
        None => Vec::new(),
    };
    Ok(json!({ "versions": cards, "differences": differences }))
}

async fn show_version(asked: Asked) -> Result<Value> {
    let (card, files, stages) = asked.registry.card(asked.name(), asked.version()?).await?;
    Ok(json!({ "version": card, "files": files, "stages": stages }))
}

async fn promote(asked: Asked) -> Result<Value> {
    let version = asked.int("version")?.ok_or_else(|| Error::invalid_input("'version': say which"))?;
    let stage = asked.text("stage").map_or(Ok(Stage::Production), str::parse)?;
    let to = Transition {
        stage,
        archive_existing: matches!(stage, Stage::Production | Stage::Staging),
        replaces: asked.int("replaces")?,
    };
    Ok(json!({ "version": asked.registry.transition(&asked.who, asked.name(), version, to).await? }))
}

async fn rollback(asked: Asked) -> Result<Value> {
    Ok(json!({ "version": asked.registry.rollback(&asked.who, asked.name()).await? }))
}

async fn set_stage(asked: Asked) -> Result<Value> {
    let stage = asked.text("stage").ok_or_else(|| Error::invalid_input("'stage': say which"))?.parse()?;
    let to = Transition { stage, archive_existing: false, replaces: None };
    let version = asked.registry.transition(&asked.who, asked.name(), asked.version()?, to).await?;
    Ok(json!({ "version": version }))
}

async fn stages(asked: Asked) -> Result<Value> {
    let stage = asked.asked_for("stage").next().map_or(Ok(Stage::Production), str::parse)?;
    let at = asked.numbers("at")?.first().copied();
    Ok(json!({ "stage": stage.as_str(), "times": asked.registry.stage_times(asked.name(), stage, at).await? }))
}

async fn delete_model(asked: Asked) -> Result<Value> {
    asked.registry.delete_model(&asked.who, asked.name()).await?;
    Ok(json!({}))
}

async fn delete_version(asked: Asked) -> Result<Value> {
    asked.registry.delete_version(&asked.who, asked.name(), asked.version()?).await?;
    Ok(json!({}))
}

async fn history(asked: Asked) -> Result<Value> {
    let limit = asked.numbers("limit")?.first().map_or(100, |limit| (*limit).max(1).unsigned_abs() as usize);
    let changes = asked.registry.history(asked.asked_for("subject").next(), limit.min(MOST_CHANGES)).await?;
    Ok(json!({ "changes": changes }))
}

async fn gc(asked: Asked) -> Result<Value> {
    let dry_run = asked.body.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
    let grace = asked.int("grace_s")?.map_or(GRACE, |seconds| Duration::from_secs(seconds.max(0).unsigned_abs()));
    let cleared = asked.registry.collect_garbage(grace, dry_run).await?;
    Ok(json!({ "dry_run": dry_run, "cleared": cleared }))
}
