//! How `salver models` shows what the registry has: tables and differences.

use salver_repository::signature::{Change, Field};
use serde_json::Value;

use crate::out;
use crate::units::time;

/// Makes the table of registered models.
pub(super) fn models_table(listed: &Value) -> Option<out::Rows> {
    let models = listed["models"].as_array().filter(|models| !models.is_empty())?;
    let mut table = out::Rows::new(&["registered", "production", "staging", ">newest", "aliases", "changed"]);
    for model in models {
        let versions = model["latest_versions"].as_array();
        let of = |stage: &str| {
            let found = versions.into_iter().flatten().find(|version| version["current_stage"] == stage);
            found.and_then(|version| version["version"].as_str()).unwrap_or_default().to_owned()
        };
        let newest =
            versions.into_iter().flatten().filter_map(|version| version["version"].as_str()?.parse::<u64>().ok());
        let aliases = model["aliases"].as_array().into_iter().flatten().map(|alias| {
            format!("{}={}", alias["alias"].as_str().unwrap_or_default(), alias["version"].as_str().unwrap_or_default())
        });
        table.push([
            model["name"].as_str().unwrap_or_default().to_owned(),
            of("Production"),
            of("Staging"),
            newest.max().map(|version| version.to_string()).unwrap_or_default(),
            aliases.collect::<Vec<_>>().join(", "),
            time(model["last_updated_timestamp"].as_i64()),
        ]);
    }
    Some(table)
}

