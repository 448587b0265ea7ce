//! What the registry keeps, as MLflow's clients know it: names of fields and values are theirs.
//!
//! Serialised, these are MLflow's JSON: what is not set is left out, 64-bit integers are numbers,
//! ids of experiments and numbers of versions are strings, and NaN is the text `"NaN"`.

use std::fmt::Display;

use serde::{Deserialize, Serialize, Serializer};

use crate::names::Stage;
use crate::search::Page;

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// At most 250 characters.
    pub key: String,
    /// May be empty.
    #[serde(default)]
    pub value: String,
}

/// Whether something is there or was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// There.
    Active,
    /// Deleted, and can be restored.
    Deleted,
}

impl Lifecycle {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
        }
    }

    pub(crate) fn read(text: &str) -> Self {
        if text == "active" { Self::Active } else { Self::Deleted }
    }
}

/// Which of the two a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// Those that are there.
    #[default]
    Active,
    /// Those that were deleted.
    Deleted,
    /// Both.
    All,
}

/// A group of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Experiment {
    /// `0` is `Default`, which is always there.
    #[serde(serialize_with = "as_text")]
    pub experiment_id: i64,
    /// Unique, also among deleted ones.
    pub name: String,
    /// Below it lie the artifacts of its runs.
    pub artifact_location: String,
    /// Whether it was deleted.
    pub lifecycle_stage: Lifecycle,
    /// Milliseconds since 1970.
    pub creation_time: i64,
    /// Milliseconds since 1970.
    pub last_update_time: i64,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// What a run is, without what it logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunInfo {
    /// 32 hexadecimal digits.
    pub run_id: String,
    /// The same; older clients read this one.
    pub run_uuid: String,
    /// Mirrored in the tag `mlflow.runName`.
    pub run_name: String,
    /// The experiment that it belongs to.
    #[serde(serialize_with = "as_text")]
    pub experiment_id: i64,
    /// Who ran it, as the client says.
    pub user_id: String,
    /// `RUNNING`, `SCHEDULED`, `FINISHED`, `FAILED` or `KILLED`.
    pub status: String,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// Milliseconds since 1970; none while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<i64>,
    /// Below it lie its artifacts.
    pub artifact_uri: String,
    /// Whether it was deleted.
    pub lifecycle_stage: Lifecycle,
}

/// A run with what it logged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// What it is.
    pub info: RunInfo,
    /// What it logged.
    pub data: RunData,
    /// What it read.
    pub inputs: RunInputs,
    /// What it made.
    pub outputs: RunOutputs,
}

/// What a run logged.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunData {
    /// The latest of each key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Tag>,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// What a run read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunInputs {
    /// Data, each with what for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dataset_inputs: Vec<DatasetInput>,
    /// Models that it started from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_inputs: Vec<ModelInput>,
}

/// What a run made.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunOutputs {
    /// Models, each with the step that made it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_outputs: Vec<ModelOutput>,
}

/// Data that a run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInput {
    /// What it was read for, such as `mlflow.data.context`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Which data.
    pub dataset: Dataset,
}

/// A set of data, known by name and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// What people call it.
    pub name: String,
    /// Tells versions of it apart.
    pub digest: String,
    /// Such as `http` or `local`.
    #[serde(default)]
    pub source_type: String,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// Its columns, as the client wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Its figures, as the client wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// A model that a run started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInput {
    /// A logged model.
    pub model_id: String,
}

/// A model that a run made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOutput {
    /// A logged model.
    pub model_id: String,
    /// The step of training that made it.
    #[serde(default)]
    pub step: i64,
}

/// A number that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// What was measured.
    pub key: String,
    /// May be NaN; infinities are kept as the largest numbers.
    #[serde(serialize_with = "number_or_nan")]
    pub value: f64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Of training; may be negative.
    pub step: i64,
    /// The logged model that it says something of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// The data that it was measured on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_name: Option<String>,
    /// The version of that data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Option<String>,
    /// The run that logged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// A name under which versions of a model are known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegisteredModel {
    /// Unique.
    pub name: String,
    /// Milliseconds since 1970.
    pub creation_timestamp: i64,
    /// Milliseconds since 1970.
    pub last_updated_timestamp: i64,
    /// Markdown.
    pub description: String,
    /// Who made it.
    pub user_id: String,
    /// The newest version of each stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latest_versions: Vec<ModelVersion>,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// By alias.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
}

/// A name for one version at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alias {
    /// The name.
    pub alias: String,
    /// The version that it names.
    #[serde(serialize_with = "as_text")]
    pub version: i64,
}

/// A version of a registered model: its files never change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelVersion {
    /// The registered model's.
    pub name: String,
    /// From 1; never used again.
    #[serde(serialize_with = "as_text")]
    pub version: i64,
    /// Milliseconds since 1970.
    pub creation_timestamp: i64,
    /// Milliseconds since 1970.
    pub last_updated_timestamp: i64,
    /// Where it stands on its way.
    #[serde(serialize_with = "as_text")]
    pub current_stage: Stage,
    /// Markdown.
    pub description: String,
    /// Who made it.
    pub user_id: String,
    /// Where its files came from, as it was told.
    pub source: String,
    /// The run that made it, or nothing.
    pub run_id: String,
    /// `READY`: nothing has to be copied before it can be used.
    pub status: &'static str,
    /// A link of the client's.
    pub run_link: String,
    /// The logged model that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// In order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Where its files are, once `source` is followed.
    #[serde(skip)]
    pub location: String,
    /// SHA-256 over paths and digests of its files; none: they are kept elsewhere.
    #[serde(skip)]
    pub digest: Option<String>,
    /// Bytes of its files.
    #[serde(skip)]
    pub size: Option<i64>,
    /// What its files declare to take and give, as JSON; none: nothing, or nothing that is understood.
    #[serde(skip)]
    pub signature: Option<String>,
}

/// A model that a run wrote down, registered or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoggedModel {
    /// What it is.
    pub info: LoggedModelInfo,
    /// What was logged of it.
    pub data: LoggedModelData,
}

/// What a logged model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedModelInfo {
    /// `m-` and 32 hexadecimal digits.
    pub model_id: String,
    /// The experiment that it belongs to.
    #[serde(serialize_with = "as_text")]
    pub experiment_id: i64,
    /// Not unique.
    pub name: String,
    /// Milliseconds since 1970.
    pub creation_timestamp_ms: i64,
    /// Milliseconds since 1970.
    pub last_updated_timestamp_ms: i64,
    /// Below it lie its files.
    pub artifact_uri: String,
    /// `LOGGED_MODEL_PENDING`, `LOGGED_MODEL_READY` or `LOGGED_MODEL_UPLOAD_FAILED`.
    pub status: String,
    /// What kind of model, as the client says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// The run that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_run_id: Option<String>,
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// What was logged of a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct LoggedModelData {
    /// By key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Tag>,
    /// All of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
}

/// A page of something.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// In the order asked for.
    pub items: Vec<T>,
    /// What asks for the next page; none: this was the last.
    pub next_page_token: Option<String>,
}

impl<T> Found<T> {
    /// Makes a page of rows, of which one more than the page has was read.
    pub(crate) fn page(page: Page, rows: Vec<T>) -> Self {
        let (items, next_page_token) = page.cut(rows);
        Self { items, next_page_token }
    }
}

fn as_text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn number_or_nan<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() { serializer.serialize_str("NaN") } else { serializer.serialize_f64(*value) }
}
