//! The routes of TF Serving's REST API, which is also KServe's version 1.

use serde_json::{Value, json};

use super::super::operation::{Operation, examples};
use super::{INFER_ERRORS, JSON};

pub(super) fn all() -> Vec<Operation> {
    let model = |name: &str| json!({ "id": name, "object": "model", "created": 1767225600, "owned_by": "salver" });
    let names = json!({
        "object": "list", "data": [model("iris"), model("digits")], "models": ["iris", "digits"],
    });
    let mut all = vec![
        Operation::get("/v1/models", "v1", "modelNamesV1", "Lists the models, for clients of KServe and OpenAI.")
            .json_reply(200, "The models.", "ModelNamesV1", names),
    ];
    for (base, suffix) in [
        ("/v1/models/{model}", ""),
        ("/v1/models/{model}/versions/{version}", "OfVersion"),
        ("/v1/models/{model}/labels/{label}", "OfLabel"),
    ] {
        all.push(
            Operation::get(base, "v1", &format!("modelStatusV1{suffix}"), "Shows the state of a model's versions.")
                .json_reply(200, "At least one version serves.", "StatusV1", status_v1(true, "AVAILABLE"))
                .json_reply(503, "None serves.", "StatusV1", status_v1(false, "LOADING"))
                .errors("Error", &[400, 404]),
        );
        all.push(
            Operation::get(
                &format!("{base}/metadata"),
                "v1",
                &format!("modelMetadataV1{suffix}"),
                "Shows a model's signature.",
            )
            .json_reply(200, "The signature in TensorFlow's terms.", "MetadataV1", metadata_v1())
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
    json!({
        "name": "iris", "ready": ready,
        "model_version_status": [{ "version": "1", "state": state, "status": status }],
        "id": "iris", "object": "model", "created": 1767225600, "owned_by": "salver",
    })
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
