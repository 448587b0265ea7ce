//! `salver models`: what a running server has, ready or not.

use anyhow::{Context as _, Result};
use salver_client::HttpClient;
use serde_json::Value;

use crate::cli::ModelsOptions;
use crate::out;

/// Runs the command.
///
/// # Errors
/// Where the server is not reached.
pub(crate) async fn run(options: &ModelsOptions) -> Result<()> {
    let index = HttpClient::new(&options.server.server)?.index().await?;
    if options.json {
        return out::json(&index);
    }
    let entries = index.as_array().context("the server's index is not a list")?;
    let mut table = out::Rows::new(&["model", ">version", "state", "reason"]);
    for entry in entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        table.push([text("name"), text("version"), text("state").to_lowercase(), text("reason")]);
    }
    if entries.is_empty() {
        out::line(format!("The server at {} has no models.", options.server.server));
    } else {
        table.print();
    }
    Ok(())
}
