//! What is kept elsewhere, over real services that the tests start themselves.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod blobs;
mod database;
mod features;
mod redis_cache;
