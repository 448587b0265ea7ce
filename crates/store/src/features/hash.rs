//! Rows in Redis: a hash for each key.

use bytes::Bytes;
use redis::{Pipeline, RedisError, ServerError, ServerErrorKind, Value};
use salver_core::{Error, FeaturesSpec, Result};

use super::answer::Row;
use super::key::{Key, shown};
use super::table::RETRY_AFTER;
use crate::redis::Redis;

/// The hashes of one model.
pub(super) struct Hashes {
    redis: Redis,
    store: String,
    before: String,
    after: String,
    fields: Vec<String>,
}

impl Hashes {
    pub(super) fn new(redis: Redis, before: &str, after: &str, spec: &FeaturesSpec) -> Self {
        let fields = spec.features.iter().map(|feature| feature.field.clone()).collect();
        Self { redis, store: spec.store.to_string(), before: before.to_owned(), after: after.to_owned(), fields }
    }

    /// Reads the rows of `keys`, in one round trip.
    pub(super) async fn fetch(&self, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(keys.len());
        // One hash that is none must not hide what is wrong with it.
        pipeline.ignore_errors();
        for key in keys {
            pipeline.cmd("HMGET").arg(self.name_of(key)).arg(&self.fields);
        }
        let replies = match self.ask(&pipeline).await {
            // The connection was lost since the last request; asking again makes a new one.
            Err(error) if error.is_connection_dropped() && !error.is_timeout() => self.ask(&pipeline).await,
            replies => replies,
        };
        let replies = replies.map_err(|error| self.away(error))?;
        if replies.len() != keys.len() {
            return Err(self.nonsense());
        }
        replies.into_iter().zip(keys).map(|(reply, key)| self.row(reply, key)).collect()
    }

    async fn ask(&self, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
        pipeline.query_async(&mut self.redis.connection()).await
    }

    fn name_of(&self, key: &Key) -> Vec<u8> {
        match key {
            Key::Number(number) => format!("{}{number}{}", self.before, self.after).into_bytes(),
            Key::Text(text) => [self.before.as_bytes(), text, self.after.as_bytes()].concat(),
        }
    }

    /// A hash without any of the fields is as good as none.
    fn row(&self, reply: Value, key: &Key) -> Result<Option<Row>> {
        let fields = match reply {
            Value::Array(fields) if fields.len() == self.fields.len() => fields,
            Value::ServerError(error) => return Err(self.refused(&error, key)),
            _ => return Err(self.nonsense()),
        };
        let field = |field: Value| match field {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
            _ => Err(self.nonsense()),
        };
        let row: Row = fields.into_iter().map(field).collect::<Result<_>>()?;
        Ok(row.iter().any(Option::is_some).then_some(row))
    }

    fn refused(&self, error: &ServerError, key: &Key) -> Error {
        let name = shown(&self.name_of(key), 128);
        match error.kind() {
            Some(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown,
            ) => Error::not_ready(format!("the feature store '{}' is not ready ({})", self.store, error.code()))
                .with_retry_after(RETRY_AFTER),
            _ if error.code() == "WRONGTYPE" => Error::engine(format!(
                "'{name}' in the feature store '{}': expected a hash with the features as its fields, found another type",
                self.store
            )),
            _ => {
                let code: String = error.code().chars().take(32).flat_map(char::escape_debug).collect();
                Error::engine(format!("the feature store '{}' refused to read '{name}' ({code})", self.store))
            }
        }
    }

    fn away(&self, error: RedisError) -> Error {
        Error::not_ready(format!("the feature store '{}' cannot be reached; try again shortly", self.store))
            .with_retry_after(RETRY_AFTER)
            .with_source(error)
    }

    fn nonsense(&self) -> Error {
        Error::engine(format!("the feature store '{}' answers with what Redis would not", self.store))
    }
}
