//! Runs: what a training did, with which parameters, and how it came out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use salver_core::{Error, Result};
use salver_store::database::{Row, Session, Value, sql};
use serde_json::json;

use crate::audit::Change;
use crate::experiments::{active_experiment, read_experiment};
use crate::tags::{self, CHUNK, PARAMS, RUN_TAGS};
use crate::types::{
    Dataset, DatasetInput, Lifecycle, Metric, ModelInput, ModelOutput, Run, RunData, RunInfo, RunInputs, RunOutputs,
    Tag,
};
use crate::{Registry, metrics, new_id};

/// The tag that mirrors a run's name.
pub(crate) const NAME_TAG: &str = "mlflow.runName";
/// What a run can be in.
const STATUSES: [&str; 5] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];

/// What a new run is made of.
#[derive(Debug, Clone, Default)]
pub struct NewRun {
    /// Where it belongs.
    pub experiment_id: String,
    /// Who runs it.
    pub user_id: String,
    /// None: one is made up.
    pub run_name: Option<String>,
    /// Milliseconds since 1970.
    pub start_time: Option<i64>,
    /// Its first tags.
    pub tags: Vec<Tag>,
}

/// What to change of a run; none: as it is.
#[derive(Debug, Clone, Default)]
pub struct RunChange {
    /// `RUNNING`, `SCHEDULED`, `FINISHED`, `FAILED` or `KILLED`.
    pub status: Option<String>,
    /// Milliseconds since 1970.
    pub end_time: Option<i64>,
    /// Its new name.
    pub run_name: Option<String>,
}

impl Registry {
    /// Begins a run.
    ///
    /// # Errors
    /// `NotFound` for the experiment; `InvalidInput` for a deleted one or a key that none can have.
    pub async fn create_run(&self, who: &str, new: NewRun) -> Result<Run> {
        // MLflow looks at the names of tags only when they are set later.
        tags::check_lengths(&new.tags)?;
        let tagged = new.tags.iter().rev().find(|tag| tag.key == NAME_TAG).map(|tag| tag.value.clone());
        let named = new.run_name.filter(|name| !name.is_empty());
        if let (Some(named), Some(tagged)) = (&named, &tagged)
            && named != tagged
        {
            return Err(Error::invalid_input(format!(
                "Both 'run_name' ('{named}') and the tag '{NAME_TAG}' ('{tagged}') are given, and differ"
            )));
        }
        let mut session = self.database.write().await?;
        let experiment = active_experiment(&mut session, &new.experiment_id).await?;
        let run_id = new_id();
        let run_name = named.or(tagged).unwrap_or_else(|| made_up_name(&run_id));
        let info = RunInfo {
            artifact_uri: format!("{}/{run_id}/artifacts", experiment.artifact_location),
            run_uuid: run_id.clone(),
            run_id,
            run_name,
            experiment_id: experiment.experiment_id,
            user_id: new.user_id,
            status: STATUSES[0].to_owned(),
            start_time: new.start_time,
            end_time: None,
            lifecycle_stage: Lifecycle::Active,
        };
        let statement = sql("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(&info.run_id)
            .bind(info.experiment_id)
            .bind(&info.run_name)
            .bind(&info.user_id)
            .bind(&info.status)
            .bind(info.start_time)
            .bind(info.end_time)
            .bind(&info.artifact_uri)
            .bind(info.lifecycle_stage.as_str());
        session.execute(statement).await?;
        let mut tags = new.tags;
        tags.push(Tag { key: NAME_TAG.to_owned(), value: info.run_name.clone() });
        RUN_TAGS.set(&mut session, &info.run_id, &tags).await?;
        self.note_run(&mut session, who, "run.create", &info.run_id, None, Some(json!({ "name": info.run_name })))
            .await?;
        let run = with_data(&mut session, vec![info]).await?.remove(0);
        session.commit().await?;
        Ok(run)
    }

    /// Returns a run, deleted or not.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn run(&self, run_id: &str) -> Result<Run> {
        let mut session = self.database.read().await?;
        let info = read_run(&mut session, run_id).await?;
        Ok(with_data(&mut session, vec![info]).await?.remove(0))
    }

