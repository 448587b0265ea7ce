//! Registered models and their versions.

use salver_core::Result;
use salver_registry::names::Stage;
use salver_registry::{NewVersion, Registry, Transition};
use serde::Deserialize;
use serde_json::{Value, json};

use super::experiments::{SearchArguments, TagArgument};
use super::wire::{Flag, List, Nothing, Text, Who, need, page, text, version};

#[derive(Deserialize)]
pub(super) struct Create {
    name: Option<Text>,
    description: Option<Text>,
    #[serde(default)]
    tags: List<TagArgument>,
}

pub(super) async fn create(registry: Registry, who: Who, asked: Create) -> Result<Value> {
    let (name, tags) = (need(asked.name, "name")?, TagArgument::take_all(asked.tags)?);
    let description = text(asked.description).unwrap_or_default();
    Ok(json!({ "registered_model": registry.create_model(&who.0, &name, &description, &tags).await? }))
}

#[derive(Deserialize)]
pub(super) struct ByName {
    name: Option<Text>,
}

pub(super) async fn get(registry: Registry, _: Who, asked: ByName) -> Result<Value> {
    Ok(json!({ "registered_model": registry.model(&need(asked.name, "name")?).await? }))
}

#[derive(Deserialize)]
pub(super) struct Update {
    name: Option<Text>,
    description: Option<Text>,
}

pub(super) async fn update(registry: Registry, who: Who, asked: Update) -> Result<Value> {
    let (name, description) = (need(asked.name, "name")?, text(asked.description).unwrap_or_default());
    Ok(json!({ "registered_model": registry.describe_model(&who.0, &name, &description).await? }))
}

#[derive(Deserialize)]
pub(super) struct Rename {
    name: Option<Text>,
    new_name: Option<Text>,
}

pub(super) async fn rename(registry: Registry, who: Who, asked: Rename) -> Result<Value> {
    let (name, to) = (need(asked.name, "name")?, need(asked.new_name, "new_name")?);
    Ok(json!({ "registered_model": registry.rename_model(&who.0, &name, &to).await? }))
}

pub(super) async fn delete(registry: Registry, who: Who, asked: ByName) -> Result<Nothing> {
    registry.delete_model(&who.0, &need(asked.name, "name")?).await?;
    Ok(Nothing {})
}

pub(super) async fn search(registry: Registry, _: Who, asked: SearchArguments) -> Result<Value> {
    let found = registry.search_models(&asked.take()?).await?;
    Ok(page("registered_models", &found.items, found.next_page_token))
}

#[derive(Deserialize)]
pub(super) struct Latest {
    name: Option<Text>,
    #[serde(default)]
    stages: List<Text>,
}

pub(super) async fn latest_versions(registry: Registry, _: Who, asked: Latest) -> Result<Value> {
    let name = need(asked.name, "name")?;
    let stages: Vec<Stage> = asked.stages.texts().iter().map(|stage| stage.parse()).collect::<Result<_>>()?;
    Ok(page("model_versions", &registry.latest_versions(&name, &stages).await?, None))
}

#[derive(Deserialize)]
pub(super) struct TagOf {
    name: Option<Text>,
    version: Option<Text>,
    key: Option<Text>,
    value: Option<Text>,
}

impl TagOf {
    fn tag(key: Option<Text>, value: Option<Text>) -> Result<salver_registry::types::Tag> {
        Ok(salver_registry::types::Tag { key: need(key, "key")?, value: text(value).unwrap_or_default() })
    }
}

pub(super) async fn set_tag(registry: Registry, who: Who, asked: TagOf) -> Result<Nothing> {
    let (name, tag) = (need(asked.name, "name")?, TagOf::tag(asked.key, asked.value)?);
    registry.set_model_tag(&who.0, &name, tag).await?;
    Ok(Nothing {})
}

