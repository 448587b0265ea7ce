//! The shapes of an ensemble's graph.

use serde_json::{Value, json};

use super::{count, list, object, schema, text};

pub(super) fn schemas() -> Value {
    let text_or_null = |description: &str| json!({ "type": ["string", "null"], "description": description });
    json!({
        "Graph": object(&["name", "version", "inputs", "steps", "outputs"], json!({
            "name": text(), "version": count(),
            "inputs": list(text()),
            "steps": {
                "type": "array", "items": schema("GraphStep"), "description": "Each after those that it waits for.",
            },
            "outputs": list(schema("GraphValue")),
        })),
        "GraphValue": object(&["name", "from"], json!({
            "name": text(),
            "from": {
                "type": "array", "items": text(),
                "description": "The name of an input, `STEP.OUTPUT`, or a constant; for each row, the first that is there.",
            },
        })),
        "GraphStep": object(
            &["name", "model", "inputs", "after", "when", "each", "fallback", "timeout_ms", "on_failure", "statistics"],
            json!({
                "name": text(),
                "model": { "type": "string", "description": "NAME, NAME/VERSION or NAME@ALIAS." },
                "inputs": list(schema("GraphValue")),
                "after": { "type": "array", "items": text(), "description": "The steps that it waits for." },
                "when": text_or_null("The rows that it runs for; null: all."),
                "each": { "type": "boolean", "description": "It runs for each item of a list." },
                "fallback": text_or_null("The model that is called in its place where it fails."),
                "timeout_ms": { "type": ["integer", "null"], "minimum": 1, "description": "The longest that one call may take." },
                "on_failure": { "enum": ["fail", "skip"] },
                "statistics": schema("StepStatistics"),
            }),
        ),
        "StepStatistics": object(&["runs", "failed", "skipped", "fallbacks", "total_ms"], json!({
            "runs": count(), "failed": count(),
            "skipped": { "type": "integer", "minimum": 0, "description": "Requests that it did not run for." },
            "fallbacks": count(),
            "total_ms": { "type": "number", "minimum": 0, "description": "How long all runs took together." },
        })),
    })
}

pub(super) fn parameters() -> Value {
    json!({
        "graphFormat": {
            "name": "format", "in": "query", "required": false,
            "description": "`svg` is a picture; where nothing is said, the header `Accept` decides.",
            "schema": { "enum": ["json", "svg"] },
        },
    })
}
