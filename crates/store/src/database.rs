//! Rows in SQLite or PostgreSQL: one code path for both.
//!
//! Statements are written once, with `?` for values, in the part of SQL that both speak. What
//! differs (how a transaction begins, a few column types) is settled here and nowhere else.
//! SQLite runs with a write-ahead log that is synced at each commit, so an acknowledged change
//! survives a crash of the machine; its writers take turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use salver_core::{Error, ErrorKind, Result};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migration as SqlxMigration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool, AssertSqlSafe, Connection as _, Executor, SqlSafeStr, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::sql::{Kind, Row, Sql, Value, sql};

mod sql;
#[cfg(test)]
mod tests;

/// Connections to one database.
const MAX_CONNECTIONS: u32 = 8;
/// How long to wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long SQLite waits for a lock that another process holds.
const SQLITE_SETUP: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                            PRAGMA foreign_keys = ON; PRAGMA case_sensitive_like = ON;";
/// What a path in an URL has to hide.
const IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'?').add(b'#').add(b'%').add(b'"').add(b'<').add(b'>').add(b'`');

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

/// One step of a schema's history. Never changed once it was released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Ascending from 1.
    pub version: i64,
    /// What it is about.
    pub description: &'static str,
    /// Statements, with `{text}` for text that is compared by its bytes, `{bytes}` for bytes, `{serial}`
    /// for a key that counts by itself and `{key}` for one of whole numbers that does not.
    pub sql: &'static str,
}

/// A pool of connections to one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
    dialect: Dialect,
    /// SQLite has one writer at a time; here they queue in order instead of polling for its lock.
    writers: Option<Arc<Semaphore>>,
    /// Whether the schema is known to be there.
    is_current: Arc<AtomicBool>,
}

impl Database {
    /// Opens the SQLite file at `path`, made if it is not there.
    ///
    /// # Errors
    /// `NotReady` where it cannot be opened.
    pub async fn sqlite(path: &Path) -> Result<Self> {
        let path = path.to_str().ok_or_else(|| Error::invalid_input("the database's path is not UTF-8"))?;
        Self::connect(&sqlite_url(path), Dialect::Sqlite).await
    }

