//! Tensors as they stand in requests and responses: a JSON object each, and perhaps a blob behind.
//!
//! Used for the inputs of requests by the server and for the outputs of responses by the client.

use std::fmt::{self, Display};
use std::sync::Arc;

use bytes::Bytes;
use jiter::{Jiter, NumberAny, NumberInt, Peek};
use salver_core::{DataType, Error, Parameter, Parameters, Result, Shape, Tensor};

use crate::json::element::{self, whole};
use crate::json::packed::Packed;
use crate::json::read::{self, OrNotJson as _, clip};
use crate::json::write;
use crate::{Limits, oip};

/// Levels of nesting above a value in `parameters` or `data` of a tensor: body, list, tensor.
const LEVELS_ABOVE: usize = 3;

/// A tensor whose JSON was read; its data may still stand in a blob.
pub(super) struct Draft {
    name: Arc<str>,
    dtype: DataType,
    shape: Shape,
    source: Source,
}

enum Source {
    Json(Packed),
    Blob(usize),
}

/// Reads a list of tensors; `role` is `input` or `output` in messages.
pub(super) fn drafts(reader: &mut Jiter<'_>, role: &str, limits: &Limits, most: usize) -> Result<Vec<Draft>> {
    let mut drafts = Vec::new();
    let context = |error: Error| error.context(format!("{role}s"));
    let mut next = reader.next_array().or_not_json().map_err(context)?;
    while next.is_some() {
        if drafts.len() == most {
            return Err(oip::too_many(&format!("{role}s"), most));
        }
        drafts.push(draft(reader, role, drafts.len(), limits)?);
        next = reader.array_step().or_not_json().map_err(context)?;
    }
    Ok(drafts)
}

/// Fields of a tensor's object as they turn up, in any order.
#[derive(Default)]
struct Fields<'j> {
    name: Option<Arc<str>>,
    /// The type, or the text that names none.
    datatype: Option<Result<DataType, String>>,
    shape: Option<Shape>,
    parameters: Parameters,
    data: Option<JsonData<'j>>,
}

enum JsonData<'j> {
    Read(Packed),
    /// It came before its type: a reader that stands where it begins.
    Unread(Jiter<'j>),
}

fn draft(reader: &mut Jiter<'_>, role: &str, idx: usize, limits: &Limits) -> Result<Draft> {
    // Spelt out only where something is wrong.
    let place = fmt::from_fn(|f| write!(f, "{role} {idx}"));
    let mut fields = Fields::default();
    let depth = limits.json_depth.saturating_sub(LEVELS_ABOVE);
    read::members(reader, &place, &["name", "datatype", "shape", "parameters", "data"], depth, |reader, key| {
        let read = fields.read(reader, key, depth, limits);
        read.map_err(|error| match &fields.name {
            Some(name) => error.context(format!("{role} '{}'", clip(name))),
            None => error.context(&place),
        })
    })?;
    fields.finish(&place, role, depth, limits)
}

impl<'j> Fields<'j> {
    fn read(&mut self, reader: &mut Jiter<'j>, key: &str, depth: usize, limits: &Limits) -> Result<()> {
        match key {
            "name" => self.name = Some(read::string(reader, "name")?),
            "datatype" => self.datatype = Some(datatype(reader)?),
            "shape" => self.shape = Some(shape(reader)?),
            "parameters" => self.parameters = parameters(reader, "the tensor", limits)?,
            _ => self.read_data(reader, depth)?,
        }
        Ok(())
    }

    fn read_data(&mut self, reader: &mut Jiter<'j>, depth: usize) -> Result<()> {
        let data = match self.datatype {
            Some(Ok(dtype)) => JsonData::Read(json_data(reader, dtype, self.shape.as_ref(), depth)?),
            Some(Err(_)) | None => {
                let data = JsonData::Unread(reader.clone());
                read::skip(reader, depth)?;
                data
            }
        };
        self.data = Some(data);
        Ok(())
    }

