//! Experiments.

use salver_core::{Error, Result};
use salver_registry::types::{Lifecycle, Tag, View};
use salver_registry::{NewExperiment, Registry, Search};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::{Int, List, Nothing, Text, Who, need, page, text};

/// A key and its value as they come.
#[derive(Deserialize)]
pub(super) struct TagArgument {
    key: Option<Text>,
    #[serde(default)]
    value: Option<Text>,
}

impl TagArgument {
    pub(super) fn take(self) -> Result<Tag> {
        Ok(Tag { key: need(self.key, "key")?, value: text(self.value).unwrap_or_default() })
    }

    pub(super) fn take_all(list: List<Self>) -> Result<Vec<Tag>> {
        list.0.into_iter().map(Self::take).collect()
    }
}

#[derive(Deserialize)]
pub(super) struct Create {
    name: Option<Text>,
    artifact_location: Option<Text>,
    #[serde(default)]
    tags: List<TagArgument>,
}

pub(super) async fn create(registry: Registry, who: Who, asked: Create) -> Result<Value> {
    let new = NewExperiment {
        name: need(asked.name, "name")?,
        artifact_location: text(asked.artifact_location),
        tags: TagArgument::take_all(asked.tags)?,
    };
    Ok(json!({ "experiment_id": registry.create_experiment(&who.0, new).await?.to_string() }))
}

#[derive(Deserialize)]
pub(super) struct ById {
    experiment_id: Option<Text>,
}

pub(super) async fn get(registry: Registry, _: Who, asked: ById) -> Result<Value> {
    let id = need(asked.experiment_id, "experiment_id")?;
    Ok(json!({ "experiment": registry.experiment(&id).await? }))
}

#[derive(Deserialize)]
pub(super) struct ByName {
    experiment_name: Option<Text>,
}

pub(super) async fn get_by_name(registry: Registry, _: Who, asked: ByName) -> Result<Value> {
    let name = need(asked.experiment_name, "experiment_name")?;
    Ok(json!({ "experiment": registry.experiment_by_name(&name).await? }))
}

/// The arguments that all searches share.
#[derive(Deserialize)]
pub(super) struct SearchArguments {
    max_results: Option<Int>,
    page_token: Option<Text>,
    filter: Option<Text>,
    #[serde(default)]
    order_by: List<Text>,
    #[serde(alias = "run_view_type")]
    view_type: Option<Text>,
}

impl SearchArguments {
    pub(super) fn take(self) -> Result<Search> {
        let view = match text(self.view_type).as_deref() {
            None | Some("" | "ACTIVE_ONLY") => View::Active,
            Some("DELETED_ONLY") => View::Deleted,
            Some("ALL") => View::All,
            Some(other) => {
                return Err(Error::invalid_input(format!(
                    "Invalid value '{other}' for parameter 'view_type' supplied: expected ACTIVE_ONLY, DELETED_ONLY or ALL"
                )));
            }
        };
        Ok(Search {
            filter: text(self.filter).unwrap_or_default(),
            order_by: self.order_by.texts(),
            max_results: self.max_results.map(|number| number.0),
            page_token: text(self.page_token),
            view,
        })
    }
}

pub(super) async fn search(registry: Registry, _: Who, asked: SearchArguments) -> Result<Value> {
    let found = registry.search_experiments(&asked.take()?).await?;
    Ok(page("experiments", &found.items, found.next_page_token))
}

#[derive(Deserialize)]
pub(super) struct Update {
    experiment_id: Option<Text>,
    new_name: Option<Text>,
}

pub(super) async fn update(registry: Registry, who: Who, asked: Update) -> Result<Nothing> {
    let (id, name) = (need(asked.experiment_id, "experiment_id")?, need(asked.new_name, "new_name")?);
    registry.rename_experiment(&who.0, &id, &name).await?;
    Ok(Nothing {})
}

pub(super) async fn delete(registry: Registry, who: Who, asked: ById) -> Result<Nothing> {
    let id = need(asked.experiment_id, "experiment_id")?;
    registry.set_experiment_lifecycle(&who.0, &id, Lifecycle::Deleted).await?;
    Ok(Nothing {})
}

pub(super) async fn restore(registry: Registry, who: Who, asked: ById) -> Result<Nothing> {
    let id = need(asked.experiment_id, "experiment_id")?;
    registry.set_experiment_lifecycle(&who.0, &id, Lifecycle::Active).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct TagOf {
    experiment_id: Option<Text>,
    key: Option<Text>,
    value: Option<Text>,
}

pub(super) async fn set_tag(registry: Registry, who: Who, asked: TagOf) -> Result<Nothing> {
    let id = need(asked.experiment_id, "experiment_id")?;
    let tag = TagArgument { key: asked.key, value: asked.value }.take()?;
    registry.set_experiment_tag(&who.0, &id, tag).await?;
    Ok(Nothing {})
}

pub(super) async fn delete_tag(registry: Registry, who: Who, asked: TagOf) -> Result<Nothing> {
    let (id, key) = (need(asked.experiment_id, "experiment_id")?, need(asked.key, "key")?);
    registry.delete_experiment_tag(&who.0, &id, &key).await?;
    Ok(Nothing {})
}
