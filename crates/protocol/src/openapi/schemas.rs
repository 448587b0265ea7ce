//! The shapes that the routes share: bodies, parameters, headers, error replies.

mod graph;
mod jobs;
mod openai;
mod plain;
mod registry;
mod triton;

use serde_json::{Map, Value, json};

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

pub(super) fn schemas() -> Value {
    let mut all = Map::new();
    let inference = [shared(), plain::schemas(), v2(), statistics(), repository(), v1(), openai::schemas(), mlflow()];
    for group in inference.into_iter().chain([
        triton::schemas(),
        admin(),
        graph::schemas(),
        registry::schemas(),
        jobs::schemas(),
    ]) {
        if let Value::Object(group) = group {
            all.extend(group);
        }
    }
    Value::Object(all)
}

fn shared() -> Value {
    json!({
        "DataType": { "type": "string", "enum": salver_core::DataType::ALL.map(|dtype| dtype.as_str()) },
        "Shape": {
            "type": "array", "items": { "type": "integer", "minimum": -1 },
            "description": "The extent of each dimension; -1 is any extent.",
        },
        "Nested": {
            "description": "A value, or lists of values nested by the shape of the tensor.",
            "type": ["number", "string", "boolean", "array", "object", "null"],
        },
        "Parameters": {
            "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] },
        },
        "EmptyList": { "type": "array", "maxItems": 0 },
        "ModelNames": object(&["models"], json!({ "models": list(text()) })),
        "Error": object(&["error"], json!({ "error": text() })),
        "PlainError": object(&["error"], json!({
            "error": object(&["kind", "message"], json!({
                "kind": { "type": "string", "examples": ["invalid_input", "not_found", "overloaded"] },
                "message": text(),
            })),
        })),
        "MlflowError": object(&["error_code", "message"], json!({ "error_code": text(), "message": text() })),
        "Summary": object(&["status", "name", "version", "ready", "degraded", "engines", "models"], json!({
            "status": text(), "name": text(), "version": text(), "ready": flag(), "degraded": list(degraded()),
            "engines": list(text()), "models": list(text()),
        })),
    })
}

/// What does not answer, and requests do without.
fn degraded() -> Value {
    json!({ "enum": ["shared_cache", "job_queue"] })
}

/// A version's state, in lower case.
fn state() -> Value {
    json!({ "enum": ["pending", "loading", "warming", "ready", "draining", "gone", "failed", null] })
}

fn admin() -> Value {
    let resident = json!({
        "type": ["object", "null"],
        "description": "Null: not in memory.",
        "required": ["memory_bytes", "pinned", "in_flight", "last_used_ms_ago", "loads"],
        "properties": {
            "memory_bytes": count(), "pinned": flag(), "in_flight": count(), "last_used_ms_ago": count(),
            "loads": count(),
        },
    });
    json!({
        "Residency": object(&["memory", "models"], json!({
            "memory": object(&["resident_bytes", "limit_bytes"], json!({
                "resident_bytes": count(), "limit_bytes": { "type": ["integer", "null"] },
            })),
            "models": list(schema("ModelMemory")),
        })),
        "ModelResidency": object(&["models"], json!({ "models": list(schema("ModelMemory")) })),
        "ModelMemory": object(&["name", "version", "state", "reason", "resident"], json!({
            "name": text(), "version": { "type": ["integer", "null"] }, "state": state(),
            "reason": { "type": ["string", "null"] }, "resident": resident,
        })),
        "Done": { "type": "object" },
        "Purged": object(&["purged"], json!({ "purged": count() })),
    })
}

