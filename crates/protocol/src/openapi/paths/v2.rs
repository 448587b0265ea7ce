//! The routes of the Open Inference Protocol and of its model repository.

use serde_json::{Value, json};

use super::super::operation::{Operation, binary, example, text};
use super::{BINARY, JSON, jobs};

const EVENTS: &str = "text/event-stream";

/// Errors of a route that runs a model; a full queue is 503, as in Triton.
const INFER_ERRORS_V2: [u16; 10] = [400, 404, 408, 413, 415, 499, 500, 501, 503, 504];

pub(super) fn server() -> Vec<Operation> {
    let metadata = json!({ "name": "salver", "version": "0.1.0", "extensions": ["binary_tensor_data", "statistics"],
        "engines": ["onnx: ONNX Runtime 1.31.1"] });
    vec![
        Operation::get("/v2", "v2", "serverMetadata", "Names the server and its extensions.").json_reply(
            200,
            "The server.",
            "ServerMetadata",
            metadata,
        ),
        Operation::get("/v2/health/live", "v2", "serverLive", "Says that the process runs.").json_reply(
            200,
            "It does.",
            "Live",
            json!({ "live": true }),
        ),
        Operation::get("/v2/health/ready", "v2", "serverReady", "Says whether every model that should serve does.")
            .json_reply(
                200,
                "It does; `degraded` names what requests do without, and is left out where all is well.",
                "Ready",
                json!({ "ready": true, "degraded": ["shared_cache"] }),
            )
            .json_reply(400, "Not yet, or not any more.", "Ready", json!({ "ready": false })),
        Operation::get("/v2/models", "v2", "modelNames", "Lists the models by name, as KServe does.").json_reply(
            200,
            "The names.",
            "ModelNames",
            json!({ "models": ["iris", "digits"] }),
        ),
        Operation::get("/v2/models/stats", "v2", "allStatistics", "Counts requests and time of every model.")
            .json_reply(200, "The counters.", "Statistics", statistics()),
    ]
}

pub(super) fn models() -> Vec<Operation> {
    let mut all = Vec::new();
    for (base, suffix) in [("/v2/models/{model}", ""), ("/v2/models/{model}/versions/{version}", "OfVersion")] {
        let get = |rest: &str, id: &str, summary: &str| {
            Operation::get(&format!("{base}{rest}"), "v2", &format!("{id}{suffix}"), summary)
        };
        all.push(
            get("", "modelMetadata", "Describes the inputs and outputs of a model.")
                .json_reply(200, "The model.", "ModelMetadata", model_metadata())
                .errors("Error", &[400, 404, 503]),
        );
        all.push(
            get("/ready", "modelReady", "Says whether a model can answer.")
                .json_reply(200, "It can.", "ModelReady", json!({ "name": "iris", "ready": true }))
                .json_reply(
                    400,
                    "It cannot, or is unknown.",
                    "ModelReady",
                    json!({ "name": "iris", "ready": false, "error": "Model version not ready" }),
                ),
        );
        all.push(
            get("/config", "modelConfig", "Shows the effective configuration of a model.")
                .json_reply(
                    200,
                    "The fields of `config.pbtxt`, defaults spelled out.",
                    "ModelConfig",
                    json!({
                        "name": "iris", "platform": "onnxruntime_onnx", "backend": "onnxruntime", "max_batch_size": 8,
                    }),
                )
                .errors("Error", &[400, 404]),
        );
        all.push(
            get("/stats", "modelStatistics", "Counts requests and time of a model.")
                .json_reply(200, "The counters.", "Statistics", statistics())
                .errors("Error", &[400]),
        );
        all.push(infer(base, suffix));
        all.extend(generate(base, suffix));
    }
    all
}

fn generate(base: &str, suffix: &str) -> [Operation; 2] {
    let request = || example("GenerateRequest", json!({ "id": "42", "X": [5.1, 3.5, 1.4, 0.2] }));
    let reply = json!({ "id": "42", "model_name": "iris", "model_version": "1", "probabilities": [0.98, 0.02, 0.0] });
    let post = |route: &str, id: &str, summary: &str| {
        Operation::post(&format!("{base}/{route}"), "v2", &format!("{id}{suffix}"), summary)
            .describe(
                "What names an input is its tensor: a value, or a list that fills the input's shape from the inner \
                 end. Everything else, also within `parameters`, is a request parameter. The body is not compressed.",
            )
            .headers(&["timeout", "requestId"])
            .body(&[(JSON, request())])
    };
    let one = post("generate", "generate", "Runs a model, inputs and outputs by name.").reply(
        200,
        "The outputs; one element is a bare value.",
        &[(JSON, example("GenerateReply", reply.clone()))],
    );
    let several = post("generate_stream", "generateStream", "Runs a model and streams what it answers.").reply(
        200,
        "An event for each answer, `data: ` and the reply of `generate`. What fails later is an event with `error`.",
        &[(EVENTS, text(&format!("data: {reply}\n\n")))],
    );
    [one, several].map(|operation| operation.names_version().errors("Error", &INFER_ERRORS_V2))
}

