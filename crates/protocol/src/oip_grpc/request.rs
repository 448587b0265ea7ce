//! Reads inference requests: tensors all raw, or all in typed fields.

use std::sync::Arc;

use bytes::Bytes;
use salver_core::{DataType, Element, Error, InferRequest, Result, Shape, Tensor};

use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::{InferTensorContents, ModelInferRequest};
use super::{ReplyOptions, model_ref, oip, parameters};
use crate::Limits;
use crate::json::packed::Packed;
use crate::json::read::clip;

/// Reads a request, and how its outputs shall come back.
///
/// # Errors
/// `InvalidInput` naming the input or parameter; `TooLarge` beyond `limits`; `Unsupported` for
/// extensions that are not offered.
pub fn decode_infer(message: ModelInferRequest, limits: &Limits) -> Result<(InferRequest, ReplyOptions)> {
    let model = model_ref(&message.model_name, &message.model_version)?;
    if message.inputs.len() > limits.max_inputs {
        return Err(oip::too_many("inputs", limits.max_inputs));
    }
    if message.outputs.len() > limits.max_outputs {
        return Err(oip::too_many("outputs", limits.max_outputs));
    }
    let parameters = parameters(message.parameters, "the request", limits)?;
    oip::check_reserved(&parameters)?;
    let (outputs, options) = outputs(message.outputs, limits)?;
    let request = InferRequest {
        model,
        id: (!message.id.is_empty()).then_some(message.id),
        inputs: inputs(message.inputs, message.raw_input_contents, limits)?,
        outputs,
        parameters,
    };
    Ok((request, options))
}

fn inputs(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>, limits: &Limits) -> Result<Vec<Tensor>> {
    if raw.is_empty() {
        return inputs.into_iter().map(|input| Draft::read(input, limits)?.typed()).collect();
    }
    if raw.len() != inputs.len() {
        return Err(Error::invalid_input(format!(
            "'raw_input_contents' has {} items for {} inputs; give one for each, in the same order",
            raw.len(),
            inputs.len()
        )));
    }
    inputs.into_iter().zip(raw).map(|(input, data)| Draft::read(input, limits)?.raw(data)).collect()
}

/// One output is served once, however often it is named.
fn outputs(requested: Vec<InferRequestedOutputTensor>, limits: &Limits) -> Result<(Vec<Arc<str>>, ReplyOptions)> {
    let mut outputs: Vec<Arc<str>> = Vec::with_capacity(requested.len());
    let mut options = ReplyOptions::default();
    for output in requested {
        oip::check_name("output", &output.name, limits)?;
        let what = format!("output '{}'", clip(&output.name));
        let asked = oip::output_options(&what, &parameters(output.parameters, &what, limits)?)?;
        if !outputs.iter().any(|known| **known == *output.name) {
            let name = output.name.into();
            options.classes.ask(&name, asked.classes);
            outputs.push(name);
        }
    }
    Ok((outputs, options))
}

/// An input whose name, type and shape were read.
struct Draft {
    what: String,
    name: Arc<str>,
    dtype: DataType,
    shape: Shape,
    contents: Option<InferTensorContents>,
}

impl Draft {
    fn read(input: InferInputTensor, limits: &Limits) -> Result<Self> {
        oip::check_name("input", &input.name, limits)?;
        let what = format!("input '{}'", clip(&input.name));
        let dtype = oip::datatype(&what, &input.datatype)?;
        let shape = shape(&what, &input.shape)?;
        if parameters(input.parameters, &what, limits)?.contains_key("shared_memory_region") {
            return Err(oip::not_offered(&what, "shared memory"));
        }
        Ok(Self { what, name: input.name.into(), dtype, shape, contents: input.contents })
    }

    fn raw(self, data: Bytes) -> Result<Tensor> {
        match self.contents {
            Some(contents) if !is_empty(&contents) => Err(Error::invalid_input(format!(
                "{} has typed 'contents' although the request has 'raw_input_contents'",
                self.what
            ))),
            _ => oip::tensor_from_binary(&self.name, self.dtype, self.shape, data),
        }
    }

