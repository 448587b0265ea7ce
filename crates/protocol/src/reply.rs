//! What a decoder may accept and what an encoder hands to a socket.
//!
//! Shared by every protocol of this crate. Nothing here knows a protocol.

use bytes::Bytes;
use serde::Serialize;

use crate::json::write;

/// Bounds on what a request may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most inputs of one request.
    pub max_inputs: usize,
    /// The most outputs that one request may name.
    pub max_outputs: usize,
    /// The deepest nesting of lists and objects in a JSON body.
    pub json_depth: usize,
    /// The most bytes of a tensor's or a parameter's name.
    pub max_name_bytes: usize,
    /// The most bytes of a body, after decompression.
    pub max_body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_inputs: 256, max_outputs: 256, json_depth: 100, max_name_bytes: 128, max_body_bytes: 64 << 20 }
    }
}

/// A reply that is ready for a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// `Inference-Header-Content-Length`, where the body is JSON followed by binary tensors.
    pub inference_header_len: Option<usize>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// Makes a reply of finished JSON text.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "application/json", inference_header_len: None, body: body.into() }
    }

    /// Makes a reply of plain text.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", inference_header_len: None, body: body.into() }
    }

    /// Makes the reply `{"error": "…"}`.
    pub fn error(status: u16, message: &str) -> Self {
        let mut body = Vec::with_capacity(message.len() + 16);
        body.extend_from_slice(b"{\"error\":");
        write::string(&mut body, message);
        body.push(b'}');
        Self::json(status, body)
    }

    /// Makes a JSON reply by serializing `value`.
    ///
    /// A value that JSON cannot express (a map whose keys are no strings) answers 500 instead.
    pub fn json_value<T: Serialize + ?Sized>(status: u16, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::json(status, body),
            Err(_) => Self::error(500, "the reply has no JSON form"),
        }
    }
}
