//! Model folders that MLflow saved: `MLmodel` beside the files of one or more flavours.
//!
//! The `onnx` flavour goes first; a model without it runs in Python if it has `python_function`, and
//! is refused with what would help if it has not. MLflow adds keys with every release, so unknown
//! ones are passed over. Of a graph, the signature names columns only; of a model in Python, it says
//! types and shapes too. YAML can be small and mean a lot: what a file may unfold to is bounded, and
//! no alias is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use salver_core::{Error, InstanceGroup, ModelConfig, ModelName, ModelSpec, Predictor, Result, TaskSpec};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{DuplicateKeyPolicy, Options};

use crate::files::{self, Fingerprint};
use crate::python::{self, PythonDraft};
use crate::versions;

mod signature;
mod tensors;

pub(crate) use self::signature::declared;
pub(crate) use self::tensors::tensors;

/// The file that makes a folder a model of MLflow.
pub(crate) const MANIFEST: &str = "MLmodel";

/// The adapter that runs its models in Python.
pub(crate) const ADAPTER: &str = "mlflow";
/// The flavour that it runs.
const PYTHON: &str = "python_function";

/// The most values of an `MLmodel`; real ones have a few dozen.
const MAX_NODES: usize = 10_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;
/// How many flavours a message names.
const MAX_SHOWN: usize = 4;

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
pub(crate) enum Manifest {
    /// A graph.
    Onnx {
        /// The ONNX file, or the folder that it lies in.
        artifact: String,
        /// The names of the only input's columns; empty: they have none.
        columns: Vec<String>,
    },
    /// A model that MLflow itself runs in Python.
    Python,
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
/// `InvalidInput` naming the line, `Unsupported` for a model without a flavour that is served.
pub(crate) fn parse(text: &str) -> Result<Manifest> {
    let file: File = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| Error::invalid_input(format!("not an MLmodel: {error}")))?;
    let Some(flavor) = file.flavors.get("onnx") else {
        return match file.flavors.contains_key(PYTHON) {
            true => Ok(Manifest::Python),
            false => Err(not_served(file.flavors.keys().map(String::as_str))),
        };
    };
    let Some(Text::Text(artifact)) = &flavor.data else {
        return Err(Error::invalid_input("flavors.onnx.data is missing: expected the name of the ONNX file"));
    };
    let inputs = file.signature.and_then(|signature| signature.inputs);
    let columns = inputs.as_deref().map_or(Ok(Vec::new()), columns)?;
    Ok(Manifest::Onnx { artifact: artifact.clone(), columns })
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
    let own: Vec<&str> = flavors.take(MAX_SHOWN).collect();
    if own.is_empty() {
        return Error::unsupported(format!("it has no flavours; expected onnx or {PYTHON}"));
    }
    let exporter = EXPORTERS.iter().find(|(of, _)| own.contains(of)).map(|(_, tool)| format!(" ({tool})"));
    Error::unsupported(format!(
        "it is a {} model without the flavour {PYTHON}, which Python workers run; save it with that flavour, or export \
         it to ONNX{}",
        own.join(" and ").escape_debug(),
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
    let (filename, columns) = match parse(&text).map_err(|error| error.context(path.display()))? {
        Manifest::Onnx { artifact, columns } => (artifact, columns),
        Manifest::Python => return read_python(name, version, folder),
    };
    let artifact = artifact(folder, &filename).map_err(|error| error.context(path.display()))?;
    files::check_artifact(&artifact)?;
    let mut fingerprint = Fingerprint::default();
    fingerprint.add(&path);
    fingerprint.add_artifact(&artifact);
    let config = ModelConfig { default_model_filename: filename, ..ModelConfig::default() };
    let mut spec = ModelSpec { fingerprint: fingerprint.finish(), ..versions::spec(name, version, artifact, config) };
    if !columns.is_empty() {
        spec.task = TaskSpec::Rows;
        spec.columns.insert(String::new(), columns);
    }
    Ok(spec)
}

/// The folder itself is what the adapter reads.
fn read_python(name: &ModelName, version: u64, folder: &Path) -> Result<ModelSpec> {
    let draft = PythonDraft { predictor: Some(Predictor::Adapter(ADAPTER.to_owned())), ..PythonDraft::default() };
    let mut fingerprint = Fingerprint::default();
    let found = python::find(folder, Some("."), &draft, &mut fingerprint)?;
    let config = ModelConfig {
        default_model_filename: MANIFEST.to_owned(),
        instance_groups: vec![InstanceGroup::default()],
        ..ModelConfig::default()
    };
    Ok(ModelSpec {
        engine: Some(python::ENGINE.to_owned()),
        fingerprint: fingerprint.finish(),
        python: Some(found.spec),
        ..versions::spec(name, version, found.artifact, config)
    })
}

/// Weights outside the file lie beside it, or with it in a folder.
fn artifact(folder: &Path, name: &str) -> Result<PathBuf> {
    let within = |error: Error| error.context("flavors.onnx.data");
    let path = files::inside(folder, name).map_err(within)?;
    if path.is_dir() { files::inside(&path, "model.onnx").map_err(within) } else { Ok(path) }
}

#[cfg(test)]
mod tests;
