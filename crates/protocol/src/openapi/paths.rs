//! The routes, protocol by protocol.

use serde_json::{Map, Value, json};

use super::operation::{Operation, binary, example, examples, text};

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

/// Errors of a route that runs a model.
const INFER_ERRORS: [u16; 11] = [400, 404, 408, 413, 415, 429, 499, 500, 501, 503, 504];

/// The same in version 2, where a full queue is 503 as in Triton.
const INFER_ERRORS_V2: [u16; 10] = [400, 404, 408, 413, 415, 499, 500, 501, 503, 504];

pub(super) fn all() -> Value {
    let mut paths = Map::new();
    let operations = [plain(), v2_server(), v2_models(), repository(), v1(), mlflow(), server()];
    operations.into_iter().flatten().for_each(|operation| operation.add_to(&mut paths));
    Value::Object(paths)
}

fn plain() -> Vec<Operation> {
    let mut all = vec![
        Operation::get("/models", "plain", "listModels", "Lists every model with its versions and their states.")
            .reply(
                200,
                "The models.",
                &[(
                    JSON,
                    example(
                        "ModelList",
                        json!({ "models": [
                { "name": "iris", "version": 1, "state": "ready", "reason": null },
            ] }),
                    ),
                )],
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
            .reply(200, "The description.", &[(JSON, example("Description", description()))])
            .errors("Plain", &[400, 404, 503]),
        );
        all.push(
            Operation::post(&format!("{base}/predict"), "plain", &format!("predict{suffix}"), "Predicts.")
                .describe(
                    "Takes the natural JSON of the model, or one `.npy` array for a model with one input (found by \
                     its content type or its first bytes). Any other content type is read as JSON. The batch dimension may \
                     be left out. `example` of the description is a body for exactly this model.",
                )
                .headers(&["timeout", "requestId"])
                .body(&[(JSON, examples("PredictRequest", &predict_bodies())), (BINARY, binary()), ("application/x-npy", binary())])
                .reply(200, "One prediction per row, or whole outputs where the model has no rows.", &[(JSON, examples("PredictReply", &[
                    ("labelled", json!({ "model": "iris", "version": 1, "predictions": [{
                        "label": "setosa", "score": 0.98,
                        "probabilities": { "setosa": 0.98, "versicolor": 0.02, "virginica": 0.0 },
                    }] })),
                    ("without rows", json!({ "model": "fixed", "version": 1, "outputs": { "y": [1.0, 2.0] } })),
                ]))])
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

fn v2_server() -> Vec<Operation> {
    let metadata = json!({ "name": "salver", "version": "0.1.0", "extensions": ["binary_tensor_data", "statistics"],
        "engines": ["onnx: ONNX Runtime 1.31.1"] });
    vec![
        Operation::get("/v2", "v2", "serverMetadata", "Names the server and its extensions.").reply(
            200,
            "The server.",
            &[(JSON, example("ServerMetadata", metadata))],
        ),
        Operation::get("/v2/health/live", "v2", "serverLive", "Says that the process runs.").reply(
            200,
            "It does.",
            &[(JSON, example("Live", json!({ "live": true })))],
        ),
        Operation::get("/v2/health/ready", "v2", "serverReady", "Says whether every model that should serve does.")
            .reply(200, "It does.", &[(JSON, example("Ready", json!({ "ready": true })))])
            .reply(400, "Not yet, or not any more.", &[(JSON, example("Ready", json!({ "ready": false })))]),
        Operation::get("/v2/models", "v2", "modelNames", "Lists the models by name, as KServe does.").reply(
            200,
            "The names.",
            &[(JSON, example("ModelNames", json!({ "models": ["iris", "digits"] })))],
        ),
        Operation::get("/v2/models/stats", "v2", "allStatistics", "Counts requests and time of every model.").reply(
            200,
            "The counters.",
            &[(JSON, example("Statistics", statistics()))],
        ),
    ]
}

fn v2_models() -> Vec<Operation> {
    let mut all = Vec::new();
    for (base, suffix) in [("/v2/models/{model}", ""), ("/v2/models/{model}/versions/{version}", "OfVersion")] {
        let get = |rest: &str, id: &str, summary: &str| {
            Operation::get(&format!("{base}{rest}"), "v2", &format!("{id}{suffix}"), summary)
        };
        all.push(
            get("", "modelMetadata", "Describes the inputs and outputs of a model.")
                .reply(200, "The model.", &[(JSON, example("ModelMetadata", model_metadata()))])
                .errors("Error", &[400, 404, 503]),
        );
        all.push(
            get("/ready", "modelReady", "Says whether a model can answer.")
                .reply(200, "It can.", &[(JSON, example("ModelReady", json!({ "name": "iris", "ready": true })))])
                .reply(
                    400,
                    "It cannot, or is unknown.",
                    &[(
                        JSON,
                        example(
                            "ModelReady",
                            json!({
                                "name": "iris", "ready": false, "error": "Model version not ready",
                            }),
                        ),
                    )],
                ),
        );
        all.push(
            get("/config", "modelConfig", "Shows the effective configuration of a model.")
                .reply(200, "The fields of `config.pbtxt`, defaults spelled out.", &[(JSON, example("ModelConfig", json!({
                    "name": "iris", "platform": "onnxruntime_onnx", "backend": "onnxruntime", "max_batch_size": 8,
                })))])
                .errors("Error", &[400, 404]),
        );
        all.push(
            get("/stats", "modelStatistics", "Counts requests and time of a model.")
                .reply(200, "The counters.", &[(JSON, example("Statistics", statistics()))])
                .errors("Error", &[400]),
        );
        all.push(v2_infer(base, suffix));
    }
    all
}

fn v2_infer(base: &str, suffix: &str) -> Operation {
    let request = json!({
        "id": "42",
        "inputs": [{ "name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2] }],
        "outputs": [{ "name": "probabilities" }],
    });
    let reply = json!({
        "id": "42", "model_name": "iris", "model_version": "1",
        "outputs": [{ "name": "probabilities", "datatype": "FP32", "shape": [1, 3], "data": [0.98, 0.02, 0.0] }],
    });
    Operation::post(&format!("{base}/infer"), "v2", &format!("infer{suffix}"), "Runs a model.")
        .describe(
            "The content type of the request is not looked at. With binary tensors the body is JSON followed by their \
             bytes, and `Inference-Header-Content-Length` is the length of the JSON; 0 means that the body is the only \
             input's bytes. A reply with binary outputs has the same form.",
        )
        .headers(&["inferenceHeaderLength", "timeout", "requestId"])
        .body(&[(JSON, example("InferRequest", request)), (BINARY, binary())])
        .reply(200, "The outputs.", &[(JSON, example("InferReply", reply)), (BINARY, binary())])
        .names_version()
        .errors("Error", &INFER_ERRORS_V2)
}

fn model_metadata() -> Value {
    json!({
        "name": "iris", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{ "name": "X", "datatype": "FP32", "shape": [-1, 4] }],
        "outputs": [{ "name": "probabilities", "datatype": "FP32", "shape": [-1, 3] }],
    })
}

fn statistics() -> Value {
    let stat = json!({ "count": 1, "ns": 72_000 });
    json!({ "model_stats": [{
        "name": "iris", "version": "1", "last_inference": 1_767_225_600_000_u64,
        "inference_count": 4, "execution_count": 1,
        "inference_stats": {
            "success": stat, "fail": { "count": 0, "ns": 0 }, "queue": stat,
            "compute_input": stat, "compute_infer": stat, "compute_output": stat,
            "cache_hit": { "count": 0, "ns": 0 }, "cache_miss": { "count": 0, "ns": 0 },
        },
        "response_stats": {},
        "batch_stats": [{ "batch_size": 4, "compute_input": stat, "compute_infer": stat, "compute_output": stat }],
        "memory_usage": [],
    }] })
}

fn repository() -> Vec<Operation> {
    let index = json!([{ "name": "iris", "version": "1", "state": "READY" }, { "name": "digits" }]);
    let change = |verb: &str, id: &str, summary: &str, text: &str| {
        Operation::post(&format!("/v2/repository/models/{{model}}/{verb}"), "repository", id, summary)
            .describe(text)
            .optional_body(&[(JSON, example("LoadRequest", json!({ "parameters": { "unload_dependents": false } })))])
            .reply(200, "Done; the body is empty.", &[])
            .errors("Error", &[400, 404, 413, 415, 500, 501, 503])
    };
    vec![
        Operation::post("/v2/repository/index", "repository", "repositoryIndex", "Lists what the repository holds.")
            .optional_body(&[(JSON, example("IndexRequest", json!({ "ready": true })))])
            .reply(200, "The models; one that was never loaded has only its name.", &[(JSON, example("Index", index))])
            .errors("Error", &[400, 413, 415]),
        change(
            "load",
            "loadModel",
            "Loads or reloads a model.",
            "Returns once it serves. Only under explicit model control, else 503. Loading with another configuration \
             or other files than the model's own answers 501.",
        ),
        change(
            "unload",
            "unloadModel",
            "Stops serving a model.",
            "Returns at once and finishes what is in flight. Only under explicit model control, else 503.",
        ),
        Operation::get("/v2/cudasharedmemory/status", "v2", "cudaSharedMemoryStatus", "Lists no regions.")
            .describe("Shared memory is not offered; clients that only look find none.")
            .reply(200, "An empty list.", &[(JSON, example("EmptyList", json!([])))]),
    ]
}

fn v1() -> Vec<Operation> {
    let names = json!({ "models": ["iris", "digits"] });
    let mut all =
        vec![Operation::get("/v1/models", "v1", "modelNamesV1", "Lists the models by name, as KServe does.").reply(
            200,
            "The names.",
            &[(JSON, example("ModelNames", names))],
        )];
    for (base, suffix) in [
        ("/v1/models/{model}", ""),
        ("/v1/models/{model}/versions/{version}", "OfVersion"),
        ("/v1/models/{model}/labels/{label}", "OfLabel"),
    ] {
        all.push(
            Operation::get(base, "v1", &format!("modelStatusV1{suffix}"), "Shows the state of a model's versions.")
                .reply(
                    200,
                    "At least one version serves.",
                    &[(JSON, example("StatusV1", status_v1(true, "AVAILABLE")))],
                )
                .reply(503, "None serves.", &[(JSON, example("StatusV1", status_v1(false, "LOADING")))])
                .errors("Error", &[400, 404]),
        );
        all.push(
            Operation::get(
                &format!("{base}/metadata"),
                "v1",
                &format!("modelMetadataV1{suffix}"),
                "Shows a model's signature.",
            )
            .reply(200, "The signature in TensorFlow's terms.", &[(JSON, example("MetadataV1", metadata_v1()))])
            .errors("Error", &[400, 404, 503]),
        );
        all.push(
            Operation::post(
                &format!("{base}:predict"),
                "v1",
                &format!("predictV1{suffix}"),
                "Runs a model on rows or columns.",
            )
            .describe("The content type of the request is not looked at.")
            .headers(&["timeout", "requestId"])
            .body(&[(
                JSON,
                examples(
                    "PredictRequestV1",
                    &[
                        ("rows", json!({ "instances": [[5.1, 3.5, 1.4, 0.2]] })),
                        ("rows of named inputs", json!({ "instances": [{ "X": [5.1, 3.5, 1.4, 0.2] }] })),
                        ("columns", json!({ "inputs": { "X": [[5.1, 3.5, 1.4, 0.2]] } })),
                    ],
                ),
            )])
            .reply(
                200,
                "`predictions` for `instances`, `outputs` for `inputs`.",
                &[(
                    JSON,
                    examples(
                        "PredictReplyV1",
                        &[
                            ("rows", json!({ "predictions": [[0.98, 0.02, 0.0]] })),
                            ("columns", json!({ "outputs": [[0.98, 0.02, 0.0]] })),
                        ],
                    ),
                )],
            )
            .names_version()
            .errors("Error", &INFER_ERRORS),
        );
    }
    all
}

fn status_v1(ready: bool, state: &str) -> Value {
    let status = json!({ "error_code": "OK", "error_message": "" });
    json!({ "name": "iris", "ready": ready, "model_version_status": [{ "version": "1", "state": state, "status": status }] })
}

fn metadata_v1() -> Value {
    let tensor = |name: &str, columns: &str| {
        json!({ "dtype": "DT_FLOAT", "name": format!("{name}:0"), "tensor_shape": { "unknown_rank": false,
            "dim": [{ "size": "-1", "name": "" }, { "size": columns, "name": "" }] } })
    };
    json!({
        "model_spec": { "name": "iris", "signature_name": "", "version": "1" },
        "metadata": { "signature_def": { "signature_def": { "serving_default": {
            "inputs": { "X": tensor("X", "4") },
            "outputs": { "probabilities": tensor("probabilities", "3") },
            "method_name": "tensorflow/serving/predict",
        } } } },
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
            .reply(200, "One record per row.", &[(JSON, example("InvocationReply", json!({
                "predictions": [{ "probabilities": [0.98, 0.02, 0.0] }],
            })))])
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
                            "status": "alive", "name": "salver", "version": "0.1.0", "ready": true,
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
