//! OpenAI's chat completions: a prompt or a conversation in, the model's next words out.
//!
//! Each row is a call of its own. Source: OpenAI's API reference, "Create chat completion".

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderMap;
use salver_core::{
    AsyncCall, Batching, DataType, Elements, ElementsBuilder, Error, Parameter, Parameters, Result, Signature, Tensor,
    TensorSpec,
};
use serde_json::{Map, Value, json};

use crate::call::{Caller, Question, Reading, Usage, side_by_side};

const PROMPT: &str = "prompt";
const MESSAGES: &str = "messages";
/// Parameters of a request that go along.
const PASSED_ON: [&str; 8] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
];

/// What every model of this interface takes and gives.
pub(crate) fn signature() -> Signature {
    let input = |name: &str| TensorSpec { optional: true, ..TensorSpec::new(name, DataType::Bytes, &[-1, 1]) };
    let output = |name: &str, dtype| TensorSpec::new(name, dtype, &[-1, 1]);
    Signature {
        inputs: vec![input(PROMPT), input(MESSAGES)],
        outputs: vec![
            output("text", DataType::Bytes),
            output("finish_reason", DataType::Bytes),
            output("prompt_tokens", DataType::Int64),
            output("completion_tokens", DataType::Int64),
        ],
        batching: Batching::Rows { limit: None },
    }
}

/// What a server answered to one row.
struct Completion {
    text: String,
    finish_reason: String,
    usage: Usage,
}

/// Answers a request.
pub(crate) async fn run(
    caller: &Caller,
    headers: &HeaderMap,
    system: Option<&str>,
    call: AsyncCall<'_>,
) -> Result<Vec<Tensor>> {
    let find = |name: &str| call.inputs.iter().find(|input| &**input.name() == name).and_then(Tensor::elements);
    let (rows, is_prompt): (&Elements, bool) = match (find(PROMPT), find(MESSAGES)) {
        (Some(prompts), None) => (prompts, true),
        (None, Some(messages)) => (messages, false),
        _ => {
            let text = "give either 'prompt', a text, or 'messages', a JSON list of messages with role and content";
            return Err(Error::invalid_input(text));
        }
    };
    let fields = fields(call.parameters)?;
    let bodies = rows.iter().enumerate().map(|(row, element)| {
        let messages = if is_prompt { of_prompt(element) } else { of_messages(element) };
        let messages = messages.map_err(|error| error.context(format!("row {row}")))?;
        Ok(body(caller, &fields, system, messages))
    });
    // Nothing is paid for where a row is wrong.
    let bodies = bodies.collect::<Result<Vec<Bytes>>>()?;
    let (is_over, total) = (AtomicBool::new(false), AtomicUsize::new(0));
    let calls = bodies.into_iter().map(|body| {
        let (is_over, total) = (&is_over, &total);
        let question = Question { path: "/chat/completions".into(), headers: Cow::Borrowed(headers), body: Some(body) };
        async move {
            if is_over.load(Ordering::Relaxed) {
                return None;
            }
            let asked = caller.ask(&question, call.ctx, |_, body| read(&body)).await;
            let asked = asked.and_then(|completion| bounded(caller, total, completion));
            if asked.is_err() {
                is_over.store(true, Ordering::Relaxed);
            }
            Some(asked)
        }
    });
    // What has begun when a row fails is waited for: it is charged for nevertheless.
    let asked = side_by_side(calls.collect(), caller.options.max_concurrency).await;
    tensors(asked.into_iter().flatten().collect::<Result<_>>()?)
}

/// All rows together have no more room than one answer.
fn bounded(caller: &Caller, total: &AtomicUsize, completion: Completion) -> Result<Completion> {
    let most = caller.options.max_answer_bytes;
    let so_far = total.fetch_add(completion.text.len(), Ordering::Relaxed).saturating_add(completion.text.len());
    match so_far > most {
        true => Err(caller.remote.unusable(&format!("all rows have more than {} MiB (max_answer_mb)", most >> 20))),
        false => Ok(completion),
    }
}

fn of_prompt(element: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(element).map_err(|_| Error::invalid_input("'prompt' must be UTF-8"))?;
    Ok(vec![json!({ "role": "user", "content": text })])
}

fn of_messages(element: &[u8]) -> Result<Vec<Value>> {
    let wrong = || {
        let text = "'messages' must be a JSON list of messages, such as [{\"role\": \"user\", \"content\": \"Hello\"}]";
        Error::invalid_input(text)
    };
    let messages: Vec<Value> = serde_json::from_slice(element).map_err(|error| wrong().with_source(error))?;
    let is_message = |message: &Value| message.get("role").is_some_and(Value::is_string);
    if messages.is_empty() || !messages.iter().all(is_message) {
        return Err(wrong());
    }
    Ok(messages)
}

/// Reads the parameters that go along.
fn fields(parameters: &Parameters) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    for (name, value) in parameters.iter().filter(|(name, _)| PASSED_ON.contains(&name.as_str())) {
        let value = match value {
            Parameter::Int(number) => json!(number),
            Parameter::Uint(number) => json!(number),
            Parameter::Float(number) => json!(number),
            Parameter::Text(text) if name == "stop" => stop(text),
            Parameter::Text(text) => number(name, text)?,
            Parameter::Bool(_) => {
                return Err(Error::invalid_input(format!("parameter '{name}' must not be a boolean")));
            }
        };
        fields.insert(name.clone(), value);
    }
    Ok(fields)
}