    /// Changes a run's status, end or name.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a deleted run or an unknown status.
    pub async fn update_run(&self, who: &str, run_id: &str, change: RunChange) -> Result<RunInfo> {
        if let Some(status) = &change.status
            && !STATUSES.contains(&status.as_str())
        {
            let text = format!("Invalid run status '{status}': expected one of {}", STATUSES.join(", "));
            return Err(Error::invalid_input(text));
        }
        let mut session = self.database.write().await?;
        hold(&mut session, run_id).await?;
        let before = active_run(&mut session, run_id).await?;
        let mut after = before.clone();
        after.status = change.status.unwrap_or(after.status);
        after.end_time = change.end_time.or(after.end_time);
        after.run_name = change.run_name.filter(|name| !name.is_empty()).unwrap_or(after.run_name);
        self.write_run(&mut session, who, &before, &after).await?;
        session.commit().await?;
        Ok(after)
    }

    async fn write_run(&self, session: &mut Session, who: &str, before: &RunInfo, after: &RunInfo) -> Result<()> {
        let statement = sql("UPDATE runs SET status = ?, end_time = ?, run_name = ? WHERE run_id = ?")
            .bind(&after.status)
            .bind(after.end_time)
            .bind(&after.run_name)
            .bind(&after.run_id);
        session.execute(statement).await?;
        if before.run_name != after.run_name {
            let tag = Tag { key: NAME_TAG.to_owned(), value: after.run_name.clone() };
            RUN_TAGS.set(session, &after.run_id, &[tag]).await?;
        }
        let shown =
            |info: &RunInfo| Some(json!({ "status": info.status, "end_time": info.end_time, "name": info.run_name }));
        self.note_run(session, who, "run.update", &after.run_id, shown(before), shown(after)).await
    }

    /// Deletes a run or brings it back; as often as one likes.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_run_lifecycle(&self, who: &str, run_id: &str, to: Lifecycle) -> Result<()> {
        let mut session = self.database.write().await?;
        hold(&mut session, run_id).await?;
        let before = read_run(&mut session, run_id).await?;
        let statement = sql("UPDATE runs SET lifecycle_stage = ? WHERE run_id = ?").bind(to.as_str()).bind(run_id);
        session.execute(statement).await?;
        let shown = |stage: Lifecycle| Some(json!({ "lifecycle_stage": stage.as_str() }));
        self.note_run(&mut session, who, "run.lifecycle", run_id, shown(before.lifecycle_stage), shown(to)).await?;
        session.commit().await
    }

    /// Deletes a tag of a run.
    ///
    /// # Errors
    /// `NotFound` for the run or the tag; `InvalidInput` for a deleted run.
    pub async fn delete_run_tag(&self, run_id: &str, key: &str) -> Result<()> {
        let mut session = self.database.write().await?;
        active_run(&mut session, run_id).await?;
        if RUN_TAGS.delete(&mut session, run_id, key).await?.is_none() {
            return Err(Error::not_found(format!("No tag with name: {key} in run with id {run_id}")));
        }
        session.commit().await
    }

    /// Notes which data and models a run read.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a deleted run or data without name or digest.
    pub async fn log_inputs(&self, run_id: &str, datasets: &[DatasetInput], models: &[ModelInput]) -> Result<()> {
        let nameless = |input: &DatasetInput| input.dataset.name.is_empty() || input.dataset.digest.is_empty();
        if datasets.iter().any(nameless) {
            return Err(Error::invalid_input("Missing value for required parameter 'dataset': name and digest"));
        }
        let mut session = self.database.write().await?;
        let run = active_run(&mut session, run_id).await?;
        for input in datasets {
            write_dataset(&mut session, &run, input).await?;
        }
        let models = models.iter().map(|model| (model.model_id.as_str(), 0));
        write_models(&mut session, run_id, "input", models).await?;
        session.commit().await
    }

    /// Notes which models a run made.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a deleted run.
    pub async fn log_outputs(&self, run_id: &str, models: &[ModelOutput]) -> Result<()> {
        let mut session = self.database.write().await?;
        active_run(&mut session, run_id).await?;
        let models = models.iter().map(|model| (model.model_id.as_str(), model.step));
        write_models(&mut session, run_id, "output", models).await?;
        session.commit().await
    }

    async fn note_run(
        &self,
        session: &mut Session,
        who: &str,
        what: &'static str,
        run_id: &str,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<()> {
        Change { time: self.now(), who, what, subject: format!("run/{run_id}"), before, after }.note(session).await
    }
}

