//! OpenAI's `/v1/chat/completions`: a conversation in, the model's next words out, in one piece.
//!
//! For every model with an output `text` and an input `messages` or `prompt`, whatever computes it.
//! Fields that would change the answer and are not offered are refused by name, those that would not
//! are not looked at. Source: OpenAI's API reference, "Create chat completion".

use salver_core::{
    DataType, Elements, Error, InferRequest, InferResponse, ModelInfo, ModelRef, Parameter, Result, Shape, Tensor,
};
use serde_json::{Map, Value, json};

use crate::json::read;
use crate::rows::request;
use crate::{Limits, Reply};

const MESSAGES: &str = "messages";
const PROMPT: &str = "prompt";
const TEXT: &str = "text";

/// Fields that a model may act on; they go along as parameters of the request.
const PARAMETERS: [&str; 8] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
];
/// Fields that would change the answer.
const NOT_OFFERED: [&str; 11] = [
    "audio",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "modalities",
    "response_format",
    "tool_choice",
    "tools",
    "top_logprobs",
    "web_search_options",
];

/// Reads the body of `/v1/chat/completions`. `describe` tells of the model what is known of it.
///
/// # Errors
/// `InvalidInput` that begins with the name of the field at fault.
pub fn decode_chat<I: AsRef<ModelInfo>>(
    body: &[u8],
    limits: &Limits,
    describe: impl FnOnce(&ModelRef) -> Option<I>,
) -> Result<InferRequest> {
    read::check_depth(body, limits.json_depth)?;
    let mut fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        Error::invalid_input(format!("the request is no JSON object: {}", read::clip(&error.to_string())))
    })?;
    fields.retain(|_, value| !value.is_null());
    let model = model_ref(&fields)?;
    check_offered(&fields)?;
    let info = describe(&model);
    let info: Option<&ModelInfo> = info.as_ref().map(AsRef::as_ref);
    if let Some(info) = info {
        check_model(info)?;
    }
    let mut request = request(model, vec![input(&fields, info)?]);
    for name in PARAMETERS {
        if let Some(value) = fields.get(name) {
            request.parameters.insert(name.to_owned(), parameter(name, value)?);
        }
    }
    Ok(request)
}

fn model_ref(fields: &Map<String, Value>) -> Result<ModelRef> {
    match fields.get("model") {
        Some(Value::String(name)) => name.parse().map_err(|error: Error| error.context("'model'")),
        Some(_) => Err(Error::invalid_input("'model' must be a string: the name of a model")),
        None => Err(Error::invalid_input("'model' is missing; GET /v1/models lists those there are")),
    }
}

fn check_offered(fields: &Map<String, Value>) -> Result<()> {
    if let Some(name) = NOT_OFFERED.iter().find(|name| fields.contains_key(**name)) {
        return Err(Error::invalid_input(format!("'{name}' is not offered here; leave it out")));
    }
    if fields.get("stream").is_some_and(|stream| *stream != Value::Bool(false)) {
        return Err(Error::invalid_input("'stream' must be false: answers come in one piece"));
    }
    match fields.get("n") {
        Some(n) if n.as_u64() != Some(1) => Err(Error::invalid_input("'n' must be 1: there is one answer")),
        _ => Ok(()),
    }
}

fn check_model(info: &ModelInfo) -> Result<()> {
    let is_text = |spec: &salver_core::TensorSpec| spec.dtype == DataType::Bytes;
    let has_input = [MESSAGES, PROMPT].iter().any(|name| info.signature.input(name).is_some_and(is_text));
    if has_input && info.signature.output(TEXT).is_some_and(is_text) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "'model': '{}' takes no conversation; choose a model with an input {MESSAGES} or {PROMPT} and an output {TEXT}",
        info.name
    )))
}

