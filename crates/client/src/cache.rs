//! How a request tells the server's response cache what it may do, and how a reply tells where it
//! came from; gRPC metadata and HTTP headers alike.

use ::http::{HeaderMap, HeaderValue, header};
use salver_core::{CacheOutcome, CacheUse};

const CACHE: &str = "x-salver-cache";

/// Adds the wish of a request.
pub(crate) fn add_wish(headers: &mut HeaderMap, wish: CacheUse) {
    match wish {
        CacheUse::Use => None,
        CacheUse::Refresh => headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        CacheUse::Bypass => headers.insert(CACHE, HeaderValue::from_static("bypass")),
    };
}

/// Reads where a reply came from; none: the server does not cache the model's answers.
pub(crate) fn outcome(headers: &HeaderMap) -> Option<CacheOutcome> {
    let name = headers.get(CACHE)?;
    CacheOutcome::ALL.into_iter().find(|outcome| name == outcome.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_and_outcomes_have_their_headers() {
        let wish = |wish| {
            let mut headers = HeaderMap::new();
            add_wish(&mut headers, wish);
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<String>()
        };
        assert_eq!(wish(CacheUse::Use), "");
        assert_eq!(wish(CacheUse::Refresh), "cache-control: no-cache");
        assert_eq!(wish(CacheUse::Bypass), "x-salver-cache: bypass");
        for expected in CacheOutcome::ALL {
            let headers = [(CACHE.parse().unwrap(), HeaderValue::from_static(expected.as_str()))];
            assert_eq!(outcome(&headers.into_iter().collect()), Some(expected));
        }
        assert_eq!(outcome(&HeaderMap::new()), None);
    }
}
