//! Logged models.

use salver_core::Result;
use salver_registry::{LoggedOrder, NewLoggedModel, Registry, Search};
use serde::Deserialize;
use serde_json::{Value, json};

use super::experiments::TagArgument;
use super::runs::list_below;
use super::wire::{Flag, Int, List, Nothing, Text, Who, need, page, text};

#[derive(Deserialize)]
pub(super) struct Create {
    experiment_id: Option<Text>,
    name: Option<Text>,
    model_type: Option<Text>,
    source_run_id: Option<Text>,
    #[serde(default)]
    params: List<TagArgument>,
    #[serde(default)]
    tags: List<TagArgument>,
}

pub(super) async fn create(registry: Registry, _: Who, asked: Create) -> Result<Value> {
    let new = NewLoggedModel {
        experiment_id: need(asked.experiment_id, "experiment_id")?,
        name: text(asked.name),
        model_type: text(asked.model_type).filter(|text| !text.is_empty()),
        source_run_id: text(asked.source_run_id).filter(|text| !text.is_empty()),
        params: TagArgument::take_all(asked.params)?,
        tags: TagArgument::take_all(asked.tags)?,
    };
    Ok(json!({ "model": registry.create_logged_model(new).await? }))
}

#[derive(Deserialize)]
pub(super) struct Get {
    model_id: Option<Text>,
    #[serde(default)]
    allow_deleted: Flag,
}

pub(super) async fn get(registry: Registry, _: Who, asked: Get) -> Result<Value> {
    let id = need(asked.model_id, "model_id")?;
    Ok(json!({ "model": registry.logged_model(&id, asked.allow_deleted.0).await? }))
}

#[derive(Deserialize)]
pub(super) struct Finish {
    model_id: Option<Text>,
    status: Option<Text>,
}

pub(super) async fn finish(registry: Registry, _: Who, asked: Finish) -> Result<Value> {
    let (id, status) = (need(asked.model_id, "model_id")?, need(asked.status, "status")?);
    Ok(json!({ "model": registry.finish_logged_model(&id, &status).await? }))
}

pub(super) async fn delete(registry: Registry, _: Who, asked: Get) -> Result<Nothing> {
    registry.delete_logged_model(&need(asked.model_id, "model_id")?).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct SetTags {
    model_id: Option<Text>,
    #[serde(default)]
    tags: List<TagArgument>,
}

pub(super) async fn set_tags(registry: Registry, _: Who, asked: SetTags) -> Result<Value> {
    let id = need(asked.model_id, "model_id")?;
    let model = registry.set_logged_model_tags(&id, &TagArgument::take_all(asked.tags)?).await?;
    Ok(json!({ "model": model }))
}

#[derive(Deserialize)]
pub(super) struct DeleteTag {
    model_id: Option<Text>,
    key: Option<Text>,
}

pub(super) async fn delete_tag(registry: Registry, _: Who, asked: DeleteTag) -> Result<Nothing> {
    registry.delete_logged_model_tag(&need(asked.model_id, "model_id")?, &need(asked.key, "key")?).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct LogParams {
    model_id: Option<Text>,
    #[serde(default)]
    params: List<TagArgument>,
}

pub(super) async fn log_params(registry: Registry, _: Who, asked: LogParams) -> Result<Nothing> {
    let id = need(asked.model_id, "model_id")?;
    registry.log_model_params(&id, &TagArgument::take_all(asked.params)?).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct Artifacts {
    model_id: Option<Text>,
    artifact_directory_path: Option<Text>,
}

pub(super) async fn artifacts(registry: Registry, _: Who, asked: Artifacts) -> Result<Value> {
    let model = registry.logged_model(&need(asked.model_id, "model_id")?, false).await?;
    list_below(&registry, &model.info.artifact_uri, text(asked.artifact_directory_path)).await
}

#[derive(Deserialize)]
pub(super) struct SearchModels {
    #[serde(default)]
    experiment_ids: List<Text>,
    filter: Option<Text>,
    #[serde(default)]
    datasets: List<DatasetArgument>,
    max_results: Option<Int>,
    #[serde(default)]
    order_by: List<OrderArgument>,
    page_token: Option<Text>,
}

#[derive(Deserialize)]
pub(super) struct OrderArgument {
    field_name: Option<Text>,
    ascending: Option<Flag>,
}

/// Data that metrics were measured on.
#[derive(Deserialize)]
pub(super) struct DatasetArgument {
    dataset_name: Option<Text>,
    dataset_digest: Option<Text>,
}

pub(super) async fn search(registry: Registry, _: Who, asked: SearchModels) -> Result<Value> {
    let search = Search {
        filter: text(asked.filter).unwrap_or_default(),
        max_results: asked.max_results.map(|rows| rows.0),
        page_token: text(asked.page_token),
        ..Search::default()
    };
    let datasets = asked.datasets.0.into_iter().map(|dataset| {
        Ok((need(dataset.dataset_name, "dataset_name")?, text(dataset.dataset_digest).filter(|text| !text.is_empty())))
    });
    let datasets: Vec<_> = datasets.collect::<Result<_>>()?;
    let orders = asked.order_by.0.into_iter().map(|order| {
        let field_name = need(order.field_name, "field_name")?;
        Ok(LoggedOrder { field_name, descending: !order.ascending.is_none_or(|flag| flag.0) })
    });
    let orders: Vec<_> = orders.collect::<Result<_>>()?;
    let found = registry.search_logged_models(&asked.experiment_ids.texts(), &search, &orders, &datasets).await?;
    Ok(page("models", &found.items, found.next_page_token))
}
