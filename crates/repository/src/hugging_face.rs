//! Folders that `optimum-cli export onnx` and sentence-transformers write: `config.json` and the
//! like beside the graph.
//!
//! They say which task a graph was made for, what its classes are called, and how texts and
//! pictures are prepared. What they leave open is an error that says what to write into a
//! `model.toml`; what stands there goes before all of this. The tokenizer itself is not read here.

mod files;
mod image;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use salver_core::{Error, ModelName, ModelSpec, Result, ScoreRule};
use serde_json::Value;

use self::files::{Config, Folder};
use crate::files::{self as paths, Fingerprint};
use crate::model_toml;
use crate::task::{Draft, ImageDraft, TextDraft, TextKind};

/// The file that makes a folder with a graph a Hugging Face model.
pub(crate) const MANIFEST: &str = "config.json";
/// Where the graph lies, first choice first.
pub(crate) const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// Weights of other frameworks, as they lie in folders that were not exported.
const WEIGHTS: [&str; 4] = ["model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"];
/// The most classes that are made up from their number alone.
const MAX_CLASSES: u64 = 100_000;

/// Whether `folder` looks like an export.
pub(crate) fn is_model(folder: &Path) -> bool {
    paths::is_there(&folder.join(MANIFEST)) && graph(folder).is_some()
}

/// Returns the graph's path within the folder.
pub(crate) fn graph(folder: &Path) -> Option<&'static str> {
    GRAPHS.into_iter().find(|graph| paths::is_there(&folder.join(graph)))
}

/// Reads the one version of the model in `folder`: an empty `model.toml` would change nothing.
pub(crate) fn read(name: &ModelName, version: u64, folder: &Path) -> Result<ModelSpec> {
    let manifest = model_toml::parse("")?;
    Ok(ModelSpec { version, ..model_toml::read_one(name, folder, &manifest)? })
}

/// Says what to do about a folder of Hugging Face that holds no graph, or not the one expected.
pub(crate) fn nearly_a_model(folder: &Path) -> Option<Error> {
    let has_graph = paths::list(folder).ok()?.iter().any(|entry| paths::is_onnx(&entry.name));
    if has_graph || !paths::is_there(&folder.join(MANIFEST)) {
        return None;
    }
    let shown = folder.display();
    let graphs = paths::list(&folder.join("onnx")).unwrap_or_default();
    if let Some(graph) = graphs.iter().find(|entry| paths::is_onnx(&entry.name)) {
        return Some(Error::invalid_input(format!(
            "{shown} is a Hugging Face model without onnx/model.onnx: write {} with artifact = \"onnx/{}\"",
            folder.join(model_toml::MANIFEST).display(),
            graph.name
        )));
    }
    let weights = WEIGHTS.into_iter().find(|file| paths::is_there(&folder.join(file)))?;
    Some(Error::invalid_input(format!(
        "{shown} holds {weights}, which is not served; export it to ONNX first: optimum-cli export onnx --model {shown} \
         FOLDER"
    )))
}

/// A task and the classes of its answers, as far as they are known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) draft: Draft,
    pub(crate) labels: Option<Vec<String>>,
}

/// Fills in what `draft` and `labels` leave open; without a draft, all of it. A folder whose
/// `config.json` is none of Hugging Face's changes nothing.
pub(crate) fn fill(
    folder: &Path,
    draft: Option<Draft>,
    labels: Option<Vec<String>>,
    fingerprint: &mut Fingerprint,
) -> Result<Known> {
    let is_wanted = matches!(draft, None | Some(Draft::Text(_) | Draft::Image(_)));
    let manifest = folder.join(MANIFEST);
    if !is_wanted || !paths::is_there(&manifest) {
        return Ok(Known { draft: draft.unwrap_or(Draft::Tensor), labels });
    }
    let read = |name: &str| {
        let path = folder.join(name);
        if paths::is_plain(name) && !paths::is_there(&path) {
            return Ok(None);
        }
        paths::inside(folder, name)?;
        fingerprint.add(&path);
        // Names of ten thousands of classes may stand there.
        paths::read_text(&path, paths::LABELS_LIMIT).map(Some)
    };
    let found = Folder::read(read).map_err(|error| error.context(folder.display()))?;
    let has_tokenizer = paths::is_there(&folder.join(crate::task::TOKENIZER));
    known(&found, has_tokenizer, draft, labels).map_err(|error| error.context(folder.display()))
}

/// Does what [`fill`] does, without a folder.
pub(crate) fn known(
    found: &Folder,
    has_tokenizer: bool,
    draft: Option<Draft>,
    labels: Option<Vec<String>>,
) -> Result<Known> {
    if !found.is_hugging_face() {
        return Ok(Known { draft: draft.unwrap_or(Draft::Tensor), labels });
    }
    let (start, has_classes) = match draft {
        Some(draft) => (draft, false),
        None => infer(found, has_tokenizer)?,
    };
    let config = &found.config;
    let draft = match start {
        Draft::Text(start) => Draft::Text(text::fill(start, found)?),
        Draft::Image(start) => Draft::Image(image::fill(start, found)?),
        other => return Ok(Known { draft: other, labels }),
    };
    let labels = match (&draft, labels) {
        (Draft::Text(text), Some(_)) if text.kind == TextKind::Embedding => {
            return Err(Error::invalid_input("labels: the files make it a text-embedding, which has no classes"));
        }
        (_, Some(labels)) => Some(labels),
        (Draft::Text(text), None) if matches!(text.kind, TextKind::Embedding | TextKind::ZeroShot) => None,
        (_, None) => classes(config, has_classes)?,
    };
    Ok(Known { draft: with_scores(draft, config, labels.as_deref()), labels })
}

