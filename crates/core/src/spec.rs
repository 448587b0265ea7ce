//! What to load and how to run it: the result of reading a model folder.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{
    BatchInput, BatchOutput, BuiltinSpec, DataType, Dim, EnsembleSpec, Error, FeaturesSpec, ModelName, ModelRef,
    OnMiss, PythonSpec, RemoteSpec, Result, SequenceBatching, TaskSpec,
};

/// One version of a model, ready to be loaded.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// The model's name.
    pub name: ModelName,
    /// The version, from 1.
    pub version: u64,
    /// The engine asked for; none: the first one that is available.
    pub engine: Option<String>,
    /// The file to load.
    pub artifact: PathBuf,
    /// Changes whenever the files behind this spec change.
    pub fingerprint: u64,
    /// What the data means.
    pub task: TaskSpec,
    /// Column names of an input, by input name; under the empty name: of the only input, if they fit.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Class labels of an output, by output name; under the empty name: of every output that fits.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Metrics measured when the model was made.
    pub metrics: BTreeMap<String, f64>,
    /// What files must hold, where that is known: looked at before each load. Others are taken as
    /// they are.
    pub checksums: Vec<Checksum>,
    /// What stands behind it.
    pub backing: Backing,
    /// How it runs in Python; none: it does not.
    pub python: Option<Arc<PythonSpec>>,
    /// Keeps files that go with the last holder of this; none: they stay.
    pub keeps: Option<Arc<dyn Any + Send + Sync>>,
    /// Batching, instances and declared tensors.
    pub config: ModelConfig,
}

/// What stands behind a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Backing {
    /// The file or folder that an engine reads.
    #[default]
    Artifact,
    /// Other models. The artifact is the file that says so.
    Ensemble(Arc<EnsembleSpec>),
    /// A function that the server has itself. The artifact is the file that says so.
    Builtin(Arc<BuiltinSpec>),
    /// Rows of a feature store. The artifact is the file that says which.
    Features(Arc<FeaturesSpec>),
    /// Another server. The artifact is the file that says so.
    Remote(Arc<RemoteSpec>),
}

impl Backing {
    /// Returns the file that it needs beside the model's own; none: it needs none.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Builtin(builtin) => builtin.file(),
            Self::Artifact | Self::Ensemble(_) | Self::Features(_) | Self::Remote(_) => None,
        }
    }
}

/// What a file must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// The settings of a model, in the terms of Triton's `config.pbtxt`.
///
/// Other sources (a bare file, `model.toml`, TF Serving folders) fill in the same fields.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `platform` as written, such as `onnxruntime_onnx`; may be empty.
    pub platform: String,
    /// `backend` as written, such as `onnxruntime`; may be empty.
    pub backend: String,
    /// How the first dimension is treated.
    pub batch: BatchRule,
    /// Declared inputs; empty: as in the graph.
    pub inputs: Vec<IoConfig>,
    /// Declared outputs, those offered; empty: as in the graph.
    pub outputs: Vec<IoConfig>,
    /// Inputs that the server makes from the requests of a batch.
    pub batch_inputs: Vec<BatchInput>,
    /// Outputs that are cut by the shape of an input.
    pub batch_outputs: Vec<BatchOutput>,
    /// Which versions of the folder are served.
    pub version_policy: VersionPolicy,
    /// Parallel executions; empty: derived from the machine.
    pub instance_groups: Vec<InstanceGroup>,
    /// Merging of requests into batches; none: requests are not merged.
    pub dynamic_batching: Option<DynamicBatching>,
    /// How requests of a stateful model belong together; none: each stands alone.
    pub sequence_batching: Option<Arc<SequenceBatching>>,
    /// The models that an ensemble of Triton's calls; none: it is not one.
    pub ensemble_scheduling: Option<Arc<EnsembleScheduling>>,
    /// Whether a request may have any number of answers (`model_transaction_policy`). What the model's
    /// code says counts.
    pub decoupled: bool,
    /// The artifact's file name within the version folder.
    pub default_model_filename: String,
    /// Free-form settings, shown to clients.
    pub parameters: BTreeMap<String, String>,
    /// Whether answers may come from a cache, if one is configured.
    pub response_cache: bool,
    /// How long a cached answer may be used; none: until it has to make room.
    pub cache_ttl: Option<Duration>,
    /// What becomes of a question whose answer is not in the cache.
    pub on_miss: OnMiss,
    /// The longest that one run may take before its batch fails and its instance is replaced;
    /// none: any time.
    pub run_timeout: Option<Duration>,
    /// Requests to run before the model is called ready.
    pub warmup: Vec<WarmupRequest>,
}

impl ModelConfig {
    /// The longest that one run may take where no setting says otherwise.
    pub const DEFAULT_RUN_TIMEOUT: Duration = Duration::from_secs(60);
}

/// The steps of an ensemble as its `config.pbtxt` has them: every value has a name, and connects
/// whoever writes it with those who read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsembleScheduling {
    /// What runs; names of values, not this order, say what waits for what.
    pub steps: Vec<ScheduledStep>,
}

