//! What runs log: metrics with their history, parameters, tags.

use std::collections::HashMap;

use salver_core::{Error, Result};
use salver_store::database::{Session, Value, sql};

use crate::runs::{NAME_TAG, active_run, read_metric, read_run};
use crate::search::Page;
use crate::tags::{self, PARAMS, RUN_TAGS};
use crate::types::{Found, Metric, Tag};
use crate::{Registry, logged, names, runs};

/// Metrics, parameters and tags that one call may log together.
pub const MAX_BATCH: usize = 1_000;
const MAX_PARAMS: usize = 100;
const MAX_TAGS: usize = 100;

/// A metric to log.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMetric {
    /// What was measured.
    pub key: String,
    /// Infinities are kept as the largest numbers.
    pub value: f64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Of training.
    pub step: i64,
    /// The logged model that it says something of.
    pub model_id: Option<String>,
    /// The data that it was measured on.
    pub dataset_name: Option<String>,
    /// The version of that data.
    pub dataset_digest: Option<String>,
}

/// What one call logs.
#[derive(Debug, Clone, Default)]
pub struct Logged {
    /// At most 1,000.
    pub metrics: Vec<NewMetric>,
    /// At most 100, each key once.
    pub params: Vec<Tag>,
    /// At most 100.
    pub tags: Vec<Tag>,
}

impl Logged {
    fn check(&mut self) -> Result<()> {
        let counts = [self.metrics.len(), self.params.len(), self.tags.len()];
        let limits = [MAX_BATCH, MAX_PARAMS, MAX_TAGS];
        for ((count, limit), what) in counts.iter().zip(limits).zip(["metrics", "params", "tags"]) {
            if *count > limit {
                return Err(Error::invalid_input(format!(
                    "A batch logging request can contain at most {limit} {what}. Got {count} {what}."
                )));
            }
        }
        if counts.iter().sum::<usize>() > MAX_BATCH {
            return Err(Error::invalid_input(format!(
                "A batch logging request can contain at most {MAX_BATCH} metrics, params and tags together."
            )));
        }
        for metric in &mut self.metrics {
            names::metric_key(&metric.key)?;
            if metric.timestamp < 0 {
                return Err(Error::invalid_input(format!(
                    "Got invalid timestamp {} for metric '{}': expected milliseconds since 1970",
                    metric.timestamp, metric.key
                )));
            }
            metric.value = if metric.value.is_nan() { f64::NAN } else { metric.value.clamp(f64::MIN, f64::MAX) };
        }
        check_params(&mut self.params)?;
        tags::check(&self.tags)
    }
}

fn check_params(params: &mut [Tag]) -> Result<()> {
    for param in &mut *params {
        names::param_key(&param.key)?;
        param.value = names::cut(&param.value, names::MAX_PARAM_VALUE).to_owned();
    }
    match params.iter().enumerate().find(|(idx, param)| params[..*idx].iter().any(|earlier| earlier.key == param.key)) {
        Some((_, twice)) => {
            Err(Error::invalid_input(format!("Duplicate parameter key '{}' in one request", twice.key)))
        }
        None => Ok(()),
    }
}

impl Registry {
    /// Logs metrics, parameters and tags of a run: all, or none.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a deleted run, a key that none can have, a parameter that has
    /// another value already, or more than fits one call.
    pub async fn log(&self, run_id: &str, mut logged: Logged) -> Result<()> {
        logged.check()?;
        for tag in &mut logged.tags {
            tag.value = names::cut(&tag.value, names::MAX_RUN_TAG_VALUE).to_owned();
        }
        let mut session = self.database.write().await?;
        let run = active_run(&mut session, run_id).await?;
        write_params(&mut session, run_id, &logged.params).await?;
        write_metrics(&mut session, run_id, &logged.metrics).await?;
        logged::write_metrics(&mut session, &run, &logged.metrics).await?;
        RUN_TAGS.set(&mut session, run_id, &logged.tags).await?;
        if let Some(name) = logged.tags.iter().rev().find(|tag| tag.key == NAME_TAG) {
            let statement = sql("UPDATE runs SET run_name = ? WHERE run_id = ?").bind(&name.value).bind(run_id);
            session.execute(statement).await?;
        }
        session.commit().await
    }

