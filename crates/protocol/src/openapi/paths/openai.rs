//! OpenAI's routes for embeddings and conversations. Its list of models stands with TF Serving's, whose path it shares.

use serde_json::json;

use super::super::operation::{Operation, example, examples};
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
        chat(),
    ]
}

fn chat() -> Operation {
    let messages = json!([{ "role": "user", "content": "Say hello." }]);
    let message = json!({ "role": "assistant", "content": "Hello.", "refusal": null });
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" });
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11 });
    let reply = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "writer", "choices": [choice],
        "usage": usage,
    });
    Operation::post("/v1/chat/completions", "openai", "chat", "Goes on with a conversation.")
        .describe(
            "For models with an input `messages` or `prompt` and an output `text`. Answers in one piece; fields that \
             would change the answer and are not offered are refused.",
        )
        .headers(&["timeout", "requestId"])
        .body(&[(JSON, example("ChatRequest", json!({ "model": "writer", "messages": messages, "temperature": 0 })))])
        .json_reply(200, "The next words.", "ChatReply", reply)
        .names_version()
        .errors("OpenAi", &INFER_ERRORS)
}
