//! Models behind somebody else's interface, as their files say.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Cost, TensorSpec};

/// A model that another server answers for.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSpec {
    /// How it is spoken to.
    pub api: RemoteApi,
    /// The address that the interface's paths go on from.
    pub url: String,
    /// The model's name there; none: as it is called here.
    pub model: Option<String>,
    /// The environment variable with the key; none: no key is sent.
    pub key_env: Option<String>,
    /// What else goes along with each call; names are in lower case.
    pub headers: BTreeMap<String, String>,
    /// The longest that one attempt may take.
    pub timeout: Duration,
    /// Calls at a time.
    pub max_concurrency: usize,
    /// Requests that may wait or run.
    pub max_in_flight: usize,
    /// Attempts after the first.
    pub retries: u32,
    /// The most bytes of an answer.
    pub max_answer_bytes: usize,
    /// What is charged for it.
    pub prices: Prices,
}

/// How another server is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub enum RemoteApi {
    /// OpenAI's chat completions.
    OpenAiChat {
        /// What is said before every conversation.
        system: Option<String>,
    },
    /// OpenAI's embeddings.
    OpenAiEmbeddings {
        /// The numbers of a vector; none: any.
        dimensions: Option<usize>,
    },
    /// The Open Inference Protocol over REST.
    OipV2 {
        /// The version there; none: the one that the server picks.
        version: Option<String>,
        /// Declared inputs and outputs; none: the server is asked.
        tensors: Option<RemoteTensors>,
    },
}

/// What a remote model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTensors {
    /// The inputs.
    pub inputs: Vec<TensorSpec>,
    /// The outputs.
    pub outputs: Vec<TensorSpec>,
}

/// What calls cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prices {
    /// 1,000 tokens of questions.
    pub per_1k_input_tokens: Cost,
    /// 1,000 tokens of answers.
    pub per_1k_output_tokens: Cost,
    /// Each call that is answered.
    pub per_call: Cost,
}
