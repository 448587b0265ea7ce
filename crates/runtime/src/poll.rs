//! Follows changes of the source, once they stand still.
//!
//! A file that is being written is empty, cut off, or half old and half new, and a folder that is
//! being replaced is away. So a change counts when two looks in a row find the same; the second
//! comes soon after the first.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use salver_core::{ModelEntry, Result};

use crate::Runtime;

/// How soon a change is looked at again; each further time takes twice as long, up to the interval.
const SOON: Duration = Duration::from_millis(200);
/// After how many changes in a row it is said that a model is waited for: some seconds.
const TELL: u32 = 4;

/// What two looks at a model are compared by.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    labels: BTreeMap<String, u64>,
    /// Versions and their fingerprints, or what is wrong.
    versions: std::result::Result<Vec<(u64, u64)>, String>,
}

impl From<&ModelEntry> for Content {
    fn from(entry: &ModelEntry) -> Self {
        let versions = match &entry.versions {
            Ok(specs) => Ok(specs.iter().map(|spec| (spec.version, spec.fingerprint)).collect()),
            Err(error) => Err(error.message().to_owned()),
        };
        Self { labels: entry.labels.clone(), versions }
    }
}

/// What the last look found, by model.
#[derive(Debug, Default)]
pub(crate) struct Looks(HashMap<String, Look>);

#[derive(Debug)]
struct Look {
    content: Content,
    /// How many looks in a row found something else than the one before.
    changes: u32,
}

/// What a look found, compared with the one before.
#[derive(Debug)]
struct Found {
    /// As they were.
    settled: Vec<ModelEntry>,
    /// Neither there now nor then.
    gone: Vec<String>,
    /// Whether all is as it was.
    is_still: bool,
}

impl Looks {
    /// The first look, with which the next is compared.
    pub(crate) fn new(entries: &[ModelEntry]) -> Self {
        let looks = entries.iter().map(|entry| (entry.name.to_string(), Look { content: entry.into(), changes: 0 }));
        Self(looks.collect())
    }

    /// Compares what is there with the look before, which it replaces. `known`: the models that
    /// are shown, of which some may be gone.
    fn compare(&mut self, entries: Vec<ModelEntry>, known: impl IntoIterator<Item = String>) -> Found {
        let mut before = std::mem::take(&mut self.0);
        let mut settled = Vec::with_capacity(entries.len());
        let mut is_still = true;
        for entry in entries {
            let (content, last) = (Content::from(&entry), before.remove(&*entry.name));
            let changes = match last {
                Some(last) if last.content == content => 0,
                last => last.map_or(0, |last| last.changes) + 1,
            };
            if changes == TELL {
                tracing::info!(model = %entry.name, "model is still being written; it is read once its files stand still");
            }
            self.0.insert(entry.name.to_string(), Look { content, changes });
            if changes == 0 {
                settled.push(entry);
            } else {
                is_still = false;
            }
        }
        // What is left was there the last time.
        is_still &= before.is_empty();
        let gone = known.into_iter().filter(|name| !self.0.contains_key(name) && !before.contains_key(name)).collect();
        Found { settled, gone, is_still }
    }
}

impl Runtime {
    /// Follows changes until the runtime stops.
    pub(crate) async fn poll(&self, interval: Duration, mut looks: Looks) {
        let (mut wait, mut soon) = (interval, SOON);
        while self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            match self.look(&mut looks).await {
                Ok(true) => (wait, soon) = (interval, SOON),
                Ok(false) => (wait, soon) = (soon.min(interval), soon.saturating_mul(2)),
                Err(error) => tracing::error!(%error, "polling the model paths"),
            }
        }
    }

    /// Reads the source and follows the changes that stand still. Returns whether all do.
    pub(crate) async fn look(&self, looks: &mut Looks) -> Result<bool> {
        let (reading, known) = (self.next_reading(), self.lifecycle.board.names());
        let found = looks.compare(self.scan().await?, known);
        self.follow(found.settled, &found.gone, reading).await;
        Ok(found.is_still)
    }
}

#[cfg(test)]
mod tests;
