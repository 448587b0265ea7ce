//! The Open Inference Protocol v2 over gRPC: messages to core types and back.
//!
//! [`inference`] holds the generated messages, server trait and client. Packed data travel as
//! `Bytes` and are never copied on the way in. What the methods do is the server's business.

/// Generated from `proto/inference.proto` and `proto/model_config.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The encoded descriptors of [`inference`], for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
