//! Builds one operation of the document.
//!
//! Path parameters are found in the path itself, so that the two cannot disagree.

use serde_json::{Map, Value, json};

/// One method of one path.
pub(super) struct Operation {
    path: String,
    method: &'static str,
    fields: Map<String, Value>,
    responses: Map<String, Value>,
}

impl Operation {
    pub(super) fn get(path: &str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new("get", path, tag, id, summary)
    }

    pub(super) fn post(path: &str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new("post", path, tag, id, summary)
    }

    pub(super) fn delete(path: &str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new("delete", path, tag, id, summary)
    }

    fn new(method: &'static str, path: &str, tag: &str, id: &str, summary: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("tags".to_owned(), json!([tag]));
        fields.insert("operationId".to_owned(), json!(id));
        fields.insert("summary".to_owned(), json!(summary));
        Self { path: path.to_owned(), method, fields, responses: Map::new() }
    }

    /// Adds a longer text.
    pub(super) fn describe(mut self, text: &str) -> Self {
        self.fields.insert("description".to_owned(), json!(text));
        self
    }

    /// Adds parameters that are not in the path, by their names among the components.
    pub(super) fn headers(mut self, names: &[&str]) -> Self {
        let refs = names.iter().map(|name| parameter(name)).collect();
        self.fields.insert("parameters".to_owned(), Value::Array(refs));
        self
    }

    /// Adds a required body: pairs of media type and its content.
    pub(super) fn body(self, content: &[(&str, Value)]) -> Self {
        self.body_of(content, true)
    }

    /// Adds a body that may be left out.
    pub(super) fn optional_body(self, content: &[(&str, Value)]) -> Self {
        self.body_of(content, false)
    }

    fn body_of(mut self, content: &[(&str, Value)], required: bool) -> Self {
        self.fields.insert("requestBody".to_owned(), json!({ "required": required, "content": by_type(content) }));
        self
    }

    /// Adds a reply: pairs of media type and its content; none: an empty body.
    pub(super) fn reply(mut self, status: u16, text: &str, content: &[(&str, Value)]) -> Self {
        let mut reply = json!({
            "description": text,
            "headers": { "x-request-id": { "$ref": "#/components/headers/RequestId" } },
        });
        if !content.is_empty() {
            reply["content"] = by_type(content);
        }
        self.responses.insert(status.to_string(), reply);
        self
    }

    /// Adds a reply of JSON: a schema among the components, with an example.
    pub(super) fn json_reply(self, status: u16, text: &str, schema: &str, body: Value) -> Self {
        self.reply(status, text, &[("application/json", example(schema, body))])
    }

    /// Says that a good reply names the version that answered.
    pub(super) fn names_version(mut self) -> Self {
        self.responses["200"]["headers"]["x-salver-model-version"] =
            json!({ "$ref": "#/components/headers/ModelVersion" });
        self
    }

    /// Adds error replies in the shape of a protocol: `Plain`, `Error`, `Mlflow` or `OpenAi`.
    pub(super) fn errors(mut self, shape: &str, statuses: &[u16]) -> Self {
        for status in statuses {
            let name = format!("#/components/responses/{shape}{status}");
            self.responses.insert(status.to_string(), json!({ "$ref": name }));
        }
        self
    }

    /// Puts the operation into the map of paths.
    pub(super) fn add_to(mut self, paths: &mut Map<String, Value>) {
        let in_path = self.path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
        let mut parameters: Vec<Value> = in_path.map(parameter).collect();
        if let Some(Value::Array(others)) = self.fields.remove("parameters") {
            parameters.extend(others);
        }
        if !parameters.is_empty() {
            self.fields.insert("parameters".to_owned(), Value::Array(parameters));
        }
        self.fields.insert("responses".to_owned(), Value::Object(self.responses));
        let item = paths.entry(self.path).or_insert_with(|| json!({}));
        item[self.method] = Value::Object(self.fields);
    }
}

fn parameter(name: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

fn by_type(content: &[(&str, Value)]) -> Value {
    Value::Object(content.iter().map(|(media, content)| ((*media).to_owned(), content.clone())).collect())
}

/// Content of a schema among the components, with an example.
pub(super) fn example(schema: &str, example: Value) -> Value {
    json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") }, "example": example })
}

/// Content of a schema among the components, with examples by name.
pub(super) fn examples(schema: &str, examples: &[(&str, Value)]) -> Value {
    let named = examples.iter().map(|(name, value)| ((*name).to_owned(), json!({ "value": value })));
    json!({
        "schema": { "$ref": format!("#/components/schemas/{schema}") },
        "examples": Value::Object(named.collect()),
    })
}

/// Content of bytes that JSON Schema says nothing about.
pub(super) fn binary() -> Value {
    json!({ "schema": { "contentMediaType": "application/octet-stream" } })
}

/// Content of plain text, with an example.
pub(super) fn text(example: &str) -> Value {
    json!({ "schema": { "type": "string" }, "example": example })
}
