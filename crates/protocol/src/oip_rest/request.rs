//! Reads inference requests: JSON, JSON with binary tensors, and the raw binary form.

use std::sync::Arc;

use bytes::Bytes;
use jiter::Jiter;
use salver_core::{
    DataType, Dim, Elements, Error, InferRequest, ModelInfo, ModelRef, Parameter, Parameters, Result, Shape, Tensor,
};

use super::tensors::{self, Draft};
use super::{ReplyOptions, oip};
use crate::Limits;
use crate::json::read::{self, OrNotJson as _, clip};
use crate::oip::OutputOptions;

/// Reads the body of an inference request, after decompression.
///
/// `header_len` is the number of its JSON bytes, from [`super::parse_header_len`]; 0 means that the
/// body is nothing but the data of the model's only input, whose type `describe` then tells.
///
/// # Errors
/// `InvalidInput` naming the input, parameter or place; `TooLarge` beyond `limits`; `Unsupported`
/// for extensions that are not offered.
pub fn decode_infer(
    body: Bytes,
    header_len: Option<usize>,
    model: ModelRef,
    describe: impl FnOnce() -> Result<Arc<ModelInfo>>,
    limits: &Limits,
) -> Result<(InferRequest, ReplyOptions)> {
    if body.len() > limits.max_body_bytes {
        return Err(Error::too_large(format!(
            "the body has {} bytes, at most {} are allowed",
            body.len(),
            limits.max_body_bytes
        )));
    }
    if body.is_empty() {
        return Err(Error::invalid_input("the body is empty, expected an inference request"));
    }
    if header_len == Some(0) {
        let info = describe()?;
        return raw_request(body, model, &info);
    }
    let (json, blobs) = tensors::split(&body, header_len)?;
    let parts = Parts::read(&json, limits)?;
    let request = InferRequest {
        model,
        id: parts.id,
        inputs: tensors::finish(parts.inputs, blobs)?,
        outputs: parts.options.listed.iter().map(|(name, _)| name.clone()).collect(),
        parameters: parts.parameters,
    };
    Ok((request, parts.options))
}

/// What the JSON of a request says.
#[derive(Default)]
struct Parts {
    id: Option<String>,
    parameters: Parameters,
    inputs: Vec<Draft>,
    options: ReplyOptions,
}

impl Parts {
    fn read(json: &[u8], limits: &Limits) -> Result<Self> {
        const KEYS: &[&str] = &["id", "parameters", "inputs", "outputs"];
        let mut parts = Self::default();
        let mut has_inputs = false;
        let mut reader = read::reader(json);
        // Unknown members are skipped; they stand one level below the body.
        let depth = limits.json_depth.saturating_sub(1);
        read::members(&mut reader, "request", KEYS, depth, |reader, key| {
            match key {
                "id" => parts.id = Some(read::string(reader, "id")?),
                "parameters" => parts.parameters = tensors::parameters(reader, "the request", limits)?,
                "inputs" => {
                    has_inputs = true;
                    parts.inputs = tensors::drafts(reader, "input", limits, limits.max_inputs)?;
                }
                _ => outputs(reader, limits, &mut parts.options)?,
            }
            Ok(())
        })?;
        reader.finish().or_not_json().map_err(|error| error.context("request"))?;
        if !has_inputs {
            return Err(Error::invalid_input("request has no 'inputs'"));
        }
        oip::check_reserved(&parts.parameters)?;
        let all_binary = parts.parameters.remove("binary_data_output");
        parts.options.all_binary = all_binary == Some(Parameter::Bool(true));
        Ok(parts)
    }
}

/// Reads the requested outputs; one that is named again counts once.
fn outputs(reader: &mut Jiter<'_>, limits: &Limits, options: &mut ReplyOptions) -> Result<()> {
    let context = |error: Error| error.context("outputs");
    let mut count = 0;
    let mut next = reader.next_array().or_not_json().map_err(context)?;
    while next.is_some() {
        if count == limits.max_outputs {
            return Err(oip::too_many("outputs", limits.max_outputs));
        }
        let (name, asked) = output(reader, count, limits)?;
        count += 1;
        if !options.listed.iter().any(|(known, _)| **known == *name) {
            options.classes.ask(&name, asked.classes);
            options.listed.push((name, asked.binary.unwrap_or(false)));
        }
        next = reader.array_step().or_not_json().map_err(context)?;
    }
    Ok(())
}