fn v2() -> Value {
    let tensor_metadata = object(
        &["name", "datatype", "shape"],
        json!({
            "name": text(), "datatype": schema("DataType"), "shape": schema("Shape"),
        }),
    );
    json!({
        "Live": object(&["live"], json!({ "live": flag() })),
        "Ready": object(&["ready"], json!({ "ready": flag(), "degraded": list(degraded()) })),
        "ModelReady": object(&["name", "ready"], json!({ "name": text(), "ready": flag(), "error": text() })),
        "ServerMetadata": object(&["name", "version", "extensions", "engines"], json!({
            "name": text(), "version": text(), "extensions": list(text()), "engines": list(text()),
        })),
        "TensorMetadata": tensor_metadata,
        "ModelMetadata": object(&["name", "versions", "platform", "inputs", "outputs"], json!({
            "name": text(), "versions": list(text()), "platform": text(),
            "inputs": list(schema("TensorMetadata")), "outputs": list(schema("TensorMetadata")),
        })),
        "ModelConfig": {
            "description": "Triton's model configuration under the names of `config.pbtxt`.",
            "type": "object", "required": ["name", "platform", "backend", "max_batch_size"],
            "properties": { "name": text(), "platform": text(), "backend": text(), "max_batch_size": count() },
        },
        "InferInput": object(&["name", "shape", "datatype"], json!({
            "name": text(), "shape": list(count()), "datatype": schema("DataType"),
            "data": { "type": "array", "description": "Flat or nested, row-major. FP16 and BF16 come as binary only." },
            "parameters": object(&[], json!({
                "binary_data_size": { "type": "integer", "minimum": 0, "description": "Bytes in the binary part." },
                "shared_memory_region": { "type": "string", "description": "The region that has the data." },
                "shared_memory_byte_size": count(), "shared_memory_offset": count(),
            })),
        })),
        "InferOutput": object(&["name"], json!({
            "name": text(),
            "parameters": object(&[], json!({
                "binary_data": { "type": "boolean", "description": "Wanted as binary." },
                "shared_memory_region": { "type": "string", "description": "The region that takes the data." },
                "shared_memory_byte_size": count(), "shared_memory_offset": count(),
            })),
        })),
        "InferRequest": object(&["inputs"], json!({
            "id": text(),
            "parameters": {
                "allOf": [schema("Parameters")],
                "properties": {
                    "binary_data_output": { "type": "boolean", "description": "Every output as binary." },
                    "priority": { "type": "integer", "minimum": 0, "description": "1 is the highest; 0 the default." },
                    "timeout": { "type": "integer", "minimum": 0, "description": "Microseconds in the queue." },
                },
            },
            "inputs": list(schema("InferInput")),
            "outputs": { "type": "array", "items": schema("InferOutput"), "description": "All, where absent or empty." },
        })),
        "InferReply": object(&["model_name", "model_version", "outputs"], json!({
            "id": text(), "model_name": text(), "model_version": text(),
            "outputs": list(object(&["name", "datatype", "shape"], json!({
                "name": text(), "datatype": schema("DataType"), "shape": list(count()),
                "data": { "type": "array", "description": "Flat, row-major." },
                "parameters": object(&[], json!({ "binary_data_size": count() })),
            }))),
        })),
    })
}

fn statistics() -> Value {
    let computed = ["compute_input", "compute_infer", "compute_output"];
    let of =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), schema("DurationStat"))).collect::<Map<_, _>>();
    let mut batch = of(&computed);
    batch.insert("batch_size".to_owned(), count());
    json!({
        "DurationStat": object(&["count", "ns"], json!({ "count": count(), "ns": count() })),
        "Statistics": object(&["model_stats"], json!({
            "model_stats": list(object(
                &["name", "version", "last_inference", "inference_count", "execution_count", "inference_stats", "batch_stats"],
                json!({
                    "name": text(), "version": text(),
                    "last_inference": { "type": "integer", "description": "Milliseconds since the epoch; 0: never." },
                    "inference_count": { "type": "integer", "description": "Rows." },
                    "execution_count": { "type": "integer", "description": "Executions of the model." },
                    "inference_stats": object(&[], Value::Object(of(&[
                        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
                    ]))),
                    "response_stats": { "type": "object" },
                    "batch_stats": list(object(&["batch_size"], Value::Object(batch))),
                    "memory_usage": { "type": "array" },
                }),
            )),
        })),
    })
}

