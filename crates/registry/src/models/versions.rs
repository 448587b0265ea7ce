//! Versions of registered models: what they are made of never changes; stages, tags and
//! descriptions do.

use std::collections::HashMap;

use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Row, Session, Value, sql};
use serde::Serialize;
use serde_json::json;

use super::{check_tags, known};
use crate::audit::Change;
use crate::names::Stage;
use crate::types::{ModelVersion, Tag};
use crate::{Registry, files, logged, sources};

/// What a new version is made of.
#[derive(Debug, Clone, Default)]
pub struct NewVersion {
    /// The registered model's name.
    pub name: String,
    /// Where its files are; never read by this call.
    pub source: String,
    /// The run that made it.
    pub run_id: Option<String>,
    /// A link of the client's.
    pub run_link: Option<String>,
    /// Markdown.
    pub description: Option<String>,
    /// The logged model that it is.
    pub model_id: Option<String>,
    /// Its first tags.
    pub tags: Vec<Tag>,
}

/// A change of stage.
#[derive(Debug, Clone, Copy)]
pub struct Transition {
    /// Where to.
    pub stage: Stage,
    /// Whether every other version of that stage goes to `Archived`.
    pub archive_existing: bool,
    /// The version that is the newest of that stage as far as the caller knows (0: there is none);
    /// none: whatever it is. Of two that promote at once, one hears that the other was first.
    pub replaces: Option<i64>,
}

/// How long a version was in a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageTime {
    /// The version.
    pub version: i64,
    /// The stage.
    pub stage: String,
    /// Milliseconds since 1970.
    pub since: i64,
    /// Milliseconds since 1970; none: it still is.
    pub until: Option<i64>,
    /// Who put it there.
    pub who: String,
}

impl Registry {
    /// Registers a version: the next number that was never used.
    ///
    /// # Errors
    /// `NotFound` for the model, or the run or model that the source names; `InvalidInput` for a
    /// source that no version may have.
    pub async fn create_version(&self, who: &str, new: NewVersion) -> Result<ModelVersion> {
        check_tags(&new.tags)?;
        // Files are read before, so that nobody waits for them in a transaction.
        let declared = self.declared(&new).await;
        let (mut session, now) = (self.database.write().await?, self.now());
        let statement = sql("UPDATE registered_models SET last_update_time = ?, newest_version = newest_version + 1 \
                             WHERE name = ? RETURNING newest_version");
        let row = session.first(statement.bind(now).bind(&new.name)).await?;
        let version = row.ok_or_else(|| super::unknown(&new.name))?.int("newest_version")?;
        session.hold(files::FILES).await?;
        let origin = sources::resolve(&mut session, &new).await?;
        let statement =
            sql("INSERT INTO model_versions VALUES (?, ?, ?, ?, ?, ?, 'None', ?, ?, ?, ?, ?, NULL, NULL, NULL)")
                .bind(&new.name)
                .bind(version)
                .bind(now)
                .bind(now)
                .bind(new.description.as_deref().unwrap_or_default())
                .bind(who)
                .bind(&new.source)
                .bind(&origin.location)
                .bind(origin.run_id.as_deref().unwrap_or_default())
                .bind(new.run_link.as_deref().unwrap_or_default())
                .bind(&new.model_id);
        session.execute(statement).await?;
        set_tags(&mut session, &new.name, version, &new.tags).await?;
        let digest = files::freeze(&mut session, &new.name, version, &origin.location).await?;
        if let Some(declared) = declared.filter(|declared| Some(&declared.digest) == digest.as_ref()) {
            let statement = sql("UPDATE model_versions SET signature = ? WHERE name = ? AND version = ?");
            session.execute(statement.bind(&declared.signature).bind(&new.name).bind(version)).await?;
        }
        if let Some(model_id) = &new.model_id {
            logged::note_registration(&mut session, model_id, &new.name, version).await?;
        }
        let made = read_version(&mut session, &new.name, version).await?;
        let after = json!({ "source": made.source, "digest": made.digest, "run_id": made.run_id });
        self.note_version(&mut session, who, "version.create", &made, None, Some(after)).await?;
        self.commit_change(session).await?;
        Ok(made)
    }

