//! Drives the server over real sockets, with models that answer, wait or fail on request.

mod coding;
mod connection;
mod fake;
mod grpc;
mod headers;
mod limits;
mod protocols;
mod raw;
mod routes;
mod server;
mod shutdown;
