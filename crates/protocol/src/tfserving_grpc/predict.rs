//! `Predict`: named tensors in, named tensors out.

use bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};
use salver_core::{InferRequest, InferResponse, Parameters, Result, Tensor};

use super::convert;
use super::serving::{ModelSpec, PredictResponse};
use super::{TensorProto, answered_by, model_ref};
use crate::{Limits, oip};

const MODEL_SPEC: u32 = 1;
const INPUTS: u32 = 2;
const OUTPUT_FILTER: u32 = 3;

/// How many inputs and outputs of a message are kept at most: a thousand times two bytes would
/// otherwise become a thousand structures before anybody could count them. Far above what
/// [`Limits`] allows.
const MOST_KEPT: usize = 4096;

/// `tensorflow.serving.PredictRequest`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictRequest {
    /// Which model is asked.
    pub model_spec: Option<ModelSpec>,
    /// The inputs, in the order in which they came.
    pub inputs: Vec<(String, TensorProto)>,
    /// The outputs wanted; empty for all.
    pub output_filter: Vec<String>,
}

impl PredictRequest {
    /// Returns the bytes that its data take, roughly.
    pub fn data_len(&self) -> usize {
        self.inputs.iter().map(|(_, tensor)| tensor.data_len()).sum()
    }
}

/// One entry of the map `inputs`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    key: String,
    value: TensorProto,
}

impl Message for Entry {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::string::encode(1, &self.key, buf);
        encoding::message::encode(2, &self.value, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => encoding::string::merge(wire_type, &mut self.key, buf, ctx),
            2 => encoding::message::merge(wire_type, &mut self.value, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        encoding::string::encoded_len(1, &self.key) + encoding::message::encoded_len(2, &self.value)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for PredictRequest {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if let Some(model) = &self.model_spec {
            encoding::message::encode(MODEL_SPEC, model, buf);
        }
        for (key, value) in &self.inputs {
            encoding::message::encode(INPUTS, &Entry { key: key.clone(), value: value.clone() }, buf);
        }
        encoding::string::encode_repeated(OUTPUT_FILTER, &self.output_filter, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            MODEL_SPEC => encoding::message::merge(wire_type, self.model_spec.get_or_insert_default(), buf, ctx),
            INPUTS if self.inputs.len() < MOST_KEPT => {
                let mut entry = Entry::default();
                encoding::message::merge(wire_type, &mut entry, buf, ctx)?;
                self.inputs.push((entry.key, entry.value));
                Ok(())
            }
            OUTPUT_FILTER if self.output_filter.len() < MOST_KEPT => {
                encoding::string::merge_repeated(wire_type, &mut self.output_filter, buf, ctx)
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let model = self.model_spec.as_ref().map_or(0, |model| encoding::message::encoded_len(MODEL_SPEC, model));
        let entry = |(key, value): &(String, TensorProto)| {
            let len = encoding::string::encoded_len(1, key) + encoding::message::encoded_len(2, value);
            encoding::key_len(INPUTS) + encoding::encoded_len_varint(len as u64) + len
        };
        let inputs: usize = self.inputs.iter().map(entry).sum();
        model + inputs + encoding::string::encoded_len_repeated(OUTPUT_FILTER, &self.output_filter)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Reads a request. The signature it names is the caller's to check.
///
/// # Errors
/// `InvalidInput` naming the input, what was expected and what came; `NotFound` for a version below
/// zero; `TooLarge` beyond `limits`.
pub fn decode_predict(message: PredictRequest, limits: &Limits) -> Result<InferRequest> {
    let model = model_ref(message.model_spec.as_ref())?;
    if message.inputs.len() > limits.max_inputs {
        return Err(oip::too_many("inputs", limits.max_inputs));
    }
    if message.output_filter.len() > limits.max_outputs {
        return Err(oip::too_many("outputs", limits.max_outputs));
    }
    let mut filled = 0;
    let input = |(name, proto): (String, TensorProto)| {
        oip::check_name("input", &name, limits)?;
        convert::tensor(&name, proto, &mut filled)
    };
    let inputs = message.inputs.into_iter().map(input).collect::<Result<Vec<Tensor>>>()?;
    let mut outputs: Vec<std::sync::Arc<str>> = Vec::with_capacity(message.output_filter.len());
    for name in message.output_filter {
        oip::check_name("output", &name, limits)?;
        if outputs.iter().any(|known| **known == *name) {
            let shown = crate::json::read::clip(&name);
            return Err(salver_core::Error::invalid_input(format!("duplicate output tensor alias: {shown}")));
        }
        outputs.push(name.into());
    }
    Ok(InferRequest { model, id: None, inputs, outputs, parameters: Parameters::new() })
}

/// Writes a response.
pub fn encode_predict(response: &InferResponse) -> PredictResponse {
    let output = |tensor: &Tensor| (tensor.name().to_string(), convert::proto(tensor));
    PredictResponse {
        outputs: response.outputs.iter().map(output).collect(),
        model_spec: Some(answered_by(&response.model)),
    }
}

/// Writes a request as clients do, with `tensor_content`; of the model's latest version.
pub fn encode_request(request: &InferRequest) -> PredictRequest {
    let input = |tensor: &Tensor| (tensor.name().to_string(), convert::packed_proto(tensor));
    PredictRequest {
        model_spec: Some(ModelSpec { name: request.model.name.to_string(), ..ModelSpec::default() }),
        inputs: request.inputs.iter().map(input).collect(),
        output_filter: request.outputs.iter().map(ToString::to_string).collect(),
    }
}
