//! The feature stores of the settings, as an engine whose lookups are counted.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use salver_store::{CountLookups, FeaturesEngine, Lookup};
use salver_telemetry::{LookupResult, Metrics};

use crate::settings::Secret;

/// The store that an address without a name is.
const DEFAULT: &str = "default";

/// Makes the engine of models that look features up; nothing is connected to yet.
///
/// # Errors
/// Where an address is none, or a name is given twice.
pub(crate) fn engine(stores: &[Secret], metrics: &Arc<Metrics>) -> Result<FeaturesEngine> {
    let metrics = metrics.clone();
    let mut engine = FeaturesEngine::new(Box::new(move |model, version| counter(&metrics, model, version)));
    for store in stores {
        let (name, url) = split(store.expose());
        engine.add(name, url).context("--feature-store")?;
    }
    Ok(engine)
}

/// Takes `NAME=URL` apart. What stands after `://` is the address, whatever it holds.
fn split(text: &str) -> (&str, &str) {
    let scheme_end = text.find("://").unwrap_or(text.len());
    match text.find('=').filter(|&equals| equals < scheme_end) {
        Some(equals) => (&text[..equals], &text[equals + 1..]),
        None => (DEFAULT, text),
    }
}

fn counter(metrics: &Arc<Metrics>, model: &str, version: u64) -> CountLookups {
    let lookups = metrics.model(model, version).lookups();
    Arc::new(move |result, keys| {
        let result = match result {
            Lookup::Found => LookupResult::Found,
            Lookup::Missing => LookupResult::Missing,
            Lookup::Failed => LookupResult::Failed,
        };
        lookups.count(result, keys);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_before_the_scheme() {
        assert_eq!(split("redis://host/1"), ("default", "redis://host/1"));
        assert_eq!(
            split("users=postgres://u:a=b@host/x?sslmode=require"),
            ("users", "postgres://u:a=b@host/x?sslmode=require")
        );
        assert_eq!(split("redis://:a=b@host"), ("default", "redis://:a=b@host"));
        assert_eq!(split("users="), ("users", ""));
        assert_eq!(split("=redis://host"), ("", "redis://host"));
    }

    #[tokio::test]
    async fn a_password_is_not_repeated() {
        for bad in ["x=http://:secret@host", "secret", "secret=", "a b=redis://:secret@host", "rediss://:secret@host#x"]
        {
            let secret = crate::settings::parse_secret(bad).unwrap();
            let Err(error) = engine(&[secret], &Metrics::new()) else { panic!("accepted {bad}") };
            let text = format!("{error:#}");
            assert!(text.contains("--feature-store") && !text.contains(":secret"), "{text}");
        }
    }
}
