//! What a request says about itself in headers, the same for every protocol: its id, its trace,
//! how long it may take, and what a cache may do with it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use salver_core::{CacheUse, Class, Context, Error, Result};

use crate::memory::{Held, Memory};

/// The request's id, in and out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds that the whole request may take.
pub(crate) const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-salver-timeout-ms");
/// The version that answered.
pub(crate) const MODEL_VERSION: HeaderName = HeaderName::from_static(MODEL_VERSION_NAME);
/// The same, as text.
pub(crate) const MODEL_VERSION_NAME: &str = "x-salver-model-version";
/// What a cache may do with the request; in a reply, where the answer came from.
pub(crate) const CACHE: HeaderName = HeaderName::from_static(CACHE_NAME);
/// The same, as text.
pub(crate) const CACHE_NAME: &str = "x-salver-cache";
/// What others charged for the request.
pub(crate) const COST: HeaderName = HeaderName::from_static(COST_NAME);
/// The same, as text.
pub(crate) const COST_NAME: &str = "x-salver-cost";
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const MAX_ID_BYTES: usize = 128;
const TRACEPARENT_BYTES: usize = 55;

/// One request as the edge saw it arrive.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Given by the client, or made here.
    pub id: Arc<str>,
    /// The W3C trace that it belongs to.
    pub traceparent: Option<Arc<str>>,
    /// When its head was complete.
    pub started: Instant,
    /// Where its connection comes from, where that is known.
    pub address: Option<IpAddr>,
    /// The memory that it keeps until it is answered.
    pub held: Arc<Held>,
}

impl Call {
    /// Takes the client's id if it is fit for logs and headers, else makes one.
    pub(crate) fn new(headers: &HeaderMap, memory: &Arc<Memory>) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| valid_id(value));
        Self {
            id: given.map_or_else(new_id, Arc::from),
            traceparent: headers.get(TRACEPARENT).and_then(valid_traceparent),
            started: Instant::now(),
            address: None,
            held: Arc::new(Held::new(memory.clone())),
        }
    }

    /// Reads what the headers say about time, trace and cache. The deadline is set only if they
    /// name one.
    ///
    /// # Errors
    /// `InvalidInput` for a time-out that is no whole number of milliseconds above zero, or an
    /// unknown word for the cache.
    pub(crate) fn context(&self, headers: &HeaderMap) -> Result<Context> {
        let timeout = match headers.get(TIMEOUT_MS) {
            Some(value) => Some(parse_timeout_ms(value)?),
            None => None,
        };
        let grpc = headers.get(GRPC_TIMEOUT).and_then(parse_grpc_timeout);
        let timeout = [timeout, grpc].into_iter().flatten().min();
        Ok(Context {
            id: self.id.clone(),
            deadline: timeout.and_then(|timeout| self.started.checked_add(timeout)),
            class: Class::Interactive,
            traceparent: self.traceparent.clone(),
            cache: parse_cache(headers)?,
            ..Context::default()
        })
    }
}

/// Salver's own header beats `Cache-Control`, of which only what asks for less caching counts.
fn parse_cache(headers: &HeaderMap) -> Result<CacheUse> {
    if let Some(value) = headers.get(CACHE) {
        return match value.as_bytes() {
            b"bypass" => Ok(CacheUse::Bypass),
            _ => Err(Error::invalid_input("header x-salver-cache: expected bypass")),
        };
    }
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim);
    Ok(words.fold(CacheUse::Use, |so_far, word| match so_far {
        _ if word.eq_ignore_ascii_case("no-store") => CacheUse::Bypass,
        CacheUse::Use if word.eq_ignore_ascii_case("no-cache") => CacheUse::Refresh,
        so_far => so_far,
    }))
}

fn valid_id(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    let is_fit = (1..=MAX_ID_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    value.to_str().ok().filter(|_| is_fit)
}

fn new_id() -> Arc<str> {
    let mut text = uuid::Uuid::encode_buffer();
    Arc::from(&*uuid::Uuid::now_v7().simple().encode_lower(&mut text))
}

fn parse_timeout_ms(value: &HeaderValue) -> Result<Duration> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse::<u64>().ok()) {
        Some(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(Error::invalid_input("header x-salver-timeout-ms: expected whole milliseconds from 1 on")),
    }
}

