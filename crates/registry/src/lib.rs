//! What is known of models: experiments and their runs, registered models with immutable versions,
//! stages and aliases, their files, and who changed what.
//!
//! Knows no protocol and no socket. Rows and blobs are kept through `salver-store`; types and
//! rules are those that MLflow's clients expect. Each change is one transaction, with its line in
//! the audit log; a metric, a parameter or a tag that a run logs is its own record.

use std::fmt;
use std::sync::Arc;

use salver_core::{Error, Result};
use salver_store::database::{Session, sql};
use salver_store::{Blobs, Database};
use tokio::sync::watch;

pub use self::audit::AuditEntry;
pub use self::backup::Saved;
pub use self::experiments::NewExperiment;
pub use self::files::{FileInfo, Listed};
pub use self::gc::Cleared;
pub use self::logged::NewLoggedModel;
pub use self::metrics::{Logged, MAX_BATCH, NewMetric};
pub use self::models::{NewVersion, StageTime, ToServe, Transition};
pub use self::overview::{Difference, VersionCard};
pub use self::query::{LoggedOrder, Search};
pub use self::runs::{NewRun, RunChange};

mod audit;
mod backup;
mod experiments;
mod files;
pub mod fuzz;
mod gc;
mod logged;
mod metrics;
mod models;
pub mod names;
mod overview;
mod query;
mod runs;
mod schema;
pub mod search;
pub mod serving;
mod signatures;
mod sources;
mod tags;
pub mod types;

#[cfg(test)]
mod tests;

/// Tells the time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The registry. Cheap to clone; several servers may share one PostgreSQL database.
#[derive(Clone)]
pub struct Registry {
    database: Database,
    blobs: Blobs,
    clock: Clock,
    changes: watch::Sender<i64>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// Opens a registry, bringing its schema up to date.
    ///
    /// # Errors
    /// `Unsupported` where the database was written by a newer program; those of the database.
    pub async fn open(database: Database, blobs: Blobs, clock: Clock) -> Result<Self> {
        let registry = Self::new(database, blobs, clock);
        registry.prepare().await?;
        Ok(registry)
    }

    /// Makes a registry whose database may not be there yet: before [`Registry::prepare`], calls fail.
    pub fn new(database: Database, blobs: Blobs, clock: Clock) -> Self {
        Self { database, blobs, clock, changes: watch::Sender::new(0) }
    }

    /// Brings the schema up to date. Once is enough, and again does no harm.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub async fn prepare(&self) -> Result<()> {
        self.database.migrate(schema::HISTORY).await?;
        self.make_default_experiment().await?;
        self.look_for_changes().await
    }

    /// Closes the database, and waits until that is done.
    pub async fn close(&self) {
        self.database.close().await;
    }

    fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Tells of each change of registered models: a number that grows with every one.
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.changes.subscribe()
    }

    /// Looks whether another server changed registered models; what is new is told to those that
    /// asked for [`Registry::changes`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn look_for_changes(&self) -> Result<()> {
        let row = self.database.read().await?.first(sql("SELECT value FROM counters WHERE name = 'change'")).await?;
        if let Some(row) = row {
            self.changed_to(row.int("value")?);
        }
        Ok(())
    }

    fn changed_to(&self, number: i64) {
        self.changes.send_if_modified(|known| std::mem::replace(known, number.max(*known)) < number);
    }

    /// Commits a change of registered models, and tells of it.
    async fn commit_change(&self, mut session: Session) -> Result<()> {
        let number = next(&mut session, "change").await?;
        session.commit().await?;
        self.changed_to(number);
        Ok(())
    }
}

/// Returns the next number of a counter; whoever has it holds the counter until the transaction ends.
async fn next(session: &mut Session, counter: &'static str) -> Result<i64> {
    let statement = sql("UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value").bind(counter);
    let row = session.first(statement).await?;
    row.ok_or_else(|| Error::not_ready(format!("the registry has no counter '{counter}'")))?.int("value")
}

/// Returns a new id: 32 hexadecimal digits, no two alike.
fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}
