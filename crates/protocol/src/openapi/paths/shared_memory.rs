//! The routes of Triton's system shared memory extension.

use serde_json::{Value, json};

use super::super::operation::{Operation, example};
use super::JSON;

const BASE: &str = "/v2/systemsharedmemory";
const OFF: &str = "Only where the server was started with `--allow-client-shm`, else 501.";

pub(super) fn all() -> Vec<Operation> {
    let of_region = |verb: &str| format!("{BASE}/region/{{region}}/{verb}");
    let done = |operation: Operation, errors: &[u16]| {
        operation.reply(200, "Done; the body is empty.", &[]).errors("Error", errors)
    };
    let register = Operation::post(&of_region("register"), "v2", "registerRegion", "Names a shared memory object.")
        .describe(&format!(
            "The object is one of this machine, by its POSIX name, and has to be there. Requests then say \
             `shared_memory_region`, `shared_memory_byte_size` and `shared_memory_offset` instead of data. {OFF}"
        ))
        .body(&[(JSON, example("RegisterRegion", json!({ "key": "/input", "offset": 0, "byte_size": 602_112 })))]);
    let unregister = Operation::post(&of_region("unregister"), "v2", "unregisterRegion", "Forgets a region.")
        .describe(&format!("A name that is not registered is no error. Requests that have begun finish. {OFF}"));
    let unregister_all =
        Operation::post(&format!("{BASE}/unregister"), "v2", "unregisterRegions", "Forgets all regions.");
    vec![
        Operation::get(&format!("{BASE}/status"), "v2", "regions", "Lists the regions of shared memory.")
            .describe(OFF)
            .json_reply(200, "The regions.", "Regions", regions())
            .errors("Error", &[501]),
        Operation::get(&of_region("status"), "v2", "region", "Shows one region of shared memory.")
            .describe(OFF)
            .json_reply(200, "A list of one.", "Regions", regions())
            .errors("Error", &[400, 404, 501]),
        done(register, &[400, 413, 415, 501, 503]),
        done(unregister, &[400, 413, 415, 501]),
        done(unregister_all.describe(OFF), &[413, 415, 501]),
    ]
}

fn regions() -> Value {
    json!([{ "name": "input", "key": "/input", "offset": 0, "byte_size": 602_112 }])
}
