//! Logged models: what runs wrote down, registered or not.

use std::collections::HashMap;

use salver_core::{Error, Result};
use salver_store::database::{Row, Session, Value, sql};
use serde_json::{Value as Json, json};

use crate::experiments::active_experiment;
use crate::metrics::NewMetric;
use crate::runs::read_metric;
use crate::tags::{self, LOGGED_PARAMS, LOGGED_TAGS};
use crate::types::{LoggedModel, LoggedModelData, LoggedModelInfo, Metric, RunInfo, Tag};
use crate::{Registry, new_id};

/// What a logged model can be in.
const STATUSES: [&str; 3] = ["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"];
/// The tag that lists where a logged model is registered.
const VERSIONS_TAG: &str = "mlflow.modelVersions";

/// What a new logged model is made of.
#[derive(Debug, Clone, Default)]
pub struct NewLoggedModel {
    /// Where it belongs.
    pub experiment_id: String,
    /// None: its id.
    pub name: Option<String>,
    /// What kind of model.
    pub model_type: Option<String>,
    /// The run that makes it.
    pub source_run_id: Option<String>,
    /// Its parameters.
    pub params: Vec<Tag>,
    /// Its first tags.
    pub tags: Vec<Tag>,
}

impl Registry {
    /// Announces a model whose files will follow.
    ///
    /// # Errors
    /// `NotFound` for the experiment; `InvalidInput` for a deleted one or a name or key that none
    /// can have.
    pub async fn create_logged_model(&self, new: NewLoggedModel) -> Result<LoggedModel> {
        tags::check(&new.tags)?;
        let model_id = format!("m-{}", new_id());
        let name = new.name.filter(|name| !name.is_empty()).unwrap_or_else(|| model_id.clone());
        if name.chars().any(|char| "/:.%\"'".contains(char)) {
            return Err(Error::invalid_input(format!(
                "Invalid model name '{name}': it must not contain any of / : . % \" '"
            )));
        }
        let (mut session, now) = (self.database.write().await?, self.now());
        let experiment = active_experiment(&mut session, &new.experiment_id).await?;
        let artifact_uri = format!("{}/models/{model_id}/artifacts", experiment.artifact_location);
        let statement = sql("INSERT INTO logged_models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'active')")
            .bind(&model_id)
            .bind(experiment.experiment_id)
            .bind(&name)
            .bind(&artifact_uri)
            .bind(STATUSES[0])
            .bind(&new.model_type)
            .bind(&new.source_run_id)
            .bind(now)
            .bind(now);
        session.execute(statement).await?;
        LOGGED_TAGS.set(&mut session, &model_id, &new.tags).await?;
        LOGGED_PARAMS.set(&mut session, &model_id, &new.params).await?;
        let model = read_logged(&mut session, &model_id).await?;
        session.commit().await?;
        Ok(model)
    }

    /// Returns a logged model; a deleted one only if asked for.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn logged_model(&self, model_id: &str, with_deleted: bool) -> Result<LoggedModel> {
        let mut session = self.database.read().await?;
        if !with_deleted {
            return read_logged(&mut session, model_id).await;
        }
        let row = session.first(sql("SELECT * FROM logged_models WHERE model_id = ?").bind(model_id)).await?;
        let info = read(&row.ok_or_else(|| unknown(model_id))?)?;
        Ok(with_data(&mut session, vec![info]).await?.remove(0))
    }

    /// Says how the upload of a model's files ended.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for an unknown status.
    pub async fn finish_logged_model(&self, model_id: &str, status: &str) -> Result<LoggedModel> {
        if !STATUSES.contains(&status) {
            let text = format!("Invalid model status '{status}': expected one of {}", STATUSES.join(", "));
            return Err(Error::invalid_input(text));
        }
        let mut session = self.touched_logged(model_id).await?;
        let statement = sql("UPDATE logged_models SET status = ? WHERE model_id = ?").bind(status).bind(model_id);
        session.execute(statement).await?;
        let model = read_logged(&mut session, model_id).await?;
        session.commit().await?;
        Ok(model)
    }

    /// Deletes a logged model; its files stay.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_logged_model(&self, model_id: &str) -> Result<()> {
        let mut session = self.touched_logged(model_id).await?;
        let statement = sql("UPDATE logged_models SET lifecycle_stage = 'deleted' WHERE model_id = ?").bind(model_id);
        session.execute(statement).await?;
        session.commit().await
    }

    /// Sets tags of a logged model.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a key that none can have.
    pub async fn set_logged_model_tags(&self, model_id: &str, tags: &[Tag]) -> Result<LoggedModel> {
        tags::check(tags)?;
        let mut session = self.touched_logged(model_id).await?;
        LOGGED_TAGS.set(&mut session, model_id, tags).await?;
        let model = read_logged(&mut session, model_id).await?;
        session.commit().await?;
        Ok(model)
    }

    /// Deletes a tag of a logged model.
    ///
    /// # Errors
    /// `NotFound` for the model or the tag.
    pub async fn delete_logged_model_tag(&self, model_id: &str, key: &str) -> Result<()> {
        let mut session = self.touched_logged(model_id).await?;
        if LOGGED_TAGS.delete(&mut session, model_id, key).await?.is_none() {
            return Err(Error::not_found(format!("No tag with key '{key}' found for model with ID {model_id}")));
        }
        session.commit().await
    }

    /// Logs parameters of a logged model.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn log_model_params(&self, model_id: &str, params: &[Tag]) -> Result<()> {
        let mut session = self.touched_logged(model_id).await?;
        LOGGED_PARAMS.set(&mut session, model_id, params).await?;
        session.commit().await
    }

    async fn touched_logged(&self, model_id: &str) -> Result<Session> {
        let mut session = self.database.write().await?;
        let statement =
            sql("UPDATE logged_models SET last_update_time = ? WHERE model_id = ? AND lifecycle_stage = 'active'");
        if session.execute(statement.bind(self.now()).bind(model_id)).await? == 0 {
            return Err(unknown(model_id));
        }
        Ok(session)
    }
}

