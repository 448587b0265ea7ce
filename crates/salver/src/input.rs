//! What people type: the input of `salver predict`, which may be JSON, a file, or standard input, and
//! the answer to a question.
//!
//! A CSV file becomes JSON rows here; everything else is sent as it is, and the model's own
//! protocol says what is wrong with it.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use salver_protocol::npy;
use serde_json::{Map, Value};

use crate::out;

/// A body and its media type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// JSON text.
    Json(Bytes),
    /// A NumPy array file.
    Npy(Bytes),
    /// Comma-separated rows under a header; [`Input::body`] makes JSON of them.
    Csv(Vec<u8>),
}

impl Input {
    /// Reads what `text` stands for.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub(crate) fn read(text: &str) -> Result<Self> {
        if text == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("read standard input")?;
            return Ok(Self::from_bytes(bytes, None));
        }
        let named = text.strip_prefix('@').map(PathBuf::from);
        let looks_like_file = || {
            let path = Path::new(text);
            let known = path.extension().is_some_and(|ext| ["json", "csv", "npy"].iter().any(|known| ext == *known));
            known.then(|| path.to_owned())
        };
        let Some(path) = named.or_else(looks_like_file) else {
            return Ok(Self::Json(Bytes::copy_from_slice(text.as_bytes())));
        };
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self::from_bytes(bytes, Some(&path)))
    }

    fn from_bytes(bytes: Vec<u8>, path: Option<&Path>) -> Self {
        if bytes.starts_with(npy::MAGIC) {
            return Self::Npy(bytes.into());
        }
        if path.and_then(Path::extension).is_some_and(|ext| ext.eq_ignore_ascii_case("csv")) {
            return Self::Csv(bytes);
        }
        Self::Json(bytes.into())
    }

    /// Returns the media type of the body.
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::Csv(_) => "application/json",
            Self::Npy(_) => "application/x-npy",
        }
    }

    /// Returns the body. Of CSV rows only `columns` are taken; where the model names none, all
    /// cells are taken as a list in their order.
    ///
    /// # Errors
    /// Where the CSV is damaged or lacks a column.
    pub(crate) fn body(self, columns: &[String]) -> Result<Bytes> {
        match self {
            Self::Json(bytes) | Self::Npy(bytes) => Ok(bytes),
            Self::Csv(bytes) => Ok(serde_json::to_vec(&rows(&bytes, columns).context("CSV input")?)?.into()),
        }
    }
}

/// Asks at a terminal; everything but a yes is a no.
///
/// # Errors
/// Where nobody is there: `--yes` is what lets a program `act`.
pub(crate) fn confirmed(question: &str, act: &str) -> Result<bool> {
    ensure!(std::io::stdin().is_terminal(), "nobody is there to ask; give --yes to {act}");
    out::line(format!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn rows(bytes: &[u8], columns: &[String]) -> Result<Value> {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers()?.clone();
    if let Some(missing) = columns.iter().find(|column| !header.iter().any(|name| name == *column)) {
        let given: Vec<&str> = header.iter().collect();
        bail!("column '{missing}' is missing; the file has {}", given.join(", "));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cells = header.iter().zip(record.iter());
        rows.push(if columns.is_empty() {
            Value::Array(cells.map(|(_, cell)| value(cell)).collect())
        } else {
            let wanted = cells.filter(|(name, _)| columns.iter().any(|column| column == name));
            Value::Object(wanted.map(|(name, cell)| (name.to_owned(), value(cell))).collect::<Map<_, _>>())
        });
    }
    Ok(Value::Array(rows))
}

/// Null for an empty cell, a number where it is one, else text.
fn value(cell: &str) -> Value {
    let cell = cell.trim();
    if cell.is_empty() {
        return Value::Null;
    }
    if let Ok(whole) = cell.parse::<i64>() {
        return whole.into();
    }
    match cell.parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_becomes_rows_of_the_columns_that_the_model_names() {
        let csv = b"a,b,species\n1,2.5,setosa\n3,,virginica\n";
        let columns = ["b".to_owned(), "a".to_owned()];
        assert_eq!(rows(csv, &columns).unwrap().to_string(), r#"[{"a":1,"b":2.5},{"a":3,"b":null}]"#);
        assert_eq!(rows(b"x,y\n1,2\n", &[]).unwrap().to_string(), "[[1,2]]");
        let error = rows(csv, &["c".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("'c'") && error.contains("species"), "{error}");
        assert!(rows(b"a,b\n1\n", &[]).is_err());
    }

    #[test]
    fn files_are_told_by_name_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Input::read(&format!("@{}", path.display())).unwrap()
        };
        assert_eq!(read("a.json", b"[1]").content_type(), "application/json");
        assert!(matches!(read("a.csv", b"x\n1\n"), Input::Csv(_)));
        assert_eq!(read("a.bin", b"\x93NUMPY...").content_type(), "application/x-npy");
        assert_eq!(Input::read("[[1, 2]]").unwrap(), Input::Json(Bytes::from_static(b"[[1, 2]]")));
        let error = Input::read("nowhere.json").unwrap_err();
        assert!(format!("{error:#}").contains("nowhere.json"));
    }
}
