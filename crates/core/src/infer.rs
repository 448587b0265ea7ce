//! The one call that every protocol, job and stream ends in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};

use crate::{CacheKey, CacheOutcome, Context, Cost, ModelRef, Result, Signature, Tensor};

/// Named tensors for a model.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// Which model is asked.
    pub model: ModelRef,
    /// The caller's own id for the request, echoed in the response.
    pub id: Option<String>,
    /// The inputs, in any order.
    pub inputs: Vec<Tensor>,
    /// The outputs wanted, in that order; empty for all.
    pub outputs: Vec<Arc<str>>,
    /// Protocol parameters that act on scheduling; unknown ones are ignored.
    pub parameters: Parameters,
}

/// What a model answered.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// The version that answered, with its signature and labels.
    pub model: Arc<ModelInfo>,
    /// The caller's id.
    pub id: Option<String>,
    /// The outputs, in the order asked for.
    pub outputs: Vec<Tensor>,
    /// Where the time went.
    pub timings: Timings,
    /// Where the answer came from; none: the model's answers are not cached.
    pub cache: Option<CacheOutcome>,
    /// What others charged for this answer; none: nobody charges for this model.
    pub cost: Option<Cost>,
}

/// What became of a request whose caller can be given a job.
#[derive(Debug, Clone)]
pub enum Inferred {
    /// It was answered.
    Now(InferResponse),
    /// Its answer is not in the cache, and the model has such computed in the background.
    Later(Deferred),
}

/// A question that a job is to answer, so that its answer is in the cache.
#[derive(Debug, Clone)]
pub struct Deferred {
    /// The version that was asked.
    pub model: Arc<ModelInfo>,
    /// The question: the same for equal inputs to equal versions, on every server.
    pub question: CacheKey,
    /// How long an answer may be used; none: until it has to make room.
    pub ttl: Option<Duration>,
}

/// Where the time of one request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From admission until a worker took the request.
    pub queue: Duration,
    /// Copying inputs into the batch.
    pub compute_input: Duration,
    /// Inside the engine.
    pub compute_infer: Duration,
    /// Cutting outputs apart.
    pub compute_output: Duration,
    /// The rows of the batch that the request ran in.
    pub batch_rows: usize,
}

/// A scalar request parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// A JSON boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond [`i64::MAX`].
    Uint(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
}

/// Request parameters by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// What a client may know of one served version.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The model's name.
    pub name: Arc<str>,
    /// This version.
    pub version: u64,
    /// The engine that runs it: `onnx`, `rten`, …
    pub engine: Arc<str>,
    /// The platform as Triton's clients know it, such as `onnxruntime_onnx`.
    pub platform: String,
    /// Inputs and outputs as requests see them.
    pub signature: Signature,
    /// What the data means: `tensor`, `tabular`, …
    pub task: String,
    /// Column names of each input, parallel to `signature.inputs`; empty where none are known.
    pub columns: Vec<Vec<String>>,
    /// Class labels of each output, parallel to `signature.outputs`; empty where none are known.
    pub labels: Vec<Vec<String>>,
    /// Metrics measured when the model was made.
    pub metrics: BTreeMap<String, f64>,
    /// Inputs of one row that the model accepts, where it has a task that knows; else empty.
    pub example: Vec<Tensor>,
    /// Who is told what the protocols know of its requests.
    pub observer: Option<Arc<dyn Observe>>,
}

/// Takes what only the caller of [`Infer`] can measure, beside what the runtime measures itself.
pub trait Observe: fmt::Debug + Send + Sync {
    /// Notes how long reading an answered request and writing its reply took.
    fn protocol(&self, decode: Duration, encode: Duration);
}

/// Answers requests: the local runtime, a remote server, a routing rule.
pub trait Infer: Send + Sync + 'static {
    /// Runs one request and answers before its deadline. Dropping the future cancels it.
    fn infer(&self, request: InferRequest, ctx: Context) -> BoxFuture<'_, Result<InferResponse>>;

    /// Runs one request, unless its answer is to be computed by a job that the caller hands out
    /// ([`OnMiss::Job`](crate::OnMiss)). A request that contradicts the model is refused right here.
    fn infer_or_defer(&self, request: InferRequest, ctx: Context) -> BoxFuture<'_, Result<Inferred>> {
        Box::pin(async move { self.infer(request, ctx).await.map(Inferred::Now) })
    }

    /// Whether [`Self::infer_or_defer`] may leave a question to a job.
    fn may_defer(&self, model: &ModelRef) -> bool {
        let _ = model;
        false
    }

    /// Runs one request and gives its answers as they come: one, except of a decoupled model. Ends
    /// with the first error. Dropping the stream cancels the request.
    fn infer_stream(self: Arc<Self>, request: InferRequest, ctx: Context) -> BoxStream<'static, Result<InferResponse>> {
        Box::pin(stream::once(async move { self.infer(request, ctx).await }))
    }

    /// Whether a model may give any number of answers: then [`Self::infer`] refuses.
    fn is_decoupled(&self, model: &ModelRef) -> bool {
        let _ = model;
        false
    }

    /// Brings a model in that is loaded at first use, for callers that need its description before
    /// they can ask. None: there is nothing to wait for.
    fn wake<'a>(&'a self, model: &'a ModelRef, deadline: Option<Instant>) -> Option<BoxFuture<'a, Result<()>>> {
        let _ = (model, deadline);
        None
    }

    /// Describes the version that `model` means at this moment.
    ///
    /// # Errors
    /// `NotFound` for an unknown model or version, `NotReady` for one that is not serving.
    fn describe(&self, model: &ModelRef) -> Result<Arc<ModelInfo>>;
}
