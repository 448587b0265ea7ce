//! The address of a server, as people write it.

use std::fmt;
use std::str::FromStr;

use salver_core::{Error, Result};

/// An `http://HOST:PORT` address, optionally with a path under which the server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    authority: ::http::uri::Authority,
    prefix: String,
}

impl BaseUrl {
    /// Returns `HOST:PORT`, with the port that HTTP has where none was written.
    pub fn host_port(&self) -> String {
        match self.authority.port_u16() {
            Some(_) => self.authority.as_str().to_owned(),
            None => format!("{}:80", self.authority.host()),
        }
    }

    /// Returns the authority as written.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Returns `path` (with its leading slash) below the path of this address.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Returns the whole URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.authority, self.prefix)
    }
}

impl FromStr for BaseUrl {
    type Err = Error;

    /// Reads `http://HOST:PORT`, `grpc://HOST:PORT` or `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::invalid_input(format!("server address '{text}': {why}; expected one such as http://127.0.0.1:8080"))
        };
        if text.starts_with("https://") {
            return Err(refuse("TLS is not supported by this client"));
        }
        let bare = ["http://", "grpc://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        if bare.contains("://") {
            return Err(refuse("unknown scheme"));
        }
        let (authority, path) = bare.split_once('/').map_or((bare, ""), |(authority, path)| (authority, path));
        let authority: ::http::uri::Authority = authority.parse().map_err(|_| refuse("not a host and a port"))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(refuse("not a host and a port"));
        }
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        if !prefix.is_empty() && prefix.parse::<::http::uri::PathAndQuery>().is_err() {
            return Err(refuse("not a path"));
        }
        Ok(Self { authority, prefix })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host_port: &str, url: &str) {
        let base: BaseUrl = text.parse().unwrap();
        assert_eq!((base.host_port().as_str(), base.url("/v2").as_str()), (host_port, url));
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        check("http://127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080/v2");
        check("localhost:8080/", "localhost:8080", "http://localhost:8080/v2");
        check("grpc://models:81", "models:81", "http://models:81/v2");
        check("http://models/salver/", "models:80", "http://models/salver/v2");
        check("http://[::1]:8080", "[::1]:8080", "http://[::1]:8080/v2");
    }

    #[test]
    fn addresses_that_cannot_work_are_refused_by_name() {
        for text in ["", "http://", "https://a:1", "ftp://a:1", "a b:1", "http://user@host:1", "http:///x"] {
            let error = text.parse::<BaseUrl>().unwrap_err();
            assert!(error.message().contains(&format!("'{text}'")), "{error}");
        }
    }
}