fn output(reader: &mut Jiter<'_>, idx: usize, limits: &Limits) -> Result<(Arc<str>, OutputOptions)> {
    let place = format!("output {idx}");
    let (mut name, mut parameters) = (None::<Arc<str>>, Parameters::new());
    let depth = limits.json_depth.saturating_sub(3);
    read::members(reader, &place, &["name", "parameters"], depth, |reader, key| {
        match key {
            "name" => name = Some(read::string(reader, "name").map_err(|error| error.context(&place))?),
            _ => parameters = tensors::parameters(reader, &place, limits)?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| Error::invalid_input(format!("{place} has no 'name'")))?;
    oip::check_name("output", &name, limits)?;
    let asked = oip::output_options(&format!("output '{}'", clip(&name)), &parameters)?;
    Ok((name, asked))
}

/// Makes a request of a body that is the data of the only input.
fn raw_request(body: Bytes, model: ModelRef, info: &ModelInfo) -> Result<(InferRequest, ReplyOptions)> {
    let [spec] = info.signature.inputs.as_slice() else {
        return Err(Error::invalid_input(format!(
            "a raw binary request needs a model with one input, '{}' has {}",
            info.name,
            info.signature.inputs.len()
        )));
    };
    let refuse = |reason: String| {
        Error::invalid_input(format!("raw binary request for input '{}' of model '{}': {reason}", spec.name, info.name))
    };
    let mut dims = spec.shape.clone();
    if info.signature.is_batched()
        && let Some(rows) = dims.first_mut()
    {
        *rows = Dim::Fixed(1);
    }
    let input = match spec.dtype.size() {
        Some(size) => {
            let shape = deduce(&dims, size, body.len()).map_err(refuse)?;
            oip::tensor_from_binary(&spec.name, spec.dtype, shape, body)?
        }
        None => raw_text(&spec.name, &dims, body)
            .ok_or_else(|| refuse(format!("{} works only for an input of exactly one element", DataType::Bytes)))??,
    };
    let request =
        InferRequest { model, id: None, inputs: vec![input], outputs: Vec::new(), parameters: Parameters::new() };
    Ok((request, ReplyOptions::binary()))
}

/// Fills in the one free extent, if there is one, from the length of the data.
fn deduce(dims: &[Dim], size: usize, len: usize) -> Result<Shape, String> {
    let free = dims.iter().filter(|dim| **dim == Dim::Free).count();
    if free > 1 {
        return Err("its shape has more than one free dimension".to_owned());
    }
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Free => 1,
    };
    let known: Option<usize> = dims.iter().map(fixed).try_fold(size, usize::checked_mul);
    let extent = known.and_then(|known| len.checked_div(known).filter(|extent| extent * known == len));
    match (extent, free) {
        (Some(extent), 1) => Ok(dims.iter().map(|dim| if *dim == Dim::Free { extent } else { fixed(dim) }).collect()),
        (Some(1), _) => Ok(dims.iter().map(fixed).collect()),
        _ => Err(format!("{len} bytes do not fill its shape")),
    }
}

/// The whole body is the one element; `None` if the input takes more or fewer.
fn raw_text(name: &str, dims: &[Dim], body: Bytes) -> Option<Result<Tensor>> {
    if !dims.iter().all(|dim| *dim == Dim::Fixed(1)) {
        return None;
    }
    let shape: Shape = dims.iter().map(|_| 1).collect();
    let Ok(len) = u32::try_from(body.len()) else {
        return Some(Err(Error::too_large("a BYTES element takes at most 4 GiB")));
    };
    Some(Elements::new(body, vec![(0, len)]).and_then(|elements| Tensor::from_elements(name, shape, elements)))
}
