//! Connections to one PostgreSQL: a few, made on first use, kept for the next request.
//!
//! The pool of `sqlx` asks the database before and after each use whether it is still there, and
//! tries to save a connection whose caller left in the middle. Here a lookup is one round trip, and
//! whatever did not end well is closed at once, with all that wait idle: what broke one may have
//! broken them.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use salver_core::{Error, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections to one database.
const MAX_CONNECTIONS: usize = 16;

/// The connections to one database.
pub(super) struct Connections {
    options: PgConnectOptions,
    permits: Semaphore,
    idle: Mutex<Vec<Open>>,
}

struct Open {
    connection: PgConnection,
    /// How long a statement may take there; none: nothing was said.
    timeout: Option<Duration>,
}

impl Connections {
    /// Reads the URL; connects to nothing. `name` says in messages which store it is.
    pub(super) fn new(name: &str, url: &str) -> Result<Self> {
        // What is wrong with it may quote a password.
        let options: PgConnectOptions = url.parse().map_err(|_| {
            Error::invalid_input(format!(
                "the URL of the feature store '{name}' is none: expected postgres://USER:PASSWORD@HOST[:PORT]/NAME"
            ))
        })?;
        let options = options.application_name("salver").disable_statement_logging();
        Ok(Self { options, permits: Semaphore::new(MAX_CONNECTIONS), idle: Mutex::default() })
    }

    /// Returns where it is, without credentials.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }

    /// Takes a connection on which a statement may take as long as `timeout`; waits while all are in
    /// use. Where it may not be one that was used before, all of those are closed.
    pub(super) async fn lease(&self, timeout: Duration, may_reuse: bool) -> Result<Lease<'_>, sqlx::Error> {
        let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        if !may_reuse {
            self.clear();
        }
        let reused = self.lock().pop();
        let open = match reused {
            Some(open) => open,
            None => Open { connection: self.options.connect().await?, timeout: None },
        };
        let mut lease = Lease { open, rest: Rest { of: self, is_sound: false }, _permit: permit };
        lease.limit(timeout).await?;
        Ok(lease)
    }

    fn clear(&self) {
        let idle = std::mem::take(&mut *self.lock());
        // Not under the lock.
        drop(idle);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Open>> {
        // A list of connections is whole at any time.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropped before it is given back, it is closed, and so are those that wait idle.
pub(super) struct Lease<'a> {
    open: Open,
    rest: Rest<'a>,
    _permit: SemaphorePermit<'a>,
}

/// What becomes of the other connections.
struct Rest<'a> {
    of: &'a Connections,
    is_sound: bool,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if !self.is_sound {
            self.of.clear();
        }
    }
}

impl Lease<'_> {
    /// Returns the connection.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.open.connection
    }

    /// Keeps the connection for the next one.
    pub(super) fn give_back(mut self) {
        self.rest.is_sound = true;
        self.rest.of.lock().push(self.open);
    }

    /// The database gives a statement up that nobody waits for any more.
    async fn limit(&mut self, timeout: Duration) -> Result<(), sqlx::Error> {
        if self.open.timeout != Some(timeout) {
            let statement = format!("SET statement_timeout = {}", timeout.as_millis().max(1));
            self.open.connection.execute(AssertSqlSafe(statement)).await?;
            self.open.timeout = Some(timeout);
        }
        Ok(())
    }
}
