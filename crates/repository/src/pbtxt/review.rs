//! All that is wrong with a `config.pbtxt`, not only the first of it.
//!
//! The check that serving does is run again and again: what it blames is noted and taken out. So a
//! configuration without faults here is one that is served, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DynamicMessage, MapKey, ReflectMessage as _, Value};
use salver_core::{Error, Result};

use super::check;
use crate::schema::{Described as _, triton as proto};
use crate::text::{self, Lines};

/// The most faults that are looked for.
const MAX_FAULTS: usize = 256;

/// A configuration that can be read, and what is wrong with it.
pub(crate) struct Review {
    /// All that is written.
    pub(crate) config: DynamicMessage,
    /// Where it stands.
    pub(crate) lines: Lines,
    /// Paths of fields at fault, with what is wrong: one for each field of the outermost level, or
    /// each element of one.
    pub(crate) faults: Vec<(String, Error)>,
}

/// Reads the text of the `config.pbtxt` of the model `name`.
///
/// # Errors
/// `InvalidInput` naming the line of a text that cannot be read.
pub(crate) fn review(text: &str, name: &str) -> Result<Review> {
    let (config, lines) = text::parse::<proto::ModelConfig>(text)?;
    let mut whole = DynamicMessage::new(proto::ModelConfig::schema());
    let unfit = |error| Error::invalid_input("does not fit its schema").with_source(error);
    whole.transcode_from(&config).map_err(unfit)?;
    let mut left = Left { config: whole.clone(), indexes: BTreeMap::new() };
    let (mut faults, mut blamed) = (Vec::new(), BTreeSet::new());
    let mut excused: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..MAX_FAULTS {
        let Err(fault) = check(left.config.transcode_to().map_err(unfit)?, name) else {
            break;
        };
        let (outer, element) = outermost(fault.path());
        let path = left.as_written(fault.path());
        let is_excused = excused.contains(outer);
        excused.extend(dependents(outer));
        let taken_out = left.take_out(outer, element);
        if blamed.insert(element_of(&path)) && !is_excused {
            faults.push((path, fault.into_error()));
        }
        if !taken_out {
            break;
        }
    }
    Ok(Review { config: whole, lines, faults })
}

/// Returns what may be blamed in the place of a field that was taken out, because it depends on it.
fn dependents(outer: &str) -> &'static [&'static str] {
    match outer {
        "max_batch_size" => &["dynamic_batching"],
        "input" => &["batch_input", "batch_output", "ensemble_scheduling"],
        "output" => &["batch_output", "ensemble_scheduling"],
        "ensemble_scheduling" => &["platform"],
        _ => &[],
    }
}

/// What nobody has blamed yet.
struct Left {
    config: DynamicMessage,
    /// Of lists that lost elements: where those that are left stood.
    indexes: BTreeMap<String, Vec<usize>>,
}

impl Left {
    /// Takes out an element of a field, or the field. Returns whether there was one.
    fn take_out(&mut self, outer: &str, element: Option<&str>) -> bool {
        let Some(field) = self.config.descriptor().get_field_by_name(outer) else {
            return false;
        };
        let had = self.config.has_field(&field);
        match (self.config.get_field_mut(&field), element) {
            (Value::List(items), Some(idx)) if idx.parse().is_ok_and(|idx: usize| idx < items.len()) => {
                let (idx, count) = (idx.parse().unwrap_or(0), items.len());
                items.remove(idx);
                self.indexes.entry(outer.to_owned()).or_insert_with(|| (0..count).collect()).remove(idx);
            }
            (Value::Map(entries), Some(key)) if entries.contains_key(&MapKey::String(key.to_owned())) => {
                entries.remove(&MapKey::String(key.to_owned()));
            }
            _ => self.config.clear_field(&field),
        }
        had
    }

    /// Returns a path with the index that its element has in the text.
    fn as_written(&self, path: &str) -> String {
        let (outer, element) = outermost(path);
        let written = self.indexes.get(outer).zip(element.and_then(|idx| idx.parse::<usize>().ok()));
        match written.and_then(|(indexes, idx)| indexes.get(idx)) {
            Some(idx) => {
                let rest = path.split_once(']').map_or("", |(_, rest)| rest);
                format!("{outer}[{idx}]{rest}")
            }
            None => path.to_owned(),
        }
    }
}

/// Splits off the first step of a path: `input[1].dims` is the field `input`, of which the element `1`.
pub(crate) fn outermost(path: &str) -> (&str, Option<&str>) {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let element = path[end..].strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(element, _)| element);
    (&path[..end], element)
}

fn element_of(path: &str) -> String {
    match outermost(path) {
        (outer, None) => outer.to_owned(),
        (outer, Some(element)) => format!("{outer}[{element}]"),
    }
}
