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
use crate::shared_memory::{Shared, SharedInput, Window};

/// Reads a request, and how its outputs shall come back. Inputs in shared memory are not among those of
/// the request: [`ReplyOptions::shared`] has them.
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
    let (outputs, mut options) = outputs(message.outputs, limits)?;
    let request = InferRequest {
        model,
        id: (!message.id.is_empty()).then_some(message.id),
        inputs: inputs(message.inputs, message.raw_input_contents, &mut options.shared, limits)?,
        outputs,
        parameters,
    };
    Ok((request, options))
}

fn inputs(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>, shared: &mut Shared, limits: &Limits) -> Result<Vec<Tensor>> {
    let mut drafts = Vec::with_capacity(inputs.len());
    for input in inputs {
        let mut draft = Draft::read(input, limits)?;
        match draft.window.take() {
            Some(window) => shared.add_input(draft.shared(window)?, limits)?,
            None => drafts.push(draft),
        }
    }
    if raw.is_empty() {
        return drafts.into_iter().map(Draft::typed).collect();
    }
    if raw.len() != drafts.len() {
        return Err(Error::invalid_input(format!(
            "'raw_input_contents' has {} items for {} inputs that are not in shared memory; give one for each, in the \
             same order",
            raw.len(),
            drafts.len()
        )));
    }
    drafts.into_iter().zip(raw).map(|(draft, data)| draft.raw(data)).collect()
}

/// One output is served once, however often it is named.
fn outputs(requested: Vec<InferRequestedOutputTensor>, limits: &Limits) -> Result<(Vec<Arc<str>>, ReplyOptions)> {
    let mut outputs: Vec<Arc<str>> = Vec::with_capacity(requested.len());
    let mut options = ReplyOptions::default();
    for output in requested {
        oip::check_name("output", &output.name, limits)?;
        let what = format!("output '{}'", clip(&output.name));
        let parameters = parameters(output.parameters, &what, limits)?;
        let asked = oip::output_options(&what, &parameters, limits)?;
        if outputs.iter().any(|known| **known == *output.name) {
            continue;
        }
        let name: Arc<str> = output.name.into();
        options.classes.ask(&name, asked.classes);
        if let Some(window) = asked.window {
            options.shared.add_output(name.clone(), window);
        }
        outputs.push(name);
    }
    Ok((outputs, options))
}

/// An input whose name, type and shape were read.
struct Draft {
    what: String,
    name: Arc<str>,
    dtype: DataType,
    shape: Shape,
    window: Option<Window>,
    contents: Option<InferTensorContents>,
}

impl Draft {
    fn read(input: InferInputTensor, limits: &Limits) -> Result<Self> {
        oip::check_name("input", &input.name, limits)?;
        let what = format!("input '{}'", clip(&input.name));
        let dtype = oip::datatype(&what, &input.datatype)?;
        let shape = shape(&what, &input.shape)?;
        let window = Window::read(&what, &parameters(input.parameters, &what, limits)?, limits)?;
        Ok(Self { what, name: input.name.into(), dtype, shape, window, contents: input.contents })
    }

    fn shared(self, window: Window) -> Result<SharedInput> {
        if self.contents.is_some_and(|contents| !is_empty(&contents)) {
            return Err(Error::invalid_input(format!(
                "{} has 'contents' although it is in shared memory; give only one of them",
                self.what
            )));
        }
        SharedInput::new(self.name, self.dtype, self.shape, window)
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