fn repository() -> Value {
    json!({
        "IndexRequest": object(&[], json!({ "ready": { "type": "boolean", "description": "Only those that serve." } })),
        "Index": list(object(&["name"], json!({
            "name": text(), "version": text(),
            "state": { "enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"] },
            "reason": text(),
        }))),
        "LoadRequest": object(&[], json!({
            "parameters": {
                "type": "object",
                "properties": { "config": {
                    "type": "string",
                    "description": "The whole configuration: JSON with the fields of config.pbtxt.",
                } },
                "patternProperties": { "^file:": {
                    "type": "string", "contentEncoding": "base64",
                    "description": "A file of the model's folder, such as file:1/model.onnx; needs config.",
                } },
            },
        })),
        "UnloadRequest": object(&[], json!({
            "parameters": object(&[], json!({ "unload_dependents": flag() })),
        })),
        "RegisterRegion": object(&["key", "byte_size"], json!({
            "key": { "type": "string", "maxLength": 255, "description": "Its name, with or without a slash before it." },
            "offset": count(), "byte_size": { "type": "integer", "minimum": 1 },
        })),
        "Regions": list(object(&["name", "key", "offset", "byte_size"], json!({
            "name": text(), "key": text(), "offset": count(), "byte_size": count(),
        }))),
    })
}

fn v1() -> Value {
    let tensors = json!({ "type": "object", "additionalProperties": {
        "type": "object", "required": ["dtype", "tensor_shape", "name"],
        "properties": { "dtype": text(), "name": text(), "tensor_shape": { "type": "object" } },
    } });
    let signature = object(
        &["inputs", "outputs", "method_name"],
        json!({
            "inputs": tensors, "outputs": tensors, "method_name": text(),
        }),
    );
    let by_name = json!({ "type": "object", "additionalProperties": signature });
    json!({
        "PredictRequestV1": {
            "type": "object",
            "properties": {
                "signature_name": { "enum": ["", "serving_default"] },
                "instances": {
                    "type": "array", "minItems": 1, "items": schema("Nested"),
                    "description": "Rows: values of a single input, or objects with one key per input. `{\"b64\": …}` is a byte string.",
                },
                "inputs": {
                    "allOf": [schema("Nested")],
                    "description": "Columns: the value of a single input, or an object by input name.",
                },
            },
            "oneOf": [{ "required": ["instances"] }, { "required": ["inputs"] }],
        },
        "PredictReplyV1": {
            "type": "object",
            "properties": {
                "predictions": {
                    "type": "array", "items": schema("Nested"),
                    "description": "Values of a single output, or objects by output name.",
                },
                "outputs": {
                    "allOf": [schema("Nested")],
                    "description": "The value of a single output, or an object by output name.",
                },
            },
            "oneOf": [{ "required": ["predictions"] }, { "required": ["outputs"] }],
        },
        "ExamplesRequestV1": object(&["examples"], json!({
            "signature_name": { "enum": ["", "serving_default"] },
            "context": { "type": "object", "description": "Features of all examples." },
            "examples": {
                "type": "array", "minItems": 1, "items": { "type": "object" },
                "description": "Features by name: a value, or a list of values. `{\"b64\": …}` is a byte string.",
            },
        })),
        "ResultsReplyV1": object(&["results"], json!({
            "results": {
                "type": "array",
                "description": "Lists of `[label, score]` for `:classify`, numbers for `:regress`.",
            },
        })),
        "StatusV1": object(&["name", "ready", "model_version_status"], json!({
            "name": text(), "ready": flag(), "id": text(), "object": { "const": "model" }, "created": count(),
            "owned_by": text(),
            "model_version_status": list(object(&["version", "state", "status"], json!({
                "version": text(),
                "state": { "enum": ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"] },
                "status": object(&["error_code", "error_message"], json!({ "error_code": text(), "error_message": text() })),
            }))),
        })),
        "MetadataV1": object(&["model_spec", "metadata"], json!({
            "model_spec": object(&["name", "signature_name", "version"], json!({
                "name": text(), "signature_name": text(), "version": text(),
            })),
            "metadata": object(&["signature_def"], json!({
                "signature_def": object(&["signature_def"], json!({ "signature_def": by_name })),
            })),
        })),
    })
}

fn mlflow() -> Value {
    json!({
        "Invocation": {
            "type": "object",
            "properties": {
                "dataframe_split": object(&["columns", "data"], json!({
                    "columns": list(json!({ "type": ["string", "number"] })),
                    "data": list(json!({ "type": "array" })),
                    "index": { "description": "Not looked at." },
                })),
                "dataframe_records": list(json!({ "type": "object" })),
                "instances": { "type": "array", "description": "Rows: values of a single input, or objects." },
                "inputs": {
                    "type": ["object", "array", "number", "string", "boolean"],
                    "description": "Columns by name, or the value of a single input.",
                },
                "params": { "type": "object" },
            },
            "oneOf": [
                { "required": ["dataframe_split"] }, { "required": ["dataframe_records"] },
                { "required": ["instances"] }, { "required": ["inputs"] },
            ],
        },
        "InvocationReply": object(&["predictions"], json!({
            "predictions": {
                "description": "One record per row; one object of whole outputs where they have no rows in common.",
                "type": ["array", "object"],
            },
        })),
    })
}

pub(super) fn parameters() -> Value {
    let model = "The name of the model.";
    let in_path = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema });
    let in_header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema });
    let mut all = json!({
        "model": in_path("model", model, json!({ "type": "string", "maxLength": 128 })),
        "version": in_path("version", "The number of a version.", json!({ "type": "string", "pattern": "^[0-9]+$" })),
        "label": in_path("label", "A label or alias that stands for a version.", text()),
        "region": in_path("region", "What requests call a region of shared memory.", json!({ "type": "string", "maxLength": 128 })),
        "timeout": in_header("x-salver-timeout-ms", "Bounds the whole request, in milliseconds.", count()),
        "requestId": in_header("x-request-id", "Names the request in logs and in the reply.", json!({ "type": "string", "maxLength": 128 })),
        "inferenceHeaderLength": in_header("Inference-Header-Content-Length", "Bytes of the JSON part of a binary body.", count()),
    });
    for more in [graph::parameters(), registry::parameters(), jobs::parameters()] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

