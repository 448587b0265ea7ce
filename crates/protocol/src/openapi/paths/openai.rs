//! OpenAI's route for embeddings. Its list of models stands with TF Serving's, whose path it shares.

use serde_json::json;

use super::super::operation::{Operation, examples};
use super::{INFER_ERRORS, JSON};

pub(super) fn all() -> Vec<Operation> {
    let usage = json!({ "prompt_tokens": 4, "total_tokens": 4 });
    let entry = |embedding| json!({ "object": "embedding", "index": 0, "embedding": embedding });
    let reply = |embedding| json!({ "object": "list", "data": [entry(embedding)], "model": "mini", "usage": usage });
    vec![
        Operation::post("/v1/embeddings", "openai", "embeddings", "Makes a vector of each text.")
            .describe(
                "For models with the task `text-embedding`. Takes texts, not tokens, at most 2,048 of them; fields \
                 that do not change the answer are not looked at.",
            )
            .headers(&["timeout", "requestId"])
            .body(&[(
                JSON,
                examples(
                    "EmbeddingsRequest",
                    &[
                        ("one text", json!({ "model": "mini", "input": "hello" })),
                        ("texts", json!({ "model": "mini", "input": ["hello", "world"], "encoding_format": "base64" })),
                    ],
                ),
            )])
            .reply(
                200,
                "The vectors, in the order of the texts.",
                &[(
                    JSON,
                    examples(
                        "EmbeddingsReply",
                        &[("numbers", reply(json!([0.6, -0.8]))), ("base64", reply(json!("mpkZP83MTL8=")))],
                    ),
                )],
            )
            .names_version()
            .errors("OpenAi", &INFER_ERRORS),
    ]
}