    fn finish(self, place: impl Display, role: &str, depth: usize, limits: &Limits) -> Result<Draft> {
        let missing = |key: &str| Error::invalid_input(format!("{place} has no '{key}'"));
        let name = self.name.ok_or_else(|| missing("name"))?;
        oip::check_name(role, &name, limits)?;
        let what = fmt::from_fn(|f| write!(f, "{role} '{}'", clip(&name)));
        let missing = |key: &str| Error::invalid_input(format!("{what} has no '{key}'"));
        let dtype = match self.datatype.ok_or_else(|| missing("datatype"))? {
            Ok(dtype) => dtype,
            Err(text) => oip::datatype(&what, &text)?,
        };
        let shape = self.shape.ok_or_else(|| missing("shape"))?;
        let blob = oip::blob_size(&what, &self.parameters)?;
        let source = match (self.data, blob) {
            (Some(JsonData::Read(packed)), None) => Source::Json(packed),
            (Some(JsonData::Unread(mut data)), None) => {
                let read = json_data(&mut data, dtype, Some(&shape), depth);
                Source::Json(read.map_err(|error| error.context(&what))?)
            }
            (None, Some(size)) => Source::Blob(size),
            (Some(_), Some(_)) | (None, None) => {
                return Err(Error::invalid_input(format!(
                    "{what} must have exactly one of 'data' and the parameter 'binary_data_size'"
                )));
            }
        };
        if let Source::Json(packed) = &source
            && shape.element_count() != Some(packed.len())
        {
            return Err(Error::invalid_input(format!(
                "{what}: shape {shape} does not hold the {} elements of 'data'",
                packed.len()
            )));
        }
        Ok(Draft { name, dtype, shape, source })
    }
}

fn datatype(reader: &mut Jiter<'_>) -> Result<Result<DataType, String>> {
    let text = reader.next_str().or_not_json().map_err(|error| error.context("'datatype'"))?;
    Ok(DataType::from_wire(text).ok_or_else(|| text.to_owned()))
}

fn json_data(reader: &mut Jiter<'_>, dtype: DataType, shape: Option<&Shape>, depth: usize) -> Result<Packed> {
    if matches!(dtype, DataType::Fp16 | DataType::Bf16) {
        return Err(no_json_form(dtype));
    }
    // The shape is only a claim, so it reserves little.
    let room = shape.and_then(Shape::element_count).unwrap_or(0).min(1 << 10);
    let mut packed = Packed::new(dtype, room);
    element::flat(reader, depth, &mut packed)?;
    Ok(packed)
}

pub(super) fn no_json_form(dtype: DataType) -> Error {
    Error::invalid_input(format!("{dtype} has no JSON form; use the binary format"))
}

fn shape(reader: &mut Jiter<'_>) -> Result<Shape> {
    let refuse = || Error::invalid_input("'shape' must be a list of whole numbers from 0");
    let (mut dims, mut rank) = ([0; Shape::MAX_RANK], 0);
    let mut next = reader.next_array().map_err(|_| refuse())?;
    while let Some(peek) = next {
        let Some(place) = dims.get_mut(rank) else {
            return Err(Error::invalid_input(format!("'shape' has more than {} dimensions", Shape::MAX_RANK)));
        };
        let dim = reader.known_int(peek).ok().and_then(whole).and_then(|dim| usize::try_from(dim).ok());
        *place = dim.ok_or_else(refuse)?;
        rank += 1;
        next = reader.array_step().or_not_json()?;
    }
    Ok(Shape::new(&dims[..rank]))
}

/// Reads an object of scalars; `what` owns it in messages.
pub(super) fn parameters(reader: &mut Jiter<'_>, what: &str, limits: &Limits) -> Result<Parameters> {
    let context = |error: Error| error.context(format!("parameters of {what}"));
    let mut parameters = Parameters::new();
    let mut next = reader.next_object().or_not_json().map_err(context)?.map(str::to_owned);
    while let Some(name) = next {
        oip::check_name("parameter", &name, limits)?;
        let value = scalar(reader, what, &name)?;
        if parameters.contains_key(&name) {
            return Err(read::duplicate(&name, &format!("parameters of {what}")));
        }
        parameters.insert(name, value);
        next = reader.next_key().or_not_json().map_err(context)?.map(str::to_owned);
    }
    Ok(parameters)
}

