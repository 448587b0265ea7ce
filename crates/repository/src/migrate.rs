//! What of an existing repository is served as it is, what is passed over, and what is refused.
//!
//! Nothing is loaded. The readers are those of serving: a model of which a report says that it is
//! served is one that its reader takes, and a report only adds where, why and what to do. Whether a
//! graph fits its configuration is said by whoever has read both ([`ModelReport::specs`]).

mod config;
mod files;
mod hints;
#[cfg(test)]
mod tests;
mod tfserving;
mod triton;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use salver_core::{Error, ModelSpec, Result};

/// What becomes of a repository.
#[derive(Debug, Clone)]
pub struct Report {
    /// What belongs to no model.
    pub notes: Vec<Note>,
    /// Its models, by name.
    pub models: Vec<ModelReport>,
    /// What to give `salver serve` so that it is served as it was.
    pub paths: Vec<PathBuf>,
}

/// What becomes of a model.
#[derive(Debug, Clone)]
pub struct ModelReport {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The versions that are served; none: it is refused.
    pub specs: Vec<Arc<ModelSpec>>,
    /// Its files, line by line.
    pub notes: Vec<Note>,
}

/// What becomes of a file, or of a line of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file, relative to the repository.
    pub file: String,
    /// The line, from 1; none: all of it.
    pub line: Option<usize>,
    /// What becomes of it.
    pub status: Status,
    /// What it is: a field, a kind of file.
    pub what: String,
    /// Why that becomes of it; empty where there is nothing to say.
    pub why: String,
    /// What to do about it; empty where the reason says it, or nothing is to be done.
    pub todo: &'static str,
}

/// What becomes of a part of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It has its effect.
    Serves,
    /// It is passed over; nothing is missing without it.
    Ignored,
    /// It has its effect if something else is given as well.
    Needs,
    /// It is not served.
    Refused,
}

impl Status {
    /// Returns the word for people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::Ignored => "ignored",
            Self::Needs => "needs",
            Self::Refused => "refused",
        }
    }
}

impl Report {
    /// Reports on a Triton model repository, or one model of one.
    ///
    /// # Errors
    /// `NotFound` for a folder that is not there, `InvalidInput` for one without models.
    pub fn triton(folder: &Path) -> Result<Self> {
        triton::report(folder)
    }

    /// Reports on a folder of TF Serving's, a folder of those, or a `models.config`.
    ///
    /// # Errors
    /// `NotFound` for a path that is not there, `InvalidInput` for one without models.
    pub fn tfserving(path: &Path) -> Result<Self> {
        tfserving::report(path)
    }

    /// Whether every model is served, and nothing keeps the server from starting.
    pub fn serves(&self) -> bool {
        self.models.iter().all(ModelReport::serves) && !is_refused(&self.notes)
    }
}

impl ModelReport {
    /// Whether the model is served.
    pub fn serves(&self) -> bool {
        !self.specs.is_empty() && !is_refused(&self.notes)
    }

    /// Notes what keeps the model from being served.
    pub fn refuse(&mut self, file: &Path, what: &str, why: &str) {
        let folder = self.path.parent().unwrap_or(&self.path);
        self.notes.push(Note::new(&shown(folder, file), Status::Refused, what, why));
    }
}

impl Note {
    fn new(file: &str, status: Status, what: &str, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, status, what: what.to_owned(), why: why.into(), todo: "" }
    }

    fn todo(self, todo: &'static str) -> Self {
        Self { todo, ..self }
    }

    fn at(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }
}

fn is_refused(notes: &[Note]) -> bool {
    notes.iter().any(|note| note.status == Status::Refused)
}

/// Says where `path` lies below `root`.
fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// Splits `path: line N: what is wrong` as far as it is there.
fn located(error: &Error) -> (Option<usize>, &str) {
    let message = error.message();
    let Some(rest) = message.find("line ").map(|at| &message[at + "line ".len()..]) else {
        return (None, message);
    };
    match rest.split_once(": ") {
        Some((line, what)) if line.parse::<usize>().is_ok() => (line.parse().ok(), what),
        _ => (None, message),
    }
}
