//! What may stand in a `model.toml`, key by key, as serde reads it.
//!
//! Bounds of single numbers are in their types; what several keys must agree on is checked where
//! they are put together. Unknown keys are refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::builtin::Builtin;
use super::columns::Column;
use super::ensemble::{Sources, Step};
use super::features::{Feature, Features};
use super::image::Image;
use super::number::{Milliseconds, Whole};
use super::python::Python;
use super::remote::Remote;
use super::text::Text;
use crate::limits::{CORE_LIMIT, COUNT_LIMIT, PRIORITY_LIMIT, RUN_TIMEOUT_LIMIT_MS};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// The model's name; none: the folder's.
    pub(super) name: Option<Spanned<String>>,
    /// The version; none: 1.
    pub(super) version: Option<Spanned<i64>>,
    /// The engine; none: the first one that is available.
    pub(super) engine: Option<Spanned<String>>,
    /// What to load; none: `model.onnx`, the only `.onnx` file, or `model.py`.
    pub(super) artifact: Option<String>,
    /// What the data means; none: `tabular` where columns are named, else `tensor`.
    pub(super) task: Option<Spanned<String>>,
    /// Class labels.
    pub(super) labels: Option<Spanned<Labels>>,
    /// What the artifact does not say about its inputs.
    pub(super) input: Vec<Input>,
    /// What the code of a model in Python does not say about its outputs.
    pub(super) output: Vec<Output>,
    /// How the model runs in Python.
    pub(super) python: Option<Spanned<Python>>,
    /// How texts become tokens.
    pub(super) text: Option<Spanned<Text>>,
    /// How pictures become tensors.
    pub(super) image: Option<Spanned<Image>>,
    /// Columns with types.
    pub(super) column: Vec<Spanned<Column>>,
    /// The calls that an ensemble is made of.
    pub(super) step: Vec<Spanned<Step>>,
    /// The function that the server has itself.
    pub(super) builtin: Option<Spanned<Builtin>>,
    /// The rows that are looked up.
    pub(super) features: Option<Spanned<Features>>,
    /// What is in them.
    pub(super) feature: Vec<Spanned<Feature>>,
    /// The server that answers for the model.
    pub(super) remote: Option<Spanned<Remote>>,
    /// Merging of requests.
    pub(super) batching: Option<Spanned<Batching>>,
    /// Parallel executions.
    pub(super) instances: Option<Instances>,
    /// Caching of answers.
    pub(super) cache: Option<Cache>,
    /// Metrics measured when the model was made.
    pub(super) metrics: BTreeMap<String, Spanned<f64>>,
}

/// Class labels, in the file or in one of their own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "must be a list of texts or the name of a file with one label a line")]
pub(crate) enum Labels {
    /// The labels themselves.
    List(Vec<String>),
    /// A text file in the folder, one label a line.
    File(String),
}

/// `[[input]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// The input's name in the artifact.
    pub(super) name: Spanned<String>,
    /// The names of its columns.
    #[serde(default)]
    pub(super) columns: Vec<Spanned<String>>,
    /// Its element type; of models in Python and remote ones only.
    pub(super) dtype: Option<Spanned<String>>,
    /// Its full shape, -1: any extent; of models in Python and remote ones only.
    pub(super) shape: Option<Spanned<Vec<Spanned<i64>>>>,
    /// Whether requests may leave it out; of models in Python and remote ones only.
    pub(super) optional: Option<Spanned<bool>>,
}

/// `[[output]]`, of models in Python, ensembles and remote models only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Output {
    /// The output's name.
    pub(super) name: Spanned<String>,
    /// Its element type; of models in Python and remote ones only.
    pub(super) dtype: Option<Spanned<String>>,
    /// Its full shape, -1: any extent; of models in Python and remote ones only.
    pub(super) shape: Option<Spanned<Vec<Spanned<i64>>>>,
    /// Where it comes from; of ensembles only.
    pub(super) from: Option<Spanned<Sources>>,
}

