//! Answers in Redis, or what speaks its protocol.
//!
//! An entry lies under `salver:cache:v1:` and its key in hexadecimal. Before its value stand the
//! generations, of all models and of its own, in which it was written: a purge raises a generation,
//! and what is older counts as gone and expires by itself. So nothing ever walks over the keys.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::{Buf, Bytes};
use redis::{Cmd, Pipeline, RedisError};
use salver_core::{BoxFuture, CacheKey, Error, Result, SharedCache, SharedEntry};

use crate::redis::Redis;

const PREFIX: &str = "salver:cache:v1:";
const GENERATION: &str = "salver:cache:v1:generation";
/// The generations before a value.
const STAMP_LEN: usize = 16;
/// The most bytes of a value that are read, whatever stands there; the runtime writes half of that.
const MAX_VALUE_BYTES: usize = 2 << 20;
/// Callers wait for less; this ends what they left behind.
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// A shared cache in Redis. Connects on first use, and again after a failure.
pub struct RedisCache(Redis);

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisCache({})", self.0.place())
    }
}

impl RedisCache {
    /// Prepares a connection to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]` or
    /// `redis+unix:///PATH`. Call it on a Tokio runtime.
    ///
    /// # Errors
    /// `InvalidInput` for any other URL; the message does not repeat it, since it may hold a
    /// password.
    pub fn new(url: &str) -> Result<Self> {
        Redis::lazy(url, "the shared cache", REPLY_LIMIT).map(Self)
    }

    async fn stamp(&self, model: &str) -> Result<[u8; STAMP_LEN]> {
        let mut command = Cmd::new();
        command.arg("MGET").arg(GENERATION).arg(generation_of(model));
        let (all, own): (Option<u64>, Option<u64>) = self.ask(command.query_async(&mut self.0.connection())).await?;
        Ok(stamp(all, own))
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T> {
        call.await.map_err(|error| {
            Error::not_ready(format!("the shared cache at {} does not answer: {error}", self.0.place()))
                .with_source(error)
        })
    }
}

impl SharedCache for RedisCache {
    fn get<'a>(&'a self, model: &'a str, key: &'a CacheKey) -> BoxFuture<'a, Result<Option<SharedEntry>>> {
        Box::pin(async move {
            let name = name_of(key);
            let mut pipeline = Pipeline::new();
            pipeline.cmd("MGET").arg(GENERATION).arg(generation_of(model));
            pipeline.cmd("GETRANGE").arg(&name).arg(0).arg(STAMP_LEN + MAX_VALUE_BYTES);
            pipeline.cmd("PTTL").arg(&name);
            let found = self.ask(pipeline.query_async(&mut self.0.connection())).await?;
            let ((all, own), stored, left): ((Option<u64>, Option<u64>), Vec<u8>, i64) = found;
            Ok(current(stored.into(), stamp(all, own), left))
        })
    }

    fn put<'a>(&'a self, model: &'a str, key: &'a CacheKey, entry: SharedEntry) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let stored = [&self.stamp(model).await?[..], &entry.value].concat();
            let left = u64::try_from(entry.time_to_live.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 2);
            let mut command = Cmd::new();
            command.arg("SET").arg(name_of(key)).arg(stored).arg("PX").arg(left);
            self.ask(command.query_async(&mut self.0.connection())).await
        })
    }

    fn purge<'a>(&'a self, model: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut command = Cmd::new();
            command.arg("INCR").arg(model.map_or_else(|| GENERATION.to_owned(), generation_of));
            self.ask(command.query_async::<u64>(&mut self.0.connection())).await.map(drop)
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut command = Cmd::new();
            command.arg("PING");
            self.ask(command.query_async::<String>(&mut self.0.connection())).await.map(drop)
        })
    }
}

fn name_of(key: &CacheKey) -> String {
    key.iter().fold(PREFIX.to_owned(), |mut name, byte| {
        for nibble in [byte >> 4, byte & 15] {
            name.push(char::from_digit(nibble.into(), 16).unwrap_or_default());
        }
        name
    })
}

fn generation_of(model: &str) -> String {
    format!("{GENERATION}:{model}")
}

fn stamp(all: Option<u64>, own: Option<u64>) -> [u8; STAMP_LEN] {
    let mut stamp = [0; STAMP_LEN];
    stamp[..8].copy_from_slice(&all.unwrap_or(0).to_le_bytes());
    stamp[8..].copy_from_slice(&own.unwrap_or(0).to_le_bytes());
    stamp
}

/// Returns what is stored if it was written in these generations; a value without a time to live
/// was not written by Salver.
fn current(mut stored: Bytes, stamp: [u8; STAMP_LEN], left_ms: i64) -> Option<SharedEntry> {
    let left_ms = u64::try_from(left_ms).ok()?;
    if !stored.starts_with(&stamp) {
        return None;
    }
    stored.advance(STAMP_LEN);
    Some(SharedEntry { value: stored, time_to_live: Duration::from_millis(left_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hexadecimal() {
        let mut key = [0; 32];
        key[0] = 0xa5;
        assert_eq!(name_of(&key), format!("salver:cache:v1:a5{}", "0".repeat(62)));
    }

    #[test]
    fn what_was_purged_or_never_expires_is_no_entry() {
        let value = |stamp: [u8; 16]| Bytes::from([&stamp[..], b"value"].concat());
        let now = stamp(Some(1), Some(2));
        assert_eq!(current(value(now), now, 5).unwrap().value, "value");
        assert!(current(value(stamp(Some(1), Some(1))), now, 5).is_none());
        assert!(current(value(stamp(None, Some(2))), now, 5).is_none());
        assert!(current(value(now), now, -1).is_none());
        assert!(current(Bytes::from_static(b"short"), now, 5).is_none());
        assert!(current(Bytes::new(), now, -2).is_none());
    }

    #[tokio::test]
    async fn a_password_is_never_repeated() {
        for bad in ["http://:secret@host", "redis://:secret@", "rediss://:secret@host#x", "secret", ""] {
            let error = RedisCache::new(bad).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        let cache = RedisCache::new("redis://user:secret@127.0.0.1:1/3").unwrap();
        assert_eq!(format!("{cache:?}"), "RedisCache(127.0.0.1:1)");
        let error = cache.ping().await.unwrap_err();
        assert_eq!(error.kind(), salver_core::ErrorKind::NotReady);
        assert!(error.message().contains("127.0.0.1:1") && !format!("{error:?}").contains("secret"), "{error:?}");
    }
}