/// Reads up to eight digits and a unit, as gRPC writes them; anything else is ignored, as it is
/// by gRPC servers.
fn parse_grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Takes a W3C `traceparent` of version 00 and nothing else.
fn valid_traceparent(value: &HeaderValue) -> Option<Arc<str>> {
    let text = value.to_str().ok().filter(|text| text.len() == TRACEPARENT_BYTES)?;
    let mut parts = text.split('-');
    let lengths = [2, 32, 16, 2];
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let fits = lengths.iter().all(|&len| parts.next().is_some_and(|part| part.len() == len && is_hex(part)));
    (fits && text.starts_with("00-")).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn call(headers: &HeaderMap) -> Call {
        Call::new(headers, &Memory::new(0))
    }

    #[test]
    fn ids_are_kept_if_they_are_short_and_visible() {
        let id = |value: &str| call(&headers(&[(REQUEST_ID, value)])).id.to_string();
        assert_eq!(id("abc-123"), "abc-123");
        assert_eq!(id(&"a".repeat(128)), "a".repeat(128));
        for bad in ["", "a b", &"a".repeat(129)] {
            assert_eq!(id(bad).len(), 32, "{bad:?}");
        }
        assert_ne!(call(&HeaderMap::new()).id, call(&HeaderMap::new()).id);
    }

    #[test]
    fn the_shorter_of_two_timeouts_counts() {
        let left = |fields: &[(HeaderName, &str)]| {
            let headers = headers(fields);
            let call = call(&headers);
            call.context(&headers).map(|ctx| ctx.deadline.map(|deadline| (deadline - call.started).as_millis()))
        };
        assert_eq!(left(&[]).unwrap(), None);
        assert_eq!(left(&[(TIMEOUT_MS, "250")]).unwrap(), Some(250));
        assert_eq!(left(&[(TIMEOUT_MS, "250"), (GRPC_TIMEOUT, "2S")]).unwrap(), Some(250));
        assert_eq!(left(&[(GRPC_TIMEOUT, "100m")]).unwrap(), Some(100));
        assert_eq!(left(&[(GRPC_TIMEOUT, "100x")]).unwrap(), None);
        assert_eq!(left(&[(GRPC_TIMEOUT, "123456789m")]).unwrap(), None);
        for bad in ["0", "-1", "1.5", "soon", "", "99999999999999999999999"] {
            assert!(left(&[(TIMEOUT_MS, bad)]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_may_pass_by_the_cache() {
        let of = |fields: &[(HeaderName, &str)]| {
            let headers = headers(fields);
            call(&headers).context(&headers).map(|ctx| ctx.cache)
        };
        assert_eq!(of(&[]).unwrap(), CacheUse::Use);
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=0")]).unwrap(), CacheUse::Use);
        assert_eq!(of(&[(CACHE_CONTROL, "max-age=0, No-Cache")]).unwrap(), CacheUse::Refresh);
        assert_eq!(of(&[(CACHE_CONTROL, "no-cache,no-store")]).unwrap(), CacheUse::Bypass);
        assert_eq!(of(&[(CACHE_CONTROL, "no-store, no-cache")]).unwrap(), CacheUse::Bypass);
        assert_eq!(of(&[(CACHE, "bypass"), (CACHE_CONTROL, "no-cache")]).unwrap(), CacheUse::Bypass);
        assert!(of(&[(CACHE, "hit")]).is_err());
    }

    #[test]
    fn only_well_formed_trace_parents_pass() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |value: &str| valid_traceparent(&HeaderValue::from_str(value).unwrap());
        assert_eq!(of(good).as_deref(), Some(good));
        for bad in [&good[1..], &good.replace('a', "A"), &good.replace("00-", "01-"), &good.replace('-', "_")] {
            assert!(of(bad).is_none(), "{bad}");
        }
    }
}
