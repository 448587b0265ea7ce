//! The keys that rows may have, and what each stands for. Decided once for all rows.

use std::borrow::Cow;
use std::collections::HashMap;

/// Up to so many keys no map is built: a few are found faster by looking.
const MAX_LOOKED_THROUGH: usize = 16;

/// The most keys that a message lists.
const MAX_SHOWN: usize = 20;

/// What a key stands for.
pub(super) struct Target<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) input: usize,
    /// The column of a table; none: the whole input.
    pub(super) column: Option<usize>,
    pub(super) optional: bool,
    /// The last row that had this key, counted from 1.
    pub(super) seen_in: usize,
}

/// All keys, in the model's order.
pub(super) struct Keys<'a> {
    pub(super) targets: Vec<Target<'a>>,
    by_key: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(targets: Vec<Target<'a>>) -> Self {
        let by_key = if targets.len() > MAX_LOOKED_THROUGH {
            targets.iter().enumerate().map(|(idx, target)| (target.key.clone(), idx)).collect()
        } else {
            HashMap::new()
        };
        Self { targets, by_key }
    }

    /// Keys mostly come in the model's order, so the `expected` one is tried first.
    pub(super) fn find(&self, key: &str, expected: usize) -> Option<usize> {
        if self.targets.get(expected).is_some_and(|target| target.key == key) {
            return Some(expected);
        }
        if self.by_key.is_empty() {
            return self.targets.iter().position(|target| target.key == key);
        }
        self.by_key.get(key).copied()
    }

    /// Lists the keys for a message, some of them where they are many.
    pub(super) fn shown(&self) -> String {
        let shown: Vec<String> =
            self.targets.iter().take(MAX_SHOWN).map(|target| format!("'{}'", target.key)).collect();
        let more = self.targets.len().saturating_sub(shown.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{rest}", shown.join(", "))
    }
}
