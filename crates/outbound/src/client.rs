//! Sends messages: one attempt each, on a connection of its own, with an end in sight.
//!
//! To try again is the business of whoever sends. What a receiver answers besides its status is not
//! read, so nobody can have the server fetch something.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use salver_core::{Error, ErrorKind, Result};

use crate::http::{astray, make, root_of};
use crate::resolver::{Checked, Lookup, Rule};
use crate::target::{Allowed, Target, clip};

/// How a client sends.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What may be reached besides the addresses that everybody can reach.
    pub allowed: Allowed,
    /// How long an attempt may take, from the name's address to the answer's status.
    pub time_limit: Duration,
    /// Attempts at a time to one host and port.
    pub most_per_host: usize,
    /// How the sender calls itself.
    pub user_agent: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// As many attempts as there may be to this host are under way; nothing was tried.
    Busy,
    /// Where it leads may not be reached; nothing was sent.
    Refused(String),
    /// Anything else, in words.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("enough messages are on their way to this host"),
            Self::Refused(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

/// See the module's description.
pub struct Client {
    options: ClientOptions,
    lookup: Arc<dyn Lookup>,
    /// Made when it is first needed: to read the certificates of a machine takes a while.
    http: OnceLock<std::result::Result<reqwest::Client, String>>,
    under_way: Mutex<HashMap<String, usize>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Sends nothing yet.
    pub fn new(options: ClientOptions, lookup: Arc<dyn Lookup>) -> Self {
        Self { options, lookup, http: OnceLock::new(), under_way: Mutex::default() }
    }

    /// Reads an address that something is to be sent to.
    ///
    /// # Errors
    /// As [`Allowed::target`].
    pub fn target(&self, text: &str) -> Result<Target> {
        self.options.allowed.target(text)
    }

    /// Posts JSON; returns the status of the answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn post(
        &self,
        target: &Target,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> std::result::Result<u16, Failure> {
        let Some(_place) = Place::take(self, target) else { return Err(Failure::Busy) };
        // An address that stands in the URL itself is asked of no resolver.
        if let Err(error) = self.target(target.as_str()) {
            return Err(Failure::Refused(error.message().to_owned()));
        }
        let http = self.http().map_err(|error| Failure::Failed(error.message().to_owned()))?;
        let request = http.post(target.url().clone()).header("content-type", "application/json").body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        match request.send().await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn http(&self) -> Result<&reqwest::Client> {
        let made = self.http.get_or_init(|| self.make().map_err(|error| root_of(&error)));
        made.as_ref().map_err(|reason| Error::new(ErrorKind::Engine, format!("there is no HTTP client: {reason}")))
    }

    fn make(&self) -> reqwest::Result<reqwest::Client> {
        let rule = Arc::new(Rule::Allowed(self.options.allowed.clone()));
        let configure = |builder: reqwest::ClientBuilder| {
            builder
                .user_agent(&self.options.user_agent)
                .timeout(self.options.time_limit)
                // Each attempt asks anew where the name leads.
                .pool_max_idle_per_host(0)
                .dns_resolver(Checked { lookup: self.lookup.clone(), rule: rule.clone() })
        };
        make(configure, "messages over https will not be sent")
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        match astray(error) {
            Some(astray) if astray.is_forbidden() => Failure::Refused(astray.to_string()),
            Some(astray) => Failure::Failed(astray.to_string()),
            None if error.is_timeout() => Failure::Failed(format!("no answer within {:?}", self.options.time_limit)),
            None => Failure::Failed(clip(&root_of(error))),
        }
    }
}

/// An attempt that is under way.
struct Place<'c> {
    client: &'c Client,
    place: String,
}

impl<'c> Place<'c> {
    fn take(client: &'c Client, target: &Target) -> Option<Self> {
        let place = target.place();
        let mut under_way = client.under_way.lock();
        let count = under_way.entry(place.clone()).or_default();
        if *count >= client.options.most_per_host {
            return None;
        }
        *count += 1;
        Some(Self { client, place })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut under_way = self.client.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests;