    /// Returns a page of a metric's history, by time.
    ///
    /// # Errors
    /// `NotFound` for the run.
    pub async fn metric_history(&self, run_id: &str, key: &str, page: Page) -> Result<Found<Metric>> {
        let mut session = self.database.read().await?;
        read_run(&mut session, run_id).await?;
        let statement =
            sql("SELECT * FROM metrics WHERE run_id = ? AND key = ? ORDER BY timestamp, step, value, is_nan \
                             LIMIT ? OFFSET ?")
            .bind(run_id)
            .bind(key)
            .bind(i64::from(page.limit()) + 1)
            .bind(page.offset().cast_signed());
        let rows = session.all(statement).await?;
        Ok(Found::page(page, rows.iter().map(read_metric).collect::<Result<_>>()?))
    }
}

async fn write_params(session: &mut Session, run_id: &str, params: &[Tag]) -> Result<()> {
    if params.is_empty() {
        return Ok(());
    }
    // Of two that give one parameter different values, the second has to see what the first wrote.
    runs::hold(session, run_id).await?;
    let known = PARAMS.of_texts(session, &[run_id]).await?.remove(run_id).unwrap_or_default();
    for param in params {
        if let Some(known) = known.iter().find(|known| known.key == param.key)
            && known.value != param.value
        {
            return Err(Error::invalid_input(format!(
                "Changing param values is not allowed. Param with key='{}' was already logged with value='{}' for run \
                 ID='{run_id}'. Attempted logging new value '{}'.",
                param.key, known.value, param.value
            )));
        }
    }
    PARAMS.set(session, run_id, params).await
}

fn is_nan(value: f64) -> (f64, bool) {
    // SQLite has no NaN.
    if value.is_nan() { (0., true) } else { (value, false) }
}

fn columns(run_id: &str, metric: &NewMetric) -> [Value; 6] {
    let (value, is_nan) = is_nan(metric.value);
    [run_id.into(), (&metric.key).into(), metric.timestamp.into(), metric.step.into(), value.into(), is_nan.into()]
}

async fn write_metrics(session: &mut Session, run_id: &str, metrics: &[NewMetric]) -> Result<()> {
    if metrics.is_empty() {
        return Ok(());
    }
    let rows = metrics.iter().map(|metric| columns(run_id, metric));
    session.execute(sql("INSERT INTO metrics VALUES ").rows(rows).then(" ON CONFLICT DO NOTHING")).await?;
    // One row a key: PostgreSQL does not change a row twice in one statement.
    let mut latest: HashMap<&str, &NewMetric> = HashMap::new();
    for metric in metrics {
        let rank = |metric: &NewMetric| (metric.step, metric.timestamp, is_nan(metric.value));
        let known = latest.entry(&metric.key).or_insert(metric);
        if rank(known) < rank(metric) {
            *known = metric;
        }
    }
    let rows = latest.into_values().map(|metric| columns(run_id, metric));
    let statement = sql("INSERT INTO latest_metrics VALUES ").rows(rows).then(
        " ON CONFLICT (run_id, key) DO UPDATE SET timestamp = excluded.timestamp, step = excluded.step, \
         value = excluded.value, is_nan = excluded.is_nan \
         WHERE (excluded.step, excluded.timestamp, excluded.value, excluded.is_nan) \
         > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value, latest_metrics.is_nan)",
    );
    session.execute(statement).await.map(drop)
}

/// Returns the latest metrics of each run, by key.
pub(crate) async fn latest(session: &mut Session, run_ids: &[&str]) -> Result<HashMap<String, Vec<Metric>>> {
    let statement =
        sql("SELECT * FROM latest_metrics WHERE run_id IN ").list(run_ids.iter().copied()).then(" ORDER BY key");
    let mut found: HashMap<String, Vec<Metric>> = HashMap::new();
    for row in session.all(statement).await? {
        found.entry(row.text("run_id")?).or_default().push(read_metric(&row)?);
    }
    Ok(found)
}
