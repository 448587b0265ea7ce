//! The document holds together, and its examples are what the decoders accept.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::samples::{iris, reference};
use crate::{Limits, mlflow_scoring, oip_rest, openai, plain, tfserving};

fn parsed() -> Value {
    serde_json::from_str(&document("1.2.3")).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    all
}

/// Calls `visit` with every string that stands under the key `$ref`.
fn each_ref(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(target) if key == "$ref" => visit(target),
                    _ => each_ref(value, visit),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_ref(item, visit)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_nothing_is_left_over() {
    let document = parsed();
    let mut used = BTreeSet::new();
    each_ref(&document, &mut |target| {
        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
        used.insert(target.to_owned());
    });
    for kind in ["schemas", "parameters", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(&format!("#/components/{kind}/{name}")), "{kind} {name} is not used");
        }
    }
}

#[test]
fn operations_have_a_name_of_their_own_and_declare_their_path() {
    let document = parsed();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{id} stands twice");
        let succeeds = ["200", "202"].iter().any(|status| operation["responses"][status].is_object());
        assert!(succeeds, "{method} {path}");
        let names: Vec<&str> = path.split('{').skip(1).map(|rest| rest.split_once('}').unwrap().0).collect();
        let declared: Vec<String> =
            operation["parameters"].as_array().into_iter().flatten().map(Value::to_string).collect();
        for name in names {
            assert!(declared.iter().any(|entry| entry.contains(&format!("/parameters/{name}\""))), "{path} {name}");
        }
    }
}

#[test]
fn every_route_is_described() {
    let document = parsed();
    let paths: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "/",
        "/api/v1/cache",
        "/api/v1/jobs",
        "/api/v1/jobs/purge",
        "/api/v1/jobs/queue",
        "/api/v1/jobs/queue/{gate}",
        "/api/v1/jobs/{id}",
        "/api/v1/jobs/{id}/events",
        "/api/v1/jobs/{id}/replay",
        "/api/v1/jobs/{id}/result",
        "/api/v1/models",
        "/api/v1/models/{model}",
        "/api/v1/models/{model}/cache",
        "/api/v1/models/{model}/graph",
        "/api/v1/models/{model}/load",
        "/api/v1/models/{model}/pin",
        "/api/v1/models/{model}/unload",
        "/api/v1/models/{model}/unpin",
        "/api/v1/models/{model}/versions/{version}/graph",
        "/api/v1/registry/gc",
        "/api/v1/registry/history",
        "/api/v1/registry/models",
        "/api/v1/registry/models/{name}",
        "/api/v1/registry/models/{name}/compare",
        "/api/v1/registry/models/{name}/promote",
        "/api/v1/registry/models/{name}/rollback",
        "/api/v1/registry/models/{name}/stages",
        "/api/v1/registry/models/{name}/versions/{version}",
        "/api/v1/registry/models/{name}/versions/{version}/stage",
        "/health",
        "/invocations",
        "/metrics",
        "/models",
        "/openapi.json",
        "/ping",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v2",
        "/v2/cudasharedmemory/status",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/logging",
        "/v2/models",
        "/v2/models/stats",
        "/v2/models/{model}/trace/setting",
        "/v2/repository/index",
        "/v2/repository/models/{model}/load",
        "/v2/repository/models/{model}/unload",
        "/v2/systemsharedmemory/region/{region}/register",
        "/v2/systemsharedmemory/region/{region}/status",
        "/v2/systemsharedmemory/region/{region}/unregister",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/unregister",
        "/v2/trace/setting",
        "/version",
    ];
    let of_models: Vec<String> = [
        ("/models/{model}", &["", "/jobs", "/predict"][..]),
        (
            "/v2/models/{model}",
            &["", "/ready", "/config", "/stats", "/infer", "/jobs", "/generate", "/generate_stream"],
        ),
    ]
    .into_iter()
    .flat_map(|(base, rest)| {
        rest.iter().flat_map(move |rest| [format!("{base}{rest}"), format!("{base}/versions/{{version}}{rest}")])
    })
    .chain(["", "/versions/{version}", "/labels/{label}"].into_iter().flat_map(|version| {
        ["", "/metadata", ":predict", ":classify", ":regress"]
            .map(|rest| format!("/v1/models/{{model}}{version}{rest}"))
    }))
    .collect();
    expected.extend(of_models.iter().map(String::as_str));
    expected.sort_unstable();
    let mut found = paths;
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// Returns the examples of a request body.
fn body_examples(document: &Value, path: &str, media: &str) -> Vec<Value> {
    let content = &document["paths"][path]["post"]["requestBody"]["content"][media];
    let named = content["examples"].as_object().into_iter().flatten().map(|(_, example)| example["value"].clone());
    let all: Vec<Value> = named.chain(content.get("example").cloned()).collect();
    assert!(!all.is_empty(), "{path}");
    all
}