/// Several stops are a JSON list of texts.
fn stop(text: &str) -> Value {
    serde_json::from_str::<Vec<String>>(text).map_or_else(|_| json!(text), |stops| json!(stops))
}

fn number(name: &str, text: &str) -> Result<Value> {
    let value = serde_json::from_str(text).ok().filter(Value::is_number);
    value.ok_or_else(|| Error::invalid_input(format!("parameter '{name}' must be a number")))
}

fn body(caller: &Caller, fields: &Map<String, Value>, system: Option<&str>, messages: Vec<Value>) -> Bytes {
    let system = system.map(|text| json!({ "role": "system", "content": text }));
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(caller.remote.model));
    body.insert("messages".to_owned(), system.into_iter().chain(messages).collect());
    body.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(body).to_string().into()
}

/// Reads the tokens that a server has counted.
pub(crate) fn usage(answer: &Value) -> Option<Usage> {
    let count = |name: &str| answer["usage"].get(name).and_then(Value::as_u64);
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    let usage = Usage { input: input.unwrap_or(0), output: output.unwrap_or(0) };
    (input.is_some() || output.is_some()).then_some(usage)
}

fn read(body: &[u8]) -> Reading<Completion> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Reading { usage: None, value: Err("it is not JSON".to_owned()) };
    };
    let usage = usage(&answer);
    Reading { value: completion(&answer, usage.unwrap_or_default()), usage }
}

fn completion(answer: &Value, usage: Usage) -> Result<Completion, String> {
    let choice = answer["choices"].get(0).ok_or("it has no choices")?;
    let text = match choice["message"].get("content") {
        Some(Value::String(text)) => text.clone(),
        // A refusal, or a call of a tool.
        Some(Value::Null) => String::new(),
        _ => return Err("its first choice has no message with content".to_owned()),
    };
    let finish_reason = choice["finish_reason"].as_str().unwrap_or_default().to_owned();
    Ok(Completion { text, finish_reason, usage })
}

fn tensors(rows: Vec<Completion>) -> Result<Vec<Tensor>> {
    let shape = [rows.len(), 1];
    let (mut texts, mut reasons) = (ElementsBuilder::default(), ElementsBuilder::default());
    for row in &rows {
        texts.push(row.text.as_bytes());
        reasons.push(row.finish_reason.as_bytes());
    }
    let counts = |count: fn(Usage) -> u64| {
        rows.iter().map(|row| i64::try_from(count(row.usage)).unwrap_or(i64::MAX)).collect::<Vec<i64>>()
    };
    Ok(vec![
        Tensor::from_elements("text", shape, texts.finish())?,
        Tensor::from_elements("finish_reason", shape, reasons.finish())?,
        Tensor::from_slice("prompt_tokens", shape, &counts(|usage| usage.input))?,
        Tensor::from_slice("completion_tokens", shape, &counts(|usage| usage.output))?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_what_it_used() {
        let body = br#"{"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 3, "completion_tokens": 1}}"#;
        let Reading { usage, value } = read(body);
        let Ok(completion) = value else { panic!() };
        assert_eq!((completion.text.as_str(), completion.finish_reason.as_str()), ("hi", "stop"));
        assert_eq!(usage, Some(Usage { input: 3, output: 1 }));
        let null = read(br#"{"choices": [{"message": {"content": null}}]}"#);
        assert!(null.usage.is_none() && null.value.is_ok_and(|completion| completion.text.is_empty()));
    }

    #[test]
    fn what_was_used_counts_even_if_the_answer_is_nonsense() {
        for (body, used) in [
            ("nonsense", false),
            ("[]", false),
            ("{}", false),
            (r#"{"choices": []}"#, false),
            (r#"{"choices": [{"message": {}}], "usage": {"prompt_tokens": 2}}"#, true),
            (r#"{"choices": 5, "usage": {"completion_tokens": 2}}"#, true),
            (r#"{"usage": {"prompt_tokens": -2}}"#, false),
        ] {
            let reading = read(body.as_bytes());
            assert_eq!((reading.usage.is_some(), reading.value.is_err()), (used, true), "{body}");
        }
    }

    #[test]
    fn parameters_go_along_as_numbers_and_texts() {
        let parameters = Parameters::from([
            ("temperature".to_owned(), Parameter::Float(0.5)),
            ("max_tokens".to_owned(), Parameter::Text("7".to_owned())),
            ("stop".to_owned(), Parameter::Text("[\"a\", \"b\"]".to_owned())),
            ("timeout".to_owned(), Parameter::Int(5)),
        ]);
        let text = Value::Object(fields(&parameters).unwrap()).to_string();
        assert_eq!(text, r#"{"max_tokens":7,"stop":["a","b"],"temperature":0.5}"#);
        for bad in [Parameter::Bool(true), Parameter::Text("much".to_owned())] {
            assert!(fields(&Parameters::from([("seed".to_owned(), bad)])).is_err());
        }
    }

    #[test]
    fn messages_must_be_messages() {
        for bad in ["", "{}", "[]", "[1]", "[{}]", "[{\"role\": 1}]"] {
            assert!(of_messages(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(of_messages(br#"[{"role": "user", "content": "x"}]"#).unwrap().len(), 1);
        assert!(of_prompt(b"\xff").is_err());
    }
}
