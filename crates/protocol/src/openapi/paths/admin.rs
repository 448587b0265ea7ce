//! The routes of administration.

use serde_json::{Value, json};

use super::super::operation::Operation;

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

fn row() -> Value {
    json!({
        "name": "iris", "version": 1, "state": "ready", "reason": null,
        "resident": { "memory_bytes": 1_048_576, "pinned": false, "in_flight": 0, "last_used_ms_ago": 1200, "loads": 1 },
    })
}
