//! `task` and its tables to what is known of the task; what does not belong to it is refused.

use std::collections::BTreeMap;

use toml::Spanned;

use super::fault::Fault;
use super::schema::{File, Input};
use super::{columns, image, text};
use crate::task::{Draft, NAMES, TextKind};

/// Puts `task`, `labels`, `[text]`, `[image]` and `[[column]]` together; none: nothing is said.
pub(super) fn task(file: &File, names: &BTreeMap<String, Vec<String>>) -> Result<Option<Draft>, Fault> {
    super::check_choice(file.task.as_ref(), &NAMES)?;
    let name = file.task.as_ref().map(|task| task.get_ref().as_str());
    check_tables(file, name)?;
    let draft = match name.and_then(text_kind) {
        Some(kind) => Some(Draft::Text(text::draft(kind, file.text.as_ref().map(Spanned::get_ref))?)),
        None => match name {
            Some("image-classification") => {
                Some(Draft::Image(image::draft(file.image.as_ref().map(Spanned::get_ref))?))
            }
            Some("tensor") => Some(Draft::Tensor),
            Some("tabular") | None if !file.column.is_empty() => Some(Draft::Tabular(columns::table(&file.column)?)),
            Some(_) => Some(Draft::Rows),
            None if !names.is_empty() => Some(Draft::Rows),
            None => None,
        },
    };
    check_labels(file, draft.as_ref())?;
    Ok(draft)
}

fn text_kind(name: &str) -> Option<TextKind> {
    let kinds = [TextKind::Classification, TextKind::Embedding, TextKind::TokenClassification, TextKind::ZeroShot];
    kinds.into_iter().find(|kind| kind.name() == name)
}

/// Each table belongs to some tasks.
fn check_tables(file: &File, name: Option<&str>) -> Result<(), Fault> {
    let texts = "text-classification, text-embedding, token-classification or zero-shot";
    let is_text = name.is_some_and(|name| text_kind(name).is_some());
    if let Some(table) = file.text.as_ref().filter(|_| !is_text) {
        return Err(misplaced(table, name, texts));
    }
    if let Some(table) = file.image.as_ref().filter(|_| name != Some("image-classification")) {
        return Err(misplaced(table, name, "image-classification"));
    }
    if let Some(column) = file.column.first().filter(|_| !matches!(name, None | Some("tabular"))) {
        return Err(misplaced(column, name, "tabular"));
    }
    let named = file.input.iter().flat_map(|input: &Input| &input.columns).next();
    match named {
        Some(place) if !file.column.is_empty() => {
            Err(Fault::invalid(place, "names columns, and so does [[column]]; keep one of the two"))
        }
        Some(place) if !matches!(name, None | Some("tensor" | "tabular")) => Err(misplaced(place, name, "tabular")),
        _ => Ok(()),
    }
}

fn misplaced<T>(place: &Spanned<T>, name: Option<&str>, of: &str) -> Fault {
    match name {
        Some(name) => Fault::invalid(place, format_args!("belongs to task {of}, not to {name}; leave it out")),
        None => {
            Fault::invalid(place, format_args!("needs `task` at the top of the file, which says what it is for: {of}"))
        }
    }
}

fn check_labels(file: &File, draft: Option<&Draft>) -> Result<(), Fault> {
    let is_embedding = matches!(draft, Some(Draft::Text(text)) if text.kind == TextKind::Embedding);
    match &file.labels {
        Some(labels) if is_embedding => Err(Fault::invalid(labels, "text-embedding has no classes; leave it out")),
        _ => Ok(()),
    }
}
