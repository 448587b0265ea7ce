//! Versions as people look at them: with what was measured, side by side, and one step back.

use std::collections::BTreeMap;

use salver_core::{Error, Result};
use salver_repository::signature::{Change, Signature};
use salver_store::database::{Session, sql};
use serde::{Serialize, Serializer};

use crate::models::Transition;
use crate::names::Stage;
use crate::types::{ModelVersion, Tag};
use crate::{FileInfo, Registry, StageTime, files, logged, metrics, models};

/// The most versions that are shown together.
const MOST: i64 = 1_000;

/// A version with everything that helps to judge it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionCard {
    /// What it is.
    #[serde(flatten)]
    pub version: ModelVersion,
    /// SHA-256 over paths and digests of its files; none: they are kept elsewhere.
    pub digest: Option<String>,
    /// Bytes of its files.
    pub size: Option<i64>,
    /// The latest of each key, of the run that made it and of the logged model that it is.
    #[serde(serialize_with = "numbers")]
    pub metrics: BTreeMap<String, f64>,
    /// Of the run that made it.
    pub params: BTreeMap<String, String>,
    /// What its files declare to take and give; none: nothing is known of it.
    pub signature: Option<Signature>,
}

/// How a version differs from another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The version that it is held against.
    pub from: String,
    /// The version.
    pub to: String,
    /// How much more was measured, of each key that both have.
    pub metrics: BTreeMap<String, f64>,
    /// What its signature has otherwise; none: one of the two is not known.
    pub signature: Option<Vec<Change>>,
}

impl VersionCard {
    /// Returns how `other` differs from this version.
    pub fn difference(&self, other: &Self) -> Difference {
        let measured = |(key, before): (&String, &f64)| {
            let difference = other.metrics.get(key)? - before;
            difference.is_finite().then(|| (key.clone(), difference))
        };
        let signatures = self.signature.as_ref().zip(other.signature.as_ref());
        Difference {
            from: self.version.version.to_string(),
            to: other.version.version.to_string(),
            metrics: self.metrics.iter().filter_map(measured).collect(),
            signature: signatures.map(|(before, after)| before.changes(after)),
        }
    }
}

fn numbers<S: Serializer>(metrics: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    // JSON has no NaN.
    serializer.collect_map(metrics.iter().map(|(key, value)| (key, value.is_finite().then_some(*value))))
}

impl Registry {
    /// Returns versions with what was measured of them, newest first: those asked for, or all.
    ///
    /// # Errors
    /// `NotFound` for the model, or a version asked for.
    pub async fn cards(&self, name: &str, versions: &[i64]) -> Result<Vec<VersionCard>> {
        let mut session = self.database.read().await?;
        let found = if versions.is_empty() {
            models::known(&mut session, name).await?;
            let statement = sql("SELECT * FROM model_versions WHERE name = ? ORDER BY version DESC LIMIT ?");
            let rows = session.all(statement.bind(name).bind(MOST)).await?;
            let found = rows.iter().map(models::read_version_row).collect::<Result<_>>()?;
            models::versions_with_parts(&mut session, found).await?
        } else {
            let mut found = Vec::with_capacity(versions.len());
            for version in versions {
                found.push(models::read_version(&mut session, name, *version).await?);
            }
            found
        };
        let mut cards = Vec::with_capacity(found.len());
        for version in found {
            cards.push(card(&mut session, version).await?);
        }
        Ok(cards)
    }

    /// Returns a version with what was measured of it, its files, and the stages it was in.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn card(&self, name: &str, version: i64) -> Result<(VersionCard, Vec<FileInfo>, Vec<StageTime>)> {
        let mut session = self.database.read().await?;
        let found = models::read_version(&mut session, name, version).await?;
        let files = files::read_files(&mut session, name, version).await?;
        let card = card(&mut session, found).await?;
        drop(session);
        let mut times = Vec::new();
        for stage in [Stage::Production, Stage::Staging, Stage::Archived] {
            times.extend(self.stage_times(name, stage, None).await?.into_iter().filter(|time| time.version == version));
        }
        times.sort_by_key(|time| time.since);
        Ok((card, files, times))
    }

    /// Puts the version that was in production before the present one back there.
    ///
    /// # Errors
    /// `NotFound` for the model; `InvalidInput` where there was none before; `Conflict` where
    /// somebody promoted another one meanwhile.
    pub async fn rollback(&self, who: &str, name: &str) -> Result<ModelVersion> {
        let stage = Stage::Production;
        let present = self.latest_versions(name, &[stage]).await?.first().map_or(0, |version| version.version);
        let times = self.stage_times(name, stage, None).await?;
        let since = times.iter().find(|time| time.version == present).map_or(i64::MAX, |time| time.since);
        let mut earlier = times.iter().filter(|time| time.version != present && time.since <= since);
        let previous = loop {
            let Some(time) = earlier.next() else {
                return Err(Error::invalid_input(format!(
                    "model '{name}' was never in production with another version than {present}: there is nothing to \
                     go back to"
                )));
            };
            // One that was deleted since cannot come back.
            if self.version(name, time.version).await.is_ok() {
                break time.version;
            }
        };
        let to = Transition { stage, archive_existing: true, replaces: Some(present) };
        self.transition(who, name, previous, to).await
    }
}

async fn card(session: &mut Session, version: ModelVersion) -> Result<VersionCard> {
    let mut metrics = BTreeMap::new();
    let mut params = BTreeMap::new();
    if !version.run_id.is_empty() {
        let run_id = version.run_id.as_str();
        let latest = metrics::latest(session, &[run_id]).await?.remove(run_id).unwrap_or_default();
        metrics.extend(latest.into_iter().map(|metric| (metric.key, metric.value)));
        let of_run = crate::tags::PARAMS.of_texts(session, &[run_id]).await?.remove(run_id).unwrap_or_default();
        params.extend(of_run.into_iter().map(|Tag { key, value }| (key, value)));
    }
    if let Some(model_id) = &version.model_id
        && let Ok(model) = logged::read_logged(session, model_id).await
    {
        metrics.extend(model.data.metrics.into_iter().map(|metric| (metric.key, metric.value)));
        params.extend(model.data.params.into_iter().map(|Tag { key, value }| (key, value)));
    }
    let signature = version.signature.as_deref().and_then(|text| serde_json::from_str(text).ok());
    Ok(VersionCard { digest: version.digest.clone(), size: version.size, metrics, params, signature, version })
}
