//! Finds out where a name leads, and lets nobody connect to what may not be reached.
//!
//! The client asks here for each connection and connects to what it gets, so there is no moment between
//! check and use in which a name could begin to lead elsewhere.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use salver_core::BoxFuture;

use crate::listed::ListedAt;
use crate::target::Allowed;

/// Finds out where names lead.
pub trait Lookup: fmt::Debug + Send + Sync + 'static {
    /// Returns the addresses of a host.
    ///
    /// # Errors
    /// Where there is none, or nobody can be asked.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Asks the system, as every program of this machine does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
    }
}

/// A name leads nowhere, or where nothing may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Astray {
    /// It has no address.
    Nowhere,
    /// One of its addresses is not to be reached. The setting can change that.
    Forbidden(&'static str),
}

impl Astray {
    /// Whether there is an address, and it must not be reached.
    pub(crate) fn is_forbidden(self) -> bool {
        matches!(self, Self::Forbidden(_))
    }
}

impl fmt::Display for Astray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("the name of the host leads nowhere"),
            Self::Forbidden(setting) => {
                write!(f, "the name of the host leads to an address that is not public; {setting} can allow it")
            }
        }
    }
}

impl std::error::Error for Astray {}

/// What a name may lead to.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Whatever everybody can reach, and exceptions.
    Allowed(Allowed),
    /// What is listed.
    Listed(ListedAt),
}

impl Rule {
    /// Says why an address that a host leads to must not be reached, if it must not.
    fn check(&self, host: &str, address: IpAddr) -> Result<(), &'static str> {
        match self {
            Self::Allowed(allowed) if allowed.has_host(host) => Ok(()),
            Self::Allowed(allowed) => allowed.check(address),
            Self::Listed(listed) => listed.check(host, address),
        }
    }

    fn setting(&self) -> &'static str {
        match self {
            Self::Allowed(_) => "--callback-allow",
            Self::Listed(listed) => listed.setting(),
        }
    }
}

/// Answers the client's questions.
pub(crate) struct Checked {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) rule: Arc<Rule>,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, rule) = (self.lookup.clone(), self.rule.clone());
        Box::pin(async move {
            let addresses = find(&*lookup, &rule, name.as_str()).await?;
            // The client puts the port in.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// Returns where a name leads. If one of several addresses may not be reached, none is: it would be a
/// matter of luck which one is taken.
async fn find(lookup: &dyn Lookup, rule: &Rule, name: &str) -> Result<Vec<IpAddr>, Astray> {
    let addresses = lookup.addresses(name).await.map_err(|_| Astray::Nowhere)?;
    if addresses.is_empty() {
        return Err(Astray::Nowhere);
    }
    for address in &addresses {
        if let Err(what) = rule.check(name, *address) {
            // Only the log says which: who asked could map a network by such answers.
            tracing::warn!(host = name, %address, "nothing is sent there: the address is {what}");
            return Err(Astray::Forbidden(rule.setting()));
        }
    }
    Ok(addresses)
}