pub(super) fn scalar(reader: &mut Jiter<'_>, what: &str, name: &str) -> Result<Parameter> {
    let peek = reader.peek().or_not_json()?;
    let start = reader.current_index();
    let wrong = || oip::wrong_parameter(what, name, "a string, a number or a boolean");
    Ok(match peek {
        Peek::String => Parameter::Text(read::string(reader, name)?),
        Peek::True | Peek::False => Parameter::Bool(reader.known_bool(peek).or_not_json()?),
        peek if peek.is_num() => match reader.known_number(peek).or_not_json()? {
            NumberAny::Int(value) => whole_parameter(value).ok_or_else(wrong)?,
            NumberAny::Float(value) if value.is_infinite() && !reader.slice_to_current(start).contains(&b'I') => {
                return Err(wrong());
            }
            NumberAny::Float(value) => Parameter::Float(value),
        },
        _ => return Err(wrong()),
    })
}

fn whole_parameter(value: NumberInt) -> Option<Parameter> {
    let value = whole(value)?;
    let unsigned = || u64::try_from(value).ok().map(Parameter::Uint);
    i64::try_from(value).ok().map(Parameter::Int).or_else(unsigned)
}

/// Gives every draft its data: JSON as read, blobs as consecutive slices of `blobs`.
///
/// # Errors
/// `InvalidInput` where blobs are too short, too long, or not of the tensor's size.
pub(super) fn finish(drafts: Vec<Draft>, blobs: Option<Bytes>) -> Result<Vec<Tensor>> {
    let has_blobs = blobs.is_some();
    let mut rest = blobs.unwrap_or_default();
    let mut tensors = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let tensor = match draft.source {
            Source::Json(packed) => packed.finish(draft.name, draft.shape)?,
            // Where every blob is empty, the header may be left out.
            Source::Blob(1..) if !has_blobs => {
                return Err(Error::invalid_input(format!(
                    "tensor '{}' has 'binary_data_size', but the header Inference-Header-Content-Length is missing",
                    clip(&draft.name)
                )));
            }
            Source::Blob(size) if size > rest.len() => {
                return Err(Error::invalid_input(format!(
                    "tensor '{}': 'binary_data_size' is {size}, but only {} bytes are left in the body",
                    clip(&draft.name),
                    rest.len()
                )));
            }
            Source::Blob(size) => oip::tensor_from_binary(&draft.name, draft.dtype, draft.shape, rest.split_to(size))?,
        };
        tensors.push(tensor);
    }
    if !rest.is_empty() {
        return Err(Error::invalid_input(format!(
            "{} bytes are left over after the last binary tensor of the body",
            rest.len()
        )));
    }
    Ok(tensors)
}

/// Splits a body into JSON and blobs; no blobs where there is no header.
pub(super) fn split(body: &Bytes, header_len: Option<usize>) -> Result<(Bytes, Option<Bytes>)> {
    match header_len {
        None => Ok((body.clone(), None)),
        Some(len) if len > body.len() => Err(Error::invalid_input(format!(
            "header Inference-Header-Content-Length is {len}, but the body has {} bytes",
            body.len()
        ))),
        Some(len) => Ok((body.slice(..len), Some(body.slice(len..)))),
    }
}

/// Appends `tensor`'s object, with `data` or with the size of its blob.
pub(super) fn put(out: &mut Vec<u8>, tensor: &Tensor, binary: bool) -> Result<()> {
    out.extend_from_slice(b"{\"name\":");
    write::string(out, tensor.name());
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(tensor.dtype().as_str().as_bytes());
    out.extend_from_slice(b"\",\"shape\":");
    write::ints(out, tensor.shape().iter().copied());
    if binary {
        out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
        write::int(out, oip::binary_len(tensor));
        out.extend_from_slice(b"}}");
        return Ok(());
    }
    if matches!(tensor.dtype(), DataType::Fp16 | DataType::Bf16) {
        return Err(no_json_form(tensor.dtype()).context(format!("tensor '{}'", tensor.name())));
    }
    out.extend_from_slice(b",\"data\":");
    write::tensor_flat(out, tensor)?;
    out.push(b'}');
    Ok(())
}

/// Appends parameters as a JSON object.
pub(super) fn put_parameters<'p>(out: &mut Vec<u8>, parameters: impl IntoIterator<Item = (&'p String, &'p Parameter)>) {
    out.push(b'{');
    for (idx, (name, value)) in parameters.into_iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write::key(out, name);
        match value {
            Parameter::Bool(value) => write::bool(out, *value),
            Parameter::Int(value) => write::int(out, *value),
            Parameter::Uint(value) => write::int(out, *value),
            Parameter::Float(value) => write::f64(out, *value),
            Parameter::Text(value) => write::string(out, value),
        }
    }
    out.push(b'}');
}
