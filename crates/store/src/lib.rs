//! What several servers share, and what outlives them.
//!
//! Answers in Redis, behind the trait of `core` ([`RedisCache`]), and the bytes of models in a
//! folder or an S3 bucket ([`Blobs`]). Nothing here decides when to ask or how long to wait;
//! callers do, by dropping futures.

mod blobs;
mod redis_cache;

pub use blobs::{BlobInfo, Blobs, Digest, StoredBlob};
pub use redis_cache::RedisCache;
