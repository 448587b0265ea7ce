//! What tests share: a fake engine, the contract suites of engines, and starters for the server, for
//! Redis, for PostgreSQL and for S3.
//!
//! Nothing here is part of the product; only dev-dependencies point to this crate.

mod engine_suite;
mod fake;
mod gate;
mod model_suite;
mod postgres;
mod python;
mod redis_server;
mod s3;
mod server_process;
mod service;
mod spec;

pub use engine_suite::{EngineModels, engine_suite, run_staged};
pub use fake::{BatchRecord, Compute, FakeEngine, Reaction, tensor, text};
pub use gate::Gate;
pub use model_suite::model_suite;
pub use postgres::Postgres;
pub use python::python;
pub use redis_server::RedisServer;
pub use s3::S3;
pub use server_process::{ServerOptions, ServerProcess};
pub use spec::{repository_path, spec, spec_of};