/// Makes the table of a model's versions.
pub(super) fn versions_table(shown: &Value) -> out::Rows {
    let mut table = out::Rows::new(&[">version", "stage", "aliases", "metrics", ">size", "digest", "made", "by"]);
    for card in shown["versions"].as_array().into_iter().flatten() {
        let aliases = card["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let metrics = card["metrics"].as_object().into_iter().flatten();
        let metrics = metrics.map(|(key, value)| format!("{key}={}", figure(value)));
        let text = |name: &str| card[name].as_str().unwrap_or_default();
        table.push([
            text("version").to_owned(),
            text("current_stage").to_owned(),
            aliases.collect::<Vec<_>>().join(", "),
            metrics.collect::<Vec<_>>().join(" "),
            card["size"].as_u64().map(super::size).unwrap_or_default(),
            text("digest").chars().take(12).collect(),
            time(card["creation_timestamp"].as_i64()),
            text("user_id").to_owned(),
        ]);
    }
    table
}

/// Makes a table with a column for each version and a row for each thing that can be compared.
pub(super) fn side_by_side(cards: &[Value], differences: &[Value]) -> out::Rows {
    let mut headers = vec!["".to_owned()];
    headers.extend(cards.iter().map(|card| format!(">version {}", card["version"].as_str().unwrap_or_default())));
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut table = out::Rows::new(&headers);
    let mut push = |name: &str, of: &dyn Fn(&Value) -> String| {
        let cells = cards.iter().map(of);
        table.push(std::iter::once(name.to_owned()).chain(cells));
    };
    for (name, shown) in [("current_stage", "stage"), ("user_id", "by"), ("run_id", "run")] {
        push(shown, &|card| card[name].as_str().unwrap_or_default().to_owned());
    }
    push("made", &|card| time(card["creation_timestamp"].as_i64()));
    push("size", &|card| card["size"].as_u64().map(super::size).unwrap_or_default());
    push("digest", &|card| card["digest"].as_str().unwrap_or_default().chars().take(12).collect());
    for key in keys(cards, "metrics") {
        let more = |card: &Value| {
            let of = |difference: &&Value| difference["to"] == card["version"];
            differences.iter().find(of)?["metrics"][&key].as_f64().filter(|more| *more != 0.0)
        };
        push(&key, &|card| match more(card) {
            Some(more) => format!("{} ({})", figure(&card["metrics"][&key]), signed(more)),
            None => figure(&card["metrics"][&key]),
        });
    }
    for key in keys(cards, "params") {
        push(&key, &|card| figure(&card["params"][&key]));
    }
    for side in ["input", "output"] {
        for name in field_names(cards, side) {
            push(format!("{side} {name}").trim_end(), &|card| field(card, side, &name));
        }
    }
    table
}

/// Says how the signature of one version differs from that of another: a line for each difference.
pub(super) fn changes(difference: &Value) -> Vec<String> {
    let text = |name: &str| difference[name].as_str().unwrap_or_default();
    let versions = format!("{} → {}", text("from"), text("to"));
    let Ok(changes) = serde_json::from_value::<Option<Vec<Change>>>(difference["signature"].clone()) else {
        return vec![format!("{versions}: a difference of signatures that this salver does not know")];
    };
    match changes.as_deref() {
        None => vec![format!("{versions}: the signature of one of them is not known")],
        Some([]) => vec![format!("{versions}: same signature")],
        Some(changes) => changes.iter().map(|change| out::printable(&format!("{versions}: {change}"))).collect(),
    }
}

/// Returns the names of inputs or outputs in any of the versions: as in the first, then what is new.
fn field_names(cards: &[Value], side: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for card in cards {
        for (name, _) in fields(card, side) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Returns the names and types of a version's inputs or outputs.
fn fields(card: &Value, side: &str) -> Vec<(String, String)> {
    let found = serde_json::from_value::<Vec<Field>>(card["signature"][format!("{side}s")].clone());
    found.unwrap_or_default().into_iter().map(|field| (field.name.clone(), field.to_string())).collect()
}

fn field(card: &Value, side: &str, name: &str) -> String {
    fields(card, side).into_iter().find(|(of, _)| of == name).map_or_else(|| "–".to_owned(), |(_, text)| text)
}

/// Makes the table of what a version takes and gives; none where that is not known.
pub(super) fn signature_table(card: &Value) -> Option<out::Rows> {
    let mut table = out::Rows::new(&["", "name", "type"]);
    let mut is_known = false;
    for side in ["input", "output"] {
        for (name, text) in fields(card, side) {
            table.push([side, &name, &text]);
            is_known = true;
        }
    }
    is_known.then_some(table)
}

/// Makes the table of a version's files.
pub(super) fn files_table(shown: &Value) -> out::Rows {
    let mut table = out::Rows::new(&["file", ">size", "digest"]);
    for file in shown["files"].as_array().into_iter().flatten() {
        let text = |name: &str| file[name].as_str().unwrap_or_default();
        table.push([
            text("path").to_owned(),
            file["size"].as_u64().map(super::size).unwrap_or_default(),
            text("digest").chars().take(12).collect(),
        ]);
    }
    table
}

/// A difference of numbers, without the noise of their last digits.
fn signed(number: f64) -> String {
    let digits = format!("{number:+.5e}").parse::<f64>().unwrap_or(number);
    format!("{digits:+}")
}

/// Returns the keys of a group in any of the versions, in order.
fn keys(cards: &[Value], group: &str) -> Vec<String> {
    let all = cards.iter().filter_map(|card| card[group].as_object()).flat_map(|object| object.keys().cloned());
    let mut keys: Vec<String> = all.collect();
    keys.sort();
    keys.dedup();
    keys
}

fn figure(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.as_f64().map_or_else(|| other.to_string(), |number| format!("{number}")),
    }
}

/// A change's value in a few words.
pub(super) fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = match value {
        Value::Null => return String::new(),
        Value::Object(fields) => {
            let shown = fields.iter().filter(|(_, value)| !value.is_null());
            shown.map(|(key, value)| format!("{key}={}", figure(value))).collect::<Vec<_>>().join(" ")
        }
        other => figure(other),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_shown_in_a_few_words() {
        assert_eq!(short(&json!({ "stage": "Production", "none": null })), "stage=Production");
        assert_eq!(short(&Value::Null), "");
        assert_eq!(short(&json!({ "text": "é".repeat(100) })).chars().count(), 61);
    }

    #[test]
    fn differences_of_numbers_have_no_noise() {
        assert_eq!([0.97 - 0.95, -0.5, 1e-9, 12.0].map(signed), ["+0.02", "-0.5", "+0.000000001", "+12"]);
    }

    #[test]
    fn versions_stand_side_by_side_with_what_they_take() {
        let card = |version: &str, accuracy: f64, shape: i64| {
            let inputs = json!([{ "name": "X", "datatype": "FP32", "shape": [-1, shape] }]);
            json!({ "version": version, "metrics": { "accuracy": accuracy }, "signature": { "inputs": inputs, "outputs": [] } })
        };
        let change = json!({ "side": "input", "name": "X", "before": "FP32[-1,4]", "after": "FP32[-1,5]" });
        let difference = json!({ "from": "1", "to": "2", "metrics": { "accuracy": 0.02 }, "signature": [change] });
        let cards = [card("1", 0.95, 4), card("2", 0.97, 5)];
        let table = side_by_side(&cards, std::slice::from_ref(&difference)).to_string();
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["accuracy", "0.95", "0.97", "(+0.02)"]), "{table}");
        assert!(rows.contains(&vec!["input", "X", "FP32[-1,4]", "FP32[-1,5]"]), "{table}");
        assert_eq!(changes(&difference), ["1 → 2: changed input 'X': FP32[-1,4] → FP32[-1,5]"]);
        let same = json!({ "from": "1", "to": "2", "signature": [] });
        assert_eq!(changes(&same), ["1 → 2: same signature"]);
        assert_eq!(changes(&json!({ "from": "1", "to": "2" })), ["1 → 2: the signature of one of them is not known"]);
    }
}
