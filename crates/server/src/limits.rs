//! What a peer may ask of the server before it is refused.
//!
//! Each field is a setting with a default that suits a machine of its own behind no proxy. What a
//! body may claim once it is read stands in [`salver_protocol::Limits`].

use std::time::Duration;

/// Bounds on requests and connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The most bytes of a request body, as sent and after decompression.
    pub body_bytes: usize,
    /// How many times larger than sent a body may become by decompression.
    pub decompressed_ratio: usize,
    /// Bounds on what a decoded request may claim.
    pub protocol: salver_protocol::Limits,
    /// The most bytes of all header fields: names, values and 32 bytes for each (RFC 9113 §6.5.2).
    pub header_bytes: usize,
    /// The most header fields.
    pub headers: usize,
    /// The most bytes of a path with its query.
    pub uri_bytes: usize,
    /// How long the head of a request may take from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may stay open without a request, or with a reply nobody reads.
    pub idle_timeout: Duration,
    /// The least bytes per second of a request body.
    pub min_body_rate: usize,
    /// How long a body may take before the rate counts.
    pub body_grace: Duration,
    /// The most open HTTP/2 streams of one connection.
    pub h2_streams: u32,
    /// The deadline of a request that names none, counted from when its body is there.
    pub default_deadline: Duration,
    /// The most bytes of all request bodies that are in memory at the same time.
    pub buffered_bytes: usize,
    /// The most open connections of one listener; more wait to be accepted.
    pub connections: usize,
    /// How long an idle HTTP/1 connection stays open after shutdown began, so that a request on
    /// its way is still answered.
    pub drain_linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            decompressed_ratio: 100,
            protocol: salver_protocol::Limits::default(),
            header_bytes: 32 << 10,
            headers: 100,
            uri_bytes: 8 << 10,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            min_body_rate: 1 << 10,
            body_grace: Duration::from_secs(5),
            h2_streams: 256,
            default_deadline: Duration::from_secs(30),
            buffered_bytes: 1 << 30,
            connections: 10_000,
            drain_linger: Duration::from_millis(500),
        }
    }
}