    fn typed(self) -> Result<Tensor> {
        let contents = self.contents.unwrap_or_default();
        let (data, filled) = match self.dtype {
            DataType::Bool => (pack(&contents.bool_contents, |value| Some(*value)), 1),
            DataType::Int8 => (pack(&contents.int_contents, |value| i8::try_from(*value).ok()), 2),
            DataType::Int16 => (pack(&contents.int_contents, |value| i16::try_from(*value).ok()), 2),
            DataType::Int32 => (pack(&contents.int_contents, |value| Some(*value)), 2),
            DataType::Int64 => (pack(&contents.int64_contents, |value| Some(*value)), 3),
            DataType::Uint8 => (pack(&contents.uint_contents, |value| u8::try_from(*value).ok()), 4),
            DataType::Uint16 => (pack(&contents.uint_contents, |value| u16::try_from(*value).ok()), 4),
            DataType::Uint32 => (pack(&contents.uint_contents, |value| Some(*value)), 4),
            DataType::Uint64 => (pack(&contents.uint64_contents, |value| Some(*value)), 5),
            DataType::Fp32 => (pack(&contents.fp32_contents, |value| Some(*value)), 6),
            DataType::Fp64 => (pack(&contents.fp64_contents, |value| Some(*value)), 7),
            DataType::Bytes => (texts(&contents.bytes_contents), 8),
            DataType::Fp16 | DataType::Bf16 => {
                return Err(Error::invalid_input(format!(
                    "{}: {} has no typed field; use 'raw_input_contents'",
                    self.what, self.dtype
                )));
            }
        };
        if let Some(other) = fields(&contents).find(|field| field.number != filled && field.len > 0) {
            return Err(Error::invalid_input(format!(
                "{} has datatype {}, but its data stand in '{}'",
                self.what, self.dtype, other.name
            )));
        }
        let packed = data.map_err(|error| error.context(&self.what))?;
        if self.shape.element_count() != Some(packed.len()) {
            return Err(Error::invalid_input(format!(
                "{}: shape {} does not hold the {} elements of 'contents'",
                self.what,
                self.shape,
                packed.len()
            )));
        }
        packed.finish(self.name, self.shape)
    }
}

fn pack<V, T: Element>(values: &[V], narrow: impl Fn(&V) -> Option<T>) -> Result<Packed> {
    let mut data = Vec::with_capacity(values.len() * size_of::<T>());
    for (idx, value) in values.iter().enumerate() {
        let fits =
            narrow(value).ok_or_else(|| Error::invalid_input(format!("element {idx} does not fit {}", T::DTYPE)))?;
        fits.put(&mut data);
    }
    Ok(Packed::Fixed(T::DTYPE, data))
}

fn texts(values: &[Bytes]) -> Result<Packed> {
    let mut packed = Packed::new(DataType::Bytes, values.len());
    values.iter().try_for_each(|value| packed.push_bytes(value))?;
    Ok(packed)
}

/// One field of typed contents: its number in the message, its name, how much stands in it.
struct Field {
    number: u32,
    name: &'static str,
    len: usize,
}

fn fields(contents: &InferTensorContents) -> impl Iterator<Item = Field> {
    [
        (1, "bool_contents", contents.bool_contents.len()),
        (2, "int_contents", contents.int_contents.len()),
        (3, "int64_contents", contents.int64_contents.len()),
        (4, "uint_contents", contents.uint_contents.len()),
        (5, "uint64_contents", contents.uint64_contents.len()),
        (6, "fp32_contents", contents.fp32_contents.len()),
        (7, "fp64_contents", contents.fp64_contents.len()),
        (8, "bytes_contents", contents.bytes_contents.len()),
    ]
    .into_iter()
    .map(|(number, name, len)| Field { number, name, len })
}

fn is_empty(contents: &InferTensorContents) -> bool {
    fields(contents).all(|field| field.len == 0)
}

/// Reads a shape of whole numbers from 0.
pub(super) fn shape(what: &str, dims: &[i64]) -> Result<Shape> {
    let dims: Option<Shape> = dims.iter().take(Shape::MAX_RANK + 1).map(|dim| usize::try_from(*dim).ok()).collect();
    match dims {
        Some(shape) if shape.len() <= Shape::MAX_RANK => Ok(shape),
        Some(_) => Err(Error::invalid_input(format!("{what}: shape has more than {} dimensions", Shape::MAX_RANK))),
        None => Err(Error::invalid_input(format!("{what}: shape must consist of whole numbers from 0"))),
    }
}