/// Rows of a batch.
pub(super) type Rows = Whole<1, 65_536>;
/// A level of urgency; 1 is the most urgent.
pub(super) type Level = Whole<1, PRIORITY_LIMIT>;

/// `[batching]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Batching {
    /// The most rows of a merged batch.
    pub(super) max_rows: Option<Rows>,
    /// Sizes that are worth waiting for.
    pub(super) preferred_rows: Vec<Spanned<Rows>>,
    /// How long the oldest request may wait for company.
    pub(super) max_delay_ms: Milliseconds<60_000>,
    /// Whether answers keep the order of requests.
    pub(super) preserve_order: bool,
    /// Levels of urgency; 0: one.
    pub(super) priorities: Option<Whole<0, PRIORITY_LIMIT>>,
    /// The level of requests that name none.
    pub(super) default_priority: Option<Spanned<Level>>,
    /// The longest wait in the queue; 0: any time.
    pub(super) timeout_ms: Option<Timeout>,
    /// What happens to a request that waited longer.
    pub(super) on_timeout: Option<OnTimeout>,
    /// Whether a request may shorten its own wait.
    pub(super) timeout_override: Option<bool>,
    /// The most waiting requests; 0: the server's limit.
    pub(super) max_queue: Option<QueueLength>,
    /// What differs for a level.
    pub(super) priority: BTreeMap<Spanned<String>, Policy>,
    /// How requests of different lengths share a batch.
    pub(super) padding: Option<Spanned<Padding>>,
}

/// The longest wait in a queue, up to an hour.
pub(super) type Timeout = Whole<0, 3_600_000>;
/// The most waiting requests.
pub(super) type QueueLength = Whole<0, 1_000_000>;

/// `[batching.priority.N]`; what is left out is as in `[batching]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    /// As in [`Batching`].
    pub(super) timeout_ms: Option<Timeout>,
    /// As in [`Batching`].
    pub(super) on_timeout: Option<OnTimeout>,
    /// As in [`Batching`].
    pub(super) timeout_override: Option<bool>,
    /// As in [`Batching`].
    pub(super) max_queue: Option<QueueLength>,
}

/// What happens to a request that waited too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnTimeout {
    /// It is refused.
    Reject,
    /// It runs after all those whose time is not up.
    Delay,
}

/// `[batching.padding]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Padding {
    /// The inputs to pad, with what.
    pub(super) inputs: BTreeMap<String, f64>,
    /// The outputs that are as long as the padded inputs.
    #[serde(default)]
    pub(super) outputs: Vec<String>,
    /// Which lengths share a batch.
    #[serde(default)]
    pub(super) buckets: Vec<Spanned<Whole<1, 16_777_216>>>,
}

/// `[instances]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Instances {
    /// Parallel executions; none: as many as there are cores for.
    pub(super) count: Option<Whole<1, COUNT_LIMIT>>,
    /// Threads of one execution; none: 1.
    pub(super) threads: Option<Whole<1, COUNT_LIMIT>>,
    /// Independent operators of one execution that may run at a time; none: 1.
    pub(super) inter_threads: Option<Whole<1, COUNT_LIMIT>>,
    /// The cores that the executions are pinned to, in turn.
    pub(super) cores: Vec<Whole<0, CORE_LIMIT>>,
    /// Where they run; none: `cpu`.
    pub(super) device: Option<Spanned<String>>,
    /// The longest that one run may take; 0: any time.
    pub(super) run_timeout_ms: Option<Whole<0, RUN_TIMEOUT_LIMIT_MS>>,
}

/// `[cache]`: its presence lets answers come from a cache.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cache {
    /// How long an answer may be used; none: until it has to make room.
    pub(super) ttl_s: Option<Whole<1, 31_536_000>>,
    /// What becomes of a question whose answer is not there.
    pub(super) on_miss: OnMiss,
}

/// What becomes of a question whose answer is not in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnMiss {
    /// It is computed while its caller waits.
    #[default]
    Compute,
    /// Callers get a job.
    Job,
}