    /// Returns a version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn version(&self, name: &str, version: i64) -> Result<ModelVersion> {
        read_version(&mut self.database.read().await?, name, version).await
    }

    /// Returns the highest version of each stage asked for, in that order; of every stage that has
    /// one where none is asked for.
    ///
    /// # Errors
    /// `NotFound` for the model.
    pub async fn latest_versions(&self, name: &str, stages: &[Stage]) -> Result<Vec<ModelVersion>> {
        let mut session = self.database.read().await?;
        if stages.is_empty() {
            known(&mut session, name).await?;
            return latest(&mut session, &[name]).await;
        }
        let mut found = Vec::with_capacity(stages.len());
        for stage in stages {
            found.extend(newest_in(&mut session, name, *stage).await?);
        }
        if found.is_empty() {
            known(&mut session, name).await?;
        }
        with_parts(&mut session, found).await
    }

    /// Describes a version anew.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn describe_version(&self, who: &str, name: &str, version: i64, text: &str) -> Result<ModelVersion> {
        let (mut session, now) = self.touched(name).await?;
        let before = read_version(&mut session, name, version).await?;
        let statement =
            sql("UPDATE model_versions SET description = ?, last_update_time = ? WHERE name = ? AND version = ?");
        session.execute(statement.bind(text).bind(now).bind(name).bind(version)).await?;
        let shown = |text: &str| Some(json!({ "description": text }));
        let change = (shown(&before.description), shown(text));
        self.note_version(&mut session, who, "version.describe", &before, change.0, change.1).await?;
        let after = read_version(&mut session, name, version).await?;
        session.commit().await?;
        Ok(after)
    }

    /// Deletes a version; its aliases go with it, its number is not used again.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_version(&self, who: &str, name: &str, version: i64) -> Result<()> {
        let (mut session, now) = self.touched(name).await?;
        let before = read_version(&mut session, name, version).await?;
        let statement = sql("DELETE FROM model_versions WHERE name = ? AND version = ?").bind(name).bind(version);
        session.execute(statement).await?;
        end_stage(&mut session, &before, now).await?;
        self.note_version(&mut session, who, "version.delete", &before, Some(json!(before)), None).await?;
        self.commit_change(session).await
    }

    /// Sets a tag of a version.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a key that none can have.
    pub async fn set_version_tag(&self, who: &str, name: &str, version: i64, tag: Tag) -> Result<()> {
        check_tags(std::slice::from_ref(&tag))?;
        let (mut session, now) = self.touched(name).await?;
        let before = read_version(&mut session, name, version).await?;
        let known = before.tags.iter().find(|known| known.key == tag.key).map(|known| json!(known));
        set_tags(&mut session, name, version, std::slice::from_ref(&tag)).await?;
        touch_version(&mut session, name, version, now).await?;
        self.note_version(&mut session, who, "version.tag", &before, known, Some(json!(tag))).await?;
        session.commit().await
    }

    /// Deletes a tag of a version, if it is there.
    ///
    /// # Errors
    /// `NotFound` for the version.
    pub async fn delete_version_tag(&self, who: &str, name: &str, version: i64, key: &str) -> Result<()> {
        let (mut session, now) = self.touched(name).await?;
        let before = read_version(&mut session, name, version).await?;
        let statement = sql("DELETE FROM model_version_tags WHERE name = ? AND version = ? AND key = ?");
        if session.execute(statement.bind(name).bind(version).bind(key)).await? > 0 {
            touch_version(&mut session, name, version, now).await?;
            let gone = before.tags.iter().find(|known| known.key == key).map(|known| json!(known));
            self.note_version(&mut session, who, "version.tag", &before, gone, None).await?;
        }
        session.commit().await
    }

    /// Puts a version into a stage.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for archiving others of a stage that many may be in; `Conflict`
    /// where another version came into the stage meanwhile.
    pub async fn transition(&self, who: &str, name: &str, version: i64, to: Transition) -> Result<ModelVersion> {
        if to.archive_existing && !matches!(to.stage, Stage::Staging | Stage::Production) {
            return Err(Error::invalid_input(format!(
                "archive_existing_versions can be used with Staging and Production only, not with {}",
                to.stage
            )));
        }
        let (mut session, now) = self.touched(name).await?;
        let before = read_version(&mut session, name, version).await?;
        if let Some(expected) = to.replaces {
            let found = newest_in(&mut session, name, to.stage).await?.map_or(0, |newest| newest.version);
            if found != expected {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("version {found} of '{name}' came into {} meanwhile; look again and decide anew", to.stage),
                ));
            }
        }
        if to.archive_existing {
            let statement = sql("SELECT * FROM model_versions WHERE name = ? AND stage = ? AND version <> ?");
            let statement = statement.bind(name).bind(to.stage.as_str()).bind(version);
            let others: Vec<ModelVersion> = session.all(statement).await?.iter().map(read).collect::<Result<_>>()?;
            for other in others {
                self.put_into(&mut session, who, &other, Stage::Archived, now).await?;
            }
        }
        self.put_into(&mut session, who, &before, to.stage, now).await?;
        let after = read_version(&mut session, name, version).await?;
        self.commit_change(session).await?;
        Ok(after)
    }

    async fn put_into(
        &self,
        session: &mut Session,
        who: &str,
        version: &ModelVersion,
        stage: Stage,
        now: i64,
    ) -> Result<()> {
        let statement = sql("UPDATE model_versions SET stage = ?, last_update_time = ? WHERE name = ? AND version = ?");
        session.execute(statement.bind(stage.as_str()).bind(now).bind(&version.name).bind(version.version)).await?;
        if version.current_stage == stage {
            return Ok(());
        }
        end_stage(session, version, now).await?;
        let statement =
            sql("INSERT INTO stage_times (name, version, stage, since, until, who) VALUES (?, ?, ?, ?, NULL, ?)")
                .bind(&version.name)
                .bind(version.version)
                .bind(stage.as_str())
                .bind(now)
                .bind(who);
        session.execute(statement).await?;
        let shown = |stage: Stage| Some(json!({ "stage": stage.as_str() }));
        let change = (shown(version.current_stage), shown(stage));
        self.note_version(session, who, "version.stage", version, change.0, change.1).await
    }

    /// Returns which versions were in a stage when, newest first; `at` asks for one moment.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn stage_times(&self, name: &str, stage: Stage, at: Option<i64>) -> Result<Vec<StageTime>> {
        let mut statement =
            sql("SELECT * FROM stage_times WHERE name = ? AND stage = ?").bind(name).bind(stage.as_str());
        if let Some(at) = at {
            statement = statement.then(" AND since <= ? AND (until IS NULL OR until > ?)").bind_all([at, at]);
        }
        let rows = self.database.read().await?.all(statement.then(" ORDER BY since DESC, id DESC")).await?;
        rows.iter()
            .map(|row| {
                Ok(StageTime {
                    version: row.int("version")?,
                    stage: row.text("stage")?,
                    since: row.int("since")?,
                    until: row.maybe_int("until")?,
                    who: row.text("who")?,
                })
            })
            .collect()
    }

    async fn note_version(
        &self,
        session: &mut Session,
        who: &str,
        what: &'static str,
        version: &ModelVersion,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<()> {
        let subject = format!("model/{}/{}", version.name, version.version);
        Change { time: self.now(), who, what, subject, before, after }.note(session).await
    }
}

