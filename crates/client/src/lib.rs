//! A typed client for the server, over HTTP and over gRPC.
//!
//! Both clients implement [`Infer`](salver_core::Infer), so whatever works on the local runtime
//! works on a remote server: [`HttpClient`] speaks the Open Inference Protocol with JSON or binary
//! tensors, the plain routes for people and those of the queue of jobs, [`GrpcClient`] the same
//! protocol over gRPC. Nothing is retried here:
//! [`ErrorKind::is_retryable`](salver_core::ErrorKind::is_retryable) tells callers what may be.

mod artifacts;
mod base;
mod cache;
mod deadline;
mod grpc;
mod http;
mod jobs;
mod known;
mod metadata;
mod registry;
mod status;

pub use artifacts::RemoteFile;
pub use base::BaseUrl;
pub use grpc::GrpcClient;
pub use http::{Form, HttpClient, HttpReply};
pub use jobs::{
    JobAnswer, JobEvent, JobFilter, JobForm, JobGate, JobOptions, JobPage, JobProgress, JobState, JobStats, JobStatus,
    NewJob, SubmittedJob,
};
pub use registry::Login;
