//! Models that answer a key with a row of features: the fields of a hash in Redis, or a row of a table
//! in PostgreSQL.
//!
//! A model's file names a store, never an address; whoever starts the server says where the stores are.
//! All keys of a request go in one round trip. A store that is down keeps no model from loading: its
//! requests fail until it is back.

mod answer;
mod connections;
mod hash;
mod key;
mod model;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use salver_core::{Backing, Engine, Error, FeatureRows, FeaturesSpec, Model, ModelSpec, Result};

use self::connections::Connections;
use self::hash::Hashes;
use self::model::{FeaturesModel, Rows};
use self::table::Table;
use crate::redis::Redis;

/// The longest that any store may take; models ask for less.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// What became of looking one key up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// There is a row.
    Found,
    /// There is none.
    Missing,
    /// The store did not answer, or with what cannot be a feature.
    Failed,
}

/// Counts the keys of one model version that ended in the same way.
pub type CountLookups = Arc<dyn Fn(Lookup, usize) + Send + Sync>;

/// Makes the counter of a model version, by name and version.
pub type MakeCounter = Box<dyn Fn(&str, u64) -> CountLookups + Send + Sync>;

/// The engine of models that look features up.
pub struct FeaturesEngine {
    stores: BTreeMap<String, Store>,
    make_counter: MakeCounter,
}

/// Where rows are.
#[derive(Clone)]
enum Store {
    Redis(Redis),
    Postgres(Arc<Connections>),
}

impl FeaturesEngine {
    /// Makes an engine that knows no store.
    pub fn new(make_counter: MakeCounter) -> Self {
        Self { stores: BTreeMap::new(), make_counter }
    }

    /// Adds the store called `name`: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`,
    /// `redis+unix:///PATH` or `postgres://USER:PASSWORD@HOST[:PORT]/NAME`. Nothing is connected to
    /// before the first request. Call it on a Tokio runtime.
    ///
    /// # Errors
    /// `InvalidInput` for another URL, or a name that is taken or none. The message does not repeat the
    /// URL, since it may hold a password.
    pub fn add(&mut self, name: &str, url: &str) -> Result<()> {
        let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_part) {
            return Err(Error::invalid_input(
                "the name of a feature store: expected at most 64 letters, digits, '_' or '-' before the first '='",
            ));
        }
        if self.stores.contains_key(name) {
            return Err(Error::invalid_input(format!("the feature store '{name}' is given twice")));
        }
        let store = match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Store::Postgres(Arc::new(Connections::new(name, url)?)),
            Some((scheme, _)) if Redis::is_scheme(scheme) => {
                Store::Redis(Redis::lazy(url, &format!("the feature store '{name}'"), REPLY_LIMIT)?)
            }
            _ => {
                let text = format!("the URL of the feature store '{name}': expected redis://… or postgres://…");
                return Err(Error::invalid_input(text));
            }
        };
        self.stores.insert(name.to_owned(), store);
        Ok(())
    }

    fn rows(&self, model: &str, spec: &FeaturesSpec) -> Result<Rows> {
        let Some(store) = self.stores.get(&*spec.store) else {
            return Err(self.unknown(&spec.store));
        };
        match (store, &spec.rows) {
            (Store::Redis(redis), FeatureRows::Hash { before, after }) => {
                Ok(Rows::Redis(Hashes::new(redis.clone(), before, after, spec)))
            }
            (Store::Postgres(connections), FeatureRows::Table { schema, table, key_column }) => {
                Ok(Rows::Postgres(Table::new(connections.clone(), schema.as_deref(), table, key_column, spec)))
            }
            (Store::Redis(_), FeatureRows::Table { .. }) => Err(Error::invalid_input(format!(
                "[features] of model '{model}' names a table, but the feature store '{}' is a Redis: say redis_key, or \
                 name another store",
                spec.store
            ))),
            (Store::Postgres(_), FeatureRows::Hash { .. }) => Err(Error::invalid_input(format!(
                "[features] of model '{model}' has redis_key, but the feature store '{}' is a PostgreSQL: name a table, \
                 or another store",
                spec.store
            ))),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        let known: Vec<&str> = self.stores.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Error::invalid_input(format!(
            "the feature store '{name}' is not known (there is {known}): start the server with --feature-store \
             {name}=URL, where URL is redis://HOST:PORT/DB or postgres://USER@HOST/NAME"
        ))
    }
}

impl Engine for FeaturesEngine {
    fn name(&self) -> &'static str {
        "features"
    }

    fn platform(&self) -> &'static str {
        "salver_features"
    }

    fn describe(&self) -> String {
        let kind = |(name, store): (&String, &Store)| match store {
            Store::Redis(redis) => format!("{name} (Redis at {})", redis.place()),
            Store::Postgres(connections) => format!("{name} (PostgreSQL at {})", connections.place()),
        };
        match self.stores.is_empty() {
            true => "no feature stores".to_owned(),
            false => format!("feature stores: {}", self.stores.iter().map(kind).collect::<Vec<_>>().join(", ")),
        }
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn load(&self, spec: &ModelSpec) -> Result<Arc<dyn Model>> {
        let Backing::Features(features) = &spec.backing else {
            return Err(Error::invalid_input(format!(
                "{}: engine = \"features\" needs [features] in a model.toml",
                spec.artifact.display()
            )));
        };
        let rows = self.rows(&spec.name, features)?;
        let count = (self.make_counter)(&spec.name, spec.version);
        Ok(Arc::new(FeaturesModel::new(spec.name.shared().clone(), features.clone(), rows, count)))
    }
}
