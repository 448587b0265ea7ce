//! The shapes of predictions for people.

use serde_json::{Value, json};

use super::{count, flag, list, object, schema, state, text};

pub(super) fn schemas() -> Value {
    json!({
        "ModelList": object(&["models"], json!({
            "models": list(object(&["name", "version", "state"], json!({
                "name": text(),
                "version": { "type": ["integer", "null"] },
                "state": state(),
                "reason": { "type": ["string", "null"] },
            }))),
        })),
        "Described": object(&["name", "datatype", "shape"], json!({
            "name": text(), "datatype": schema("DataType"), "shape": schema("Shape"), "optional": flag(),
            "columns": list(text()), "labels": list(text()),
        })),
        "Description": object(
            &["name", "version", "versions", "engine", "task", "batched", "inputs", "outputs", "metrics", "predict", "example"],
            json!({
                "name": text(), "version": count(), "versions": list(count()), "engine": text(), "platform": text(),
                "task": text(),
                "batched": { "type": "boolean", "description": "Whether the first dimension is one of rows." },
                "inputs": list(schema("Described")), "outputs": list(schema("Described")),
                "metrics": { "type": "object", "additionalProperties": { "type": "number" } },
                "predict": text(),
                "example": { "description": "A body for `predict`; null where it would be too long to read." },
            }),
        ),
        "PredictRequest": {
            "description": "A row object by column, a list of them, `{\"row\": …}`, `{\"rows\": …}`, nested lists for \
                            a model with one input, or tensors by input name, also as `{\"inputs\": …}`. `null` is the \
                            NaN of a float, or a column that is missing. Models of texts take `{\"text\": …}`, one or a \
                            list, with `labels` for zero-shot classification; models of pictures `{\"image\": …}` with \
                            base64.",
            "type": ["object", "array", "number", "string", "boolean", "null"],
        },
        "PredictForm": {
            "type": "object",
            "properties": {
                "image": list(json!({ "contentMediaType": "image/*" })), "text": list(text()), "labels": list(text()),
                "file": list(json!({ "contentMediaType": "application/octet-stream" })),
            },
        },
        "Prediction": {
            "type": "object",
            "properties": {
                "label": { "type": ["string", "number", "null"] },
                "score": { "type": ["number", "null"] },
                "probabilities": {
                    "description": "By label, where each row sums to one; a list where labels repeat.",
                    "type": ["object", "array"],
                },
                "scores": { "description": "By label, otherwise.", "type": ["object", "array"] },
                "labels": {
                    "description": "Of texts and pictures: classes with their scores, best first, where there are several.",
                    "type": "array",
                },
                "entities": { "description": "Of token classification.", "type": ["array", "string"] },
                "embedding": { "type": "array" },
                "tokens": { "description": "How many the model saw.", "type": "integer" },
                "truncated": { "description": "Whether the text was cut.", "type": "boolean" },
            },
            "additionalProperties": { "description": "Other outputs by name.", "$ref": "#/components/schemas/Nested" },
        },
        "PredictReply": {
            "type": "object", "required": ["model", "version"],
            "properties": {
                "model": text(), "version": count(),
                "predictions": list(schema("Prediction")),
                "outputs": { "type": "object", "additionalProperties": schema("Nested") },
            },
            "oneOf": [{ "required": ["predictions"] }, { "required": ["outputs"] }],
        },
    })
}
