//! Answers about texts and pictures: the best class with its score, and all that were asked for.
//!
//! Entities come from the task as JSON already; they stand in the answer as what they are, once they
//! are known to be JSON.

use salver_core::{Result, Tensor};
use serde::de::IgnoredAny;

use super::Object;
use crate::json::styled::{self, Style};
use crate::json::write;

/// Writes row `row`: outputs under their own names, and `labels` where there is more than one class.
pub(super) fn write(out: &mut Vec<u8>, outputs: &[Tensor], row: usize) -> Result<()> {
    let find = |name: &str| outputs.iter().find(|tensor| &**tensor.name() == name);
    let classes = Classes::of(find("label"), find("score"));
    let mut object = Object::open(out);
    for tensor in outputs {
        let value = object.key(tensor.name());
        match (&**tensor.name(), &classes) {
            ("label", Some(classes)) => classes.label(value, row, 0)?,
            ("score", Some(classes)) => {
                classes.score(value, row, 0)?;
                if classes.count > 1 {
                    classes.all(object.key("labels"), row)?;
                }
            }
            ("entities", _) => entities(value, tensor, row)?,
            // One dimension is a list as well.
            ("embedding", _) => styled::row(value, tensor, row, Style::Nulls)?,
            _ => styled::cell(value, tensor, row, Style::Nulls)?,
        }
    }
    object.close();
    Ok(())
}

/// Classes and their scores, best first.
struct Classes<'a> {
    labels: &'a Tensor,
    scores: &'a Tensor,
    /// Those of each row.
    count: usize,
}

impl<'a> Classes<'a> {
    fn of(labels: Option<&'a Tensor>, scores: Option<&'a Tensor>) -> Option<Self> {
        let (labels, scores) = (labels?, scores?);
        let count = match **labels.shape() {
            [_, count] => count,
            _ => return None,
        };
        (labels.shape() == scores.shape()).then_some(Self { labels, scores, count })
    }

    fn label(&self, out: &mut Vec<u8>, row: usize, rank: usize) -> Result<()> {
        self.element(out, self.labels, row, rank)
    }

    fn score(&self, out: &mut Vec<u8>, row: usize, rank: usize) -> Result<()> {
        self.element(out, self.scores, row, rank)
    }

    fn element(&self, out: &mut Vec<u8>, tensor: &Tensor, row: usize, rank: usize) -> Result<()> {
        if rank >= self.count {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        styled::element(out, tensor, row * self.count + rank, Style::Nulls)
    }

    fn all(&self, out: &mut Vec<u8>, row: usize) -> Result<()> {
        write::try_list(out, 0..self.count, |out, rank| {
            let mut class = Object::open(out);
            self.label(class.key("label"), row, rank)?;
            self.score(class.key("score"), row, rank)?;
            class.close();
            Ok(())
        })
    }
}

/// Embeds the JSON of a row; what is none stands there as text.
fn entities(out: &mut Vec<u8>, tensor: &Tensor, row: usize) -> Result<()> {
    let bytes = tensor.elements().filter(|_| tensor.shape().len() == 1).and_then(|elements| elements.get(row));
    let json = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    match json.filter(|json| serde_json::from_str::<IgnoredAny>(json).is_ok()) {
        Some(json) => out.extend_from_slice(json.as_bytes()),
        None => styled::cell(out, tensor, row, Style::Nulls)?,
    }
    Ok(())
}
