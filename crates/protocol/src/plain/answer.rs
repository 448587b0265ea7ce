//! Answers for people: one entry per row, with labels where the model has them.
//!
//! Those of texts and pictures are in `task.rs`; the rest of this is for tensors and tables.
//! Of an output of scores with labels a row shows the best `label`, its `score`, and every score
//! by name: as `probabilities` where each row sums to one, else as `scores`. Other outputs keep
//! their own names, which win over ours.

mod task;

use salver_core::{InferResponse, ModelInfo, Result, Tensor};

use super::cast::{floats, position};
use crate::Reply;
use crate::json::styled::{self, Style};
use crate::json::write;
use crate::task::Task;

/// Writes the answer of `/models/{name}/predict`: `predictions`, one per row, or whole `outputs`
/// where there are no rows.
///
/// # Errors
/// None that the data can cause; the result is that of the writer beneath.
pub fn encode_predict(response: &InferResponse) -> Result<Reply> {
    let info = &response.model;
    let mut out = b"{\"model\":".to_vec();
    write::string(&mut out, &info.name);
    out.extend_from_slice(b",\"version\":");
    write::int(&mut out, info.version);
    match rows(info, &response.outputs) {
        Some(rows) => {
            out.extend_from_slice(b",\"predictions\":");
            match Task::of(info) {
                Task::Text | Task::ZeroShot | Task::Image => {
                    write::try_list(&mut out, 0..rows, |out, row| task::write(out, &response.outputs, row))?;
                }
                Task::Tensors | Task::Columns => {
                    let parts = Parts::of(info, &response.outputs, rows);
                    write::try_list(&mut out, 0..rows, |out, row| parts.write(out, row))?;
                }
            }
        }
        None => {
            out.extend_from_slice(b",\"outputs\":");
            styled::object(&mut out, &response.outputs, |out, tensor| styled::whole(out, tensor, Style::Nulls))?;
        }
    }
    out.push(b'}');
    Ok(Reply::json(200, out))
}

/// Returns the number of rows that all outputs have, or none.
fn rows(info: &ModelInfo, outputs: &[Tensor]) -> Option<usize> {
    let rows = outputs.first()?.rows();
    let alike = outputs.iter().all(|tensor| !tensor.shape().is_empty() && tensor.rows() == rows);
    // `[10^12, 0]` takes no memory as a tensor and must not as text either.
    let is_empty = outputs.iter().all(|tensor| tensor.element_count() == 0);
    (info.signature.is_batched() && alike).then_some(if is_empty { 0 } else { rows })
}

/// What each row shows.
struct Parts<'a> {
    /// Outputs under their own names.
    plain: Vec<&'a Tensor>,
    /// Outputs of scores with labels.
    scores: Vec<Scores<'a>>,
    /// Outputs that are the number of a class.
    classes: Vec<Classes<'a>>,
}

struct Scores<'a> {
    tensor: &'a Tensor,
    labels: &'a [String],
    values: Vec<f64>,
    /// `probabilities` or `scores`.
    key: &'static str,
    /// Whether the labels can be the keys of an object.
    unique: bool,
}

struct Classes<'a> {
    tensor: &'a Tensor,
    labels: &'a [String],
}

impl<'a> Parts<'a> {
    fn of(info: &'a ModelInfo, outputs: &'a [Tensor], rows: usize) -> Self {
        let mut parts = Self { plain: Vec::new(), scores: Vec::new(), classes: Vec::new() };
        for tensor in outputs {
            let labels = labels(info, tensor.name());
            let per_row = tensor.element_count().checked_div(rows).unwrap_or(0);
            if labels.is_empty() {
                parts.plain.push(tensor);
            } else if tensor.dtype().is_float() && per_row == labels.len() {
                parts.scores.push(Scores::new(tensor, labels));
            } else if tensor.dtype().is_integer() && per_row == 1 {
                parts.classes.push(Classes { tensor, labels });
            } else {
                parts.plain.push(tensor);
            }
        }
        parts
    }

