//! A connection to Redis, or what speaks its protocol.

mod address;

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo};
use salver_core::Result;

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
    /// Says whether the scheme of a URL means Redis.
    pub fn is_scheme(scheme: &str) -> bool {
        matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "valkey+unix" | "unix")
    }

    /// Prepares a connection to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, the same with TLS to
    /// `rediss://`, or to `redis+unix:///PATH`, on which a reply is waited for as long as
    /// `reply_limit`. `what` says in messages what is kept there. Call it on a Tokio runtime.
    ///
    /// With TLS the certificate must be good for HOST and signed by an authority that the system
    /// trusts, or by one in the PEM file of the parameter `sslrootcert`; `sslcert` and `sslkey` are
    /// the PEM files to show to a server that asks for a certificate. The names are those of
    /// PostgreSQL's URLs.
    ///
    /// # Errors
    /// `InvalidInput` for any other URL and for files that cannot be read; the message does not
    /// repeat the URL, since it may hold a password.
    pub fn lazy(url: &str, what: &str, reply_limit: Duration) -> Result<Self> {
        let client = address::client(url, what)?;
        let info = client.get_connection_info().clone();
        let place = describe(&info);
        let settings = TcpSettings::default().set_nodelay(true).set_user_timeout(reply_limit);
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(reply_limit));
        let connection = Client::open(info.set_tcp_settings(settings))
            .and_then(|client| ConnectionManager::new_lazy_with_config(client, config))
            .map_err(|error| address::refused(what, &error))?;
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
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "an unknown place".to_owned(),
    }
}
