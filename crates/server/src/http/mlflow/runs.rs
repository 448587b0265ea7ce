//! Runs, and what they log.

use salver_core::{Error, Result};
use salver_registry::names::artifact_path;
use salver_registry::search::{Page, PageLimits};
use salver_registry::types::{DatasetInput, Lifecycle, ModelInput, ModelOutput};
use salver_registry::{Logged, NewMetric, NewRun, Registry, RunChange};
use serde::Deserialize;
use serde_json::{Value, json};

use super::experiments::{SearchArguments, TagArgument};
use super::wire::{Int, List, Nothing, Number, Text, Who, missing, need, page, text};

#[derive(Deserialize)]
pub(super) struct Create {
    experiment_id: Option<Text>,
    user_id: Option<Text>,
    run_name: Option<Text>,
    start_time: Option<Int>,
    #[serde(default)]
    tags: List<TagArgument>,
}

pub(super) async fn create(registry: Registry, who: Who, asked: Create) -> Result<Value> {
    let new = NewRun {
        experiment_id: need(asked.experiment_id, "experiment_id")?,
        user_id: text(asked.user_id).unwrap_or_default(),
        run_name: text(asked.run_name),
        start_time: asked.start_time.map(|time| time.0),
        tags: TagArgument::take_all(asked.tags)?,
    };
    Ok(json!({ "run": registry.create_run(&who.0, new).await? }))
}

/// A run goes by either name.
#[derive(Deserialize)]
pub(super) struct ById {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
}

fn id(run_id: Option<Text>, run_uuid: Option<Text>) -> Result<String> {
    need(run_id.filter(|text| !text.0.is_empty()).or(run_uuid), "run_id")
}

pub(super) async fn get(registry: Registry, _: Who, asked: ById) -> Result<Value> {
    Ok(json!({ "run": registry.run(&id(asked.run_id, asked.run_uuid)?).await? }))
}

#[derive(Deserialize)]
pub(super) struct Update {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    status: Option<Text>,
    end_time: Option<Int>,
    run_name: Option<Text>,
}

pub(super) async fn update(registry: Registry, who: Who, asked: Update) -> Result<Value> {
    let change = RunChange {
        status: text(asked.status).filter(|status| !status.is_empty()),
        end_time: asked.end_time.map(|time| time.0),
        run_name: text(asked.run_name),
    };
    let info = registry.update_run(&who.0, &id(asked.run_id, asked.run_uuid)?, change).await?;
    Ok(json!({ "run_info": info }))
}

pub(super) async fn delete(registry: Registry, who: Who, asked: ById) -> Result<Nothing> {
    registry.set_run_lifecycle(&who.0, &id(asked.run_id, asked.run_uuid)?, Lifecycle::Deleted).await?;
    Ok(Nothing {})
}

pub(super) async fn restore(registry: Registry, who: Who, asked: ById) -> Result<Nothing> {
    registry.set_run_lifecycle(&who.0, &id(asked.run_id, asked.run_uuid)?, Lifecycle::Active).await?;
    Ok(Nothing {})
}

/// A metric as it comes.
#[derive(Deserialize)]
pub(super) struct MetricArgument {
    key: Option<Text>,
    value: Option<Number>,
    timestamp: Option<Int>,
    step: Option<Int>,
    model_id: Option<Text>,
    dataset_name: Option<Text>,
    dataset_digest: Option<Text>,
}