/// Returns the task that the files speak of, and whether its graph has classes.
fn infer(found: &Folder, has_tokenizer: bool) -> Result<(Draft, bool)> {
    let text = |kind| Draft::Text(TextDraft::new(kind));
    if found.modules.is_some() {
        return Ok((text(TextKind::Embedding), false));
    }
    let architecture = match found.config.architectures.as_deref() {
        Some([only]) => only.as_str(),
        Some(_) | None => "",
    };
    // Some were trained with a second head, which is not exported.
    let plain = architecture.strip_suffix("WithTeacher").unwrap_or(architecture);
    match plain {
        _ if plain.ends_with("ForSequenceClassification") => Ok((text(TextKind::Classification), true)),
        _ if plain.ends_with("ForTokenClassification") => Ok((text(TextKind::TokenClassification), true)),
        _ if plain.ends_with("ForImageClassification") => Ok((Draft::Image(ImageDraft::default()), true)),
        _ if plain.ends_with("Model") && has_tokenizer => Ok((text(TextKind::Embedding), false)),
        _ => Err(not_inferable(architecture)),
    }
}

fn not_inferable(architecture: &str) -> Error {
    let said = match architecture {
        "" => "names no single architecture".to_owned(),
        name => format!("names the architecture '{}', which does not tell the task", name.escape_debug()),
    };
    Error::invalid_input(format!(
        "{MANIFEST} {said}; write a {} beside it with the line task = \"…\", one of {}",
        model_toml::MANIFEST,
        crate::task::NAMES.join(", ")
    ))
}

/// Returns the names of classes by their number. Where none are written, they are those that the
/// library makes up: it has two classes unless something else is said.
fn classes(config: &Config, has_classes: bool) -> Result<Option<Vec<String>>> {
    let Some(names) = &config.id2label else {
        let count = config.num_labels.unwrap_or(2).min(MAX_CLASSES);
        return Ok(has_classes.then(|| (0..count).map(|number| format!("LABEL_{number}")).collect()));
    };
    let mut numbered = Vec::with_capacity(names.len());
    for (number, name) in names {
        let parsed = number.parse::<usize>().map_err(|_| {
            let got = number.escape_debug();
            Error::invalid_input(format!("{MANIFEST}: id2label: expected numbers of classes, got '{got}'"))
        })?;
        numbered.push((parsed, name.clone()));
    }
    numbered.sort();
    if numbered.iter().enumerate().any(|(place, (number, _))| place != *number) {
        let count = numbered.len();
        let message = format!("{MANIFEST}: id2label: expected each number from 0 to {} once", count.saturating_sub(1));
        return Err(Error::invalid_input(message));
    }
    Ok(Some(numbered.into_iter().map(|(_, name)| name).collect()))
}

/// As the library's pipelines for classification choose.
fn with_scores(mut draft: Draft, config: &Config, labels: Option<&[String]>) -> Draft {
    let rule = match config.problem_type.as_deref() {
        Some("regression") => ScoreRule::AsIs,
        Some("multi_label_classification") => ScoreRule::Sigmoid,
        _ if labels.is_some_and(|labels| labels.len() == 1) => ScoreRule::Sigmoid,
        _ => ScoreRule::Softmax,
    };
    match &mut draft {
        Draft::Text(text) if text.kind == TextKind::Classification => _ = text.scores.get_or_insert(rule),
        Draft::Image(image) => _ = image.scores.get_or_insert(rule),
        _ => {}
    }
    draft
}

/// Reads files out of one JSON object, with each task that they may have to fill in; a text that is
/// no such object is taken for each of the files.
pub(crate) fn fuzz(text: &str) {
    let files: Option<BTreeMap<String, Value>> = serde_json::from_str(text).ok();
    let read = |name: &str| match &files {
        Some(files) => Ok(files.get(name).map(Value::to_string)),
        None => Ok(Some(text.to_owned())),
    };
    let Ok(found) = Folder::read(read) else {
        return;
    };
    let kinds = [TextKind::Classification, TextKind::Embedding, TextKind::TokenClassification, TextKind::ZeroShot];
    let texts = kinds.map(|kind| Some(Draft::Text(TextDraft::new(kind))));
    for draft in texts.into_iter().chain([None, Some(Draft::Image(ImageDraft::default()))]) {
        for has_tokenizer in [false, true] {
            if let Ok(known) = known(&found, has_tokenizer, draft.clone(), None) {
                let _ = known.draft.finish(known.labels.unwrap_or_default(), |name| Ok(name.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