fn unknown(model_id: &str) -> Error {
    Error::not_found(format!("Logged model with ID '{model_id}' not found."))
}

/// Reads a logged model that was not deleted.
pub(crate) async fn read_logged(session: &mut Session, model_id: &str) -> Result<LoggedModel> {
    let statement = sql("SELECT * FROM logged_models WHERE model_id = ? AND lifecycle_stage = 'active'").bind(model_id);
    let info = read(&session.first(statement).await?.ok_or_else(|| unknown(model_id))?)?;
    Ok(with_data(session, vec![info]).await?.remove(0))
}

pub(crate) fn read(row: &Row) -> Result<LoggedModelInfo> {
    Ok(LoggedModelInfo {
        model_id: row.text("model_id")?,
        experiment_id: row.int("experiment_id")?,
        name: row.text("name")?,
        creation_timestamp_ms: row.int("creation_time")?,
        last_updated_timestamp_ms: row.int("last_update_time")?,
        artifact_uri: row.text("artifact_uri")?,
        status: row.text("status")?,
        model_type: row.maybe_text("model_type")?,
        source_run_id: row.maybe_text("source_run_id")?,
        tags: Vec::new(),
    })
}

/// Gives logged models their tags, parameters and metrics.
pub(crate) async fn with_data(session: &mut Session, infos: Vec<LoggedModelInfo>) -> Result<Vec<LoggedModel>> {
    let ids: Vec<&str> = infos.iter().map(|info| info.model_id.as_str()).collect();
    let mut tags = LOGGED_TAGS.of_texts(session, &ids).await?;
    let mut params = LOGGED_PARAMS.of_texts(session, &ids).await?;
    let mut metrics: HashMap<String, Vec<Metric>> = HashMap::new();
    for ids in ids.chunks(tags::CHUNK) {
        let statement = sql("SELECT * FROM logged_model_metrics WHERE model_id IN ")
            .list(ids.iter().copied())
            .then(" ORDER BY key, timestamp, step");
        for row in session.all(statement).await? {
            let model_id = row.text("model_id")?;
            let metric = Metric {
                model_id: Some(model_id.clone()),
                run_id: Some(row.text("run_id")?),
                dataset_name: row.maybe_text("dataset_name")?,
                dataset_digest: row.maybe_text("dataset_digest")?,
                ..read_metric(&row)?
            };
            metrics.entry(model_id).or_default().push(metric);
        }
    }
    let models = infos.into_iter().map(|mut info| {
        info.tags = tags.remove(&info.model_id).unwrap_or_default();
        let data = LoggedModelData {
            params: params.remove(&info.model_id).unwrap_or_default(),
            metrics: metrics.remove(&info.model_id).unwrap_or_default(),
        };
        LoggedModel { info, data }
    });
    Ok(models.collect())
}

/// Notes the metrics of a run that say something of a logged model with that model.
pub(crate) async fn write_metrics(session: &mut Session, run: &RunInfo, metrics: &[NewMetric]) -> Result<()> {
    for metric in metrics {
        let Some(model_id) = metric.model_id.as_deref().filter(|model_id| !model_id.is_empty()) else {
            continue;
        };
        if session.first(sql("SELECT model_id FROM logged_models WHERE model_id = ?").bind(model_id)).await?.is_none() {
            return Err(unknown(model_id));
        }
        let value = if metric.value.is_nan() { 0. } else { metric.value };
        let row: [Value; 9] = [
            model_id.into(),
            (&metric.key).into(),
            metric.timestamp.into(),
            metric.step.into(),
            (&run.run_id).into(),
            value.into(),
            metric.value.is_nan().into(),
            (&metric.dataset_name).into(),
            (&metric.dataset_digest).into(),
        ];
        let statement = sql("INSERT INTO logged_model_metrics VALUES ").rows([row]).then(" ON CONFLICT DO NOTHING");
        session.execute(statement).await?;
    }
    Ok(())
}

/// Notes with a logged model that it is a version of a registered one.
pub(crate) async fn note_registration(session: &mut Session, model_id: &str, name: &str, version: i64) -> Result<()> {
    let known = LOGGED_TAGS.of_texts(session, &[model_id]).await?.remove(model_id).unwrap_or_default();
    let known = known.iter().find(|tag| tag.key == VERSIONS_TAG);
    let mut versions: Vec<Json> = known.and_then(|tag| serde_json::from_str(&tag.value).ok()).unwrap_or_default();
    versions.push(json!({ "name": name, "version": version }));
    let tag = Tag { key: VERSIONS_TAG.to_owned(), value: Json::Array(versions).to_string() };
    LOGGED_TAGS.set(session, model_id, &[tag]).await
}