/// A step of [`EnsembleScheduling`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledStep {
    /// Which model it calls.
    pub model: ModelRef,
    /// The model's inputs, and the values that they read.
    pub input_map: BTreeMap<String, String>,
    /// Outputs of the model, and the values that they write.
    pub output_map: BTreeMap<String, String>,
}

/// How the first dimension of tensors is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchRule {
    /// Found out from the graph: rows where every tensor has a free first dimension. `limit`
    /// is the most rows of a request (none: any number).
    Derive {
        /// The most rows of one request.
        limit: Option<usize>,
    },
    /// Triton's `max_batch_size: 0`: declared shapes are full shapes.
    Never,
    /// Triton's `max_batch_size: n`: a batch dimension of 1..=n is put before declared shapes.
    Max(usize),
}

/// A declared input or output.
#[derive(Debug, Clone, PartialEq)]
pub struct IoConfig {
    /// The name in the graph.
    pub name: String,
    /// The element type; none: as in the graph.
    pub dtype: Option<DataType>,
    /// The shape without the batch dimension; none: as in the graph.
    pub dims: Option<Vec<Dim>>,
    /// The graph's shape without the batch dimension, where it differs from `dims`.
    pub reshape: Option<Vec<Dim>>,
    /// The file of class labels, within the model's folder.
    pub label_filename: String,
    /// Whether requests may leave this input out.
    pub optional: bool,
    /// `format` as written, such as `FORMAT_NONE`.
    pub format: String,
    /// Whether the graph takes the elements of all requests of a batch one after the other, in a flat
    /// tensor. `dims` is the shape within requests.
    pub allow_ragged_batch: bool,
    /// Accepted and shown.
    pub is_shape_tensor: bool,
}

/// Which versions of a folder are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The highest `n`.
    Latest(u32),
    /// All of them.
    All,
    /// Exactly these.
    Specific(Vec<u64>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

impl VersionPolicy {
    /// Picks from the versions that exist; the result ascends.
    pub fn select(&self, existing: &[u64]) -> Vec<u64> {
        let mut sorted = existing.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        match self {
            Self::Latest(count) => sorted.split_off(sorted.len().saturating_sub(*count as usize)),
            Self::All => sorted,
            Self::Specific(wanted) => sorted.into_iter().filter(|version| wanted.contains(version)).collect(),
        }
    }
}

/// Instances of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceGroup {
    /// The group's name; may be empty.
    pub name: String,
    /// Parallel executions.
    pub count: usize,
    /// `KIND_CPU`, `KIND_GPU`, `KIND_AUTO`, …
    pub kind: String,
    /// Device numbers of a GPU kind.
    pub gpus: Vec<i32>,
    /// What computes on the device instead of its own provider: `tensorrt`, `openvino`.
    pub accelerator: Option<String>,
    /// Threads that one execution may use.
    pub threads: usize,
    /// Independent operators of one graph that may run at a time.
    pub inter_threads: usize,
    /// The cores that the workers are pinned to, one after the other; empty: none.
    pub cores: Vec<usize>,
}

impl InstanceGroup {
    /// Returns the devices that the group's instances run on, as [`Placement::device`] names them:
    /// `count` instances on each.
    ///
    /// [`Placement::device`]: crate::Placement::device
    pub fn devices(&self) -> Vec<String> {
        if self.kind != "KIND_GPU" {
            return vec![self.accelerator.clone().unwrap_or_else(|| "cpu".to_owned())];
        }
        let provider = self.accelerator.as_deref().unwrap_or("cuda");
        let gpus: &[i32] = if self.gpus.is_empty() { &[0] } else { &self.gpus };
        gpus.iter().map(|gpu| format!("{provider}:{gpu}")).collect()
    }
}

impl Default for InstanceGroup {
    fn default() -> Self {
        Self {
            name: String::new(),
            count: 1,
            kind: "KIND_CPU".to_owned(),
            gpus: Vec::new(),
            accelerator: None,
            threads: 1,
            inter_threads: 1,
            cores: Vec::new(),
        }
    }
}

/// Merging of requests into batches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DynamicBatching {
    /// The most rows of a merged batch; none: the model's `max_batch_size`, or
    /// [`Self::DEFAULT_MAX_ROWS`].
    pub max_rows: Option<usize>,
    /// Sizes that are worth waiting for, ascending.
    pub preferred_batch_size: Vec<usize>,
    /// How long the oldest request may wait for company.
    pub max_queue_delay_microseconds: u64,
    /// Whether answers keep the order of requests.
    pub preserve_ordering: bool,
    /// Number of priorities; 0: one.
    pub priority_levels: u32,
    /// The priority of requests that name none.
    pub default_priority_level: u32,
    /// The queue's policy where no priority has its own.
    pub default_queue_policy: Option<QueuePolicy>,
    /// Policies by priority.
    pub priority_queue_policy: BTreeMap<u32, QueuePolicy>,
    /// How requests of different lengths share a batch; none: they do not.
    pub padding: Option<Padding>,
}

impl DynamicBatching {
    /// The most rows of a merged batch where neither model nor settings say.
    pub const DEFAULT_MAX_ROWS: usize = 64;