impl MetricArgument {
    fn take(self) -> Result<NewMetric> {
        Ok(NewMetric {
            key: need(self.key, "key")?,
            value: self.value.ok_or_else(|| missing("value"))?.0,
            timestamp: self.timestamp.ok_or_else(|| missing("timestamp"))?.0,
            step: self.step.map_or(0, |step| step.0),
            model_id: text(self.model_id),
            dataset_name: text(self.dataset_name),
            dataset_digest: text(self.dataset_digest),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct LogMetric {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    #[serde(flatten)]
    metric: MetricArgument,
}

pub(super) async fn log_metric(registry: Registry, _: Who, asked: LogMetric) -> Result<Nothing> {
    let logged = Logged { metrics: vec![asked.metric.take()?], ..Logged::default() };
    registry.log(&id(asked.run_id, asked.run_uuid)?, logged).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct LogTag {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    #[serde(flatten)]
    tag: TagArgument,
}

pub(super) async fn log_param(registry: Registry, _: Who, asked: LogTag) -> Result<Nothing> {
    let logged = Logged { params: vec![asked.tag.take()?], ..Logged::default() };
    registry.log(&id(asked.run_id, asked.run_uuid)?, logged).await?;
    Ok(Nothing {})
}

pub(super) async fn set_tag(registry: Registry, _: Who, asked: LogTag) -> Result<Nothing> {
    let logged = Logged { tags: vec![asked.tag.take()?], ..Logged::default() };
    registry.log(&id(asked.run_id, asked.run_uuid)?, logged).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct DeleteTag {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    key: Option<Text>,
}

pub(super) async fn delete_tag(registry: Registry, _: Who, asked: DeleteTag) -> Result<Nothing> {
    let key = need(asked.key, "key")?;
    registry.delete_run_tag(&id(asked.run_id, asked.run_uuid)?, &key).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct LogBatch {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    #[serde(default)]
    metrics: List<MetricArgument>,
    #[serde(default)]
    params: List<TagArgument>,
    #[serde(default)]
    tags: List<TagArgument>,
}

pub(super) async fn log_batch(registry: Registry, _: Who, asked: LogBatch) -> Result<Nothing> {
    let logged = Logged {
        metrics: asked.metrics.0.into_iter().map(MetricArgument::take).collect::<Result<_>>()?,
        params: TagArgument::take_all(asked.params)?,
        tags: TagArgument::take_all(asked.tags)?,
    };
    registry.log(&id(asked.run_id, asked.run_uuid)?, logged).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct LogInputs {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    #[serde(default)]
    datasets: List<DatasetInput>,
    #[serde(default)]
    models: List<ModelInput>,
}

pub(super) async fn log_inputs(registry: Registry, _: Who, asked: LogInputs) -> Result<Nothing> {
    registry.log_inputs(&id(asked.run_id, asked.run_uuid)?, &asked.datasets.0, &asked.models.0).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct LogOutputs {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    #[serde(default)]
    models: List<ModelOutputArgument>,
}

#[derive(Deserialize)]
pub(super) struct ModelOutputArgument {
    model_id: Option<Text>,
    step: Option<Int>,
}

pub(super) async fn log_outputs(registry: Registry, _: Who, asked: LogOutputs) -> Result<Nothing> {
    let models = asked.models.0.into_iter().map(|model| {
        Ok(ModelOutput { model_id: need(model.model_id, "model_id")?, step: model.step.map_or(0, |step| step.0) })
    });
    let models: Vec<ModelOutput> = models.collect::<Result<_>>()?;
    registry.log_outputs(&id(asked.run_id, asked.run_uuid)?, &models).await?;
    Ok(Nothing {})
}

#[derive(Deserialize)]
pub(super) struct SearchRuns {
    #[serde(default)]
    experiment_ids: List<Text>,
    #[serde(flatten)]
    search: SearchArguments,
}

pub(super) async fn search(registry: Registry, _: Who, asked: SearchRuns) -> Result<Value> {
    let ids = asked.experiment_ids.texts();
    let found = registry.search_runs(&ids, &asked.search.take()?).await?;
    Ok(page("runs", &found.items, found.next_page_token))
}

#[derive(Deserialize)]
pub(super) struct History {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    metric_key: Option<Text>,
    max_results: Option<Int>,
    page_token: Option<Text>,
}

pub(super) async fn history(registry: Registry, _: Who, asked: History) -> Result<Value> {
    let key = need(asked.metric_key, "metric_key")?;
    let token = text(asked.page_token);
    let page_of = Page::new(PageLimits::METRIC_HISTORY, asked.max_results.map(|rows| rows.0), token.as_deref())?;
    let found = registry.metric_history(&id(asked.run_id, asked.run_uuid)?, &key, page_of).await?;
    Ok(page("metrics", &found.items, found.next_page_token))
}

#[derive(Deserialize)]
pub(super) struct Artifacts {
    run_id: Option<Text>,
    run_uuid: Option<Text>,
    path: Option<Text>,
}

pub(super) async fn artifacts(registry: Registry, _: Who, asked: Artifacts) -> Result<Value> {
    let run = registry.run(&id(asked.run_id, asked.run_uuid)?).await?;
    list_below(&registry, &run.info.artifact_uri, text(asked.path)).await
}

/// Lists a folder below the root of a run or model; paths are relative to that root.
pub(super) async fn list_below(registry: &Registry, root: &str, path: Option<String>) -> Result<Value> {
    let path = path.unwrap_or_default();
    let path = path.trim_end_matches('/');
    if !path.is_empty() {
        artifact_path(path)?;
    }
    let inside = root
        .strip_prefix("mlflow-artifacts:/")
        .ok_or_else(|| Error::unsupported(format!("these artifacts are not kept by this server but below '{root}'")))?;
    let folder = if path.is_empty() { inside.to_owned() } else { format!("{inside}/{path}") };
    let mut files = registry.list_files(Some(&folder)).await?;
    if !path.is_empty() {
        files.iter_mut().for_each(|file| file.path = format!("{path}/{}", file.path));
    }
    let mut answer = page("files", &files, None);
    if let Value::Object(answer) = &mut answer {
        answer.insert("root_uri".to_owned(), json!(root));
    }
    Ok(answer)
}
