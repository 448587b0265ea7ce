//! The OpenAPI 3.1 description of everything that the server answers over REST.
//!
//! Built here, beside the protocols that it describes, so that its examples can be fed to their
//! decoders in a test. `operation` is the builder, `schemas` the shapes, `paths` the routes.
//! Routes that exist only behind a flag, those that answer 501, and MLflow's tracking interface are
//! left out.

mod operation;
mod paths;
mod schemas;

use serde_json::{Value, json};

/// Returns the document as JSON text.
pub fn document(server_version: &str) -> String {
    // Values made of strings, numbers, lists and maps have a text; the alternate form is indented.
    format!("{:#}", build(server_version))
}

fn build(server_version: &str) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Salver",
            "version": server_version,
            "summary": "A server for machine learning models.",
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The server that this document came from." }],
        "security": [],
        "tags": tags(),
        "paths": paths::all(),
        "components": {
            "schemas": schemas::schemas(),
            "parameters": schemas::parameters(),
            "headers": schemas::headers(),
            "responses": schemas::responses(),
        },
    })
}

const DESCRIPTION: &str = "\
The same models are served under several protocols: the plain one for people, the Open Inference Protocol (version 2) \
with Triton's extensions, TensorFlow Serving's and KServe's version 1, OpenAI's embeddings, and MLflow's scoring \
server. Each answers errors in its own shape.\n\n\
Request bodies may be compressed (`Content-Encoding: gzip` or `deflate`), replies are compressed where \
`Accept-Encoding` asks for it. Every reply carries `x-request-id`, taken from the request where it has a valid one. \
The header `x-salver-timeout-ms` bounds the whole request.\n\n\
`NaN`, `Infinity` and `-Infinity` stand as bare tokens in the JSON of versions 1 and 2 and of MLflow, as their clients \
expect; the plain protocol is strict JSON and writes `null`.\n\n\
gRPC is answered on the same port and has its own description through reflection. CUDA shared memory and the verb \
`:explain` answer 501.\n\n\
MLflow's tracking and registry interface is answered under `/api/2.0/mlflow` and `/api/2.0/mlflow-artifacts`; MLflow \
describes it: https://mlflow.org/docs/latest/rest-api.html.";

fn tags() -> Value {
    json!([
        { "name": "plain", "description": "Predictions in the natural JSON of a model, for people." },
        { "name": "v2", "description": "The Open Inference Protocol, as Triton and KServe speak it." },
        { "name": "repository", "description": "Loading and unloading models, as in Triton." },
        { "name": "v1", "description": "TensorFlow Serving's REST API and KServe's version 1." },
        { "name": "openai", "description": "OpenAI's embeddings." },
        { "name": "mlflow", "description": "MLflow's scoring server, for the default model." },
        { "name": "admin", "description": "What is in memory, and what shall be." },
        { "name": "jobs", "description": "Work that outlives its request." },
        { "name": "registry", "description": "Registered models, their versions and stages, and who changed them." },
        { "name": "server", "description": "The server itself." },
    ])
}

#[cfg(test)]
mod tests;
