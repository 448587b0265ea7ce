//! The shapes of the registry.

use serde_json::{Value, json};

use super::{count, flag, list, object, schema, text};

pub(super) fn schemas() -> Value {
    json!({
        "RegisteredModels": object(&["models", "next_page_token"], json!({
            "models": list(schema("RegisteredModel")), "next_page_token": nullable("string"),
        })),
        "RegisteredModelCard": object(&["model", "versions"], json!({
            "model": schema("RegisteredModel"), "versions": list(schema("VersionCard")),
        })),
        "RegisteredModel": object(&["name", "creation_timestamp", "last_updated_timestamp"], json!({
            "name": text(), "creation_timestamp": time(), "last_updated_timestamp": time(), "description": text(),
            "user_id": text(), "latest_versions": list(schema("ModelVersion")), "tags": list(schema("Tag")),
            "aliases": list(object(&["alias", "version"], json!({ "alias": text(), "version": number() }))),
        })),
        "ModelVersion": object(&["name", "version", "current_stage", "status"], version()),
        "VersionCard": object(&["name", "version", "current_stage", "status", "metrics", "params"], card()),
        "VersionCards": object(&["versions"], json!({ "versions": list(schema("VersionCard")) })),
        "VersionReply": object(&["version"], json!({ "version": schema("ModelVersion") })),
        "VersionDetails": object(&["version", "files", "stages"], json!({
            "version": schema("VersionCard"),
            "files": list(object(&["path", "digest", "size"], json!({
                "path": text(), "digest": digest("SHA-256 of the bytes."), "size": count(),
            }))),
            "stages": list(schema("StageTime")),
        })),
        "Tag": object(&["key", "value"], json!({ "key": text(), "value": text() })),
        "StageTime": object(&["version", "stage", "since", "until", "who"], json!({
            "version": count(), "stage": text(), "since": time(),
            "until": { "type": ["integer", "null"], "description": "Null: it still is." }, "who": text(),
        })),
        "StageTimes": object(&["stage", "times"], json!({ "stage": text(), "times": list(schema("StageTime")) })),
        "Promotion": object(&["version"], json!({
            "version": { "type": ["integer", "string"] }, "stage": stage(),
            "replaces": { "type": ["integer", "string", "null"], "description": "The version that is there now." },
        })),
        "StageChange": object(&["stage"], json!({ "stage": stage() })),
        "Changes": object(&["changes"], json!({
            "changes": list(object(&["id", "time", "who", "what", "subject", "before", "after"], json!({
                "id": count(), "time": time(), "who": text(), "what": text(), "subject": text(),
                "before": { "description": "Null: nothing was there." },
                "after": { "description": "Null: nothing is there." },
            }))),
        })),
        "Collection": {
            "type": "object",
            "properties": {
                "dry_run": { "type": "boolean", "description": "Only count.", "default": false },
                "grace_s": { "type": "integer", "minimum": 0, "description": "Younger files stay.", "default": 86400 },
            },
        },
        "Collected": object(&["dry_run", "cleared"], json!({
            "dry_run": flag(),
            "cleared": object(&["blobs", "bytes", "kept"], json!({ "blobs": count(), "bytes": count(), "kept": count() })),
        })),
    })
}

fn version() -> Value {
    json!({
        "name": text(), "version": number(), "creation_timestamp": time(), "last_updated_timestamp": time(),
        "current_stage": { "enum": ["None", "Staging", "Production", "Archived"] }, "description": text(),
        "user_id": text(), "source": text(), "run_id": text(), "status": text(), "run_link": text(),
        "model_id": text(), "tags": list(schema("Tag")), "aliases": list(text()),
    })
}

fn card() -> Value {
    let mut card = version();
    card["digest"] = digest("SHA-256 over its files; null: they are kept elsewhere.");
    card["size"] = nullable("integer");
    card["metrics"] = json!({ "type": "object", "additionalProperties": { "type": ["number", "null"] } });
    card["params"] = json!({ "type": "object", "additionalProperties": text() });
    card
}

/// The query parameters.
pub(super) fn parameters() -> Value {
    let in_query = |name: &str, required: bool, description: &str, schema: Value| json!({ "name": name, "in": "query", "required": required, "description": description, "schema": schema });
    json!({
        "name": {
            "name": "name", "in": "path", "required": true, "description": "The name of a registered model.",
            "schema": text(),
        },
        "filter": in_query("filter", false, "As in MLflow's search, such as `name LIKE 'fl%'`.", text()),
        "maxResults": in_query("max_results", false, "How many at most.", count()),
        "pageToken": in_query("page_token", false, "Where the answer before ended.", text()),
        "versions": in_query("version", true, "Two versions or more, repeated or with commas.", list(count())),
        "stage": in_query("stage", false, "The stage; production where none is named.", stage()),
        "at": in_query("at", false, "Only what was there then, in milliseconds since 1970.", json!({ "type": "integer" })),
        "subject": in_query("subject", false, "Only changes of this, such as `model/flowers`.", text()),
        "limit": in_query("limit", false, "How many at most.", json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 })),
    })
}

/// MLflow writes the numbers of versions as text.
fn number() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+$" })
}

fn time() -> Value {
    json!({ "type": "integer", "description": "Milliseconds since 1970." })
}

fn digest(description: &str) -> Value {
    json!({ "type": ["string", "null"], "description": description })
}

fn stage() -> Value {
    json!({ "type": "string", "examples": ["none", "staging", "production", "archived"] })
}

fn nullable(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}
