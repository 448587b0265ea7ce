//! Registered models: names under which versions are known, with tags and aliases.

use std::collections::HashMap;

use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Row, Session, sql};
use serde_json::{Value, json};

use crate::audit::Change;
use crate::tags::MODEL_TAGS;
use crate::types::{Alias, ModelVersion, RegisteredModel, Tag};
use crate::{Registry, names};

pub use self::lookup::ToServe;
pub use self::versions::{NewVersion, StageTime, Transition};

mod lookup;
mod versions;

impl Registry {
    /// Registers a name.
    ///
    /// # Errors
    /// `Conflict` for one that is taken; `InvalidInput` for one that none can have.
    pub async fn create_model(
        &self,
        who: &str,
        name: &str,
        description: &str,
        tags: &[Tag],
    ) -> Result<RegisteredModel> {
        names::model_name(name)?;
        check_tags(tags)?;
        let (mut session, now) = (self.database.write().await?, self.now());
        if exists(&mut session, name).await? {
            return Err(taken(name));
        }
        let statement = sql("INSERT INTO registered_models VALUES (?, ?, ?, ?, ?, 0)")
            .bind(name)
            .bind(now)
            .bind(now)
            .bind(description)
            .bind(who);
        session.execute(statement).await?;
        MODEL_TAGS.set(&mut session, name, tags).await?;
        let after = json!({ "description": description, "tags": tags });
        self.note_model(&mut session, who, "model.create", name, None, Some(after)).await?;
        let model = read_model(&mut session, name).await?;
        self.commit_change(session).await?;
        Ok(model)
    }

    /// Returns a registered model.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn model(&self, name: &str) -> Result<RegisteredModel> {
        read_model(&mut self.database.read().await?, name).await
    }

    /// Describes a model anew.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn describe_model(&self, who: &str, name: &str, description: &str) -> Result<RegisteredModel> {
        let (mut session, _) = self.touched(name).await?;
        let before = read_model(&mut session, name).await?.description;
        let statement = sql("UPDATE registered_models SET description = ? WHERE name = ?").bind(description).bind(name);
        session.execute(statement).await?;
        let shown = |text: &str| Some(json!({ "description": text }));
        self.note_model(&mut session, who, "model.describe", name, shown(&before), shown(description)).await?;
        let model = read_model(&mut session, name).await?;
        session.commit().await?;
        Ok(model)
    }

    /// Gives a model another name; versions, tags and aliases follow.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a name that is taken.
    pub async fn rename_model(&self, who: &str, name: &str, to: &str) -> Result<RegisteredModel> {
        names::model_name(to)?;
        let (mut session, _) = self.touched(name).await?;
        if exists(&mut session, to).await? {
            return Err(taken(to));
        }
        session.execute(sql("UPDATE registered_models SET name = ? WHERE name = ?").bind(to).bind(name)).await?;
        session.execute(sql("UPDATE stage_times SET name = ? WHERE name = ?").bind(to).bind(name)).await?;
        let shown = |name: &str| Some(json!({ "name": name }));
        self.note_model(&mut session, who, "model.rename", name, shown(name), shown(to)).await?;
        self.note_model(&mut session, who, "model.rename", to, shown(name), shown(to)).await?;
        let model = read_model(&mut session, to).await?;
        self.commit_change(session).await?;
        Ok(model)
    }

    /// Deletes a model with all its versions. What was in which stage when stays known.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_model(&self, who: &str, name: &str) -> Result<()> {
        let (mut session, now) = self.touched(name).await?;
        let before = read_model(&mut session, name).await?;
        session.execute(sql("DELETE FROM registered_models WHERE name = ?").bind(name)).await?;
        let statement = sql("UPDATE stage_times SET until = ? WHERE name = ? AND until IS NULL");
        session.execute(statement.bind(now).bind(name)).await?;
        self.note_model(&mut session, who, "model.delete", name, Some(json!(before)), None).await?;
        self.commit_change(session).await
    }

    /// Sets a tag of a model.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a key that none can have.
    pub async fn set_model_tag(&self, who: &str, name: &str, tag: Tag) -> Result<()> {
        check_tags(std::slice::from_ref(&tag))?;
        let (mut session, _) = self.touched(name).await?;
        let before = MODEL_TAGS.find(&mut session, name, &tag.key).await?.map(|tag| json!(tag));
        MODEL_TAGS.set(&mut session, name, std::slice::from_ref(&tag)).await?;
        self.note_model(&mut session, who, "model.tag", name, before, Some(json!(tag))).await?;
        session.commit().await
    }

    /// Deletes a tag of a model, if it is there.
    ///
    /// # Errors
    /// `NotFound` for the model.
    pub async fn delete_model_tag(&self, who: &str, name: &str, key: &str) -> Result<()> {
        let (mut session, _) = self.touched(name).await?;
        if let Some(before) = MODEL_TAGS.delete(&mut session, name, key).await? {
            self.note_model(&mut session, who, "model.tag", name, Some(json!(before)), None).await?;
        }
        session.commit().await
    }

    /// Gives a version an alias, taking it from another one that has it.
    ///
    /// # Errors
    /// `NotFound` for model or version; `InvalidInput` for an alias that none can have.
    pub async fn set_alias(&self, who: &str, name: &str, alias: &str, version: i64) -> Result<()> {
        names::alias(alias)?;
        let (mut session, now) = self.touched(name).await?;
        versions::read_version(&mut session, name, version).await?;
        let before = aliased(&mut session, name, alias).await?;
        let statement = sql("INSERT INTO model_aliases VALUES (?, ?, ?) ON CONFLICT (name, alias) \
                             DO UPDATE SET version = excluded.version");
        session.execute(statement.bind(name).bind(alias).bind(version)).await?;
        versions::touch_version(&mut session, name, version, now).await?;
        let shown = |version: i64| json!({ "alias": alias, "version": version });
        self.note_model(&mut session, who, "model.alias", name, before.map(shown), Some(shown(version))).await?;
        self.commit_change(session).await
    }

    /// Takes an alias away, if it is there.
    ///
    /// # Errors
    /// `NotFound` for the model.
    pub async fn delete_alias(&self, who: &str, name: &str, alias: &str) -> Result<()> {
        let (mut session, _) = self.touched(name).await?;
        if let Some(version) = aliased(&mut session, name, alias).await? {
            let statement = sql("DELETE FROM model_aliases WHERE name = ? AND alias = ?").bind(name).bind(alias);
            session.execute(statement).await?;
            let before = json!({ "alias": alias, "version": version });
            self.note_model(&mut session, who, "model.alias", name, Some(before), None).await?;
        }
        self.commit_change(session).await
    }

    /// Returns the version that an alias names.
    ///
    /// # Errors
    /// `NotFound` for the model; `InvalidInput` for an alias that it does not have.
    pub async fn version_of_alias(&self, name: &str, alias: &str) -> Result<ModelVersion> {
        let mut session = self.database.read().await?;
        known(&mut session, name).await?;
        // One statement: the alias may move on and its version go before a second one.
        let statement = sql("SELECT v.* FROM model_aliases a JOIN model_versions v ON v.name = a.name \
                             AND v.version = a.version WHERE a.name = ? AND a.alias = ?");
        let row = session.first(statement.bind(name).bind(alias)).await?;
        let row = row.ok_or_else(|| Error::invalid_input(format!("Registered model alias {alias} not found.")))?;
        Ok(versions_with_parts(&mut session, vec![read_version_row(&row)?]).await?.remove(0))
    }

    /// Begins a change of a model, which others that change it wait for; returns its time.
    async fn touched(&self, name: &str) -> Result<(Session, i64)> {
        let (mut session, now) = (self.database.write().await?, self.now());
        let statement = sql("UPDATE registered_models SET last_update_time = ? WHERE name = ?");
        if session.execute(statement.bind(now).bind(name)).await? == 0 {
            return Err(unknown(name));
        }
        Ok((session, now))
    }

    async fn note_model(
        &self,
        session: &mut Session,
        who: &str,
        what: &'static str,
        name: &str,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<()> {
        Change { time: self.now(), who, what, subject: format!("model/{name}"), before, after }.note(session).await
    }
}

