//! The routes, protocol by protocol.

mod admin;
mod jobs;
mod openai;
mod registry;
mod shared_memory;
mod v1;
mod v2;

use serde_json::{Map, Value, json};

use super::operation::{Operation, binary, example, examples, text};

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

/// Errors of a route that runs a model.
const INFER_ERRORS: [u16; 11] = [400, 404, 408, 413, 415, 429, 499, 500, 501, 503, 504];

pub(super) fn all() -> Value {
    let mut paths = Map::new();
    let inference = [
        plain(),
        v2::server(),
        v2::models(),
        v2::repository(),
        shared_memory::all(),
        v1::all(),
        openai::all(),
        mlflow(),
    ];
    let others = [jobs::all(), v2::settings(), admin::all(), registry::all(), server()];
    inference.into_iter().chain(others).flatten().for_each(|operation| operation.add_to(&mut paths));
    Value::Object(paths)
}

fn plain() -> Vec<Operation> {
    let mut all = vec![
        Operation::get("/models", "plain", "listModels", "Lists every model with its versions and their states.")
            .json_reply(
                200,
                "The models.",
                "ModelList",
                json!({ "models": [{ "name": "iris", "version": 1, "state": "ready", "reason": null }] }),
            ),
    ];
    for (base, suffix) in [("/models/{model}", ""), ("/models/{model}/versions/{version}", "OfVersion")] {
        all.push(
            Operation::get(
                base,
                "plain",
                &format!("describeModel{suffix}"),
                "Describes a model, with an example body.",
            )
            .json_reply(200, "The description.", "Description", description())
            .errors("Plain", &[400, 404, 503]),
        );
        all.push(
            Operation::post(&format!("{base}/predict"), "plain", &format!("predict{suffix}"), "Predicts.")
                .describe(
                    "Takes the natural JSON of the model, or one `.npy` array for a model with one input (found by \
                     its content type or its first bytes). Any other content type is read as JSON. The batch dimension may \
                     be left out. `example` of the description is a body for exactly this model.\n\nModels of texts \
                     take `text/plain` as well, models of pictures the file itself (`image/*`), and both a form with \
                     fields called as their input or `file`, each of them a row.",
                )
                .headers(&["timeout", "requestId"])
                .body(&[(JSON, examples("PredictRequest", &predict_bodies())), (BINARY, binary()), ("application/x-npy", binary()), ("image/*", binary()),
                    (TEXT, text("a text")), ("multipart/form-data", json!({ "schema": { "$ref": "#/components/schemas/PredictForm" } }))])
                .reply(200, "One prediction per row, or whole outputs where the model has no rows.", &[(JSON, examples("PredictReply", &[
                    ("labelled", json!({ "model": "iris", "version": 1, "predictions": [{
                        "label": "setosa", "score": 0.98,
                        "probabilities": { "setosa": 0.98, "versicolor": 0.02, "virginica": 0.0 },
                    }] })),
                    ("texts", json!({ "model": "sentiment", "version": 1, "predictions": [{
                        "label": "positive", "score": 0.93, "tokens": 7, "truncated": false,
                        "labels": [{ "label": "positive", "score": 0.93 }, { "label": "negative", "score": 0.07 }],
                    }] })),
                    ("without rows", json!({ "model": "fixed", "version": 1, "outputs": { "y": [1.0, 2.0] } })),
                ]))])
                .json_reply(202, jobs::LEFT_TO_JOB, "JobSubmitted", jobs::submitted())
                .names_version()
                .errors("Plain", &INFER_ERRORS),
        );
    }
    all
}