    /// Connects to `postgres://USER:PASSWORD@HOST:PORT/NAME`, or opens `sqlite:///PATH`.
    ///
    /// # Errors
    /// `InvalidInput` for another scheme; `NotReady` where the database cannot be reached.
    pub async fn open(url: &str) -> Result<Self> {
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Self::connect(url, Dialect::Postgres).await,
            Some(("sqlite", path)) => Self::sqlite(Path::new(path)).await,
            _ => Err(Error::invalid_input("the database: expected postgres://… or sqlite:///PATH")),
        }
    }

    /// As [`Database::open`], but nothing is connected to before the first use.
    ///
    /// # Errors
    /// `InvalidInput` for another scheme, or an address that is none.
    pub fn lazy(url: &str) -> Result<Self> {
        let expected = || Error::invalid_input("the database: expected postgres://USER@HOST/NAME or sqlite:///PATH");
        let (url, dialect) = match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => (url.to_owned(), Dialect::Postgres),
            Some(("sqlite", path)) if !path.is_empty() => (sqlite_url(path), Dialect::Sqlite),
            _ => return Err(expected()),
        };
        // What is wrong with it may quote a password.
        let (pool, options) = pool(&url, dialect).map_err(|_| expected())?;
        let database = Self::new(pool.connect_lazy_with(options), dialect);
        database.is_current.store(false, Ordering::Release);
        Ok(database)
    }

    async fn connect(url: &str, dialect: Dialect) -> Result<Self> {
        let (pool, options) = pool(url, dialect)?;
        Ok(Self::new(pool.connect_with(options).await.map_err(failed)?, dialect))
    }

    fn new(pool: AnyPool, dialect: Dialect) -> Self {
        let writers = (dialect == Dialect::Sqlite).then(|| Arc::new(Semaphore::new(1)));
        Self { pool, dialect, writers, is_current: Arc::new(AtomicBool::new(true)) }
    }

    /// Brings the schema to its newest state. Several servers may do so at once.
    ///
    /// # Errors
    /// `Unsupported` where the database was written by a newer program.
    pub async fn migrate(&self, history: &[Migration]) -> Result<()> {
        self.migrate_in(&Migrator::DEFAULT.table_name, history).await
    }

    /// As [`Database::migrate`], for one of several histories in the same database: each notes its steps
    /// in a table of its own.
    ///
    /// # Errors
    /// As [`Database::migrate`].
    pub async fn migrate_in(&self, table: &str, history: &[Migration]) -> Result<()> {
        let steps = history.iter().map(|step| {
            let sql = AssertSqlSafe(self.dialect.fill_in(step.sql)).into_sql_str();
            SqlxMigration::new(step.version, step.description.into(), MigrationType::Simple, sql, false)
        });
        let table_name = table.to_owned().into();
        let migrator = Migrator { migrations: steps.collect(), table_name, ..Migrator::DEFAULT };
        let mut done = migrator.run(&self.pool).await;
        // PostgreSQL lets one server after the other do this. In SQLite the second to take a step
        // fails; then somebody took it, so there are no more failures of that kind than steps.
        for _ in 0..if self.dialect == Dialect::Sqlite { history.len() } else { 0 } {
            if !matches!(done, Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))) {
                break;
            }
            done = migrator.run(&self.pool).await;
        }
        self.is_current.fetch_or(done.is_ok(), Ordering::AcqRel);
        done.map_err(|error| match error {
            MigrateError::VersionMissing(version) => Error::unsupported(format!(
                "the database was written by a newer Salver (its schema has step {version}, this program knows {} \
                 steps); use that version or a newer one",
                history.len()
            )),
            MigrateError::VersionMismatch(version) => Error::unsupported(format!(
                "step {version} of the database's schema is not the one that this program knows; was it written by \
                 an unreleased version?"
            )),
            other => Error::new(ErrorKind::Engine, "the database's schema could not be brought up to date")
                .with_source(other),
        })
    }

    fn check_current(&self) -> Result<()> {
        match self.is_current.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(Error::not_ready("the database is being opened; ask again in a moment")
                .with_retry_after(Duration::from_secs(1))),
        }
    }

    /// Takes a connection to read with.
    ///
    /// # Errors
    /// `NotReady` where there is none in time, or the schema of a lazy database is not there yet.
    pub async fn read(&self) -> Result<Session> {
        self.check_current()?;
        let connection = self.pool.acquire().await.map_err(failed)?;
        Ok(Session { inner: Inner::Connection(connection), dialect: self.dialect, _turn: None })
    }

    /// Begins a transaction that writes. Dropped before [`Session::commit`], it leaves no trace.
    ///
    /// # Errors
    /// `NotReady` where there is no connection in time, or the schema of a lazy database is not there
    /// yet.
    pub async fn write(&self) -> Result<Session> {
        self.check_current()?;
        let turn = match &self.writers {
            Some(writers) => Some(writers.clone().acquire_owned().await.map_err(|_| Error::not_ready("closed"))?),
            None => None,
        };
        let begun = match self.dialect {
            // A transaction that reads first and writes later would fail where another wrote between.
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres => self.pool.begin().await,
        };
        Ok(Session { inner: Inner::Transaction(begun.map_err(failed)?), dialect: self.dialect, _turn: turn })
    }

    /// Begins to read the database as it is at one moment, whatever others write meanwhile.
    ///
    /// # Errors
    /// `NotReady` where there is no connection in time.
    pub async fn snapshot(&self) -> Result<Session> {
        self.check_current()?;
        let begun = match self.dialect {
            Dialect::Sqlite => self.pool.begin_with("BEGIN").await,
            Dialect::Postgres => self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await,
        };
        Ok(Session { inner: Inner::Transaction(begun.map_err(failed)?), _turn: None, dialect: self.dialect })
    }

    /// Closes all connections, and waits until they are.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn sqlite_url(path: &str) -> String {
    format!("sqlite://{}?mode=rwc", utf8_percent_encode(path, IN_PATH))
}

fn pool(url: &str, dialect: Dialect) -> Result<(AnyPoolOptions, AnyConnectOptions)> {
    sqlx::any::install_default_drivers();
    let options: AnyConnectOptions = url.parse().map_err(failed)?;
    let pool = AnyPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if dialect == Dialect::Sqlite {
                    connection.execute(SQLITE_SETUP).await?;
                }
                Ok(())
            })
        })
        // Where SQLite finds no room it ends a transaction by itself, which the driver does not notice:
        // what came next on that connection would belong to a transaction that never ends.
        .before_acquire(|connection, _| {
            let is_free = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_free) })
        });
    Ok((pool, options))
}

impl Dialect {
    fn fill_in(self, sql: &str) -> String {
        // SQLite's writers take turns: whatever one reads is its own.
        let parts = match self {
            Self::Sqlite => ["TEXT", "BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER PRIMARY KEY", "", ""],
            Self::Postgres => [
                "TEXT COLLATE \"C\"",
                "BYTEA",
                "BIGSERIAL PRIMARY KEY",
                "BIGINT PRIMARY KEY",
                "FOR UPDATE",
                "FOR UPDATE SKIP LOCKED",
            ],
        };
        let names = ["{text}", "{bytes}", "{serial}", "{key}", "{for update}", "{for update skip locked}"];
        names.iter().zip(parts).fold(sql.to_owned(), |sql, (name, part)| sql.replace(name, part))
    }
}

