//! Experiments: groups of runs.

use salver_core::{Error, ErrorKind, Result};
use salver_store::database::{Row, Session, sql};
use serde_json::json;

use crate::audit::Change;
use crate::tags::{self, EXPERIMENT_TAGS};
use crate::types::{Experiment, Lifecycle, Tag};
use crate::{Registry, names, next};

/// What a new experiment is made of.
#[derive(Debug, Clone, Default)]
pub struct NewExperiment {
    /// Unique, also among deleted ones.
    pub name: String,
    /// Where artifacts go; none: to this server.
    pub artifact_location: Option<String>,
    /// Its first tags.
    pub tags: Vec<Tag>,
}

impl Registry {
    pub(crate) async fn make_default_experiment(&self) -> Result<()> {
        let mut session = self.database.write().await?;
        let now = self.now();
        let statement = sql(
            "INSERT INTO experiments VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active', ?, ?) ON CONFLICT DO NOTHING",
        );
        session.execute(statement.bind(now).bind(now)).await?;
        session.commit().await
    }

    /// Makes an experiment; returns its id.
    ///
    /// # Errors
    /// `Conflict` for a name that is taken; `InvalidInput` for one that none can have.
    pub async fn create_experiment(&self, who: &str, new: NewExperiment) -> Result<i64> {
        names::experiment_name(&new.name)?;
        tags::check(&new.tags)?;
        if new.artifact_location.as_deref().is_some_and(names::uri_has_traversal) {
            return Err(Error::invalid_input("Invalid artifact location: it must not leave its place by '..'"));
        }
        let mut session = self.database.write().await?;
        free_name(&mut session, &new.name).await?;
        let (id, now) = (next(&mut session, "experiment").await?, self.now());
        let location = new.artifact_location.filter(|location| !location.is_empty());
        let location = location.unwrap_or_else(|| format!("mlflow-artifacts:/{id}"));
        let statement = sql("INSERT INTO experiments VALUES (?, ?, ?, 'active', ?, ?)")
            .bind(id)
            .bind(&new.name)
            .bind(&location)
            .bind(now)
            .bind(now);
        session.execute(statement).await?;
        EXPERIMENT_TAGS.set(&mut session, id, &new.tags).await?;
        let after = json!({ "name": new.name, "artifact_location": location, "tags": new.tags });
        note(&mut session, now, who, "experiment.create", id, None, Some(after)).await?;
        session.commit().await?;
        Ok(id)
    }

    /// Returns an experiment, deleted or not.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn experiment(&self, id: &str) -> Result<Experiment> {
        let mut session = self.database.read().await?;
        let experiment = read_experiment(&mut session, id).await?;
        Ok(with_tags(&mut session, vec![experiment]).await?.remove(0))
    }

    /// Returns the experiment of a name, deleted or not.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn experiment_by_name(&self, name: &str) -> Result<Experiment> {
        let mut session = self.database.read().await?;
        let row = session.first(sql("SELECT * FROM experiments WHERE name = ?").bind(name)).await?;
        let row = row.ok_or_else(|| Error::not_found(format!("Could not find experiment with name '{name}'")))?;
        Ok(with_tags(&mut session, vec![read(&row)?]).await?.remove(0))
    }

    /// Gives an experiment another name.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a name that is taken; `InvalidInput` for a deleted experiment.
    pub async fn rename_experiment(&self, who: &str, id: &str, name: &str) -> Result<()> {
        names::experiment_name(name)?;
        let mut session = self.database.write().await?;
        hold(&mut session, id).await?;
        let before = active_experiment(&mut session, id).await?;
        if before.name == name {
            return Ok(());
        }
        free_name(&mut session, name).await?;
        let (id, now) = (before.experiment_id, self.now());
        let statement = sql("UPDATE experiments SET name = ?, last_update_time = ? WHERE experiment_id = ?");
        session.execute(statement.bind(name).bind(now).bind(id)).await?;
        let (before, after) = (json!({ "name": before.name }), json!({ "name": name }));
        note(&mut session, now, who, "experiment.rename", id, Some(before), Some(after)).await?;
        session.commit().await
    }

    /// Deletes an experiment with its runs, or brings them back.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` where it is so already.
    pub async fn set_experiment_lifecycle(&self, who: &str, id: &str, to: Lifecycle) -> Result<()> {
        let mut session = self.database.write().await?;
        hold(&mut session, id).await?;
        let before = read_experiment(&mut session, id).await?;
        if before.lifecycle_stage == to {
            let text = format!("The experiment {id} is {} already", to.as_str());
            // An experiment that is not there any more cannot be deleted again.
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        let (id, now) = (before.experiment_id, self.now());
        let statement = sql("UPDATE experiments SET lifecycle_stage = ?, last_update_time = ? WHERE experiment_id = ?");
        session.execute(statement.bind(to.as_str()).bind(now).bind(id)).await?;
        let statement = sql("UPDATE runs SET lifecycle_stage = ? WHERE experiment_id = ?");
        session.execute(statement.bind(to.as_str()).bind(id)).await?;
        let stage = |stage: Lifecycle| Some(json!({ "lifecycle_stage": stage.as_str() }));
        note(&mut session, now, who, "experiment.lifecycle", id, stage(before.lifecycle_stage), stage(to)).await?;
        session.commit().await
    }

    /// Sets a tag of an experiment.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a deleted experiment or a key that none can have.
    pub async fn set_experiment_tag(&self, who: &str, id: &str, tag: Tag) -> Result<()> {
        tags::check(std::slice::from_ref(&tag))?;
        let mut session = self.database.write().await?;
        hold(&mut session, id).await?;
        let (id, now) = (active_experiment(&mut session, id).await?.experiment_id, self.now());
        let before = EXPERIMENT_TAGS.find(&mut session, id, &tag.key).await?.map(|tag| json!(tag));
        EXPERIMENT_TAGS.set(&mut session, id, std::slice::from_ref(&tag)).await?;
        touch(&mut session, id, now).await?;
        note(&mut session, now, who, "experiment.tag", id, before, Some(json!(tag))).await?;
        session.commit().await
    }

    /// Deletes a tag of an experiment.
    ///
    /// # Errors
    /// `NotFound` for the experiment or the tag; `InvalidInput` for a deleted experiment.
    pub async fn delete_experiment_tag(&self, who: &str, id: &str, key: &str) -> Result<()> {
        let mut session = self.database.write().await?;
        let (id, now) = (active_experiment(&mut session, id).await?.experiment_id, self.now());
        let before = EXPERIMENT_TAGS.delete(&mut session, id, key).await?;
        let before = before.ok_or_else(|| Error::not_found(format!("The experiment {id} has no tag '{key}'")))?;
        touch(&mut session, id, now).await?;
        note(&mut session, now, who, "experiment.tag", id, Some(json!(before)), None).await?;
        session.commit().await
    }
}