    /// Returns the settings of a model of which nothing is said, outside Triton's repositories.
    /// Unlike there, a request may shorten its own wait.
    pub fn unconfigured() -> Self {
        let policy = QueuePolicy { allow_timeout_override: true, ..QueuePolicy::default() };
        Self { default_queue_policy: Some(policy), ..Self::default() }
    }
}

/// How requests of different lengths share a batch. Only a model whose answers do not depend on
/// the padding, such as one with an attention mask, may declare this.
///
/// The length is the second dimension: the one after the batch dimension.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Padding {
    /// The inputs to pad at their end, each with its own value. All have the same length within a
    /// request.
    pub inputs: BTreeMap<String, f64>,
    /// The outputs that are as long as the padded inputs: they are cut back to the request's length.
    pub outputs: Vec<String>,
    /// Lengths share a batch only within the same bucket: up to and including each of these,
    /// ascending; empty: steps of a quarter.
    pub buckets: Vec<usize>,
}

/// What happens to requests that wait too long or find no room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueuePolicy {
    /// Whether a request whose time is up runs late (`DELAY`) instead of being refused (`REJECT`).
    pub delay_on_timeout: bool,
    /// The longest wait; 0: no limit.
    pub default_timeout_microseconds: u64,
    /// Whether a request may shorten its own wait.
    pub allow_timeout_override: bool,
    /// The most waiting requests; 0: no limit.
    pub max_queue_size: u32,
}

/// A request to run before a model is called ready.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmupRequest {
    /// Named in messages.
    pub name: String,
    /// Rows of the request; 0 where the model has no batch dimension.
    pub batch_size: usize,
    /// How often it runs.
    pub count: usize,
    /// The inputs.
    pub inputs: Vec<WarmupInput>,
}

/// One input of a warm-up request.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmupInput {
    /// The input's name.
    pub name: String,
    /// Its element type.
    pub dtype: DataType,
    /// Its shape without the batch dimension.
    pub dims: Vec<usize>,
    /// Its data.
    pub data: WarmupData,
}

/// What a warm-up input holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarmupData {
    /// Zeros; empty BYTES.
    Zeros,
    /// Numbers that are spread out, the same every time; empty BYTES.
    Random,
    /// One row in the binary form of the protocol, row-major and little-endian; each BYTES element
    /// behind its length as four bytes.
    File {
        /// The name in the model's settings.
        name: String,
        /// Where it lies.
        path: PathBuf,
    },
}

/// A model that a source knows: its versions, or why they cannot be had.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// The model's name.
    pub name: ModelName,
    /// Labels and the versions they stand for.
    pub labels: BTreeMap<String, u64>,
    /// The versions to serve, ascending; or what is wrong with the folder, whose versions go on
    /// serving. With the kind `Gone` nothing is wrong: there is no version to serve, and what
    /// served leaves.
    pub versions: Result<Vec<Arc<ModelSpec>>>,
}

/// Where models come from. Calls read files and block.
pub trait ModelSource: Send + Sync + 'static {
    /// Returns every model there is, by ascending name.
    fn scan(&self) -> Vec<ModelEntry>;

    /// Returns the model called `name`, read anew.
    fn find(&self, name: &str) -> Option<ModelEntry>;

    /// Returns the model called `name` as it is with what a client sends in place of its own
    /// configuration and files; none: there is no such model, and no files were sent to make one.
    ///
    /// # Errors
    /// `InvalidInput` for what cannot be read, `Unsupported` where nothing may be sent, `Full` where
    /// there is no room for it.
    fn overridden(&self, name: &ModelName, by: &LoadOverride) -> Result<Option<ModelEntry>> {
        let _ = by;
        Err(Error::unsupported(format!("model '{name}' can only be loaded as it is")))
    }
}

/// What a client sends along with a load, in place of what the model's source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOverride {
    /// The whole configuration: JSON with the fields of `config.pbtxt`.
    pub config: String,
    /// The whole folder of the model; empty: the one that its source has.
    pub files: Vec<OverrideFile>,
}

/// One file that a client sends. Nothing is known of its path yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideFile {
    /// Where it is to lie in the model's folder, as it was sent.
    pub path: String,
    /// What it holds.
    pub data: Bytes,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            platform: String::new(),
            backend: String::new(),
            batch: BatchRule::Derive { limit: None },
            inputs: Vec::new(),
            outputs: Vec::new(),
            batch_inputs: Vec::new(),
            batch_outputs: Vec::new(),
            version_policy: VersionPolicy::default(),
            instance_groups: Vec::new(),
            dynamic_batching: Some(DynamicBatching::unconfigured()),
            sequence_batching: None,
            ensemble_scheduling: None,
            decoupled: false,
            default_model_filename: "model.onnx".to_owned(),
            parameters: BTreeMap::new(),
            response_cache: false,
            cache_ttl: None,
            on_miss: OnMiss::Compute,
            run_timeout: Some(Self::DEFAULT_RUN_TIMEOUT),
            warmup: Vec::new(),
        }
    }
}