async fn end_stage(session: &mut Session, version: &ModelVersion, now: i64) -> Result<()> {
    let statement = sql("UPDATE stage_times SET until = ? WHERE name = ? AND version = ? AND until IS NULL");
    session.execute(statement.bind(now).bind(&version.name).bind(version.version)).await.map(drop)
}

pub(crate) async fn touch_version(session: &mut Session, name: &str, version: i64, now: i64) -> Result<()> {
    let statement = sql("UPDATE model_versions SET last_update_time = ? WHERE name = ? AND version = ?");
    session.execute(statement.bind(now).bind(name).bind(version)).await.map(drop)
}

async fn set_tags(session: &mut Session, name: &str, version: i64, tags: &[Tag]) -> Result<()> {
    if tags.is_empty() {
        return Ok(());
    }
    let rows = crate::tags::distinct(tags)
        .into_iter()
        .map(|tag| [name.into(), Value::from(version), (&tag.key).into(), (&tag.value).into()]);
    let replace = " ON CONFLICT (name, version, key) DO UPDATE SET value = excluded.value";
    session.execute(sql("INSERT INTO model_version_tags VALUES ").rows(rows).then(replace)).await.map(drop)
}

/// Reads a version with its tags and aliases.
pub(crate) async fn read_version(session: &mut Session, name: &str, version: i64) -> Result<ModelVersion> {
    let statement = sql("SELECT * FROM model_versions WHERE name = ? AND version = ?").bind(name).bind(version);
    let Some(row) = session.first(statement).await? else {
        known(session, name).await?;
        return Err(Error::not_found(format!("Model Version (name={name}, version={version}) not found")));
    };
    Ok(with_parts(session, vec![read(&row)?]).await?.remove(0))
}

