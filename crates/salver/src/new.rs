//! `salver new`: a model folder that serves at once, with a stand-in where people's own model goes.
//!
//! The stand-ins are a few kilobytes each, made by `new/stand_ins/make.py`. `model.toml` is written
//! last: until then the folder is no model to a server that looks at it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use salver_core::ModelName;
use salver_protocol::paths;

use crate::cli::NewOptions;
use crate::{curl, out};

/// Where the curl line points to: the server's default address.
const SERVER: &str = "http://127.0.0.1:8080";

const MANIFEST: &str = "model.toml";

/// What a model does for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewTask {
    /// Tensors, as they are.
    Tensor,
    /// Rows of a table: numbers, texts and categories.
    Tabular,
    /// Which class a text belongs to.
    TextClassification,
    /// A vector for a text.
    TextEmbedding,
    /// Names and places in a text.
    TokenClassification,
    /// Which of any labels fits a text best.
    ZeroShot,
    /// What a picture shows.
    ImageClassification,
}

/// A file of a new folder.
struct NewFile {
    name: &'static str,
    bytes: &'static [u8],
    about: &'static str,
}

/// The model and the `model.toml` of a task.
macro_rules! stand_in {
    ($task:literal) => {
        (
            &include_bytes!(concat!("new/stand_ins/", $task, ".onnx"))[..],
            &include_bytes!(concat!("new/stand_ins/", $task, ".toml"))[..],
        )
    };
}

/// Runs the command.
///
/// # Errors
/// Where the folder is there already, its name cannot be a model's, or it cannot be written.
pub(crate) fn run(options: &NewOptions) -> Result<()> {
    let folder = options.folder.as_path();
    let name = name_of(folder)?;
    let files = options.task.files();
    write(folder, &files).with_context(|| format!("write {}", folder.display()))?;
    let width = files.iter().map(|file| file.name.len()).max().unwrap_or(0);
    out::line(format!("{}/", folder.display()));
    for file in files.iter().rev() {
        out::line(format!("  {:<width$}  {}", file.name, file.about));
    }
    let shown = curl::quoted_where_needed(&folder.display().to_string());
    out::line(format!("\nCheck it:  salver check {shown}"));
    out::line(format!("Serve it:  salver serve {shown}"));
    let url = format!("{SERVER}/models/{}/predict", paths::segment(&name));
    out::line(format!("Ask it:    {}", options.task.ask(&url, folder)));
    Ok(())
}

/// The last part of the path is the model's name.
fn name_of(folder: &Path) -> Result<ModelName> {
    let last = folder.file_name().and_then(|name| name.to_str());
    let Some(last) = last else {
        bail!("{} has no name that a model could have; give NAME, or FOLDER/NAME", folder.display());
    };
    let name = ModelName::new(last).with_context(|| format!("{} gives the model its name", folder.display()))?;
    if folder.exists() {
        bail!("{} is there already; give another name, or remove it first", folder.display());
    }
    Ok(name)
}

fn write(folder: &Path, files: &[NewFile]) -> std::io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    // Fails where somebody else made it meanwhile.
    fs::create_dir(folder)?;
    files.iter().try_for_each(|file| fs::write(folder.join(file.name), file.bytes))
}

impl NewTask {
    /// The files of the folder, in the order in which they are written.
    fn files(self) -> Vec<NewFile> {
        let (model, manifest) = match self {
            Self::Tensor => stand_in!("tensor"),
            Self::Tabular => stand_in!("tabular"),
            Self::TextClassification => stand_in!("text-classification"),
            Self::TextEmbedding => stand_in!("text-embedding"),
            Self::TokenClassification => stand_in!("token-classification"),
            Self::ZeroShot => stand_in!("zero-shot"),
            Self::ImageClassification => stand_in!("image-classification"),
        };
        let beside = match self {
            Self::Tensor | Self::Tabular => None,
            Self::TextClassification | Self::TextEmbedding | Self::TokenClassification | Self::ZeroShot => {
                let bytes = &include_bytes!("new/stand_ins/tokenizer.json")[..];
                let about = "the stand-in's tokenizer: put your model's own in its place";
                Some(NewFile { name: "tokenizer.json", bytes, about })
            }
            Self::ImageClassification => {
                let bytes = &include_bytes!("new/stand_ins/picture.png")[..];
                Some(NewFile { name: "picture.png", bytes, about: "a picture to try it with" })
            }
        };
        let about = "a stand-in that answers at once: put your own model in its place";
        let model = NewFile { name: "model.onnx", bytes: model, about };
        let about = "what the model takes and gives; comments explain each key";
        let manifest = NewFile { name: MANIFEST, bytes: manifest, about };
        [Some(model), beside, Some(manifest)].into_iter().flatten().collect()
    }

    /// A command that asks for a prediction.
    fn ask(self, url: &str, folder: &Path) -> String {
        let body = match self {
            Self::Tensor => "[[1.0, 2.0]]",
            Self::Tabular => r#"{"age": 31, "visits": 4, "plan": "plus"}"#,
            Self::TextClassification => r#"{"text": "This is great, it works!"}"#,
            Self::TextEmbedding => r#"{"text": "The band was great."}"#,
            Self::TokenClassification => r#"{"text": "Ada Lovelace was in London."}"#,
            Self::ZeroShot => r#"{"text": "The team won the match.", "labels": ["sports", "music"]}"#,
            Self::ImageClassification => {
                let picture = curl::quoted_where_needed(&folder.join("picture.png").display().to_string());
                return format!("curl {url} -H 'content-type: image/png' --data-binary @{picture}");
            }
        };
        format!("curl {url} -d '{body}'")
    }
}
