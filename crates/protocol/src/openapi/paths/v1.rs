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
        all.push(of_examples(base, suffix, "classify", "Answers classes and their scores for each example."));
        all.push(of_examples(base, suffix, "regress", "Answers one number for each example."));
    }
    all
}

fn of_examples(base: &str, suffix: &str, verb: &str, summary: &str) -> Operation {
    let example = json!({ "sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2 });
    let whole = json!({ "X": [5.1, 3.5, 1.4, 0.2] });
    let shared = json!({ "context": { "petal_width": 0.2 }, "examples": [
        { "sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4 },
    ] });
    let results = if verb == "classify" {
        json!([[["setosa", 0.98], ["versicolor", 0.02], ["virginica", 0.0]]])
    } else {
        json!([0.98])
    };
    Operation::post(&format!("{base}:{verb}"), "v1", &format!("{verb}V1{suffix}"), summary)
        .describe("A feature is an input of its name, or the column of its name. The content type is not looked at.")
        .headers(&["timeout", "requestId"])
        .body(&[(
            JSON,
            examples(
                "ExamplesRequestV1",
                &[
                    ("columns", json!({ "examples": [example] })),
                    ("whole inputs", json!({ "examples": [whole] })),
                    ("features that all share", shared),
                ],
            ),
        )])
        .reply(
            200,
            "One result for each example.",
            &[(JSON, examples("ResultsReplyV1", &[("results", json!({ "results": results }))]))],
        )
        .names_version()
        .errors("Error", &INFER_ERRORS)
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
