//! `salver config`: every setting of the server, its value and where it came from.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use crate::out;
use crate::settings::layers::Setting;

/// Prints the merged settings.
///
/// # Errors
/// Never in practice; JSON is made of strings.
pub(crate) fn run(settings: &[Setting], as_json: bool) -> Result<()> {
    if as_json {
        let entry = |setting: &Setting| {
            let value = json!({ "values": setting.values, "source": setting.source.to_string() });
            (setting.name.clone(), value)
        };
        return out::json(&settings.iter().map(entry).collect::<BTreeMap<_, _>>());
    }
    let mut table = out::Rows::new(&["setting", "value", "from"]);
    for setting in settings {
        let value = if setting.values.is_empty() { "-".to_owned() } else { setting.values.join(", ") };
        table.push([setting.name.clone(), value, setting.source.to_string()]);
    }
    table.print();
    Ok(())
}