fn predict_bodies() -> [(&'static str, Value); 4] {
    let row = json!({ "sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2 });
    [
        ("one row", row.clone()),
        ("rows", json!([row.clone()])),
        ("nested lists", json!([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])),
        ("by input", json!({ "inputs": { "X": [[5.1, 3.5, 1.4, 0.2]] } })),
    ]
}

fn description() -> Value {
    json!({
        "name": "iris", "version": 1, "versions": [1], "engine": "onnx", "platform": "onnxruntime_onnx",
        "task": "tabular", "batched": true,
        "inputs": [{ "name": "X", "datatype": "FP32", "shape": [-1, 4],
            "columns": ["sepal_length", "sepal_width", "petal_length", "petal_width"] }],
        "outputs": [{ "name": "probabilities", "datatype": "FP32", "shape": [-1, 3],
            "labels": ["setosa", "versicolor", "virginica"] }],
        "metrics": { "accuracy": 0.9778 },
        "predict": "/models/iris/predict",
        "example": { "sepal_length": 1.0, "sepal_width": 1.0, "petal_length": 1.0, "petal_width": 1.0 },
    })
}

fn mlflow() -> Vec<Operation> {
    let columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
    let row = [5.1, 3.5, 1.4, 0.2];
    let record: Map<String, Value> =
        columns.iter().zip(row).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    vec![
        Operation::post("/invocations", "mlflow", "invocations", "Scores with the default model.")
            .describe(
                "The content type must be `application/json` or `text/csv`, with no parameter but `charset=utf-8`. Columns \
                 are matched by name; extra ones are dropped.",
            )
            .headers(&["timeout", "requestId"])
            .body(&[
                (JSON, examples("Invocation", &[
                    ("dataframe_split", json!({ "dataframe_split": { "columns": columns, "data": [row] } })),
                    ("dataframe_records", json!({ "dataframe_records": [record.clone()] })),
                    ("instances", json!({ "instances": [row] })),
                    ("inputs", json!({ "inputs": { "X": [row] } })),
                ])),
                ("text/csv", text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n")),
            ])
            .json_reply(200, "One record per row.", "InvocationReply", json!({
                "predictions": [{ "probabilities": [0.98, 0.02, 0.0] }],
            }))
            .names_version()
            .errors("Mlflow", &[400, 404, 408, 413, 429, 499, 500, 501, 503, 504])
            .reply(415, "Another content type, or one with other parameters.", &[
                (TEXT, text("This predictor only supports the following content types.")),
                (JSON, example("MlflowError", json!({ "error_code": "BAD_REQUEST", "message": "another Content-Encoding" }))),
            ]),
        Operation::get("/ping", "mlflow", "ping", "Says that the process runs.")
            .reply(200, "A line feed.", &[(JSON, json!({ "schema": {} }))]),
        Operation::get("/version", "mlflow", "mlflowVersion", "Names the version of MLflow whose protocol is spoken.")
            .reply(200, "The version.", &[(TEXT, text("3.18.0"))]),
    ]
}

fn server() -> Vec<Operation> {
    vec![
        Operation::get("/", "server", "home", "A page for browsers, a summary for programs.").reply(
            200,
            "HTML where `Accept` asks for it, else JSON.",
            &[
                (
                    JSON,
                    example(
                        "Summary",
                        json!({
                            "status": "alive", "name": "salver", "version": "0.1.0", "ready": true, "degraded": [],
                            "engines": ["onnx: ONNX Runtime 1.31.1"], "models": ["iris", "digits"],
                        }),
                    ),
                ),
                ("text/html", json!({ "schema": { "type": "string" } })),
            ],
        ),
        Operation::get("/health", "server", "health", "Says that the process runs.").reply(
            200,
            "It does.",
            &[(TEXT, text("OK"))],
        ),
        Operation::get("/metrics", "server", "metrics", "Counters and histograms for Prometheus.").reply(
            200,
            "The metrics, in the text format of OpenMetrics.",
            &[("application/openmetrics-text", text("# EOF\n"))],
        ),
        Operation::get("/openapi.json", "server", "openapi", "This document.").reply(
            200,
            "The document.",
            &[(JSON, json!({ "schema": { "type": "object" } }))],
        ),
    ]
}
