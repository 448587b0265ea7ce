//! Where things are kept, behind plain types: rows in SQLite or PostgreSQL ([`Database`]), bytes of
//! models in a folder or an S3 bucket ([`Blobs`]), answers that several servers share in Redis
//! ([`RedisCache`]); and a connection to it for whoever keeps something else there ([`Redis`]).
//! Besides, the engine of models that look rows up in either ([`FeaturesEngine`]).
//!
//! But for that engine nothing here knows what is kept, decides when to ask or how long to wait;
//! callers do.

mod blobs;
pub mod database;
mod features;
mod folder;
mod redis;
mod redis_cache;

pub use self::redis::Redis;
pub use blobs::{BlobInfo, Blobs, Digest, StoredBlob};
pub use database::Database;
pub use features::{CountLookups, FeaturesEngine, Lookup, MakeCounter};
pub use folder::{make_folder, sync_folder};
pub use redis_cache::RedisCache;