    fn write(&self, out: &mut Vec<u8>, row: usize) -> Result<()> {
        let mut object = Object::open(out);
        let class = match &self.classes[..] {
            [single] => Some(single.at(row)),
            _ => None,
        };
        if let [single] = &self.scores[..] {
            let best = class.and_then(|class| class.known()).or_else(|| single.best(row));
            single.write(&mut object, row, best, |key| self.is_taken(key))?;
        } else {
            if let Some(class) = class.filter(|_| !self.is_taken("label")) {
                class.write(object.key("label"));
            }
            for scores in &self.scores {
                let mut inner = Object::open(object.key(scores.tensor.name()));
                scores.write(&mut inner, row, scores.best(row), |_| false)?;
                inner.close();
            }
        }
        if self.classes.len() > 1 {
            self.classes.iter().for_each(|classes| classes.at(row).write(object.key(classes.tensor.name())));
        }
        for tensor in &self.plain {
            styled::cell(object.key(tensor.name()), tensor, row, Style::Nulls)?;
        }
        object.close();
        Ok(())
    }

    /// Whether an output under its own name has this key.
    fn is_taken(&self, key: &str) -> bool {
        self.plain.iter().any(|tensor| &**tensor.name() == key)
    }
}

impl<'a> Scores<'a> {
    fn new(tensor: &'a Tensor, labels: &'a [String]) -> Self {
        let values = floats(tensor);
        let is_distribution = |row: &[f64]| {
            (row.iter().sum::<f64>() - 1.0).abs() < 1e-2 && row.iter().all(|value| (-1e-6..=1.0 + 1e-3).contains(value))
        };
        let all = values.chunks_exact(labels.len()).all(is_distribution);
        let mut sorted: Vec<&String> = labels.iter().collect();
        sorted.sort_unstable();
        let unique = sorted.windows(2).all(|pair| pair[0] != pair[1]);
        Self { tensor, labels, values, key: if all { "probabilities" } else { "scores" }, unique }
    }

    /// Returns the position of the highest score; the first of equals, none if all are NaN.
    fn best(&self, row: usize) -> Option<usize> {
        let values = self.values.get(row * self.labels.len()..)?.get(..self.labels.len())?;
        let numbers = values.iter().enumerate().filter(|(_, value)| !value.is_nan());
        numbers.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(idx, _)| idx)
    }

    fn write(
        &self,
        object: &mut Object<'_>,
        row: usize,
        best: Option<usize>,
        is_taken: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let start = row * self.labels.len();
        let best = best.filter(|&best| best < self.labels.len());
        if !is_taken("label") {
            write_label(object.key("label"), best.and_then(|best| self.labels.get(best)));
        }
        if !is_taken("score") {
            match best {
                Some(best) => styled::element(object.key("score"), self.tensor, start + best, Style::Nulls)?,
                None => object.key("score").extend_from_slice(b"null"),
            }
        }
        if is_taken(self.key) {
            return Ok(());
        }
        if !self.unique {
            return styled::cell(object.key(self.key), self.tensor, row, Style::Nulls);
        }
        let mut named = Object::open(object.key(self.key));
        for (idx, label) in self.labels.iter().enumerate() {
            styled::element(named.key(label), self.tensor, start + idx, Style::Nulls)?;
        }
        named.close();
        Ok(())
    }
}

/// The class of one row.
#[derive(Clone, Copy)]
struct Class<'a> {
    position: Option<usize>,
    labels: &'a [String],
}

impl<'a> Classes<'a> {
    fn at(&self, row: usize) -> Class<'a> {
        Class { position: position(self.tensor, row), labels: self.labels }
    }
}

impl Class<'_> {
    fn known(&self) -> Option<usize> {
        self.position.filter(|&position| position < self.labels.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_label(out, self.known().and_then(|position| self.labels.get(position)));
    }
}

fn write_label(out: &mut Vec<u8>, label: Option<&String>) {
    match label {
        Some(label) => write::string(out, label),
        None => out.extend_from_slice(b"null"),
    }
}

fn labels<'a>(info: &'a ModelInfo, output: &str) -> &'a [String] {
    let idx = info.signature.outputs.iter().position(|spec| &*spec.name == output);
    idx.and_then(|idx| info.labels.get(idx)).map(Vec::as_slice).unwrap_or_default()
}

/// An object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// Writes a key and returns where its value goes.
    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(b',');
        }
        write::key(self.out, key);
        self.out
    }

    fn close(self) {
        self.out.push(b'}');
    }
}
