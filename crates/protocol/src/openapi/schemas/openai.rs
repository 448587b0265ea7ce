//! The shapes of OpenAI's embeddings and models.

use serde_json::{Value, json};

use super::{count, list, object, text};

pub(super) fn schemas() -> Value {
    let model = object(
        &["id", "object", "created", "owned_by"],
        json!({ "id": text(), "object": { "const": "model" }, "created": count(), "owned_by": text() }),
    );
    let texts = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 2048 });
    json!({
        "ModelNamesV1": object(&["object", "data", "models"], json!({
            "object": { "const": "list" }, "data": list(model), "models": list(text()),
        })),
        "EmbeddingsRequest": object(&["model", "input"], json!({
            "model": text(),
            "input": { "anyOf": [text(), texts] },
            "encoding_format": { "enum": ["float", "base64", null] },
            "dimensions": { "type": ["integer", "null"], "minimum": 1, "description": "That of the model, if given." },
            "user": text(),
        })),
        "EmbeddingsReply": object(&["object", "data", "model", "usage"], json!({
            "object": { "const": "list" },
            "data": list(object(&["object", "index", "embedding"], json!({
                "object": { "const": "embedding" }, "index": count(),
                "embedding": {
                    "description": "Numbers, or base64 of little-endian floats of 32 bits.",
                    "type": ["array", "string"],
                },
            }))),
            "model": text(),
            "usage": object(&["prompt_tokens", "total_tokens"], json!({
                "prompt_tokens": count(), "total_tokens": count(),
            })),
        })),
        "ChatRequest": object(&["model", "messages"], json!({
            "model": text(),
            "messages": { "type": "array", "minItems": 1, "items": object(&["role"], json!({
                "role": text(), "content": { "type": ["string", "array", "null"] },
            })) },
            "temperature": { "type": ["number", "null"] },
            "top_p": { "type": ["number", "null"] },
            "max_tokens": { "type": ["integer", "null"] },
            "max_completion_tokens": { "type": ["integer", "null"] },
            "seed": { "type": ["integer", "null"] },
            "stop": { "type": ["string", "array", "null"] },
            "frequency_penalty": { "type": ["number", "null"] },
            "presence_penalty": { "type": ["number", "null"] },
            "stream": { "enum": [false, null] },
            "n": { "enum": [1, null] },
        })),
        "ChatReply": object(&["id", "object", "created", "model", "choices"], json!({
            "id": text(), "object": { "const": "chat.completion" }, "created": count(), "model": text(),
            "choices": list(object(&["index", "message", "finish_reason"], json!({
                "index": count(), "finish_reason": text(), "logprobs": { "type": "null" },
                "message": object(&["role", "content"], json!({
                    "role": { "const": "assistant" }, "content": text(), "refusal": { "type": "null" },
                })),
            }))),
            "usage": object(&["prompt_tokens", "completion_tokens", "total_tokens"], json!({
                "prompt_tokens": count(), "completion_tokens": count(), "total_tokens": count(),
            })),
        })),
        "OpenAiError": object(&["error"], json!({
            "error": object(&["message", "type", "param", "code"], json!({
                "message": text(), "type": text(),
                "param": { "type": ["string", "null"] }, "code": { "type": ["string", "null"] },
            })),
        })),
    })
}
