//! `salver registry`: clears away, saves and brings back a registry, beside a running server or
//! without one.

use anyhow::Result;
use salver_registry::Registry;
use serde_json::json;

use crate::cli::{RegistryAction, RegistryOptions};
use crate::out;
use crate::production::open_records;
use crate::progress::Progress;
use crate::units::bytes;

/// Runs the command.
///
/// # Errors
/// Where the registry cannot be opened, or a folder not be used.
pub(crate) async fn run(options: &RegistryOptions) -> Result<()> {
    let place = &options.place;
    let registry = open_records(&place.data, place.database.as_ref(), place.artifacts.as_deref())?;
    registry.prepare().await?;
    let done = act(&registry, options).await;
    registry.close().await;
    done
}

async fn act(registry: &Registry, options: &RegistryOptions) -> Result<()> {
    match &options.action {
        RegistryAction::Gc { dry_run, grace_s } => {
            let working = Progress::spinner("looking for files that nothing refers to");
            let cleared = registry.collect_garbage(std::time::Duration::from_secs(*grace_s), *dry_run).await?;
            drop(working);
            if options.json {
                return out::json(&json!({ "dry_run": dry_run, "cleared": cleared }));
            }
            let verb = if *dry_run { "would go" } else { "are gone" };
            out::line(format!("{} files ({}) {verb}, {} stay.", cleared.blobs, bytes(cleared.bytes), cleared.kept));
        }
        RegistryAction::Backup { folder } => {
            let working = Progress::spinner("saving the registry");
            let saved = registry.backup(folder).await?;
            drop(working);
            if options.json {
                return out::json(&saved);
            }
            let (rows, blobs, size) = (saved.rows, saved.blobs, bytes(saved.bytes));
            out::line(format!("{rows} rows and {blobs} files ({size}) are in {}.", folder.display()));
        }
        RegistryAction::Restore { folder } => {
            let working = Progress::spinner("bringing the registry back");
            let saved = registry.restore(folder).await?;
            drop(working);
            if options.json {
                return out::json(&saved);
            }
            out::line(format!("{} rows and {} files are back.", saved.rows, saved.blobs));
        }
    }
    Ok(())
}