pub(super) async fn delete_tag(registry: Registry, who: Who, asked: TagOf) -> Result<Nothing> {
    registry.delete_model_tag(&who.0, &need(asked.name, "name")?, &need(asked.key, "key")?).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct AliasOf {
    name: Option<Text>,
    alias: Option<Text>,
    version: Option<Text>,
}

pub(super) async fn set_alias(registry: Registry, who: Who, asked: AliasOf) -> Result<Nothing> {
    let (name, alias) = (need(asked.name, "name")?, need(asked.alias, "alias")?);
    registry.set_alias(&who.0, &name, &alias, version(asked.version)?).await?;
    Ok(Nothing {})
}

pub(super) async fn get_alias(registry: Registry, _: Who, asked: AliasOf) -> Result<Value> {
    let (name, alias) = (need(asked.name, "name")?, need(asked.alias, "alias")?);
    Ok(json!({ "model_version": registry.version_of_alias(&name, &alias).await? }))
}

pub(super) async fn delete_alias(registry: Registry, who: Who, asked: AliasOf) -> Result<Nothing> {
    registry.delete_alias(&who.0, &need(asked.name, "name")?, &need(asked.alias, "alias")?).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct CreateVersion {
    name: Option<Text>,
    source: Option<Text>,
    run_id: Option<Text>,
    run_link: Option<Text>,
    description: Option<Text>,
    model_id: Option<Text>,
    #[serde(default)]
    tags: List<TagArgument>,
}

pub(super) async fn create_version(registry: Registry, who: Who, asked: CreateVersion) -> Result<Value> {
    let some = |value: Option<Text>| text(value).filter(|text| !text.is_empty());
    let new = NewVersion {
        name: need(asked.name, "name")?,
        source: need(asked.source, "source")?,
        run_id: some(asked.run_id),
        run_link: some(asked.run_link),
        description: some(asked.description),
        model_id: some(asked.model_id),
        tags: TagArgument::take_all(asked.tags)?,
    };
    Ok(json!({ "model_version": registry.create_version(&who.0, new).await? }))
}

#[derive(Deserialize)]
pub(super) struct OfVersion {
    name: Option<Text>,
    version: Option<Text>,
}

impl OfVersion {
    fn take(self) -> Result<(String, i64)> {
        Ok((need(self.name, "name")?, version(self.version)?))
    }
}

pub(super) async fn get_version(registry: Registry, _: Who, asked: OfVersion) -> Result<Value> {
    let (name, version) = asked.take()?;
    Ok(json!({ "model_version": registry.version(&name, version).await? }))
}

#[derive(Deserialize)]
pub(super) struct UpdateVersion {
    name: Option<Text>,
    version: Option<Text>,
    description: Option<Text>,
}

pub(super) async fn update_version(registry: Registry, who: Who, asked: UpdateVersion) -> Result<Value> {
    let (name, version) = (need(asked.name, "name")?, version(asked.version)?);
    let description = text(asked.description).unwrap_or_default();
    Ok(json!({ "model_version": registry.describe_version(&who.0, &name, version, &description).await? }))
}

pub(super) async fn delete_version(registry: Registry, who: Who, asked: OfVersion) -> Result<Nothing> {
    let (name, version) = asked.take()?;
    registry.delete_version(&who.0, &name, version).await?;
    Ok(Nothing {})
}

pub(super) async fn search_versions(registry: Registry, _: Who, asked: SearchArguments) -> Result<Value> {
    let found = registry.search_versions(&asked.take()?).await?;
    Ok(page("model_versions", &found.items, found.next_page_token))
}

pub(super) async fn download_uri(registry: Registry, _: Who, asked: OfVersion) -> Result<Value> {
    let (name, version) = asked.take()?;
    Ok(json!({ "artifact_uri": registry.version(&name, version).await?.location }))
}

#[derive(Deserialize)]
pub(super) struct TransitionOf {
    name: Option<Text>,
    version: Option<Text>,
    stage: Option<Text>,
    #[serde(default)]
    archive_existing_versions: Flag,
}

pub(super) async fn transition(registry: Registry, who: Who, asked: TransitionOf) -> Result<Value> {
    let (name, version) = (need(asked.name, "name")?, version(asked.version)?);
    let to = Transition {
        stage: need(asked.stage, "stage")?.parse::<Stage>()?,
        archive_existing: asked.archive_existing_versions.0,
        replaces: None,
    };
    Ok(json!({ "model_version": registry.transition(&who.0, &name, version, to).await? }))
}

pub(super) async fn set_version_tag(registry: Registry, who: Who, asked: TagOf) -> Result<Nothing> {
    let (name, version) = (need(asked.name, "name")?, version(asked.version)?);
    registry.set_version_tag(&who.0, &name, version, TagOf::tag(asked.key, asked.value)?).await?;
    Ok(Nothing {})
}

pub(super) async fn delete_version_tag(registry: Registry, who: Who, asked: TagOf) -> Result<Nothing> {
    let (name, version, key) = (need(asked.name, "name")?, version(asked.version)?, need(asked.key, "key")?);
    registry.delete_version_tag(&who.0, &name, version, &key).await?;
    Ok(Nothing {})
}
