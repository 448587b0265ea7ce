//! Model folders that MLflow saved: `MLmodel` beside the files of one or more flavours.
//!
//! Only the `onnx` flavour is served; another one is refused with what would help. MLflow adds keys
//! with every release, so unknown ones are passed over. The signature names columns; types and
//! shapes are the graph's own. YAML can be small and mean a lot: what a file may unfold to is
//! bounded, and no alias is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use salver_core::{Error, ModelConfig, ModelName, ModelSpec, Result, TaskSpec};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{DuplicateKeyPolicy, Options};

use crate::files::{self, Fingerprint};
use crate::versions;

mod signature;

pub(crate) use self::signature::declared;

/// The file that makes a folder a model of MLflow.
pub(crate) const MANIFEST: &str = "MLmodel";

/// The most values of an `MLmodel`; real ones have a few dozen.
const MAX_NODES: usize = 10_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// What turns a model of each flavour into ONNX, as far as there is one tool for it.
const EXPORTERS: [(&str, &str); 12] = [
    ("sklearn", "skl2onnx"),
    ("xgboost", "onnxmltools"),
    ("lightgbm", "onnxmltools"),
    ("h2o", "onnxmltools"),
    ("spark", "onnxmltools"),
    ("catboost", "save_model(…, format=\"onnx\")"),
    ("pytorch", "torch.onnx.export"),
    ("tensorflow", "tf2onnx"),
    ("keras", "tf2onnx"),
    ("paddle", "paddle2onnx"),
    ("transformers", "optimum-cli export onnx"),
    ("sentence_transformers", "optimum-cli export onnx"),
];

/// What an `MLmodel` says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The ONNX file, or the folder that it lies in.
    artifact: String,
    /// The names of the only input's columns; empty: they have none.
    columns: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    flavors: BTreeMap<String, Flavor>,
    #[serde(default)]
    signature: Option<Signature>,
}

#[derive(Deserialize)]
struct Flavor {
    #[serde(default)]
    data: Option<Text>,
}

/// Flavours of third parties may keep anything under any key.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Other(IgnoredAny),
}

/// JSON within the YAML.
#[derive(Deserialize)]
struct Signature {
    #[serde(default)]
    inputs: Option<String>,
    #[serde(default)]
    outputs: Option<String>,
}

/// A column, or a tensor (`"type": "tensor"`).
#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    name: Option<String>,
    #[serde(rename = "type")]
    kind: String,
}

/// Reads the text of an `MLmodel`.
///
/// # Errors
/// `InvalidInput` naming the line, `Unsupported` for a model without the `onnx` flavour.
pub(crate) fn parse(text: &str) -> Result<Manifest> {
    let file: File = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| Error::invalid_input(format!("not an MLmodel: {error}")))?;
    let Some(flavor) = file.flavors.get("onnx") else {
        return Err(not_served(file.flavors.keys().map(String::as_str)));
    };
    let Some(Text::Text(artifact)) = &flavor.data else {
        return Err(Error::invalid_input("flavors.onnx.data is missing: expected the name of the ONNX file"));
    };
    let inputs = file.signature.and_then(|signature| signature.inputs);
    Ok(Manifest { artifact: artifact.clone(), columns: inputs.as_deref().map_or(Ok(Vec::new()), columns)? })
}

/// No document of MLflow's has an anchor, an alias or a second document.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_aliases: 0,
            max_anchors: 0,
            max_merge_keys: 0,
            max_documents: 1,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
    }
}

fn not_served<'a>(flavors: impl Iterator<Item = &'a str>) -> Error {
    // Every model has this one besides its own.
    let mut own: Vec<&str> = flavors.filter(|flavor| *flavor != "python_function").collect();
    own.truncate(4);
    let flavor = if own.is_empty() { "python_function".to_owned() } else { own.join(" and ") };
    let exporter = EXPORTERS.iter().find(|(of, _)| own.contains(of)).map(|(_, tool)| format!(" ({tool})"));
    Error::unsupported(format!(
        "it is a {} model: it needs Python workers (engine = \"python\"), which this build does not have; export it to \
         ONNX{} to serve it now",
        flavor.escape_debug(),
        exporter.unwrap_or_default()
    ))
}

/// Returns the names of columns where the signature has nothing but columns, all with a name.
fn columns(inputs: &str) -> Result<Vec<String>> {
    let inputs: Vec<Input> = serde_json::from_str(inputs)
        .map_err(|error| Error::invalid_input(format!("signature.inputs: not a signature of MLflow: {error}")))?;
    let name = |input: Input| input.name.filter(|name| input.kind != "tensor" && !name.is_empty());
    let Some(names) = inputs.into_iter().map(name).collect::<Option<Vec<String>>>() else {
        return Ok(Vec::new());
    };
    match names.iter().collect::<BTreeSet<_>>().len() == names.len() {
        true => Ok(names),
        false => Err(Error::invalid_input("signature.inputs: two columns have the same name")),
    }
}

/// Reads the one version of the model in `folder`.
pub(crate) fn read(name: &ModelName, version: u64, folder: &Path) -> Result<ModelSpec> {
    let path = folder.join(MANIFEST);
    let text = files::read_text(&path, files::CONFIG_LIMIT)?;
    let manifest = parse(&text).map_err(|error| error.context(path.display()))?;
    let artifact = artifact(folder, &manifest.artifact).map_err(|error| error.context(path.display()))?;
    files::check_artifact(&artifact)?;
    let mut fingerprint = Fingerprint::default();
    fingerprint.add(&path);
    fingerprint.add_artifact(&artifact);
    let config = ModelConfig { default_model_filename: manifest.artifact, ..ModelConfig::default() };
    let mut spec = ModelSpec { fingerprint: fingerprint.finish(), ..versions::spec(name, version, artifact, config) };
    if !manifest.columns.is_empty() {
        spec.task = TaskSpec::Rows;
        spec.columns.insert(String::new(), manifest.columns);
    }
    Ok(spec)
}

/// Weights outside the file lie beside it, or with it in a folder.
fn artifact(folder: &Path, name: &str) -> Result<PathBuf> {
    let within = |error: Error| error.context("flavors.onnx.data");
    let path = files::inside(folder, name).map_err(within)?;
    if path.is_dir() { files::inside(&path, "model.onnx").map_err(within) } else { Ok(path) }
}

#[cfg(test)]
mod tests;