pub(super) fn headers() -> Value {
    json!({
        "RequestId": { "description": "Names the request in the server's log.", "schema": text() },
        "ModelVersion": { "description": "The version that answered.", "schema": count() },
        "RetryAfter": { "description": "Seconds to wait before another try, where known.", "schema": count() },
    })
}

/// Error replies, for each protocol's shape: `Plain404`, `Error404`, `Mlflow404`, `OpenAi404`, …
pub(super) fn responses() -> Value {
    let meanings = [
        (400, "The request contradicts the model or the protocol; the text says where."),
        (404, "No such model or version."),
        (408, "The body came too slowly."),
        (409, "Something else is there by now, or in the way; the text says what."),
        (413, "The body is larger than the server allows."),
        (410, "It is gone; the text says why."),
        (415, "The body is compressed in a way that the server does not read."),
        (422, "The idempotency key belongs to another job."),
        (429, "The model's queue is full."),
        (499, "The caller went away."),
        (500, "The engine failed."),
        (501, "Not offered."),
        (503, "Not serving at the moment, or full."),
        (504, "The deadline passed."),
    ];
    let mut all = Map::new();
    let shapes = [("Plain", "PlainError"), ("Error", "Error"), ("Mlflow", "MlflowError"), ("OpenAi", "OpenAiError")];
    for (shape, schema_name) in shapes {
        for (status, meaning) in meanings {
            let mut headers = json!({ "x-request-id": { "$ref": "#/components/headers/RequestId" } });
            if status == 429 || status == 503 {
                headers["Retry-After"] = json!({ "$ref": "#/components/headers/RetryAfter" });
            }
            let reply = json!({
                "description": meaning,
                "headers": headers,
                "content": { "application/json": { "schema": schema(schema_name) } },
            });
            all.insert(format!("{shape}{status}"), reply);
        }
    }
    Value::Object(all)
}