fn unknown(name: &str) -> Error {
    Error::not_found(format!("Registered Model with name={name} not found"))
}

fn taken(name: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("Registered Model (name={name}) already exists."))
}

async fn exists(session: &mut Session, name: &str) -> Result<bool> {
    let statement = sql("SELECT name FROM registered_models WHERE name = ?").bind(name);
    Ok(session.first(statement).await?.is_some())
}

pub(crate) async fn known(session: &mut Session, name: &str) -> Result<()> {
    if exists(session, name).await? { Ok(()) } else { Err(unknown(name)) }
}

async fn aliased(session: &mut Session, name: &str, alias: &str) -> Result<Option<i64>> {
    let statement = sql("SELECT version FROM model_aliases WHERE name = ? AND alias = ?").bind(name).bind(alias);
    session.first(statement).await?.map(|row| row.int("version")).transpose()
}

/// Checks the tags of models and versions, whose values may be long.
fn check_tags(tags: &[Tag]) -> Result<()> {
    tags.iter().try_for_each(|tag| {
        names::tag_key(&tag.key)?;
        names::model_tag_value(&tag.value)
    })
}

async fn read_model(session: &mut Session, name: &str) -> Result<RegisteredModel> {
    let row = session.first(sql("SELECT * FROM registered_models WHERE name = ?").bind(name)).await?;
    let model = read(&row.ok_or_else(|| unknown(name))?)?;
    Ok(with_parts(session, vec![model]).await?.remove(0))
}

pub(crate) fn read(row: &Row) -> Result<RegisteredModel> {
    Ok(RegisteredModel {
        name: row.text("name")?,
        creation_timestamp: row.int("creation_time")?,
        last_updated_timestamp: row.int("last_update_time")?,
        description: row.text("description")?,
        user_id: row.text("user_id")?,
        latest_versions: Vec::new(),
        tags: Vec::new(),
        aliases: Vec::new(),
    })
}

/// Gives models their tags, aliases and latest versions.
pub(crate) async fn with_parts(
    session: &mut Session,
    mut models: Vec<RegisteredModel>,
) -> Result<Vec<RegisteredModel>> {
    let names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut tags = MODEL_TAGS.of_texts(session, &names).await?;
    let statement =
        sql("SELECT * FROM model_aliases WHERE name IN ").list(names.iter().copied()).then(" ORDER BY alias");
    let mut aliases: HashMap<String, Vec<Alias>> = HashMap::new();
    for row in session.all(statement).await? {
        let alias = Alias { alias: row.text("alias")?, version: row.int("version")? };
        aliases.entry(row.text("name")?).or_default().push(alias);
    }
    let mut latest: HashMap<String, Vec<ModelVersion>> = HashMap::new();
    for version in versions::latest(session, &names).await? {
        latest.entry(version.name.clone()).or_default().push(version);
    }
    for model in &mut models {
        model.tags = tags.remove(&model.name).unwrap_or_default();
        model.aliases = aliases.remove(&model.name).unwrap_or_default();
        model.latest_versions = latest.remove(&model.name).unwrap_or_default();
    }
    Ok(models)
}

pub(crate) use self::versions::{read as read_version_row, read_version, with_parts as versions_with_parts};
