//! The shapes of Triton's extensions: generate, trace and log settings.

use serde_json::{Value, json};

use super::{count, flag, list, object, schema, text};

pub(super) fn schemas() -> Value {
    let levels = || list(json!({ "enum": ["OFF", "TIMESTAMPS", "TENSORS"] }));
    let number = json!({ "type": "string", "pattern": "^-?[0-9]+$" });
    let or_null = |kinds: &[&str]| {
        let kinds = [kinds, &["null"]].concat();
        json!({ "type": kinds })
    };
    json!({
        "GenerateRequest": {
            "type": "object",
            "properties": { "id": text(), "parameters": { "type": "object", "additionalProperties": schema("Nested") } },
            "additionalProperties": schema("Nested"),
        },
        "GenerateReply": {
            "type": "object", "required": ["model_name", "model_version"],
            "properties": { "id": text(), "model_name": text(), "model_version": text() },
            "additionalProperties": schema("Nested"),
        },
        "TraceSettings": object(
            &["trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file", "trace_mode"],
            json!({
                "trace_level": levels(), "trace_rate": number, "trace_count": number, "log_frequency": number,
                "trace_file": text(), "trace_mode": { "enum": ["triton"] },
            }),
        ),
        "TraceUpdate": {
            "type": "object",
            "description": "What is left out stays; `null` goes back to the server's value, or to the one of the start.",
            "properties": {
                "trace_level": or_null(&["array"]), "trace_rate": or_null(&["string", "integer"]),
                "trace_count": or_null(&["string", "integer"]), "log_frequency": or_null(&["string", "integer"]),
            },
        },
        "LogSettings": object(
            &["log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format"],
            json!({
                "log_file": text(), "log_info": flag(), "log_warning": flag(), "log_error": flag(),
                "log_verbose_level": count(), "log_format": { "enum": ["default", "ISO8601"] },
            }),
        ),
        "LogUpdate": object(&[], json!({
            "log_info": flag(), "log_warning": flag(), "log_error": flag(), "log_verbose_level": count(),
            "log_format": { "enum": ["default", "ISO8601"] },
        })),
    })
}
