//! On which line each field of a text stands, so that a value that is refused after reading can
//! still be found.

use std::collections::BTreeMap;

/// Lines by the path of a field: `input[1].dims` is the first `dims` of the second `input`,
/// `parameters[key]` an entry of a map.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    by_path: BTreeMap<String, usize>,
    /// Where the parser is.
    path: String,
}

impl Lines {
    /// Returns the line of `path`, or of the field around it where it was not written.
    pub(crate) fn of(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(&line) = self.by_path.get(path) {
                return line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 1,
            }
        }
    }

    /// Goes into a field or an element of one, which begins on `line`. Returns what `leave` takes.
    pub(super) fn enter(&mut self, step: &str, line: usize) -> usize {
        let before = self.path.len();
        if before > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        self.by_path.entry(self.path.clone()).or_insert(line);
        before
    }

    /// Goes back to where `enter` was called.
    pub(super) fn leave(&mut self, before: usize) {
        self.path.truncate(before);
    }

    /// Notes an entry of the map that the parser is in.
    pub(super) fn note_entry(&mut self, key: &str, line: usize) {
        self.by_path.entry(format!("{}[{key}]", self.path)).or_insert(line);
    }
}
