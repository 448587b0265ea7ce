//! Which web pages may read replies. Off unless origins are named.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};
use salver_core::{Error, Result};

/// The origins that may read replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cors {
    /// None: no CORS header is ever sent.
    Off,
    /// All.
    Any,
    /// Exactly these.
    Origins(Vec<HeaderValue>),
}

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "cache-control, content-type, content-encoding, inference-header-content-length, traceparent, x-request-id, \
     x-salver-cache, x-salver-timeout-ms",
);
const REPLY_HEADERS: HeaderValue = HeaderValue::from_static(
    "inference-header-content-length, retry-after, x-request-id, x-salver-cache, x-salver-cost, x-salver-model-version",
);
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

impl Cors {
    /// Reads the setting.
    ///
    /// # Errors
    /// `InvalidInput` for anything but `*` and `scheme://host[:port]`.
    pub(crate) fn new(origins: &[String]) -> Result<Self> {
        if origins.iter().any(|origin| origin == "*") {
            return Ok(Self::Any);
        }
        if origins.is_empty() {
            return Ok(Self::Off);
        }
        origins.iter().map(|origin| parse_origin(origin)).collect::<Result<_>>().map(Self::Origins)
    }

    /// Whether the request is a browser asking what it may send.
    pub(crate) fn is_preflight(&self, method: &Method, headers: &HeaderMap) -> bool {
        *self != Self::Off && method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Returns the value of `Access-Control-Allow-Origin`, if the request's origin may read.
    pub(crate) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        match self {
            Self::Off => None,
            Self::Any => request.contains_key(ORIGIN).then(|| HeaderValue::from_static("*")),
            Self::Origins(origins) => request.get(ORIGIN).filter(|origin| origins.contains(origin)).cloned(),
        }
    }

    /// Adds what the browser must know of any reply.
    pub(crate) fn decorate(&self, allowed: Option<HeaderValue>, reply: &mut HeaderMap) {
        if matches!(self, Self::Origins(_)) {
            reply.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            reply.insert(ACCESS_CONTROL_EXPOSE_HEADERS, REPLY_HEADERS);
        }
    }

    /// Adds what answers a preflight.
    pub(crate) fn permit(reply: &mut HeaderMap) {
        reply.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        reply.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        reply.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
}

fn parse_origin(origin: &str) -> Result<HeaderValue> {
    let host = origin.split_once("://").map(|(_, host)| host).unwrap_or_default();
    let is_origin = !host.is_empty() && !host.contains(['/', '?', '#', '@', ',', ' ']);
    HeaderValue::from_str(origin).ok().filter(|_| is_origin).ok_or_else(|| {
        Error::invalid_input(format!("CORS origin '{origin}': expected '*' or an origin such as https://example.org"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_and_the_star_are_taken() {
        let new = |origins: &[&str]| Cors::new(&origins.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>());
        assert_eq!(new(&[]).unwrap(), Cors::Off);
        assert_eq!(new(&["https://a.example", "*"]).unwrap(), Cors::Any);
        assert!(matches!(new(&["https://a.example:8443"]).unwrap(), Cors::Origins(_)));
        for bad in
            ["a.example", "https://", "https://a.example/path", "https://a.example, https://b.example", "x\n://a"]
        {
            assert!(new(&[bad]).is_err(), "{bad:?}");
        }
    }
}
