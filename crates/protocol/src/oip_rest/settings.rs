//! Triton's trace and log settings as JSON.

use jiter::JsonValue;
use salver_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::Reply;
use crate::json::read;
use crate::settings::{LogSettings, LogUpdate, LogValue, TraceSettings, TraceUpdate};

/// The deepest nesting of the bodies that this file reads.
const DEPTH: usize = 16;

/// Writes trace settings: the level as a list, everything else as text.
pub fn trace_settings(settings: &TraceSettings) -> Reply {
    let entry = |(name, mut values): (&str, Vec<String>)| {
        let value = match name {
            "trace_level" => json!(values),
            _ => json!(values.pop()),
        };
        (name.to_owned(), value)
    };
    Reply::json_value(200, &Value::Object(settings.texts().into_iter().map(entry).collect::<Map<_, _>>()))
}

/// Reads which trace settings a request changes; `null` clears one.
///
/// # Errors
/// `InvalidInput` for bad JSON and values of the wrong form, `Unsupported` for another file or mode.
pub fn decode_trace_update(body: &[u8]) -> Result<TraceUpdate> {
    let mut update = TraceUpdate::default();
    members(body, |name, value| match value {
        JsonValue::Null => update.read(name, None),
        JsonValue::Array(items) if name == "trace_level" => {
            let names: Vec<&str> = items.iter().map(level).collect::<Result<_>>()?;
            update.read(name, Some(&names))
        }
        JsonValue::Str(text) if name != "trace_level" => update.read(name, Some(&[text])),
        // Clients write numbers as text; a bare one means the same.
        JsonValue::Int(number) if is_number(name) => update.read(name, Some(&[&number.to_string()])),
        JsonValue::BigInt(number) if is_number(name) => update.read(name, Some(&[&number.to_string()])),
        _ if name == "trace_level" => Err(not_levels(value)),
        _ if is_trace_setting(name) => {
            Err(Error::invalid_input(format!("'{name}' must be a string, got {}", read::kind(value))))
        }
        _ => Ok(()),
    })?;
    Ok(update)
}

fn is_number(name: &str) -> bool {
    matches!(name, "trace_rate" | "trace_count" | "log_frequency")
}

fn is_trace_setting(name: &str) -> bool {
    TraceSettings::default().texts().iter().any(|(known, _)| *known == name)
}

fn level<'v>(value: &'v JsonValue<'_>) -> Result<&'v str> {
    match value {
        JsonValue::Str(name) => Ok(name),
        other => Err(not_levels(other)),
    }
}

fn not_levels(value: &JsonValue<'_>) -> Error {
    Error::invalid_input(format!("'trace_level' must be a list of strings, got {}", read::kind(value)))
}

/// Writes log settings.
pub fn log_settings(settings: &LogSettings) -> Reply {
    let body = json!({
        "log_file": "",
        "log_info": settings.info,
        "log_warning": settings.warning,
        "log_error": settings.error,
        "log_verbose_level": settings.verbose_level,
        "log_format": settings.format.as_str(),
    });
    Reply::json_value(200, &body)
}

/// Reads which log settings a request changes; `null` leaves one as it is.
///
/// # Errors
/// `InvalidInput` for bad JSON and values of the wrong form, `Unsupported` for another file.
pub fn decode_log_update(body: &[u8]) -> Result<LogUpdate> {
    let mut update = LogUpdate::default();
    members(body, |name, value| match value {
        JsonValue::Null => Ok(()),
        JsonValue::Bool(is_on) => update.read(name, LogValue::Flag(*is_on)),
        JsonValue::Int(level) => update.read(name, u32::try_from(*level).map_or(LogValue::Other, LogValue::Number)),
        JsonValue::Str(text) => update.read(name, LogValue::Text(text)),
        _ => update.read(name, LogValue::Other),
    })?;
    Ok(update)
}

