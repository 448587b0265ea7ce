//! Reads what stands behind the question mark.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use salver_core::{Error, Result};

/// Seconds of a day.
const DAY: u64 = 24 * 3600;

/// What a query says, in its order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        Self(query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Refuses what would be passed over in silence: names that mean nothing here, such as misspelt
    /// ones, and a second value under one of `once`. `lists` may stand there several times.
    pub(super) fn check(&self, once: &[&str], lists: &[&str]) -> Result<()> {
        for (idx, (name, _)) in self.0.iter().enumerate() {
            let is_known = once.contains(&name.as_str());
            if !is_known && !lists.contains(&name.as_str()) {
                let known = [once, lists].concat().join(", ");
                let text = format!("unknown parameter '{}'; expected one of {known}", clip(name));
                return Err(Error::invalid_input(text));
            }
            if is_known && self.0[..idx].iter().any(|(before, _)| before == name) {
                return Err(Error::invalid_input(format!("'{name}': expected once, and it is there several times")));
            }
        }
        Ok(())
    }

    /// Returns all values under a name.
    pub(super) fn all<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// Returns the value under a name that is there once.
    pub(super) fn get(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// Reads a whole number between two others.
    pub(super) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| {
            Error::invalid_input(format!("'{name}': expected a number from {least} to {most}, got '{}'", clip(text)))
        })
    }

    /// Reads a time such as `30s`.
    pub(super) fn duration(&self, name: &str, most: Duration) -> Result<Option<Duration>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= most);
        duration.map(Some).ok_or_else(|| {
            let most = longest(most);
            Error::invalid_input(format!("'{name}': expected a time such as 30s, at most {most}, got '{}'", clip(text)))
        })
    }
}

/// Writes a time as one may be given. Whole days stay days: 365 of them are no months and hours.
fn longest(most: Duration) -> String {
    match (most.as_secs() / DAY, most.as_secs() % DAY) {
        (1, 0) => "1day".to_owned(),
        (days @ 2.., 0) => format!("{days}days"),
        _ => humantime::format_duration(most).to_string(),
    }
}

/// Returns the beginning of a text from outside, fit to be shown.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&Request::get(format!("/?{text}")).body(Body::empty()).unwrap())
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        let check =
            |text| query(text).check(&["wait", "limit"], &["status"]).map_err(|error| error.message().to_owned());
        for fine in ["", "wait=1s", "limit=1&wait=2", "status=a&wait=1&status=b"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        assert_eq!(check("wiat=1s").unwrap_err(), "unknown parameter 'wiat'; expected one of wait, limit, status");
        for twice in ["wait=1s&wait=1s", "limit=1&status=a&limit=2"] {
            assert!(check(twice).unwrap_err().contains("expected once"), "{twice}");
        }
    }

    #[test]
    fn the_longest_time_is_named_as_one_may_give_it() {
        for (seconds, shown) in [(300, "5m"), (DAY, "1day"), (365 * DAY, "365days"), (DAY + 1, "1day 1s")] {
            let most = Duration::from_secs(seconds);
            assert_eq!(longest(most), shown);
            assert_eq!(query(&format!("t={}", shown.replace(' ', "+"))).duration("t", most).unwrap(), Some(most));
            let error = query("t=400days").duration("t", most).unwrap_err();
            assert!(error.message().contains(&format!("at most {shown}, got '400days'")), "{error}");
        }
    }
}
