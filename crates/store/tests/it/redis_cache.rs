//! The shared cache over a real Redis, which the test starts itself.

use std::time::Duration;

use bytes::Bytes;
use salver_core::{ErrorKind, SharedCache as _, SharedEntry};
use salver_store::RedisCache;
use salver_testkit::RedisServer;

fn entry(value: &'static str) -> SharedEntry {
    SharedEntry { value: Bytes::from_static(value.as_bytes()), time_to_live: Duration::from_secs(100) }
}

async fn value(cache: &RedisCache, model: &str, key: u8) -> Option<String> {
    let found = cache.get(model, &[key; 32]).await.unwrap()?;
    assert!(found.time_to_live > Duration::from_secs(50) && found.time_to_live <= Duration::from_secs(100));
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

#[tokio::test]
async fn what_one_writes_another_reads_until_it_is_purged() {
    let Some(redis) = RedisServer::start() else { return };
    let (one, other) = (RedisCache::new(&redis.url()).unwrap(), RedisCache::new(&redis.url()).unwrap());
    one.ping().await.unwrap();
    assert_eq!(value(&one, "m", 1).await, None);
    one.put("m", &[1; 32], entry("first")).await.unwrap();
    one.put("n", &[2; 32], entry("second")).await.unwrap();
    one.put("n", &[3; 32], entry("")).await.unwrap();
    assert_eq!(value(&other, "m", 1).await.as_deref(), Some("first"));
    assert_eq!(value(&other, "n", 3).await.as_deref(), Some(""));

    other.purge(Some("m")).await.unwrap();
    assert_eq!(value(&one, "m", 1).await, None);
    assert_eq!(value(&one, "n", 2).await.as_deref(), Some("second"));
    one.put("m", &[1; 32], entry("anew")).await.unwrap();
    assert_eq!(value(&other, "m", 1).await.as_deref(), Some("anew"));
    one.purge(None).await.unwrap();
    for (model, key) in [("m", 1), ("n", 2)] {
        assert_eq!(value(&other, model, key).await, None);
    }
}

#[tokio::test]
async fn an_answer_expires_by_itself() {
    let Some(redis) = RedisServer::start() else { return };
    let cache = RedisCache::new(&redis.url()).unwrap();
    let short = SharedEntry { time_to_live: Duration::from_millis(1), ..entry("short") };
    cache.put("m", &[1; 32], short).await.unwrap();
    while cache.get("m", &[1; 32]).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_is_used_again() {
    let Some(mut redis) = RedisServer::start() else { return };
    let cache = RedisCache::new(&redis.url()).unwrap();
    cache.put("m", &[1; 32], entry("before")).await.unwrap();
    redis.kill();
    assert_eq!(cache.get("m", &[1; 32]).await.unwrap_err().kind(), ErrorKind::NotReady);
    redis.restart();
    // The first calls may still notice the broken connection.
    let mut tries = 0;
    while let Err(error) = cache.put("m", &[1; 32], entry("after")).await {
        tries += 1;
        assert!(tries < 1000, "{error:?}");
        tokio::task::yield_now().await;
    }
    assert_eq!(value(&cache, "m", 1).await.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_password_lets_in() {
    let Some(redis) = RedisServer::start_with_password("a secret/@:") else { return };
    RedisCache::new(&redis.url()).unwrap().ping().await.unwrap();
    let stranger = RedisCache::new(&format!("redis://127.0.0.1:{}", redis.port())).unwrap();
    assert_eq!(stranger.ping().await.unwrap_err().kind(), ErrorKind::NotReady);
}

#[tokio::test]
async fn tls_lets_in_those_who_trust_and_are_trusted() {
    let Some(redis) = RedisServer::start_with_tls() else { return };
    let (url, folder) = (redis.tls_url().unwrap(), redis.folder().display());
    let reach = async |parameters: &str| {
        let cache = RedisCache::new(&format!("{url}?{parameters}")).unwrap();
        cache.ping().await.map_err(|error| format!("{error:?}"))
    };
    let own = format!("sslcert={folder}/client.pem&sslkey={folder}/client.key");
    reach(&format!("sslrootcert={folder}/ca.pem&{own}")).await.unwrap();

    let stranger = reach(&format!("sslrootcert={folder}/stranger.pem&{own}")).await.unwrap_err();
    assert!(stranger.contains("UnknownIssuer"), "{stranger}");
    let system = reach(&own).await.unwrap_err();
    assert!(system.contains("certificate"), "{system}");
    let unknown = reach(&format!("sslrootcert={folder}/ca.pem")).await.unwrap_err();
    assert!(unknown.contains("NotReady"), "{unknown}");

    // A name that the certificate does not have.
    let port = url.rsplit_once(':').unwrap().1;
    let cache = RedisCache::new(&format!("rediss://localhost:{port}?sslrootcert={folder}/ca.pem&{own}")).unwrap();
    let other = format!("{:?}", cache.ping().await.unwrap_err());
    assert!(other.contains("not valid for name"), "{other}");
}