fn members(body: &[u8], mut visit: impl FnMut(&str, &JsonValue<'_>) -> Result<()>) -> Result<()> {
    let value = read::parse(body, DEPTH)?;
    read::object(&value, "request")?.iter().try_for_each(|(name, value)| visit(name, value))
}

#[cfg(test)]
mod tests {
    use salver_core::ErrorKind;

    use super::*;
    use crate::settings::{Change, LogFormat, TraceLevels};

    #[track_caller]
    fn refused(decoded: Result<impl std::fmt::Debug>, kind: ErrorKind, name: &str) {
        let error = decoded.expect_err("the request is refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(name), "{name:?} is not in {error}");
    }

    #[test]
    fn trace_settings_are_text() {
        let body = trace_settings(&TraceSettings::default()).body;
        let expected = json!({"trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0",
            "trace_file": "", "trace_mode": "triton"});
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }

    #[test]
    fn a_trace_update_says_what_changes() {
        let body = br#"{"trace_level":["TIMESTAMPS","TENSORS"],"trace_rate":"3","trace_count":null,"log_frequency":7,
            "trace_file":"","trace_mode":"triton","later":{"a":[1]}}"#;
        let expected = TraceUpdate {
            levels: Change::Set(TraceLevels { timestamps: true, tensors: true }),
            rate: Change::Set(3),
            count: Change::Clear,
            log_frequency: Change::Set(7),
        };
        assert_eq!(decode_trace_update(body).unwrap(), expected);
        assert_eq!(decode_trace_update(b"{}").unwrap(), TraceUpdate::default());
        let off = decode_trace_update(br#"{"trace_level":["OFF"]}"#).unwrap();
        assert_eq!(off.levels, Change::Set(TraceLevels::default()));
    }

    #[test]
    fn wrong_trace_settings_are_refused() {
        let bad = ErrorKind::InvalidInput;
        for (name, value) in [
            ("trace_rate", "\"x\""),
            ("trace_rate", "\"-1\""),
            ("trace_rate", "\"\""),
            ("trace_rate", "\"18446744073709551616\""),
            ("trace_rate", "18446744073709551616"),
            ("trace_rate", "1.5"),
            ("trace_rate", "true"),
            ("trace_rate", "[\"1\"]"),
            ("trace_count", "\"-2\""),
            ("trace_count", "\"9223372036854775808\""),
            ("trace_count", "{}"),
            ("log_frequency", "\"1e3\""),
            ("trace_level", "\"TIMESTAMPS\""),
            ("trace_level", "[1]"),
            ("trace_level", "{}"),
            ("trace_level", "3"),
            ("trace_level", "[\"ALL\"]"),
            ("trace_level", "[\"OFF\",\"TENSORS\"]"),
            ("trace_file", "3"),
        ] {
            refused(decode_trace_update(format!(r#"{{"{name}":{value}}}"#).as_bytes()), bad, name);
        }
        for name in ["trace_file", "trace_mode"] {
            let body = format!(r#"{{"{name}":"/tmp/x"}}"#);
            refused(decode_trace_update(body.as_bytes()), ErrorKind::Unsupported, name);
        }
        for body in ["", "[]", "{", r#"{"trace_rate":"1","trace_rate":"2"}"#] {
            assert!(decode_trace_update(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_log_update_says_what_changes() {
        let body = br#"{"log_file":"","log_info":false,"log_warning":true,"log_error":null,"log_verbose_level":2,
            "log_format":"ISO8601","later":{}}"#;
        let expected = LogUpdate {
            info: Some(false),
            warning: Some(true),
            error: None,
            verbose_level: Some(2),
            format: Some(LogFormat::Iso8601),
        };
        assert_eq!(decode_log_update(body).unwrap(), expected);
    }

    #[test]
    fn wrong_log_settings_are_refused() {
        for (name, value) in [
            ("log_info", "1"),
            ("log_warning", "\"true\""),
            ("log_error", "[]"),
            ("log_verbose_level", "-1"),
            ("log_verbose_level", "4294967296"),
            ("log_verbose_level", "99999999999999999999"),
            ("log_verbose_level", "1.0"),
            ("log_verbose_level", "\"1\""),
            ("log_verbose_level", "true"),
            ("log_format", "\"iso8601\""),
            ("log_format", "3"),
            ("log_file", "3"),
        ] {
            let body = format!(r#"{{"{name}":{value}}}"#);
            refused(decode_log_update(body.as_bytes()), ErrorKind::InvalidInput, name);
        }
        refused(decode_log_update(br#"{"log_file":"/tmp/x"}"#), ErrorKind::Unsupported, "log_file");
    }
}
