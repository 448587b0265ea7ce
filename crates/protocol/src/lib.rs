//! Bytes to requests and back: Open Inference Protocol, TF Serving, MLflow scoring, OpenAI embeddings, plain
//! JSON.
//!
//! Pure functions between the bodies of a protocol and the types of `salver-core`. No sockets, no
//! headers beyond the few that change how a body is read, and no knowledge of what a model does.

pub mod fuzz;
pub mod graph;
mod json;
pub mod mlflow_scoring;
pub mod npy;
mod oip;
pub mod oip_grpc;
pub mod oip_rest;
pub mod openai;
pub mod openapi;
pub mod paths;
pub mod plain;
mod reply;
mod rows;
mod samples;
pub mod settings;
pub mod shared_memory;
mod task;
pub mod tfserving;
pub mod tfserving_grpc;

pub use reply::{Limits, Reply};