/// Trace and log settings.
pub(super) fn settings() -> Vec<Operation> {
    let traces = json!({ "trace_level": ["TIMESTAMPS"], "trace_rate": "100", "trace_count": "-1", "log_frequency": "0",
        "trace_file": "", "trace_mode": "triton" });
    let logs = json!({ "log_file": "", "log_info": true, "log_warning": true, "log_error": true,
        "log_verbose_level": 0, "log_format": "default" });
    let mut all = Vec::new();
    for (base, suffix, whose) in [("/v2", "", "the server"), ("/v2/models/{model}", "OfModel", "a model")] {
        let path = format!("{base}/trace/setting");
        let shown =
            |operation: Operation| operation.json_reply(200, "The settings in force.", "TraceSettings", traces.clone());
        let (get, post) = (format!("traceSettings{suffix}"), format!("changeTraceSettings{suffix}"));
        all.push(
            shown(Operation::get(&path, "v2", &get, &format!("Shows which requests of {whose} are traced.")))
                .errors("Error", &[400]),
        );
        let change = example("TraceUpdate", json!({ "trace_level": ["TIMESTAMPS"], "trace_rate": "100" }));
        all.push(
            shown(Operation::post(&path, "v2", &post, &format!("Changes which requests of {whose} are traced.")))
                .describe("The times of each request of the rate are logged. Files are not written: 501.")
                .body(&[(JSON, change)])
                .errors("Error", &[400, 413, 415, 501]),
        );
    }
    let shown = |operation: Operation| operation.json_reply(200, "The settings in force.", "LogSettings", logs.clone());
    all.push(
        shown(Operation::get("/v2/logging", "v2", "logSettings", "Shows what is logged.")).errors("Error", &[501]),
    );
    all.push(
        shown(Operation::post("/v2/logging", "v2", "changeLogSettings", "Changes what is logged, at once."))
            .describe("A level of 1 adds lines for debugging, 2 all there are. A log file is not set here: 501.")
            .body(&[(JSON, example("LogUpdate", json!({ "log_verbose_level": 1 })))])
            .errors("Error", &[400, 413, 415, 501]),
    );
    all
}

fn infer(base: &str, suffix: &str) -> Operation {
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
        .json_reply(202, jobs::LEFT_TO_JOB, "JobSubmitted", jobs::submitted())
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

pub(super) fn repository() -> Vec<Operation> {
    let index = json!([{ "name": "iris", "version": "1", "state": "READY" }, { "name": "digits" }]);
    let change = |verb: &str, id: &str, schema: &str, body: Value, summary: &str, text: &str| {
        Operation::post(&format!("/v2/repository/models/{{model}}/{verb}"), "repository", id, summary)
            .describe(text)
            .optional_body(&[(JSON, example(schema, json!({ "parameters": body })))])
            .reply(200, "Done; the body is empty.", &[])
            .errors("Error", &[400, 404, 413, 415, 500, 501, 503])
    };
    vec![
        Operation::post("/v2/repository/index", "repository", "repositoryIndex", "Lists what the repository holds.")
            .optional_body(&[(JSON, example("IndexRequest", json!({ "ready": true })))])
            .json_reply(200, "The models; one that was never loaded has only its name.", "Index", index)
            .errors("Error", &[400, 413, 415]),
        change(
            "load",
            "loadModel",
            "LoadRequest",
            json!({ "config": "{\"max_batch_size\": 8}" }),
            "Loads or reloads a model.",
            "Returns once it serves. Only under explicit model control, else 503. A configuration in the request \
             replaces the model's own, files replace its folder (with --allow-model-upload, else 501); what does not \
             read, fit or load answers 400, and what served before serves on.",
        ),
        change(
            "unload",
            "unloadModel",
            "UnloadRequest",
            json!({ "unload_dependents": false }),
            "Stops serving a model.",
            "Returns at once and finishes what is in flight. Only under explicit model control, else 503.",
        ),
        Operation::get("/v2/cudasharedmemory/status", "v2", "cudaSharedMemoryStatus", "Lists no regions.")
            .describe("CUDA shared memory is not offered; clients that only look find none.")
            .json_reply(200, "An empty list.", "EmptyList", json!([])),
    ]
}
