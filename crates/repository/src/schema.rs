//! The protobuf schemas of the two text files that are read, as Rust types and as descriptors.
//!
//! Both come from `proto/` at the root, compiled by `build.rs`.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// Triton's `config.pbtxt`.
#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated code")]
pub(crate) mod triton {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

/// TF Serving's `models.config`.
#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated code")]
pub(crate) mod tfserving {
    include!(concat!(env!("OUT_DIR"), "/tensorflow.serving.rs"));
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schemas.bin"));
    DescriptorPool::decode(bytes).expect("build.rs wrote a valid descriptor set")
});

/// A generated type together with its full name in the schema.
pub(crate) trait Described: prost::Message + Default {
    /// The full name of the message.
    const NAME: &'static str;

    /// Returns the descriptor of the message.
    fn schema() -> MessageDescriptor {
        POOL.get_message_by_name(Self::NAME).expect("the name stands in proto/, compiled by build.rs")
    }
}

impl Described for triton::ModelConfig {
    const NAME: &'static str = "inference.ModelConfig";
}

impl Described for tfserving::ModelServerConfig {
    const NAME: &'static str = "tensorflow.serving.ModelServerConfig";
}
