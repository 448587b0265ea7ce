//! A connection to Redis, or what speaks its protocol.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};
use salver_core::{Error, Result};

const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// One connection that all calls share, made on first use and again after a failure. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    /// The address without credentials, for messages.
    place: String,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.place)
    }
}

impl Redis {
    /// Prepares a connection to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]` or
    /// `redis+unix:///PATH`, on which a reply is waited for as long as `reply_limit`. `what` says in
    /// messages what is kept there. Call it on a Tokio runtime.
    ///
    /// # Errors
    /// `InvalidInput` for any other URL; the message does not repeat it, since it may hold a
    /// password.
    pub fn lazy(url: &str, what: &str, reply_limit: Duration) -> Result<Self> {
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            let text = format!("the URL of {what} asks for TLS, which is not offered; use redis://");
            return Err(Error::unsupported(text));
        }
        let refused = |error: RedisError| {
            let category = error.kind();
            Error::invalid_input(format!(
                "the URL of {what} is not one ({category:?}); expected redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]"
            ))
        };
        let info = url.into_connection_info().map_err(refused)?;
        let place = describe(&info);
        let settings = TcpSettings::default().set_nodelay(true).set_user_timeout(reply_limit);
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(reply_limit));
        let connection = Client::open(info.set_tcp_settings(settings))
            .and_then(|client| ConnectionManager::new_lazy_with_config(client, config))
            .map_err(refused)?;
        Ok(Self { connection, place })
    }

    /// Returns a handle to the connection, for one call.
    pub fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Returns where it is, without credentials.
    pub fn place(&self) -> &str {
        &self.place
    }
}

fn describe(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "an unknown place".to_owned(),
    }
}
