//! Where things are kept, behind plain types: rows in SQLite or PostgreSQL ([`Database`]), answers
//! that several servers share in Redis ([`RedisCache`]).
//!
//! Nothing here knows what is kept, decides when to ask or how long to wait; callers do.

pub mod database;
mod redis_cache;

pub use database::Database;
pub use redis_cache::RedisCache;
