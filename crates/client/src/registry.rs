//! The registry of a server: MLflow's calls, and Salver's own routes. Files are in `artifacts.rs`.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use salver_core::{Error, Result};
use salver_protocol::paths;
use serde_json::Value;

use crate::HttpClient;

/// How a tracking server of MLflow's is told who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// It is not.
    Nobody,
    /// By a token.
    Token(String),
    /// By name and password.
    Password {
        /// Who asks.
        user: String,
        /// What only they know.
        password: String,
    },
}

/// What requests say of who makes them.
#[derive(Clone)]
pub(crate) enum Asks {
    /// Where a change is made, the name of the person at this machine.
    Person,
    /// This header field, everywhere; none: nothing.
    Fixed(Option<HeaderValue>),
}

impl Login {
    fn header(&self) -> Result<Option<HeaderValue>> {
        let text = match self {
            Self::Nobody => return Ok(None),
            Self::Token(token) => format!("Bearer {token}"),
            Self::Password { user, password } => basic(&format!("{user}:{password}")),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| Error::invalid_input("the token holds characters that a header cannot"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn basic(text: &str) -> String {
    format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text))
}

impl HttpClient {
    /// Makes a client of a tracking server of MLflow's, of which only [`HttpClient::mlflow`] and the
    /// calls for artifacts are known to be there.
    ///
    /// # Errors
    /// As [`HttpClient::new`]; `InvalidInput` for a token that no header can hold.
    pub fn of_mlflow(base: &str, login: &Login) -> Result<Self> {
        let mut client = Self::new(base)?;
        client.asks = Asks::Fixed(login.header()?);
        Ok(client)
    }

    /// Calls MLflow's interface, such as `POST runs/create`; arguments of GET go into the query.
    ///
    /// # Errors
    /// The kind of the server's status, with its message.
    pub async fn mlflow(&self, method: Method, call: &str, arguments: &Value) -> Result<Value> {
        let mut path = format!("/api/2.0/mlflow/{call}");
        let mut headers = HeaderMap::new();
        let body = if method == Method::GET {
            let pairs = arguments.as_object().into_iter().flatten();
            for (idx, (name, value)) in pairs.enumerate() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let separator = if idx == 0 { '?' } else { '&' };
                path.push_str(&format!("{separator}{name}={}", paths::segment(&text)));
            }
            Bytes::new()
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            arguments.to_string().into()
        };
        self.add_user(&mut headers);
        self.send(method, &path, headers, body).await?.success()?.json()
    }

    /// Calls Salver's own routes of the registry, such as `POST models/iris/promote`.
    ///
    /// # Errors
    /// As [`HttpClient::mlflow`].
    pub async fn registry(&self, method: Method, call: &str, body: Option<&Value>) -> Result<Value> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.add_user(&mut headers);
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.send(method, &format!("/api/v1/registry/{call}"), headers, body).await?.success()?.json()
    }

    /// Who makes a change stands in the server's audit log.
    fn add_user(&self, headers: &mut HeaderMap) {
        if matches!(self.asks, Asks::Fixed(_)) {
            return;
        }
        let user = ["SALVER_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        if let Some(user) = user.filter(|user| !user.is_empty() && !user.contains(':'))
            && let Ok(value) = HeaderValue::from_str(&basic(&format!("{user}:")))
        {
            headers.insert(AUTHORIZATION, value);
        }
    }
}
