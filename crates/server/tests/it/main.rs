//! Drives the server over real sockets, with models that answer, wait or fail on request.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing it did not expect")]

mod coding;
mod connection;
mod fake;
mod grpc;
mod headers;
mod http2;
mod limits;
mod protocols;
mod raw;
mod routes;
mod server;
mod shared_memory;
mod shutdown;
mod task_models;
mod tasks;