async fn newest_in(session: &mut Session, name: &str, stage: Stage) -> Result<Option<ModelVersion>> {
    let statement = sql("SELECT * FROM model_versions WHERE name = ? AND stage = ? ORDER BY version DESC LIMIT 1");
    session.first(statement.bind(name).bind(stage.as_str())).await?.as_ref().map(read).transpose()
}

/// Returns the highest version of each stage of these models.
pub(crate) async fn latest(session: &mut Session, names: &[&str]) -> Result<Vec<ModelVersion>> {
    let statement = sql("SELECT v.* FROM model_versions v JOIN (SELECT name, stage, MAX(version) AS version \
                         FROM model_versions WHERE name IN ")
    .list(names.iter().copied())
    .then(" GROUP BY name, stage) newest ON newest.name = v.name AND newest.version = v.version ORDER BY v.version");
    let versions = session.all(statement).await?.iter().map(read).collect::<Result<_>>()?;
    with_parts(session, versions).await
}

pub(crate) fn read(row: &Row) -> Result<ModelVersion> {
    Ok(ModelVersion {
        name: row.text("name")?,
        version: row.int("version")?,
        creation_timestamp: row.int("creation_time")?,
        last_updated_timestamp: row.int("last_update_time")?,
        current_stage: row.text("stage")?.parse()?,
        description: row.text("description")?,
        user_id: row.text("user_id")?,
        source: row.text("source")?,
        run_id: row.text("run_id")?,
        status: "READY",
        run_link: row.text("run_link")?,
        model_id: row.maybe_text("model_id")?,
        tags: Vec::new(),
        aliases: Vec::new(),
        location: row.text("location")?,
        digest: row.maybe_text("digest")?,
        size: row.maybe_int("size")?,
        signature: row.maybe_text("signature")?,
    })
}

/// Versions in one statement: well below the number of values that SQLite takes.
const CHUNK: usize = 1_000;

/// Gives versions their tags and aliases.
pub(crate) async fn with_parts(session: &mut Session, mut versions: Vec<ModelVersion>) -> Result<Vec<ModelVersion>> {
    for chunk in versions.chunks_mut(CHUNK) {
        let mut names: Vec<&str> = chunk.iter().map(|version| version.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let numbers: Vec<i64> = chunk.iter().map(|version| version.version).collect();
        let of_these = |statement: salver_store::database::Sql| {
            statement.then(" WHERE name IN ").list(names.iter().copied()).then(" AND version IN ").list(numbers.clone())
        };
        let statement = of_these(sql("SELECT * FROM model_version_tags")).then(" ORDER BY key");
        let mut tags: HashMap<(String, i64), Vec<Tag>> = HashMap::new();
        for row in session.all(statement).await? {
            let tag = Tag { key: row.text("key")?, value: row.text("value")? };
            tags.entry((row.text("name")?, row.int("version")?)).or_default().push(tag);
        }
        let statement = of_these(sql("SELECT * FROM model_aliases")).then(" ORDER BY alias");
        let mut aliases: HashMap<(String, i64), Vec<String>> = HashMap::new();
        for row in session.all(statement).await? {
            aliases.entry((row.text("name")?, row.int("version")?)).or_default().push(row.text("alias")?);
        }
        for version in chunk {
            let key = (version.name.clone(), version.version);
            version.tags = tags.remove(&key).unwrap_or_default();
            version.aliases = aliases.remove(&key).unwrap_or_default();
        }
    }
    Ok(versions)
}
