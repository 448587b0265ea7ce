//! Which queue an address means.

use std::sync::Arc;

use salver_core::{Error, Result};
use salver_store::{Database, Redis};

use crate::queue::Queue;
use crate::redis::RedisQueue;
use crate::sql::SqlQueue;

/// Returns the queue at an address. Nothing is connected to before the first use, and calls answer
/// `NotReady` until [`Queue::prepare`] has succeeded once. Call it on a Tokio runtime.
///
/// # Errors
/// `InvalidInput` for an address that is none; it is not repeated, since it may hold a password.
pub fn queue_at(url: &str) -> Result<Arc<dyn Queue>> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("sqlite" | "postgres" | "postgresql") => Ok(Arc::new(SqlQueue::new(Database::lazy(url)?))),
        Some(scheme) if Redis::is_scheme(scheme) => Ok(Arc::new(RedisQueue::new(url)?)),
        _ => Err(Error::invalid_input(
            "the queue of jobs: expected sqlite:///PATH, postgres://USER:PASSWORD@HOST/NAME or \
             redis://:PASSWORD@HOST:PORT",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_says_which_queue_it_is() {
        let kind =
            |url: &str| queue_at(url).map(|queue| format!("{queue:?}").split(['(', ' ']).next().map(str::to_owned));
        assert_eq!(kind("sqlite:///tmp/x.db").unwrap().unwrap(), "SqlQueue");
        assert_eq!(kind("postgres://u:p@h/n").unwrap().unwrap(), "SqlQueue");
        assert_eq!(kind("redis://:p@h:1/2?prefix=x").unwrap().unwrap(), "RedisQueue");
        for bad in ["kafka://:secret@h", "secret", "redis://:secret@", "redis://:secret@h?name=x", "sqlite://"] {
            let refusal = queue_at(bad).unwrap_err();
            assert!(!format!("{refusal:?}").contains("secret"), "{refusal:?}");
        }
        let refusal = queue_at("kafka://h").unwrap_err();
        assert!(["sqlite", "postgres", "redis"].iter().all(|scheme| refusal.message().contains(scheme)), "{refusal}");
    }
}
