//! The two trained models of the demo and the rows they have never seen, inside the binary.

use std::path::Path;

use anyhow::{Context as _, Result};
use salver_core::{ModelName, Shape, Tensor};

/// A model with held-out rows.
pub(crate) struct Example {
    /// The model's name and folder.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Whether the features are a picture of 8x8 pixels.
    pub is_picture: bool,
    /// The input's name.
    input: &'static str,
    /// The extents of one row.
    row: &'static [usize],
    onnx: &'static [u8],
    toml: &'static str,
    held_out: &'static str,
}

/// One held-out row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeldOut {
    /// What the model sees.
    pub features: Vec<f32>,
    /// The label that is right.
    pub truth: String,
}

macro_rules! file {
    ($model:literal, $file:literal, $include:ident) => {
        $include!(concat!("../../../../examples/demo/", $model, "/", $file))
    };
}

/// The models of the demo.
pub(crate) const EXAMPLES: [Example; 2] = [
    Example {
        name: "iris",
        about: "iris: which species of iris a flower is, from four measurements in cm",
        is_picture: false,
        input: "X",
        row: &[4],
        onnx: file!("iris", "model.onnx", include_bytes),
        toml: file!("iris", "model.toml", include_str),
        held_out: file!("iris", "held_out.csv", include_str),
    },
    Example {
        name: "digits",
        about: "digits: which digit a handwritten picture of 8x8 pixels shows",
        is_picture: true,
        input: "image",
        row: &[1, 8, 8],
        onnx: file!("digits", "model.onnx", include_bytes),
        toml: file!("digits", "model.toml", include_str),
        held_out: file!("digits", "held_out.csv", include_str),
    },
];

impl Example {
    /// Writes the model's folder below `root`.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let folder = root.join(self.name);
        let write = || {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("model.onnx"), self.onnx)?;
            std::fs::write(folder.join("model.toml"), self.toml)
        };
        write().with_context(|| format!("write the demo model {}", folder.display()))
    }

    /// Returns the model's name.
    pub(crate) fn model(&self) -> Result<ModelName> {
        Ok(ModelName::new(self.name)?)
    }

    /// Reads the held-out rows.
    ///
    /// # Errors
    /// Where the file is not what training wrote.
    pub(crate) fn held_out(&self) -> Result<Vec<HeldOut>> {
        csv::Reader::from_reader(self.held_out.as_bytes()).records().map(|record| read_row(&record?)).collect()
    }

    /// Makes the model's input of one row.
    ///
    /// # Errors
    /// Where the row has not as many features as the model takes.
    pub(crate) fn tensor(&self, row: &HeldOut) -> Result<Tensor> {
        let shape: Shape = std::iter::once(1).chain(self.row.iter().copied()).collect();
        Ok(Tensor::from_slice(self.input, shape, &row.features)?)
    }
}

fn read_row(record: &csv::StringRecord) -> Result<HeldOut> {
    let mut cells: Vec<&str> = record.iter().collect();
    let truth = cells.pop().context("a label in the last column")?.to_owned();
    let features =
        cells.iter().map(|cell| cell.parse()).collect::<Result<_, _>>().context("a number in each column")?;
    Ok(HeldOut { features, truth })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_held_out_row_fits_its_model() {
        for (example, rows) in EXAMPLES.iter().zip([45, 450]) {
            let held_out = example.held_out().unwrap();
            assert_eq!(held_out.len(), rows, "{}", example.name);
            for row in &held_out {
                example.tensor(row).unwrap();
                assert!(example.toml.contains(&format!("\"{}\"", row.truth)), "{row:?}");
            }
        }
    }
}
