//! The demo's picture files: the model of `digits` again, asked as people have digits.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use salver_core::Infer;

use super::questions::{self, Question};
use crate::out;

/// The model's name and folder.
pub(crate) const NAME: &str = "digit-pictures";

/// The file in the command that people can paste.
const SHOWN: &str = "7";

macro_rules! file {
    ($include:ident, $($file:literal)*) => {
        $include!(concat!("../../../../examples/demo/digit-pictures/", $($file),*))
    };
}

macro_rules! pictures {
    ($($digit:literal)*) => {
        [$(Picture { truth: $digit, png: file!(include_bytes, $digit ".png") }),*]
    };
}

/// A held-out digit as a PNG.
struct Picture {
    truth: &'static str,
    png: &'static [u8],
}

const PICTURES: [Picture; 10] = pictures!("0" "1" "2" "3" "4" "5" "6" "7" "8" "9");

/// Writes the model's folder below `root`, and the pictures into it.
///
/// # Errors
/// Where the disk refuses.
pub(crate) fn write(root: &Path) -> Result<()> {
    let folder = root.join(NAME);
    let write = || {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("model.onnx"), file!(include_bytes, "model.onnx"))?;
        std::fs::write(folder.join("model.toml"), file!(include_str, "model.toml"))?;
        PICTURES.iter().try_for_each(|picture| std::fs::write(file_of(root, picture.truth), picture.png))
    };
    write().with_context(|| format!("write the demo model {}", folder.display()))
}

fn file_of(root: &Path, digit: &str) -> PathBuf {
    root.join(NAME).join(format!("{digit}.png"))
}

/// Returns the command that asks for one of the pictures.
pub(crate) fn curl(http: &str, root: &Path) -> String {
    let file = file_of(root, SHOWN);
    format!("curl -H 'Content-Type: image/png' --data-binary @{} {http}/models/{NAME}/predict", file.display())
}

/// Asks for every picture and prints what came; returns what is not as it should be.
///
/// # Errors
/// The first request that is not answered.
pub(crate) async fn present(client: &dyn Infer) -> Result<Vec<String>> {
    out::line(format!("{NAME}: the same digits as PNG files of 64x64 pixels"));
    let questions =
        PICTURES.iter().map(|Picture { truth, png }| Question { shown: format!("{truth}.png"), data: png, truth });
    questions::ask(client, NAME, "image", ["file", "prediction", ">probability"], questions).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_the_one_of_the_examples() {
        let root = tempfile::tempdir().unwrap();
        write(root.path()).unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/demo");
        let read = |path: PathBuf| std::fs::read(path).unwrap();
        assert_eq!(read(file_of(root.path(), "3")), read(file_of(&examples, "3")));
        let (copy, model) = (examples.join(NAME).join("model.onnx"), examples.join("digits/model.onnx"));
        assert_eq!(read(copy), read(model), "run examples/demo/digit-pictures/draw.py");
    }
}
