//! Asks one server, again and again: connections are kept, answers are read up to a bound.
//!
//! Only what the list allows is connected to, whatever a name leads to by then. Nothing is sent twice,
//! and no redirect is followed. Time limits are the caller's: dropping a call ends it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use salver_core::{Error, ErrorKind, Result};
use url::Url;

use crate::http::{astray, make, root_of};
use crate::listed::Listed;
use crate::resolver::{Checked, Lookup, Rule};
use crate::target::{Target, clip};

/// How a server is asked.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    /// How long a connection may take to come about.
    pub connect_limit: Duration,
    /// How long a connection without a call is kept. Shorter than servers keep theirs, so that none
    /// closes under a call.
    pub idle_limit: Duration,
    /// How the server calls itself there.
    pub user_agent: String,
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What follows the address, with its leading slash.
    pub path: &'a str,
    /// All that is sent besides what HTTP itself needs.
    pub headers: &'a HeaderMap,
    /// What is posted; none: the path is got.
    pub body: Option<&'a Bytes>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// Where it leads may not be reached; nothing was sent.
    Refused(String),
    /// No connection came about; nothing was sent.
    Unreached(String),
    /// The connection ended, or what came is no answer. Nobody knows what became of the call.
    Lost(String),
}

/// Why an answer could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It has more bytes than may be read.
    TooLarge,
    /// The connection ended before it did.
    Lost(String),
}

/// One server.
pub struct Upstream {
    base: Target,
    http: reqwest::Client,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `Engine` where there is no HTTP client to be had.
    pub fn new(base: Target, listed: &Listed, lookup: Arc<dyn Lookup>, options: &UpstreamOptions) -> Result<Self> {
        let port = base.url().port_or_known_default().unwrap_or_default();
        let rule = Arc::new(Rule::Listed(listed.at(port)));
        let configure = |builder: reqwest::ClientBuilder| {
            builder
                .user_agent(&options.user_agent)
                .connect_timeout(options.connect_limit)
                .pool_idle_timeout(options.idle_limit)
                .dns_resolver(Checked { lookup: lookup.clone(), rule: rule.clone() })
        };
        let http = make(configure, "servers cannot be asked over https").map_err(|error| {
            Error::new(ErrorKind::Engine, format!("there is no HTTP client: {}", clip(&root_of(&error))))
        })?;
        Ok(Self { base, http })
    }

    /// Returns host and port, for messages.
    pub fn place(&self) -> String {
        self.base.place()
    }

    /// Sends a call and waits for the head of its answer.
    ///
    /// # Errors
    /// See [`Miss`].
    pub async fn send(&self, ask: Ask<'_>) -> std::result::Result<Reply, Miss> {
        let url = self.url(ask.path);
        let request = match ask.body {
            Some(body) => self.http.post(url).body(body.clone()),
            None => self.http.get(url),
        };
        let response = request.headers(ask.headers.clone()).send().await.map_err(|error| miss(&error))?;
        Ok(Reply { response })
    }

    /// Puts `path` behind the address; a query of the address stays.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.url().clone();
        url.set_path(&format!("{}{path}", self.base.url().path().trim_end_matches('/')));
        url
    }
}

fn miss(error: &reqwest::Error) -> Miss {
    match astray(error) {
        Some(astray) if astray.is_forbidden() => Miss::Refused(astray.to_string()),
        Some(astray) => Miss::Unreached(astray.to_string()),
        None if error.is_connect() && error.is_timeout() => Miss::Unreached("no connection in time".to_owned()),
        None if error.is_connect() => Miss::Unreached(clip(&root_of(error))),
        None => Miss::Lost(clip(&root_of(error))),
    }
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Reply {
    response: reqwest::Response,
}

impl Reply {
    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Reads the body, of at most `most` bytes.
    ///
    /// # Errors
    /// See [`Unread`].
    pub async fn body(mut self, most: usize) -> std::result::Result<Bytes, Unread> {
        let lost = |error: reqwest::Error| Unread::Lost(clip(&root_of(&error)));
        let announced = self.response.content_length();
        if announced.is_some_and(|len| len > most as u64) {
            return Err(Unread::TooLarge);
        }
        let Some(first) = self.response.chunk().await.map_err(lost)? else { return Ok(Bytes::new()) };
        if announced == Some(first.len() as u64) {
            return Ok(first);
        }
        // What is announced may never come, so only what came takes memory.
        let mut body = BytesMut::from(first);
        while body.len() <= most {
            match self.response.chunk().await.map_err(lost)? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => return Ok(body.freeze()),
            }
        }
        Err(Unread::TooLarge)
    }
}

#[cfg(test)]
mod tests;
