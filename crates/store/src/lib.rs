//! What several servers share, behind the traits of `core`.
//!
//! So far: answers in Redis ([`RedisCache`]). Nothing here decides when to ask or how long to wait;
//! callers do, by dropping futures.

mod redis_cache;

pub use redis_cache::RedisCache;
