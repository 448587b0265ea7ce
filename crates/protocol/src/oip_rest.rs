//! The Open Inference Protocol v2 over REST, with Triton's binary tensor data, model repository,
//! model configuration and statistics extensions.
//!
//! JSON `data` are parsed straight into packed bytes; binary tensors are slices of the body.
//! Leaves out the extensions that are not offered: a request that asks for one is `Unsupported`.

mod client;
mod describe;
mod generate;
mod repository;
mod request;
mod response;
mod settings;
mod shared_memory;
mod tensors;

use std::sync::Arc;

use bytes::Bytes;
use salver_core::{Error, InferResponse, ModelName, ModelRef, Result};

pub use client::{Decoded, EncodedRequest, Form, decode_response, decode_tensor_specs, encode_request};
pub(crate) use describe::{dims, max_batch_size, nanos};
pub use describe::{live, model_config, model_list, model_metadata, model_ready, ready, server_metadata, statistics};
pub use generate::{decode_generate, encode_error_event, encode_event, encode_generate};
pub(crate) use repository::{OverrideDraft, OverrideKind};
pub use repository::{decode_index_request, decode_load_request, decode_unload_request, repository_index};
pub use request::decode_infer;
pub use response::encode_infer;
pub use settings::{decode_log_update, decode_trace_update, log_settings, trace_settings};
pub use shared_memory::{decode_register, region_status};

use self::tensors::Place;
use crate::json::read;
use crate::shared_memory::Shared;
use crate::{Reply, oip};

/// The header that tells where JSON ends and binary tensors begin.
pub const HEADER_LEN: &str = "inference-header-content-length";

/// How the outputs of one request shall come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplyOptions {
    all_binary: bool,
    /// Outputs that the request lists, and whether each shall be binary.
    listed: Vec<(Arc<str>, bool)>,
    /// Outputs that shall come back as their best classes.
    classes: oip::Classes,
    /// What of the request lies in shared memory, or shall be put there.
    pub shared: Shared,
}

impl ReplyOptions {
    /// Every output as JSON.
    pub fn json() -> Self {
        Self::default()
    }

    /// Every output as binary data.
    pub fn binary() -> Self {
        Self { all_binary: true, ..Self::default() }
    }

    /// Whether the output called `name` comes back as binary data.
    pub fn is_binary(&self, name: &str) -> bool {
        // As in Triton, the flag of the whole request counts only where no output is listed.
        match self.listed.iter().find(|(listed, _)| &**listed == name) {
            Some((_, binary)) => *binary,
            None => self.all_binary && self.listed.is_empty(),
        }
    }

    /// Whether the output called `name` is written as text, into the reply's JSON.
    pub fn is_text(&self, name: &str) -> bool {
        !self.is_binary(name) && !self.shared.takes_output(name)
    }

    /// Returns what goes into shared memory: for each window of an output its bytes.
    ///
    /// # Errors
    /// As [`encode_infer`]; `InvalidInput` where a window is too small.
    pub fn shared_blobs(&self, response: &InferResponse) -> Result<Vec<Bytes>> {
        self.shared.blobs(&self.classes.apply(response)?)
    }

    /// Where the output called `name` goes.
    fn place(&self, name: &str) -> Place {
        match self.is_binary(name) {
            _ if self.shared.takes_output(name) => Place::SharedMemory,
            true => Place::Blob,
            false => Place::Json,
        }
    }
}

/// Reads the value of the `Inference-Header-Content-Length` header.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for anything but a decimal number that fits.
pub fn parse_header_len(value: &str) -> Result<usize> {
    let digits = value.trim_matches([' ', '\t']);
    match digits.parse() {
        Ok(len) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(len),
        _ => Err(Error::invalid_input(format!(
            "header Inference-Header-Content-Length must be the number of JSON bytes, got '{}'",
            read::clip(value)
        ))),
    }
}

/// Refers to a model as a path names it; `version` is the text of the version segment.
///
/// # Errors
/// [`salver_core::ErrorKind::InvalidInput`] for a name that no model can have, or a version that
/// is not a number of 63 bits.
pub fn model_ref(name: &str, version: Option<&str>) -> Result<ModelRef> {
    let selector = oip::selector(version.unwrap_or_default())?;
    Ok(ModelRef { name: ModelName::new(name)?, selector })
}

/// Renders an error as `{"error": "…"}`, under this protocol's status for its kind.
pub fn encode_error(error: &Error) -> Reply {
    Reply::error(oip::http_status(error.kind()), error.message())
}

#[cfg(test)]
pub(crate) mod tests;