#[test]
fn the_examples_of_bodies_are_accepted() {
    let (document, info, limits) = (parsed(), iris(), Limits::default());
    let checked = |inputs| info.signature.check("iris", inputs).map(|_| ());
    for path in ["/models/{model}/predict", "/models/{model}/versions/{version}/predict"] {
        for example in body_examples(&document, path, "application/json") {
            let body = Bytes::from(example.to_string());
            let request = plain::decode_predict(body, Some("application/json"), reference(), &info, &limits).unwrap();
            checked(request.inputs).unwrap();
        }
    }
    for example in body_examples(&document, "/v1/models/{model}:predict", "application/json") {
        let body = example.to_string();
        let (request, _) = tfserving::decode_predict(body.as_bytes(), reference(), &info, &limits).unwrap();
        checked(request.inputs).unwrap();
    }
    for (verb, method) in [("classify", tfserving::Method::Classify), ("regress", tfserving::Method::Regress)] {
        for example in body_examples(&document, &format!("/v1/models/{{model}}:{verb}"), "application/json") {
            let body = example.to_string();
            let request = tfserving::decode_examples(body.as_bytes(), method, reference(), &info, &limits).unwrap();
            checked(request.inputs).unwrap();
        }
    }
    for example in body_examples(&document, "/invocations", "application/json") {
        let (body, kind) = (example.to_string(), mlflow_scoring::ContentType::Json);
        let request = mlflow_scoring::decode_invocations(body.as_bytes(), kind, reference(), &info, &limits).unwrap();
        checked(request.inputs).unwrap();
    }
    for example in body_examples(&document, "/invocations", "text/csv") {
        let (body, kind) = (example.as_str().unwrap(), mlflow_scoring::ContentType::Csv);
        let request = mlflow_scoring::decode_invocations(body.as_bytes(), kind, reference(), &info, &limits).unwrap();
        checked(request.inputs).unwrap();
    }
    for example in body_examples(&document, "/v2/models/{model}/infer", "application/json") {
        let body = Bytes::from(example.to_string());
        let describe = || Ok(Arc::new(iris()));
        let (request, _) = oip_rest::decode_infer(body, None, reference(), describe, &limits).unwrap();
        checked(request.inputs).unwrap();
    }
    for route in ["generate", "generate_stream"] {
        for example in body_examples(&document, &format!("/v2/models/{{model}}/{route}"), "application/json") {
            let body = example.to_string();
            checked(oip_rest::decode_generate(body.as_bytes(), reference(), &info, &limits).unwrap().inputs).unwrap();
        }
    }
    for path in ["/v2/trace/setting", "/v2/models/{model}/trace/setting"] {
        for example in body_examples(&document, path, "application/json") {
            oip_rest::decode_trace_update(example.to_string().as_bytes()).unwrap();
        }
    }
    for example in body_examples(&document, "/v2/logging", "application/json") {
        oip_rest::decode_log_update(example.to_string().as_bytes()).unwrap();
    }
    for example in body_examples(&document, "/v1/embeddings", "application/json") {
        openai::decode_embeddings(example.to_string().as_bytes(), &limits).unwrap();
    }
    for example in body_examples(&document, "/v2/repository/index", "application/json") {
        oip_rest::decode_index_request(example.to_string().as_bytes()).unwrap();
    }
    for example in body_examples(&document, "/v2/repository/models/{model}/load", "application/json") {
        oip_rest::decode_load_request(example.to_string().as_bytes()).unwrap();
    }
}

#[test]
fn the_description_in_the_document_is_that_of_the_server() {
    let mut info = iris();
    info.version = 1;
    let served: Value = serde_json::from_slice(&plain::describe(&info, &[1]).body).unwrap();
    let shown =
        &parsed()["paths"]["/models/{model}"]["get"]["responses"]["200"]["content"]["application/json"]["example"];
    assert_eq!(&served, shown);
}

#[test]
fn the_graph_in_the_document_is_one_that_clients_read() {
    let shown = &parsed()["paths"]["/api/v1/models/{model}/graph"]["get"]["responses"]["200"]["content"];
    let example = &shown["application/json"]["example"];
    let graph: crate::graph::Graph = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(&serde_json::to_value(graph).unwrap(), example);
}

#[test]
fn the_version_is_that_of_the_server() {
    assert_eq!(parsed()["info"]["version"], "1.2.3");
}

/// `UPDATE_SNAPSHOTS=1 cargo test -p salver-protocol openapi` writes the file anew; read the diff.
#[test]
fn the_document_is_that_of_the_snapshot() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/openapi/snapshot.json");
    let text = format!("{}\n", document("0.0.0"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap_or_default() == text, "the document changed; see above how to update");
}
