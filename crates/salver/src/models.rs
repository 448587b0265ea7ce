//! `salver models`: what a running server has, in memory or not, and changing that.

use anyhow::{Context as _, Result};
use salver_client::HttpClient;
use serde_json::Value;

use self::registered::Registered;
use crate::cli::{ModelsAction, ModelsOptions};
use crate::out;

mod import;
mod push;
mod registered;
mod tables;

/// Runs the command.
///
/// # Errors
/// Where the server is not reached or says no.
pub(crate) async fn run(options: &ModelsOptions) -> Result<()> {
    let client = HttpClient::new(&options.server.server)?;
    let registered = Registered { client: &client, json: options.json };
    let (verb, model) = match options.action.as_ref().unwrap_or(&ModelsAction::List) {
        ModelsAction::List => return overview(options, &client, &registered).await,
        ModelsAction::Show { model } => return show(options, &client, &registered, model).await,
        ModelsAction::PurgeCache { model } => return purged(options, &client.purge_cache(model.as_deref()).await?),
        ModelsAction::Push(push) => return registered.push(push).await,
        ModelsAction::Import(import) => return registered.import(import).await,
        ModelsAction::Pull { model, folder } => return registered.pull(model, folder).await,
        ModelsAction::Compare { model, versions } => return registered.compare(model, versions).await,
        ModelsAction::Promote { model, stage } => return registered.promote(model, stage).await,
        ModelsAction::Rollback { model } => return registered.rollback(model).await,
        ModelsAction::Archive { model } => return registered.archive(model).await,
        ModelsAction::Delete { model, yes } => return registered.delete(model, *yes).await,
        ModelsAction::History { model, at, limit } => {
            return registered.history(model.as_deref(), at.as_deref(), *limit).await;
        }
        ModelsAction::Describe { model, text } => return registered.describe(model, text).await,
        ModelsAction::Load { model } => ("load", model),
        ModelsAction::Unload { model } => ("unload", model),
        ModelsAction::Pin { model } => ("pin", model),
        ModelsAction::Unpin { model } => ("unpin", model),
    };
    client.administer(model, verb).await?;
    list(options, &client.residency(Some(model)).await?)
}

/// Lists what is served and what is registered.
async fn overview(options: &ModelsOptions, client: &HttpClient, registered: &Registered<'_>) -> Result<()> {
    let (served, known) = (client.residency(None).await?, registered.list().await?);
    if options.json {
        let mut served = served;
        if let Some(known) = known {
            served["registered"] = known["models"].clone();
        }
        return out::json(&served);
    }
    list(options, &served)?;
    if let Some(table) = known.as_ref().and_then(tables::models_table) {
        out::line("");
        table.print();
    }
    Ok(())
}

/// Shows one model: what is served of it, and its registered versions; or one of these.
async fn show(options: &ModelsOptions, client: &HttpClient, registered: &Registered<'_>, model: &str) -> Result<()> {
    if model.contains(['/', '@']) {
        return show_version(options, registered, model).await;
    }
    let (served, known) = (client.residency(Some(model)).await, registered.show(model).await?);
    let Some(known) = known else {
        return list(options, &served?);
    };
    if options.json {
        let served = served.unwrap_or_else(|_| serde_json::json!({ "models": [] }));
        return out::json(&serde_json::json!({ "models": served["models"], "registered": known }));
    }
    if let Ok(served) = &served {
        list(options, served)?;
        out::line("");
    }
    let description = known["model"]["description"].as_str().unwrap_or_default();
    if !description.is_empty() {
        out::line(out::printable(description));
        out::line("");
    }
    tables::versions_table(&known).print();
    let newest = known["versions"].as_array().and_then(|versions| versions.first());
    if let Some((newest, table)) = newest.and_then(|newest| Some((newest, tables::signature_table(newest)?))) {
        out::line(format!("\nVersion {} takes and gives:", newest["version"].as_str().unwrap_or_default()));
        table.print();
    }
    Ok(())
}

/// Shows one registered version: what it takes and gives, and its files.
async fn show_version(options: &ModelsOptions, registered: &Registered<'_>, model: &str) -> Result<()> {
    let shown = registered.show_version(model).await?;
    if options.json {
        return out::json(&shown);
    }
    let card = &shown["version"];
    let description = card["description"].as_str().unwrap_or_default();
    if !description.is_empty() {
        out::line(format!("{}\n", out::printable(description)));
    }
    tables::versions_table(&serde_json::json!({ "versions": [card] })).print();
    for tag in card["tags"].as_array().into_iter().flatten() {
        let text = |name: &str| tag[name].as_str().unwrap_or_default();
        out::line(out::printable(&format!("{}: {}", text("key"), text("value"))));
    }
    match tables::signature_table(card) {
        Some(table) => out::line(format!("\n{table}")),
        None => out::line("Its files declare no signature."),
    }
    out::line("");
    tables::files_table(&shown).print();
    Ok(())
}

fn purged(options: &ModelsOptions, reply: &Value) -> Result<()> {
    if options.json {
        return out::json(reply);
    }
    let count = reply["purged"].as_u64().context("the server does not say how many answers it forgot")?;
    out::line(format!("{count} cached answers forgotten."));
    Ok(())
}

fn list(options: &ModelsOptions, listed: &Value) -> Result<()> {
    if options.json {
        return out::json(listed);
    }
    let models = listed["models"].as_array().context("the server's list of models is not a list")?;
    if models.is_empty() {
        out::line(format!("The server at {} has no models.", options.server.server));
        return Ok(());
    }
    let mut table =
        out::Rows::new(&["model", ">version", "state", ">memory", ">last used", ">in flight", "pinned", "reason"]);
    models.iter().for_each(|model| table.push(row(model)));
    table.print();
    let memory = |name: &str| listed["memory"][name].as_u64();
    if let (Some(held), Some(limit)) = (memory("resident_bytes"), memory("limit_bytes")) {
        out::line(format!("The process holds {} of {}.", size(held), size(limit)));
    }
    Ok(())
}

fn row(model: &Value) -> [String; 8] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resident = &model["resident"];
    let number = |name: &str| resident[name].as_u64();
    [
        text(&model["name"]),
        model["version"].as_u64().map(|version| version.to_string()).unwrap_or_default(),
        model["state"].as_str().unwrap_or("not loaded").to_owned(),
        number("memory_bytes").map(size).unwrap_or_default(),
        number("last_used_ms_ago").map(ago).unwrap_or_default(),
        number("in_flight").map(|count| count.to_string()).unwrap_or_default(),
        if resident["pinned"] == true { "yes".to_owned() } else { String::new() },
        text(&model["reason"]),
    ]
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn ago(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!([17, 4096, 10 << 20].map(size), ["17 B", "4 KiB", "10 MiB"]);
        assert_eq!([900, 119_000, 600_000, 8_000_000].map(ago), ["0 s ago", "119 s ago", "10 min ago", "2 h ago"]);
    }
}
