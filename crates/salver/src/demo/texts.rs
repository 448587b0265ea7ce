//! The demo's sentences: which of a few labels is nearest, by the vectors of a sentence encoder.
//!
//! The encoder is not part of the program: a script of the examples fetches it. Where it is there,
//! its folder becomes a model with the task `zero-shot`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use salver_core::Infer;

use super::questions::{self, Question};
use crate::out;

/// The model's name and folder.
pub(crate) const NAME: &str = "topics";

/// Where the script puts the encoder when it is told what the documents say.
const ENCODER: &str = "models/minilm";

/// The files that a model of texts needs.
const FILES: [&str; 2] = ["model.onnx", "tokenizer.json"];

const MANIFEST: &str = r#"# Which of these labels is nearest to a text, by the vectors of all-MiniLM-L6-v2.
task   = "zero-shot"
labels = ["sports", "politics", "cooking", "weather", "technology"]

[text]
max_length = 256
scale      = 20.0
"#;

/// Sentences, and the label that people would choose.
const SENTENCES: [(&str, &str); 5] = [
    ("The striker scored twice in the last ten minutes of the final.", "sports"),
    ("Parliament votes on the new budget next week.", "politics"),
    ("Let the onions turn golden before you add the rice.", "cooking"),
    ("Heavy rain and strong winds are expected along the coast tonight.", "weather"),
    ("The update makes the phone's battery last a day longer.", "technology"),
];

/// Returns the encoder's folder: the one asked for, or the usual one where it is there.
///
/// # Errors
/// Where the one asked for is none.
pub(crate) fn encoder(asked: Option<&Path>) -> Result<Option<PathBuf>> {
    let folder = asked.unwrap_or(Path::new(ENCODER));
    match FILES.iter().find(|file| !folder.join(file).is_file()) {
        None => Ok(Some(folder.to_owned())),
        Some(_) if asked.is_none() => Ok(None),
        Some(missing) => anyhow::bail!("--encoder {}: {missing} is not there; {}", folder.display(), how_to(folder)),
    }
}

/// Says how the encoder comes there.
fn how_to(folder: &Path) -> String {
    format!("fetch it with: python examples/text/encoder.py --out {}", folder.display())
}

/// Makes the model's folder below `root`.
///
/// # Errors
/// Where the disk refuses.
pub(crate) fn write(root: &Path, encoder: &Path) -> Result<()> {
    let folder = root.join(NAME);
    let write = || {
        fs::create_dir_all(&folder)?;
        // A link takes no time and no room, where both are on one disk.
        FILES.iter().try_for_each(|file| {
            let (from, to) = (encoder.join(file), folder.join(file));
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))
        })?;
        fs::write(folder.join("model.toml"), MANIFEST)
    };
    write().with_context(|| format!("write the demo model {}", folder.display()))
}

/// Says how to have sentences too.
pub(crate) fn hint() {
    out::line(format!("Sentences too: {}, then run the demo again.\n", how_to(Path::new(ENCODER))));
}

/// Returns the command that asks for a sentence.
pub(crate) fn curl(http: &str) -> String {
    format!(
        r#"curl {http}/models/{NAME}/predict -d '{{"text": "It will snow.", "labels": ["winter", "money", "music"]}}'"#
    )
}

/// Asks for every sentence and prints what came; returns what is not as it should be.
///
/// # Errors
/// The first request that is not answered.
pub(crate) async fn present(client: &dyn Infer) -> Result<Vec<String>> {
    out::line(format!("{NAME}: which label is nearest to a sentence (all-MiniLM-L6-v2)"));
    let questions = SENTENCES.iter().map(|(sentence, truth)| Question {
        shown: (*sentence).to_owned(),
        data: sentence.as_bytes(),
        truth,
    });
    questions::ask(client, NAME, "text", ["sentence", "nearest label", ">score"], questions).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_that_was_asked_for_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let error = encoder(Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("model.onnx is not there; fetch it with: python examples/text/encoder.py"), "{error}");
        for file in FILES {
            fs::write(folder.path().join(file), "x").unwrap();
        }
        assert_eq!(encoder(Some(folder.path())).unwrap().as_deref(), Some(folder.path()));
        let root = tempfile::tempdir().unwrap();
        write(root.path(), folder.path()).unwrap();
        assert_eq!(fs::read_to_string(root.path().join(NAME).join("model.onnx")).unwrap(), "x");
    }
}
