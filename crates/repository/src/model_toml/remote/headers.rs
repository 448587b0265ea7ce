//! Headers that go along with each call: fixed ones, and none that mean something to the connection.

use std::collections::BTreeMap;

use toml::Spanned;

use crate::model_toml::fault::Fault;

/// The most of them, and the longest.
const MAX_HEADERS: usize = 32;
const MAX_VALUE_BYTES: usize = 4096;
const MAX_NAME_BYTES: usize = 128;

/// Those that the server writes itself, or that would change how a message is read.
const OWN: [&str; 18] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "inference-header-content-length",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Reads headers; their names come back in lower case.
pub(super) fn read(table: &BTreeMap<Spanned<String>, Spanned<String>>) -> Result<BTreeMap<String, String>, Fault> {
    let mut headers = BTreeMap::new();
    for (name, value) in table {
        let key = name.get_ref().to_ascii_lowercase();
        check_name(name, &key)?;
        check_value(value)?;
        if headers.insert(key, value.get_ref().clone()).is_some() {
            return Err(Fault::invalid(name, "is given twice; names of headers do not differ by case"));
        }
        if headers.len() > MAX_HEADERS {
            return Err(Fault::invalid(name, format_args!("is one too many: there may be {MAX_HEADERS} headers")));
        }
    }
    Ok(headers)
}

fn check_name(place: &Spanned<String>, key: &str) -> Result<(), Fault> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if key.is_empty() || key.len() > MAX_NAME_BYTES || !key.bytes().all(is_part) {
        let got: String = key.chars().take(64).flat_map(char::escape_debug).collect();
        return Err(Fault::invalid(place, format_args!("'{got}' is not the name of a header, such as x-team")));
    }
    if OWN.contains(&key) || key.starts_with("proxy-") {
        let hint = if key == "authorization" { "; the key comes from key_env" } else { "" };
        return Err(Fault::invalid(place, format_args!("'{key}' is written by the server itself, leave it out{hint}")));
    }
    Ok(())
}

/// What it holds may be meant for few eyes, so it is not repeated.
fn check_value(place: &Spanned<String>) -> Result<(), Fault> {
    let value = place.get_ref();
    if value.len() > MAX_VALUE_BYTES || !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        let message = format_args!("must be at most {MAX_VALUE_BYTES} visible characters of ASCII");
        return Err(Fault::invalid(place, message));
    }
    Ok(())
}