/// Keeps others from changing an experiment until the transaction ends, so that what is read of it
/// here is what is changed. One that is not there is for whoever reads it.
async fn hold(session: &mut Session, id: &str) -> Result<()> {
    let Ok(id) = id.parse::<i64>() else {
        return Ok(());
    };
    let statement = sql("UPDATE experiments SET name = name WHERE experiment_id = ?").bind(id);
    session.execute(statement).await.map(drop)
}

async fn touch(session: &mut Session, id: i64, now: i64) -> Result<()> {
    let statement = sql("UPDATE experiments SET last_update_time = ? WHERE experiment_id = ?").bind(now).bind(id);
    session.execute(statement).await.map(drop)
}

async fn note(
    session: &mut Session,
    time: i64,
    who: &str,
    what: &'static str,
    id: i64,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> Result<()> {
    Change { time, who, what, subject: format!("experiment/{id}"), before, after }.note(session).await
}

async fn free_name(session: &mut Session, name: &str) -> Result<()> {
    let statement = sql("SELECT lifecycle_stage FROM experiments WHERE name = ?").bind(name);
    match session.first(statement).await? {
        None => Ok(()),
        Some(row) => {
            let deleted = match Lifecycle::read(&row.text("lifecycle_stage")?) {
                Lifecycle::Active => "",
                Lifecycle::Deleted => " in deleted state; restore it or use another name",
            };
            Err(Error::new(ErrorKind::Conflict, format!("Experiment '{name}' already exists{deleted}.")))
        }
    }
}

/// Reads an experiment without its tags.
pub(crate) async fn read_experiment(session: &mut Session, id: &str) -> Result<Experiment> {
    let missing = || Error::not_found(format!("No Experiment with id={id} exists"));
    let number: i64 = id.parse().map_err(|_| missing())?;
    let row = session.first(sql("SELECT * FROM experiments WHERE experiment_id = ?").bind(number)).await?;
    read(&row.ok_or_else(missing)?)
}

/// Reads an experiment that was not deleted.
pub(crate) async fn active_experiment(session: &mut Session, id: &str) -> Result<Experiment> {
    let experiment = read_experiment(session, id).await?;
    match experiment.lifecycle_stage {
        Lifecycle::Active => Ok(experiment),
        Lifecycle::Deleted => Err(Error::invalid_input(format!(
            "The experiment {id} must be in the 'active' state. Current state is deleted."
        ))),
    }
}

pub(crate) fn read(row: &Row) -> Result<Experiment> {
    Ok(Experiment {
        experiment_id: row.int("experiment_id")?,
        name: row.text("name")?,
        artifact_location: row.text("artifact_location")?,
        lifecycle_stage: Lifecycle::read(&row.text("lifecycle_stage")?),
        creation_time: row.int("creation_time")?,
        last_update_time: row.int("last_update_time")?,
        tags: Vec::new(),
    })
}

/// Gives each experiment its tags.
pub(crate) async fn with_tags(session: &mut Session, mut experiments: Vec<Experiment>) -> Result<Vec<Experiment>> {
    let ids: Vec<i64> = experiments.iter().map(|experiment| experiment.experiment_id).collect();
    let mut tags = EXPERIMENT_TAGS.of_numbers(session, &ids).await?;
    for experiment in &mut experiments {
        experiment.tags = tags.remove(&experiment.experiment_id).unwrap_or_default();
    }
    Ok(experiments)
}
