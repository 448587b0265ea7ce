//! A version as the tracking server tells of it: its names, its tags, what was measured of it.

use serde_json::{Value, json};

use super::foreign::number;
use super::source::SCHEME;
use crate::models::push::Logged;
use crate::units::time;

/// How the tags begin that say where a version came from.
const TAGS: &str = "imported.";
/// The tag of a version that has everything it is to have.
pub(super) const COMPLETE: &str = "imported.complete";
/// By these a version is known again.
pub(super) const IDENTITY: [&str; 3] = ["imported.from", "imported.version", "imported.created"];

/// A version that is to be imported.
pub(super) struct Incoming<'a> {
    /// The model that it belongs to there.
    pub(super) model: &'a Value,
    pub(super) version: &'a Value,
    /// What the model is called here.
    pub(super) name: &'a str,
    /// The model with its versions, as it was here when the import began.
    pub(super) here: &'a Value,
}

impl Incoming<'_> {
    pub(super) fn field(&self, name: &str) -> &str {
        self.version[name].as_str().unwrap_or_default()
    }

    /// As MLflow's clients call it.
    pub(super) fn uri(&self) -> String {
        format!("{SCHEME}{}/{}", self.field("name"), number(self.version))
    }

    /// The names that the model has for it there.
    pub(super) fn aliases(&self) -> Vec<&str> {
        let all = self.model["aliases"].as_array().into_iter().flatten();
        let own = all.filter(|alias| number(alias) == number(self.version));
        own.filter_map(|alias| alias["alias"].as_str()).collect()
    }

    /// Says where it comes from.
    pub(super) fn tags(&self, from: &str) -> Vec<Value> {
        let said = [
            (IDENTITY[0], from.to_owned()),
            (IDENTITY[1], self.uri()),
            (IDENTITY[2], time(self.version["creation_timestamp"].as_i64())),
            ("imported.source", self.field("source").to_owned()),
            ("imported.run_id", self.field("run_id").to_owned()),
            ("imported.by", self.field("user_id").to_owned()),
        ];
        let said = said.into_iter().filter(|(_, value)| !value.is_empty());
        let said = said.map(|(key, value)| json!({ "key": key, "value": value }));
        said.chain(own_tags(self.version)).collect()
    }
}

/// Adds what a run or a logged model says, unless it is known by that key.
pub(super) fn add(logged: &mut Logged, data: &Value) {
    let list = |name: &str| data[name].as_array().into_iter().flatten();
    let is_new = |known: &[Value], item: &Value| known.iter().all(|known| known["key"] != item["key"]);
    for metric in list("metrics").filter(|metric| !metric["value"].is_null()) {
        let number = |name: &str| Some(metric[name].clone()).filter(|number| !number.is_null()).unwrap_or(json!(0));
        let taken = json!({
            "key": metric["key"], "value": metric["value"], "timestamp": number("timestamp"), "step": number("step")
        });
        if is_new(&logged.metrics, &taken) {
            logged.metrics.push(taken);
        }
    }
    for (name, to) in [("params", &mut logged.params), ("tags", &mut logged.tags)] {
        for text in list(name) {
            let key = text["key"].as_str().unwrap_or_default();
            let is_wanted = !key.starts_with("mlflow.") || key.starts_with("mlflow.source.");
            if is_new(to, text) && (is_wanted || name == "params") {
                to.push(json!({ "key": key, "value": text["value"].as_str().unwrap_or_default() }));
            }
        }
    }
}

/// The tags of a model or version that are its own, and not of an earlier import.
pub(super) fn own_tags(of: &Value) -> impl Iterator<Item = Value> {
    let tags = of["tags"].as_array().into_iter().flatten();
    let own = tags.filter(|tag| tag["key"].as_str().is_some_and(|key| !key.starts_with(TAGS)));
    own.map(|tag| json!({ "key": tag["key"], "value": tag["value"].as_str().unwrap_or_default() }))
}

/// Returns the value of a tag.
pub(super) fn tag<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of["tags"].as_array()?.iter().find(|tag| tag["key"] == key)?["value"].as_str()
}