/// Makes the input that the model has: the conversation as it came, or as a text.
fn input(fields: &Map<String, Value>, info: Option<&ModelInfo>) -> Result<Tensor> {
    let Some(Value::Array(messages)) = fields.get(MESSAGES) else {
        return Err(Error::invalid_input("'messages' must be a list of messages with role and content"));
    };
    let is_message = |message: &Value| message.get("role").is_some_and(Value::is_string);
    if messages.is_empty() || !messages.iter().all(is_message) {
        return Err(Error::invalid_input("'messages' must not be empty, and each must have a role"));
    }
    let spec = info.and_then(|info| info.signature.input(MESSAGES).or(info.signature.input(PROMPT)));
    let rank = spec.map_or(2, |spec| spec.shape.len());
    let is_prompt = spec.is_some_and(|spec| &*spec.name == PROMPT);
    let text = if is_prompt { prompt(messages)? } else { Value::from(messages.clone()).to_string() };
    let elements: Elements = [text.as_bytes()].into_iter().collect();
    let shape: Shape = (0..rank).map(|_| 1).collect();
    Tensor::from_elements(if is_prompt { PROMPT } else { MESSAGES }, shape, elements)
}

/// Returns the only text of a user as it is, anything longer line by line behind who said it.
fn prompt(messages: &[Value]) -> Result<String> {
    let texts = messages.iter().map(content).collect::<Result<Vec<String>>>()?;
    if let ([message], [text]) = (messages, texts.as_slice())
        && message["role"] == "user"
    {
        return Ok(text.clone());
    }
    let lines = messages.iter().zip(&texts).map(|(message, text)| {
        let role = message["role"].as_str().unwrap_or_default();
        format!("{role}: {text}\n")
    });
    Ok(lines.chain(["assistant:".to_owned()]).collect())
}

/// Returns the text of a message, which may come in parts.
fn content(message: &Value) -> Result<String> {
    let wrong = || Error::invalid_input("'messages' must have texts as content: this model takes nothing else");
    match &message["content"] {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str().ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

fn parameter(name: &str, value: &Value) -> Result<Parameter> {
    let wrong = |expected| Error::invalid_input(format!("'{name}' must be {expected}"));
    if name == "stop" {
        return match value {
            Value::String(text) => Ok(Parameter::Text(text.clone())),
            Value::Array(stops) if stops.iter().all(Value::is_string) => Ok(Parameter::Text(value.to_string())),
            _ => Err(wrong("a text or a list of texts")),
        };
    }
    let number = value.as_number().ok_or_else(|| wrong("a number"))?;
    let whole = number.as_i64().map(Parameter::Int).or_else(|| number.as_u64().map(Parameter::Uint));
    whole.or_else(|| number.as_f64().map(Parameter::Float)).ok_or_else(|| wrong("a number"))
}

/// Writes the answer of `/v1/chat/completions`; `created` is in seconds since the epoch.
///
/// # Errors
/// `InvalidInput` for a model that gives no text.
pub fn encode_chat(response: &InferResponse, id: &str, created: u64) -> Result<Reply> {
    check_model(&response.model)?;
    let find = |name: &str| response.outputs.iter().find(|tensor| &**tensor.name() == name);
    let text = |name: &str| {
        let element = find(name).and_then(Tensor::elements).and_then(|elements| elements.get(0));
        element.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let content = text(TEXT).ok_or_else(|| Error::engine(format!("model '{}' gave no text", response.model.name)))?;
    let reason = text("finish_reason").filter(|reason| !reason.is_empty()).unwrap_or_else(|| "stop".to_owned());
    let mut body = json!({
        "id": format!("chatcmpl-{id}"),
        "object": "chat.completion",
        "created": created,
        "model": &*response.model.name,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content, "refusal": null },
            "logprobs": null,
            "finish_reason": reason,
        }],
    });
    let count = |name: &str| find(name).and_then(first_count);
    if let (Some(question), Some(answer)) = (count("prompt_tokens"), count("completion_tokens")) {
        let total = question.saturating_add(answer);
        body["usage"] = json!({ "prompt_tokens": question, "completion_tokens": answer, "total_tokens": total });
    }
    Ok(Reply::json_value(200, &body))
}

fn first_count(tensor: &Tensor) -> Option<i64> {
    let wide = tensor.to_vec::<i64>().and_then(|counts| counts.first().copied());
    wide.or_else(|| tensor.to_vec::<i32>().and_then(|counts| counts.first().map(|count| i64::from(*count))))
}
