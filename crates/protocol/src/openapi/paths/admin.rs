//! The routes of administration.

use serde_json::{Value, json};

use super::super::operation::{Operation, example};

const BASE: &str = "/api/v1/models";

pub(super) fn all() -> Vec<Operation> {
    let model = format!("{BASE}/{{model}}");
    let mut all = vec![
        Operation::get(
            BASE,
            "admin",
            "listResident",
            "Lists every version, in memory or not, and what memory it takes.",
        )
        .json_reply(
            200,
            "The versions, and the memory of the process.",
            "Residency",
            json!({
                "memory": { "resident_bytes": 241_172_480, "limit_bytes": 2_147_483_648_u64 },
                "models": [row()],
            }),
        ),
        Operation::get(&model, "admin", "showResident", "Lists the versions of one model in the same way.")
            .json_reply(200, "The versions.", "ModelResidency", json!({ "models": [row()] }))
            .errors("Error", &[400, 404]),
    ];
    all.extend(graphs());
    let changes = [
        ("load", "adminLoad", "Loads or reloads a model.", "Only under explicit model control, else 503."),
        ("unload", "adminUnload", "Stops serving a model.", "Only under explicit model control, else 503."),
        (
            "pin",
            "pinModel",
            "Keeps a model in memory.",
            "Loads it first where models are loaded at first use. Pins last until they are taken away or the process ends.",
        ),
        ("unpin", "unpinModel", "Lets a model leave memory again to make room.", "One that is not pinned is no error."),
    ];
    let purges = [
        ("/api/v1/cache".to_owned(), "purgeCache", "Forgets all cached answers."),
        (format!("{model}/cache"), "purgeModelCache", "Forgets the cached answers of a model."),
    ];
    all.extend(purges.map(|(path, id, summary)| {
        Operation::delete(&path, "admin", id, summary)
            .json_reply(200, "How many this server had.", "Purged", json!({ "purged": 12 }))
            .errors("Error", &[400, 404, 503])
    }));
    all.extend(changes.map(|(verb, id, summary, text)| {
        Operation::post(&format!("{model}/{verb}"), "admin", id, summary)
            .describe(text)
            .json_reply(200, "Done.", "Done", json!({}))
            .errors("Error", &[400, 404, 413, 415, 500, 501, 503])
    }));
    all
}

/// The graph of an ensemble, by name (or `NAME@ALIAS`) and by version.
fn graphs() -> [Operation; 2] {
    let paths = [
        ("showGraph", format!("{BASE}/{{model}}/graph")),
        ("showGraphOfVersion", format!("{BASE}/{{model}}/versions/{{version}}/graph")),
    ];
    paths.map(|(id, path)| {
        Operation::get(&path, "admin", id, "Shows the steps of an ensemble, and what they did since it was loaded.")
            .describe(
                "As JSON; as a picture with `format=svg`, or where `Accept` names `image/svg+xml`. Counts grow until \
                 the ensemble is loaded again. A model that is no ensemble is 400.",
            )
            .headers(&["graphFormat"])
            .reply(
                200,
                "The steps.",
                &[
                    ("application/json", example("Graph", graph())),
                    ("image/svg+xml", json!({ "schema": { "type": "string" } })),
                ],
            )
            .errors("Error", &[400, 404, 503])
    })
}

fn graph() -> Value {
    json!({
        "name": "recommender", "version": 1, "inputs": ["user_id"],
        "steps": [
            {
                "name": "features", "model": "user-features@stable",
                "inputs": [{ "name": "key", "from": ["user_id"] }],
                "after": [], "when": null, "each": false, "fallback": null, "timeout_ms": null, "on_failure": "fail",
                "statistics": { "runs": 1024, "failed": 0, "skipped": 0, "fallbacks": 0, "total_ms": 412.5 },
            },
            {
                "name": "score", "model": "score/3",
                "inputs": [{ "name": "x", "from": ["features.row"] }],
                "after": ["features"], "when": "features.age >= 18", "each": false,
                "fallback": "score/2", "timeout_ms": 20, "on_failure": "fail",
                "statistics": { "runs": 1000, "failed": 2, "skipped": 24, "fallbacks": 2, "total_ms": 2310.1 },
            },
        ],
        "outputs": [{ "name": "scores", "from": ["score.scores", "0"] }],
    })
}

fn row() -> Value {
    json!({
        "name": "iris", "version": 1, "state": "ready", "reason": null,
        "resident": { "memory_bytes": 1_048_576, "pinned": false, "in_flight": 0, "last_used_ms_ago": 1200, "loads": 1 },
    })
}
