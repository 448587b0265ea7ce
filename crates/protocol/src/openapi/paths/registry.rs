//! The registry's own routes. MLflow describes its interface itself.

use serde_json::{Value, json};

use super::super::operation::{Operation, example};

const BASE: &str = "/api/v1/registry";
const TAG: &str = "registry";

pub(super) fn all() -> Vec<Operation> {
    [models(), stages(), store()].into_iter().flatten().collect()
}

fn models() -> Vec<Operation> {
    let model = format!("{BASE}/models/{{name}}");
    let of_version = format!("{model}/versions/{{version}}");
    vec![
        get(&format!("{BASE}/models"), "listRegistered", "Lists the registered models.")
            .headers(&["filter", "maxResults", "pageToken"])
            .json_reply(
                200,
                "The models.",
                "RegisteredModels",
                json!({ "models": [registered()], "next_page_token": null }),
            )
            .errors("Error", &[400, 501, 503]),
        get(&model, "showRegistered", "Shows a registered model and its versions, newest first.")
            .json_reply(
                200,
                "The model, and what was measured of each version.",
                "RegisteredModelCard",
                json!({ "model": registered(), "versions": [card()] }),
            )
            .errors("Error", &[400, 404, 501, 503]),
        get(&format!("{model}/compare"), "compareVersions", "Shows versions side by side.")
            .headers(&["versions"])
            .json_reply(200, "The versions, in the order asked for.", "VersionCards", json!({ "versions": [card()] }))
            .errors("Error", &[400, 404, 501, 503]),
        get(&of_version, "showVersion", "Shows a version, its files and the stages it was in.")
            .json_reply(
                200,
                "The version.",
                "VersionDetails",
                json!({
                    "version": card(),
                    "files": [{ "path": "model.onnx", "digest": DIGEST, "size": 1024 }],
                    "stages": [stage_time()],
                }),
            )
            .errors("Error", &[400, 404, 501, 503]),
        delete(&model, "deleteRegistered", "Deletes a registered model with its versions."),
        delete(&of_version, "deleteVersion", "Deletes a version; its number is never used again."),
    ]
}

fn stages() -> Vec<Operation> {
    let model = format!("{BASE}/models/{{name}}");
    vec![
        post(&format!("{model}/promote"), "promoteVersion", "Puts a version into a stage, alone.")
            .describe(
                "What was in the stage is archived. With `replaces`, the version that is expected there: 409 where it \
                 is another one by now.",
            )
            .body(&[(super::JSON, example("Promotion", json!({ "version": 2, "stage": "production", "replaces": 1 })))])
            .json_reply(200, "The version as it is now.", "VersionReply", json!({ "version": version() }))
            .errors("Error", &[400, 404, 409, 413, 415, 501, 503]),
        post(&format!("{model}/rollback"), "rollbackModel", "Puts the version before into production again.")
            .json_reply(200, "The version as it is now.", "VersionReply", json!({ "version": version() }))
            .errors("Error", &[400, 404, 409, 413, 415, 501, 503]),
        post(&format!("{model}/versions/{{version}}/stage"), "setStage", "Puts a version into a stage, beside others.")
            .body(&[(super::JSON, example("StageChange", json!({ "stage": "archived" })))])
            .json_reply(200, "The version as it is now.", "VersionReply", json!({ "version": version() }))
            .errors("Error", &[400, 404, 409, 413, 415, 501, 503]),
        get(&format!("{model}/stages"), "stageTimes", "Says which versions were in a stage, and when.")
            .headers(&["stage", "at"])
            .json_reply(
                200,
                "The times, newest first.",
                "StageTimes",
                json!({ "stage": "Production", "times": [stage_time()] }),
            )
            .errors("Error", &[400, 501, 503]),
    ]
}

fn store() -> Vec<Operation> {
    vec![
        get(&format!("{BASE}/history"), "registryHistory", "Lists who changed what, newest first.")
            .headers(&["subject", "limit"])
            .json_reply(
                200,
                "The changes.",
                "Changes",
                json!({ "changes": [{
                    "id": 7, "time": TIME, "who": "ben", "what": "version.stage", "subject": "model/flowers/1",
                    "before": { "stage": "None" }, "after": { "stage": "Production" },
                }] }),
            )
            .errors("Error", &[400, 501, 503]),
        post(&format!("{BASE}/gc"), "collectGarbage", "Clears away files that nothing refers to any more.")
            .optional_body(&[(super::JSON, example("Collection", json!({ "dry_run": true, "grace_s": 86400 })))])
            .json_reply(
                200,
                "What went, or would go.",
                "Collected",
                json!({ "dry_run": true, "cleared": { "blobs": 2, "bytes": 2048, "kept": 5 } }),
            )
            .errors("Error", &[400, 413, 415, 501, 503]),
    ]
}

fn get(path: &str, id: &str, summary: &str) -> Operation {
    Operation::get(path, TAG, id, summary)
}

fn post(path: &str, id: &str, summary: &str) -> Operation {
    Operation::post(path, TAG, id, summary)
}

fn delete(path: &str, id: &str, summary: &str) -> Operation {
    Operation::delete(path, TAG, id, summary)
        .json_reply(200, "Done.", "Done", json!({}))
        .errors("Error", &[400, 404, 409, 501, 503])
}

const TIME: i64 = 1_790_000_000_000;
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn registered() -> Value {
    json!({
        "name": "flowers", "creation_timestamp": TIME, "last_updated_timestamp": TIME, "description": "",
        "user_id": "ben", "latest_versions": [version()], "aliases": [{ "alias": "champion", "version": "1" }],
    })
}

/// As MLflow writes it: the number of a version is text.
fn version() -> Value {
    json!({
        "name": "flowers", "version": "1", "creation_timestamp": TIME, "last_updated_timestamp": TIME,
        "current_stage": "Production", "description": "", "user_id": "ben", "source": "runs:/0af7/model",
        "run_id": "0af7", "status": "READY", "run_link": "", "aliases": ["champion"],
    })
}

fn card() -> Value {
    let mut card = version();
    card["digest"] = json!(DIGEST);
    card["size"] = json!(1024);
    card["metrics"] = json!({ "accuracy": 0.97 });
    card["params"] = json!({ "depth": "3" });
    card
}

fn stage_time() -> Value {
    json!({ "version": 1, "stage": "Production", "since": TIME, "until": null, "who": "ben" })
}
