//! What a body is: JSON, an array, the text or picture itself, or a form with files.
//!
//! Only models of texts and pictures take more than JSON and arrays. A picture is known by the type
//! of its body or by not being JSON, so that `curl --data-binary @picture.jpg` needs no header.

use bytes::Bytes;
use salver_core::{ElementsBuilder, Error, ModelInfo, Result, Tensor};

use super::multipart::{self, Part};
use crate::json::read;
use crate::npy;
use crate::task::{LABELS, Task};

/// How a body is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// JSON.
    Json,
    /// One array of NumPy.
    Array,
    /// One row of this input, nothing else.
    Raw(&'static str),
    /// A form with this boundary.
    Form(String),
}

impl Body {
    /// Says how `body` is read.
    ///
    /// # Errors
    /// `InvalidInput` for a type that the model's task does not take.
    pub(super) fn of(task: Task, content_type: Option<&str>, body: &[u8]) -> Result<Self> {
        let full = content_type.unwrap_or_default();
        let media = full.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if body.starts_with(npy::MAGIC) {
            return Ok(Self::Array);
        }
        let Some(input) = task.raw_input() else {
            let is_array = matches!(&*media, "application/octet-stream" | "application/x-npy");
            return Ok(if is_array { Self::Array } else { Self::Json });
        };
        let (kind, subtype) = media.split_once('/').unwrap_or_default();
        match (task, kind) {
            _ if media == "multipart/form-data" => multipart::boundary(full).map(Self::Form),
            _ if media == "application/x-npy" => Ok(Self::Array),
            (Task::Image, "image") => Ok(Self::Raw(input)),
            (Task::Image, "audio" | "video") => Err(other_type(&media, task)),
            (Task::Image, _) if media == "application/octet-stream" => Ok(Self::Raw(input)),
            // `curl` claims a form whatever it sends.
            (Task::Image, _) if !media.ends_with("json") && !may_be_json(body) => Ok(Self::Raw(input)),
            (Task::Text | Task::ZeroShot, "image" | "audio" | "video") => Err(other_type(&media, task)),
            _ if media == "application/octet-stream" => Err(other_type(&media, task)),
            (Task::Text | Task::ZeroShot, "text") if subtype == "plain" => {
                check_charset(full).map(|()| Self::Raw(input))
            }
            _ => Ok(Self::Json),
        }
    }
}

/// Whether JSON for a picture could begin like this: an object, a list or a string.
fn may_be_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'[' | b'"'))
}

fn other_type(media: &str, task: Task) -> Error {
    let taken = match task {
        Task::Image => "a picture (image/*), a form with files, or JSON with base64 under 'image'",
        Task::Text | Task::ZeroShot | Task::Tensors | Task::Columns => "text/plain, a form, or JSON",
    };
    Error::invalid_input(format!("the body is {}; expected {taken}", read::clip(media)))
}

fn check_charset(content_type: &str) -> Result<()> {
    match multipart::parameter(content_type, "charset") {
        None => Ok(()),
        Some(charset) if ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)) => {
            Ok(())
        }
        Some(charset) => {
            Err(Error::invalid_input(format!("the text is in {}; expected charset=utf-8", read::clip(&charset))))
        }
    }
}

/// Makes one row of a body.
pub(super) fn raw(input: &str, body: &Bytes) -> Result<Tensor> {
    rows(input, &[&body[..]])
}

/// Makes a row of each file or text of a form.
///
/// # Errors
/// `InvalidInput` naming the field that the model does not take, or for a form without any row.
pub(super) fn form(body: &[u8], boundary: &str, task: Task, info: &ModelInfo) -> Result<Vec<Tensor>> {
    let input = task.raw_input().unwrap_or_default();
    let (mut files, mut labels): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for Part { name, content } in multipart::parts(body, boundary)? {
        match name.strip_suffix("[]").unwrap_or(&name) {
            "file" => files.push(content),
            field if field == input => files.push(content),
            LABELS if task == Task::ZeroShot => labels.push(content),
            _ => {
                return Err(Error::invalid_input(format!(
                    "the form has the field '{}', which model '{}' does not know; expected '{input}' or 'file'",
                    read::clip(&name),
                    info.name
                )));
            }
        }
    }
    if files.is_empty() {
        return Err(Error::invalid_input(format!("the form has no field '{input}' or 'file'")));
    }
    let mut tensors = vec![rows(input, &files)?];
    if !labels.is_empty() {
        let shape = [1, labels.len()];
        tensors.push(rows(LABELS, &labels)?.reshape(shape.into())?);
    }
    Ok(tensors)
}

fn rows(input: &str, rows: &[&[u8]]) -> Result<Tensor> {
    let total = rows.iter().map(|row| row.len()).sum::<usize>();
    if u32::try_from(total).is_err() {
        return Err(Error::too_large(format!("input '{input}' has more than 4 GiB")));
    }
    let mut elements = ElementsBuilder::default();
    rows.iter().for_each(|row| elements.push(row));
    Tensor::from_elements(input, [rows.len()], elements.finish())
}
