//! What is settled before a queue is used: its name, how it is laid out, and whether Redis keeps what
//! it says.

use std::collections::HashMap;

use redis::cmd;
use salver_core::{Error, ErrorKind, Result};

use super::{RedisQueue, scripts};

/// The queue's name where the URL gives none.
const NAME: &str = "salver:jobs";
/// A longer name is refused: it is part of every key.
const LONGEST_NAME: usize = 64;
/// How all is laid out; another layout gets another number.
const FORMAT: &str = "1";

/// Splits an address into that of Redis, which has the rest of its parameters, and the queue's name.
pub(super) fn parse(url: &str) -> Result<(String, String)> {
    let Some((address, query)) = url.split_once('?') else { return Ok((url.to_owned(), NAME.to_owned())) };
    let mut name = NAME.to_owned();
    let mut rest = form_urlencoded::Serializer::new(String::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "prefix" => name = value.into_owned(),
            _ => _ = rest.append_pair(&key, &value),
        }
    }
    let rest = rest.finish();
    let address = if rest.is_empty() { address.to_owned() } else { format!("{address}?{rest}") };
    let is_plain = |character: char| !character.is_control() && !matches!(character, '{' | '}');
    match (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        true => Ok((address, name)),
        false => Err(Error::invalid_input(format!(
            "the prefix of the queue of jobs: expected 1 to {LONGEST_NAME} bytes without braces"
        ))),
    }
}

impl RedisQueue {
    /// Notes how all is laid out, and warns where Redis may forget what it said.
    pub(super) async fn open(&self) -> Result<()> {
        let format: String = self.run(scripts::OPEN.call().arg(FORMAT)).await?;
        if format != FORMAT {
            let text = format!("the queue in Redis has format {format}, and this program knows {FORMAT}: update it");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        self.warn_of_settings().await;
        Ok(())
    }

    async fn warn_of_settings(&self) {
        let mut settings = HashMap::new();
        for name in ["appendonly", "appendfsync", "maxmemory-policy"] {
            let question = cmd("CONFIG").arg("GET").arg(name).take();
            let reply: Result<HashMap<String, String>, _> = question.query_async(&mut self.redis.connection()).await;
            settings.extend(reply.unwrap_or_default());
        }
        for warning in warnings(&settings) {
            tracing::warn!(redis = self.redis.place(), "the queue of jobs: {warning}");
        }
    }
}

/// Says which promises are weaker with these settings of Redis, and how to have them.
fn warnings(settings: &HashMap<String, String>) -> Vec<&'static str> {
    let get = |name: &str| settings.get(name).map_or("", String::as_str);
    let durable = match (get("appendonly"), get("appendfsync")) {
        ("yes", "always") => None,
        ("", _) | (_, "") => Some(
            "Redis does not tell its settings (CONFIG GET); jobs survive its crash only with `appendonly yes` and \
             `appendfsync always`",
        ),
        ("yes", "everysec") => Some(
            "Redis syncs once a second: a crash may lose a second of acknowledged jobs and answers; set \
             `appendfsync always`",
        ),
        ("yes", _) => Some(
            "Redis leaves it to the system when it syncs: a crash of the machine may lose acknowledged jobs and \
             answers; set `appendfsync always`",
        ),
        _ => Some(
            "Redis keeps no log: a restart loses acknowledged jobs and answers; set `appendonly yes` and \
             `appendfsync always`",
        ),
    };
    let evicting = match get("maxmemory-policy") {
        "noeviction" | "" => None,
        _ => Some("Redis may throw jobs away when its memory is full; set `maxmemory-policy noeviction`"),
    };
    durable.into_iter().chain(evicting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_the_name_that_its_address_says() {
        let parsed = |url: &str| parse(url).map(|(address, name)| format!("{address} {name}"));
        assert_eq!(parsed("redis://:a@b:1/2").unwrap(), "redis://:a@b:1/2 salver:jobs");
        assert_eq!(parsed("redis://b?prefix=my%20jobs").unwrap(), "redis://b my jobs");
        let with_rest = parsed("rediss://b?sslrootcert=%2Fa%20b&prefix=x&protocol=3").unwrap();
        assert_eq!(with_rest, "rediss://b?sslrootcert=%2Fa+b&protocol=3 x");
        for bad in ["redis://b?prefix=", "redis://b?prefix=a%7Bb", "redis://b?prefix=%0A"] {
            assert_eq!(parsed(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
        let long = format!("redis://b?prefix={}", "x".repeat(65));
        assert_eq!(parsed(&long).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[track_caller]
    fn check(settings: &str, expected: &[&str]) {
        let settings = settings.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let warnings = warnings(&settings);
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        assert!(warnings.iter().zip(expected).all(|(warning, part)| warning.contains(part)), "{warnings:?}");
    }

    #[test]
    fn what_is_promised_less_is_said() {
        check("appendonly=yes appendfsync=always maxmemory-policy=noeviction", &[]);
        check("", &["does not tell"]);
        check("appendonly=no appendfsync=always maxmemory-policy=allkeys-lru", &["keeps no log", "throw jobs away"]);
        check("appendonly=yes appendfsync=everysec maxmemory-policy=noeviction", &["once a second"]);
        check("appendonly=yes appendfsync=no maxmemory-policy=noeviction", &["leaves it to the system"]);
    }
}
