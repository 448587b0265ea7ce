//! What browsers let pages send here, and what of it is refused.
//!
//! Nobody is asked for a key, so on loopback it is the browser that stands between a page and the
//! server, and it can be led around in two ways. A page whose own name comes to lead to this machine
//! (DNS rebinding) counts as one of this server's; the name shows in `Host`. A page of any other
//! origin may send requests whose replies it cannot read; it shows in `Origin`.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderValue, Request};
use salver_core::{Error, Result};

use crate::cors::Cors;

/// The hosts that a request may name, on any port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// All: the server is there for other machines, and those know it by names that it does not know.
    Any,
    /// This machine, and these names.
    Local(Vec<String>),
    /// Every address, this machine, and these names: health checks come by address, and no page of
    /// another host can name one.
    Named(Vec<String>),
}

impl Hosts {
    /// Reads the setting, for a server that listens on `addresses`.
    ///
    /// # Errors
    /// `InvalidInput` for anything but `*` and the name or address of a host.
    pub(crate) fn new(allowed: &[String], mut addresses: impl Iterator<Item = IpAddr>) -> Result<Self> {
        if let Some(bad) = allowed.iter().find(|host| *host != "*" && !is_host(host)) {
            return Err(Error::invalid_input(format!(
                "allowed host '{bad}': expected a name without a port, such as models.example.org, or '*'"
            )));
        }
        let is_local = addresses.all(|address| address.is_loopback());
        Ok(match is_local {
            _ if allowed.iter().any(|host| host == "*") => Self::Any,
            true => Self::Local(allowed.to_vec()),
            false if allowed.is_empty() => Self::Any,
            false => Self::Named(allowed.to_vec()),
        })
    }

    /// Whether the request names no other host. One that names none is not from a browser.
    pub(crate) fn allow<B>(&self, request: &Request<B>) -> bool {
        if *self == Self::Any {
            return true;
        }
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let headers = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
        headers.chain(authority).all(|host| self.has(without_port(host)))
    }

    fn has(&self, host: &[u8]) -> bool {
        if host == b"127.0.0.1" || host.eq_ignore_ascii_case(b"localhost") {
            return true;
        }
        match self {
            Self::Any => true,
            Self::Local(names) => is_named(names, host) || address(host).is_some_and(|address| address.is_loopback()),
            Self::Named(names) => is_named(names, host) || address(host).is_some(),
        }
    }
}

/// Whether the request would change something for a page of another origin. One without `Origin` is
/// not from a page, or reads only.
pub(crate) fn is_foreign<B>(request: &Request<B>, cors: &Cors) -> bool {
    if request.method().is_safe() || !request.headers().contains_key(ORIGIN) {
        return false;
    }
    if cors.allowed(request.headers()).is_some() {
        return false;
    }
    let header = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let authority = || request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let Some(host) = header.or_else(authority) else {
        return true;
    };
    !request.headers().get_all(ORIGIN).iter().all(|origin| is_origin_of(origin.as_bytes(), host))
}

/// Whether `origin` is that of pages on `host`, whichever of the two leaves out the usual port.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let (origin, port) = match (origin.strip_prefix(b"http://"), origin.strip_prefix(b"https://")) {
        (Some(origin), _) => (origin, b":80".as_slice()),
        (_, Some(origin)) => (origin, b":443".as_slice()),
        _ => return false,
    };
    let short = |host| <[u8]>::strip_suffix(host, port).unwrap_or(host);
    short(origin).eq_ignore_ascii_case(short(host))
}

fn is_named(names: &[String], host: &[u8]) -> bool {
    names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(host))
}

/// Returns the host; what is no port stays with it, and no host has such a name.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) && host.last() != Some(&b']') => &host[..colon],
        _ => host,
    }
}

/// Reads an address as `Host` has it: IPv6 in brackets.
fn address(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(text.parse().ok()?),
    };
    Some(address.to_canonical())
}

fn is_host(text: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    address(text.as_bytes()).is_some() || (!text.is_empty() && text.bytes().all(is_name))
}

#[cfg(test)]
mod tests;