/// A connection in use, within a transaction or not.
#[derive(Debug)]
pub struct Session {
    inner: Inner,
    dialect: Dialect,
    _turn: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Inner {
    Connection(PoolConnection<Any>),
    Transaction(Transaction<'static, Any>),
}

impl Session {
    fn connection(&mut self) -> &mut sqlx::AnyConnection {
        match &mut self.inner {
            Inner::Connection(connection) => connection,
            Inner::Transaction(transaction) => transaction,
        }
    }

    /// Waits until no other transaction holds `name`, and holds it until this one ends: what is read
    /// from here on is what all that held it before have written. SQLite's writers take turns anyway.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn hold(&mut self, name: &'static str) -> Result<()> {
        match self.dialect {
            Dialect::Sqlite => Ok(()),
            Dialect::Postgres => {
                // The function returns nothing, which is no type that every driver knows.
                let statement = sql("SELECT CAST(pg_advisory_xact_lock(hashtextextended(?, 0)) AS TEXT)").bind(name);
                self.first(statement).await.map(drop)
            }
        }
    }

    /// Runs a statement; returns how many rows it changed.
    ///
    /// # Errors
    /// `Conflict` where a key is there already; `Full` for a full disk; `NotReady` for a database
    /// that went away.
    pub async fn execute(&mut self, statement: Sql) -> Result<u64> {
        let (text, values, is_kept) = statement.into_parts(self.dialect);
        let done = sqlx::query_with(AssertSqlSafe(text), values).persistent(is_kept).execute(self.connection()).await;
        Ok(done.map_err(failed)?.rows_affected())
    }

    /// Returns all rows.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn all(&mut self, statement: Sql) -> Result<Vec<Row>> {
        let (text, values, is_kept) = statement.into_parts(self.dialect);
        let rows = sqlx::query_with(AssertSqlSafe(text), values).persistent(is_kept).fetch_all(self.connection()).await;
        Ok(rows.map_err(failed)?.into_iter().map(Row::new).collect())
    }

    /// Returns the first row, if there is one.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn first(&mut self, statement: Sql) -> Result<Option<Row>> {
        let (text, values, is_kept) = statement.into_parts(self.dialect);
        let row =
            sqlx::query_with(AssertSqlSafe(text), values).persistent(is_kept).fetch_optional(self.connection()).await;
        Ok(row.map_err(failed)?.map(Row::new))
    }

    /// Returns the rows one after the other, for answers that are too long to hold.
    pub fn stream(&mut self, statement: Sql) -> BoxStream<'_, Result<Row>> {
        let (text, values, is_kept) = statement.into_parts(self.dialect);
        let rows = sqlx::query_with(AssertSqlSafe(text), values).persistent(is_kept).fetch(self.connection());
        rows.map(|row| row.map(Row::new).map_err(failed)).boxed()
    }

    /// Makes what a transaction wrote last. Nothing to do for a session that reads.
    ///
    /// # Errors
    /// As [`Session::execute`]; then nothing of it was kept, unless the connection broke.
    pub async fn commit(self) -> Result<()> {
        match self.inner {
            Inner::Connection(_) => Ok(()),
            Inner::Transaction(transaction) => transaction.commit().await.map_err(failed),
        }
    }
}

/// Codes of SQLite and PostgreSQL for a disk without room.
const FULL: [&str; 2] = ["13", "53100"];
/// Codes of PostgreSQL for two transactions that wait for each other, or read what the other wrote.
const ENTANGLED: [&str; 2] = ["40P01", "40001"];
/// Codes for a database that is locked by somebody else, starts, stops, takes nobody in or only reads.
const AWAY: [&str; 10] = ["5", "261", "517", "773", "6", "262", "57P01", "57P02", "57P03", "53300"];

fn failed(error: sqlx::Error) -> Error {
    if let Some(database) = error.as_database_error() {
        if database.is_unique_violation() {
            return Error::new(ErrorKind::Conflict, "somebody else made the same change first").with_source(error);
        }
        if database.is_foreign_key_violation() {
            let text = "what this belongs to is gone";
            return Error::new(ErrorKind::Conflict, text).with_source(error);
        }
        if database.code().is_some_and(|code| FULL.contains(&&*code)) {
            return Error::new(ErrorKind::Full, "there is no room left for the database").with_source(error);
        }
        if database.code().is_some_and(|code| ENTANGLED.contains(&&*code)) {
            let text = "somebody else changed the same at the same time; try again";
            return Error::new(ErrorKind::Conflict, text).with_source(error);
        }
        if database.code().is_some_and(|code| AWAY.contains(&&*code)) {
            return away(error);
        }
    }
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::Tls(_) => away(error),
        other => {
            Error::new(ErrorKind::Engine, "the database refused a statement; the log tells more").with_source(other)
        }
    }
}

fn away(error: sqlx::Error) -> Error {
    Error::not_ready("the database cannot be reached; try again shortly")
        .with_retry_after(Duration::from_secs(1))
        .with_source(error)
}
