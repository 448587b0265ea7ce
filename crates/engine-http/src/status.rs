//! What the answers of other servers mean for our callers: honest kinds, and no foreign text unbounded.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use salver_core::{Error, ErrorKind};
use salver_telemetry::RemoteOutcome;
use serde_json::Value;

use crate::breaker::Verdict;

/// The most that is shown of what a server says.
const MAX_SHOWN_CHARS: usize = 300;
/// A server that asks for a longer pause is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Who is asked, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// The model's name here.
    pub(crate) name: String,
    /// Its name there.
    pub(crate) model: String,
    /// Host and port.
    pub(crate) place: String,
    /// The variable with the key.
    pub(crate) key_env: Option<String>,
    /// The key, so that it is never shown.
    pub(crate) key: Option<Secret>,
}

/// A text that is not shown.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why an attempt gave no answer, and what that means.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) outcome: RemoteOutcome,
    pub(crate) verdict: Verdict,
    /// Whether another attempt may do better.
    pub(crate) may_retry: bool,
}

impl Remote {
    /// Says what a status that is none of success means.
    pub(crate) fn refused(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Failed {
        let said = || self.said(body);
        let pause = pause(headers);
        let failed = |kind, text: String, outcome, verdict, may_retry| {
            let error = Error::new(kind, self.message(&text));
            let error = match (kind, pause) {
                (ErrorKind::Overloaded | ErrorKind::NotReady, Some(pause)) => error.with_retry_after(pause),
                (ErrorKind::Overloaded, None) => error.with_retry_after(Duration::from_secs(1)),
                _ => error,
            };
            Failed { error, outcome, verdict, may_retry }
        };
        let refused = |kind, text: String| failed(kind, text, RemoteOutcome::Refused, Verdict::Alive, false);
        let unavailable = |may_retry| {
            let text = format!("it is not available at the moment ({status}){}", said());
            failed(ErrorKind::NotReady, text, RemoteOutcome::Unavailable, Verdict::Failing, may_retry)
        };
        match status {
            400 | 422 => refused(ErrorKind::InvalidInput, format!("it refuses the request ({status}){}", said())),
            401 | 403 => refused(ErrorKind::Engine, self.key_refused(status)),
            404 => refused(ErrorKind::NotReady, format!("it has no model '{}' (404){}", clip(&self.model), said())),
            413 => refused(ErrorKind::TooLarge, format!("the request is too large for it (413){}", said())),
            429 => {
                let text = format!("it takes no more requests at the moment (429){}", said());
                failed(ErrorKind::Overloaded, text, RemoteOutcome::RateLimited, Verdict::Alive, true)
            }
            300..=399 => {
                let text =
                    format!("it answers with a redirect ({status}), which is not followed; give its address as url");
                refused(ErrorKind::Engine, text)
            }
            502..=504 => unavailable(true),
            408 | 500.. => unavailable(false),
            _ => refused(ErrorKind::Engine, format!("it refuses the request ({status}){}", said())),
        }
    }

    /// What it says is not repeated: some repeat the key.
    fn key_refused(&self, status: u16) -> String {
        match &self.key_env {
            Some(name) => format!("it refuses the key in the environment variable {name} ({status})"),
            None => format!("it wants a key ({status}); key_env in model.toml names the variable that holds one"),
        }
    }

    /// Begins a message with who is asked.
    pub(crate) fn message(&self, text: &str) -> String {
        format!("model '{}' at {}: {text}", self.name, self.place)
    }

    /// Makes an error of an answer that cannot be used.
    pub(crate) fn unusable(&self, text: &str) -> Error {
        Error::engine(self.message(&format!("its answer cannot be used: {text}")))
    }

    /// Returns what a server says of an error, bounded and without the key.
    fn said(&self, body: &[u8]) -> String {
        let Some(text) = message_of(body) else { return String::new() };
        let text = match &self.key {
            Some(key) => text.replace(key.expose(), "***"),
            None => text,
        };
        format!(": {}", clip(&text))
    }
}

/// Finds the message in the shapes that servers use.
fn message_of(body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let error = &value["error"];
            let found = [&error["message"], error, &value["message"], &value["detail"]];
            found.into_iter().find_map(Value::as_str)?.to_owned()
        }
        Err(_) => String::from_utf8_lossy(body.get(..body.len().min(4 * MAX_SHOWN_CHARS))?).into_owned(),
    };
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Returns the beginning of a text that others wrote, fit to be shown.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect()
}

/// Reads how long a server wants to be left alone, in seconds or, as OpenAI writes it too, milliseconds.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(RETRY_AFTER.as_str()))?;
    let pause = Duration::try_from_secs_f64(seconds).ok()?;
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote {
            name: "m".into(),
            model: "gpt".into(),
            place: "a.example:443".into(),
            key_env: Some("KEY".into()),
            key: Some(Secret::new("sk-secret".into())),
        }
    }

    #[track_caller]
    fn check(status: u16, body: &str, kind: ErrorKind, may_retry: bool, expected: &str) {
        let failed = remote().refused(status, &HeaderMap::new(), body.as_bytes());
        assert_eq!((failed.error.kind(), failed.may_retry), (kind, may_retry), "{status}");
        assert!(failed.error.message().starts_with("model 'm' at a.example:443: "), "{}", failed.error);
        assert!(failed.error.message().contains(expected), "{}", failed.error);
        assert!(!format!("{failed:?}").contains("sk-secret"), "{failed:?}");
    }

    #[test]
    fn each_status_is_told_as_what_it_is() {
        check(400, r#"{"error": {"message": "too long"}}"#, ErrorKind::InvalidInput, false, "(400): too long");
        check(422, r#"{"detail": "no"}"#, ErrorKind::InvalidInput, false, "(422): no");
        check(
            401,
            r#"{"error": {"message": "bad key sk-secret"}}"#,
            ErrorKind::Engine,
            false,
            "the key in the environment variable KEY",
        );
        check(403, "", ErrorKind::Engine, false, "KEY");
        check(404, "", ErrorKind::NotReady, false, "no model 'gpt'");
        check(413, "", ErrorKind::TooLarge, false, "too large");
        check(429, r#"{"error": "slow down"}"#, ErrorKind::Overloaded, true, "slow down");
        check(302, "", ErrorKind::Engine, false, "redirect");
        check(500, "oh\u{1b}[31m sk-secret", ErrorKind::NotReady, false, "(500): oh\\u{1b}[31m ***");
        for status in [502, 503, 504] {
            check(status, "", ErrorKind::NotReady, true, "not available");
        }
        check(418, "", ErrorKind::Engine, false, "(418)");
        check(600, "", ErrorKind::NotReady, false, "(600)");
    }

    #[test]
    fn foreign_text_is_bounded() {
        let failed = remote().refused(400, &HeaderMap::new(), "\u{7}x".repeat(1_000_000).as_bytes());
        assert!(failed.error.message().len() < 2500, "{}", failed.error.message().len());
    }

    #[test]
    fn pauses_are_read_as_servers_write_them() {
        let of = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            remote().refused(429, &headers, b"").error.retry_after().unwrap().as_millis()
        };
        assert_eq!((of("retry-after", "2"), of("retry-after", " 0.5 "), of("retry-after-ms", "20")), (2000, 500, 20));
        assert_eq!((of("retry-after", "-1"), of("retry-after", "NaN"), of("retry-after", "soon")), (1000, 1000, 1000));
        assert_eq!(of("retry-after", "1e300"), 1000);
        assert_eq!(of("retry-after", "1e12"), 86_400_000);
    }
}