async fn write_dataset(session: &mut Session, run: &RunInfo, input: &DatasetInput) -> Result<()> {
    let Dataset { name, digest, source_type, source, schema, profile } = &input.dataset;
    let statement = sql("INSERT INTO datasets VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(run.experiment_id)
        .bind_all([name, digest, source_type, source])
        .bind_all([schema, profile]);
    session.execute(statement).await?;
    let statement = sql("INSERT INTO dataset_inputs VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(&run.run_id)
        .bind(run.experiment_id)
        .bind_all([name, digest]);
    session.execute(statement).await?;
    if input.tags.is_empty() {
        return Ok(());
    }
    let rows = tags::distinct(&input.tags)
        .into_iter()
        .map(|tag| [&run.run_id, name, digest, &tag.key, &tag.value].map(Value::from));
    let statement = sql("INSERT INTO dataset_input_tags VALUES ").rows(rows);
    let replace = " ON CONFLICT (run_id, name, digest, key) DO UPDATE SET value = excluded.value";
    session.execute(statement.then(replace)).await.map(drop)
}

async fn write_models(
    session: &mut Session,
    run_id: &str,
    direction: &str,
    models: impl Iterator<Item = (&str, i64)>,
) -> Result<()> {
    let rows: Vec<_> =
        models.map(|(model_id, step)| [run_id.into(), model_id.into(), direction.into(), Value::from(step)]).collect();
    if rows.is_empty() {
        return Ok(());
    }
    session.execute(sql("INSERT INTO run_models VALUES ").rows(rows).then(" ON CONFLICT DO NOTHING")).await.map(drop)
}

/// Keeps others from changing a run until the transaction ends: what is read of it then stays so.
pub(crate) async fn hold(session: &mut Session, run_id: &str) -> Result<()> {
    session.execute(sql("UPDATE runs SET status = status WHERE run_id = ?").bind(run_id)).await.map(drop)
}

/// Reads a run without what it logged.
pub(crate) async fn read_run(session: &mut Session, run_id: &str) -> Result<RunInfo> {
    let row = session.first(sql("SELECT * FROM runs WHERE run_id = ?").bind(run_id)).await?;
    read(&row.ok_or_else(|| Error::not_found(format!("Run with id={run_id} not found")))?)
}

/// Reads a run that was not deleted.
pub(crate) async fn active_run(session: &mut Session, run_id: &str) -> Result<RunInfo> {
    let run = read_run(session, run_id).await?;
    match run.lifecycle_stage {
        Lifecycle::Active => Ok(run),
        Lifecycle::Deleted => Err(Error::invalid_input(format!(
            "The run {run_id} must be in the 'active' state. Current state is deleted."
        ))),
    }
}

pub(crate) fn read(row: &Row) -> Result<RunInfo> {
    let run_id = row.text("run_id")?;
    Ok(RunInfo {
        run_uuid: run_id.clone(),
        run_id,
        run_name: row.text("run_name")?,
        experiment_id: row.int("experiment_id")?,
        user_id: row.text("user_id")?,
        status: row.text("status")?,
        start_time: row.maybe_int("start_time")?,
        end_time: row.maybe_int("end_time")?,
        artifact_uri: row.text("artifact_uri")?,
        lifecycle_stage: Lifecycle::read(&row.text("lifecycle_stage")?),
    })
}

/// Gives runs what they logged.
pub(crate) async fn with_data(session: &mut Session, infos: Vec<RunInfo>) -> Result<Vec<Run>> {
    let mut runs = Vec::with_capacity(infos.len());
    for chunk in infos.chunks(CHUNK) {
        let ids: Vec<&str> = chunk.iter().map(|info| info.run_id.as_str()).collect();
        let mut latest = metrics::latest(session, &ids).await?;
        let mut params = PARAMS.of_texts(session, &ids).await?;
        let mut tags = RUN_TAGS.of_texts(session, &ids).await?;
        let mut inputs = datasets(session, &ids).await?;
        let mut models = models(session, &ids).await?;
        for info in chunk {
            let id = &info.run_id;
            let (model_inputs, model_outputs) = models.remove(id).unwrap_or_default();
            runs.push(Run {
                info: info.clone(),
                data: RunData {
                    metrics: latest.remove(id).unwrap_or_default(),
                    params: params.remove(id).unwrap_or_default(),
                    tags: tags.remove(id).unwrap_or_default(),
                },
                inputs: RunInputs { dataset_inputs: inputs.remove(id).unwrap_or_default(), model_inputs },
                outputs: RunOutputs { model_outputs },
            });
        }
    }
    Ok(runs)
}

async fn datasets(session: &mut Session, run_ids: &[&str]) -> Result<HashMap<String, Vec<DatasetInput>>> {
    let statement = sql("SELECT run_id, name, digest, key, value FROM dataset_input_tags WHERE run_id IN ")
        .list(run_ids.iter().copied())
        .then(" ORDER BY key");
    let mut tags: BTreeMap<(String, String, String), Vec<Tag>> = BTreeMap::new();
    for row in session.all(statement).await? {
        let owner = (row.text("run_id")?, row.text("name")?, row.text("digest")?);
        tags.entry(owner).or_default().push(Tag { key: row.text("key")?, value: row.text("value")? });
    }
    let statement =
        sql("SELECT i.run_id, d.* FROM dataset_inputs i JOIN datasets d ON d.experiment_id = i.experiment_id \
                         AND d.name = i.name AND d.digest = i.digest WHERE i.run_id IN ")
        .list(run_ids.iter().copied())
        .then(" ORDER BY d.name, d.digest");
    let mut found: HashMap<String, Vec<DatasetInput>> = HashMap::new();
    for row in session.all(statement).await? {
        let run_id = row.text("run_id")?;
        let dataset = Dataset {
            name: row.text("name")?,
            digest: row.text("digest")?,
            source_type: row.text("source_type")?,
            source: row.text("source")?,
            schema: row.maybe_text("schema")?,
            profile: row.maybe_text("profile")?,
        };
        let owner = (run_id.clone(), dataset.name.clone(), dataset.digest.clone());
        let tags = tags.remove(&owner).unwrap_or_default();
        found.entry(run_id).or_default().push(DatasetInput { tags, dataset });
    }
    Ok(found)
}

type Models = (Vec<ModelInput>, Vec<ModelOutput>);

async fn models(session: &mut Session, run_ids: &[&str]) -> Result<HashMap<String, Models>> {
    let statement =
        sql("SELECT * FROM run_models WHERE run_id IN ").list(run_ids.iter().copied()).then(" ORDER BY step, model_id");
    let mut found: HashMap<String, Models> = HashMap::new();
    for row in session.all(statement).await? {
        let (inputs, outputs) = found.entry(row.text("run_id")?).or_default();
        let model_id = row.text("model_id")?;
        match row.text("direction")?.as_str() {
            "input" => inputs.push(ModelInput { model_id }),
            _ => outputs.push(ModelOutput { model_id, step: row.int("step")? }),
        }
    }
    Ok(found)
}

/// Makes up a name that people can say, of an id's digits.
fn made_up_name(id: &str) -> String {
    const FIRST: [&str; 16] = [
        "amber", "bold", "calm", "clever", "eager", "fair", "gentle", "honest", "keen", "lively", "merry", "noble",
        "quiet", "rapid", "sunny", "wise",
    ];
    const SECOND: [&str; 16] = [
        "ant", "bee", "crane", "deer", "eel", "finch", "goat", "heron", "ibis", "jay", "koala", "lark", "mole", "newt",
        "otter", "wren",
    ];
    let tail = id.get(id.len().saturating_sub(6)..).and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let number = tail.unwrap_or_default();
    format!("{}-{}-{}", FIRST[number % 16], SECOND[number / 16 % 16], number / 256 % 1000)
}

/// Reads the experiment of each id that there is, once; ids that name none are left out.
pub(crate) async fn known_experiments(session: &mut Session, ids: &[String]) -> Result<Vec<i64>> {
    let ids: BTreeSet<&String> = ids.iter().collect();
    let mut known = Vec::with_capacity(ids.len());
    for id in ids {
        match read_experiment(session, id).await {
            Ok(experiment) => known.push(experiment.experiment_id),
            Err(error) if error.kind() == salver_core::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

/// Makes a metric of a row that has its columns.
pub(crate) fn read_metric(row: &Row) -> Result<Metric> {
    let is_nan = row.int("is_nan")? != 0;
    Ok(Metric {
        key: row.text("key")?,
        value: if is_nan { f64::NAN } else { row.real("value")? },
        timestamp: row.int("timestamp")?,
        step: row.int("step")?,
        model_id: None,
        dataset_name: None,
        dataset_digest: None,
        run_id: None,
    })
}
