//! What differs between two signatures, in a form that can be said in a line.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Field, Signature};

/// Which half of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What goes in.
    Input,
    /// What comes out.
    Output,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where.
    pub side: Side,
    /// Of what; none: of the order, `before` and `after` are the names.
    pub name: Option<String>,
    /// The type that it had; none: it was not there.
    pub before: Option<String>,
    /// The type that it has; none: it is gone.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, name, before, after } = self;
        let shown = |text: &Option<String>| text.clone().unwrap_or_default();
        let Some(name) = name else {
            return write!(f, "other order of {side}s: {} → {}", shown(before), shown(after));
        };
        let name = if name.is_empty() { String::new() } else { format!(" '{name}'") };
        match (before, after) {
            (None, _) => write!(f, "added {side}{name}: {}", shown(after)),
            (Some(_), None) => write!(f, "removed {side}{name}: {}", shown(before)),
            (Some(before), Some(after)) => write!(f, "changed {side}{name}: {before} → {after}"),
        }
    }
}

impl Signature {
    /// Returns what is different in `after`; nothing where both are the same.
    pub fn changes(&self, after: &Self) -> Vec<Change> {
        let mut found = changes(Side::Input, &self.inputs, &after.inputs);
        found.extend(changes(Side::Output, &self.outputs, &after.outputs));
        found
    }
}

fn changes(side: Side, before: &[Field], after: &[Field]) -> Vec<Change> {
    let of = |fields: &[Field]| -> BTreeMap<String, String> {
        let keys = names(fields);
        keys.into_iter().zip(fields.iter().map(ToString::to_string)).collect()
    };
    let (was, is) = (of(before), of(after));
    // In the order of the files: first what was, then what came.
    let mut keys = names(before);
    keys.extend(names(after).into_iter().filter(|key| !was.contains_key(key)));
    let differs = keys.into_iter().filter(|key| was.get(key) != is.get(key));
    let changes: Vec<Change> = differs
        .map(|key| {
            let (before, after) = (was.get(&key).cloned(), is.get(&key).cloned());
            Change { side, name: Some(key), before, after }
        })
        .collect();
    if changes.is_empty() && before != after {
        let joined = |fields: &[Field]| Some(names(fields).join(", "));
        return vec![Change { side, name: None, before: joined(before), after: joined(after) }];
    }
    changes
}

/// Names of fields; one of several that has none is called by its place.
fn names(fields: &[Field]) -> Vec<String> {
    let name = |(idx, field): (usize, &Field)| match field.name.as_str() {
        "" if fields.len() > 1 => idx.to_string(),
        name => name.to_owned(),
    };
    fields.iter().enumerate().map(name).collect()
}
