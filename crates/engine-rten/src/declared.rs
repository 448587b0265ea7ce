//! Inputs and outputs as the ONNX file declares them.
//!
//! rten holds INT64 and BOOL as INT32 and forgets that they were anything else, so the file is
//! asked. Everything but names, types and shapes is skipped, the weights included.

use std::fs::File;
use std::path::Path;

use rten_onnx::onnx::{DataType as OnnxType, Dimension, ValueInfoProto};
use rten_onnx::protobuf::{DecodeMessage, Fields, OwnedValues, ProtobufError, ReadValue, ValueReader};
use salver_core::{DataType, Dim, Error, Result, TensorSpec};

/// The graph's inputs (constants that are listed as inputs too included) and outputs.
#[derive(Default)]
pub(crate) struct Declared {
    pub(crate) inputs: Vec<ValueInfoProto>,
    pub(crate) outputs: Vec<ValueInfoProto>,
}

impl Declared {
    /// Reads the file.
    ///
    /// # Errors
    /// `InvalidInput` if it is not an ONNX model.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::invalid_input(error.to_string()))?;
        let model = Model::decode(ValueReader::from_file(file));
        Ok(model.map_err(|error| Error::invalid_input(format!("not an ONNX model: {error}")))?.graph)
    }
}

#[derive(Default)]
struct Model {
    graph: Declared,
}

impl DecodeMessage for Model {
    type Types = OwnedValues;

    fn decode_fields<R: ReadValue<Types = Self::Types>>(mut fields: Fields<R>) -> Result<Self, ProtobufError> {
        const GRAPH: u64 = 7;
        let mut model = Self::default();
        while let Some(mut field) = fields.next()? {
            match field.number() {
                GRAPH => model.graph = Declared::decode_field(&mut field)?,
                _ => field.skip()?,
            }
        }
        Ok(model)
    }
}

impl DecodeMessage for Declared {
    type Types = OwnedValues;

    fn decode_fields<R: ReadValue<Types = Self::Types>>(mut fields: Fields<R>) -> Result<Self, ProtobufError> {
        const INPUT: u64 = 11;
        const OUTPUT: u64 = 12;
        let mut graph = Self::default();
        while let Some(mut field) = fields.next()? {
            match field.number() {
                INPUT => graph.inputs.push(ValueInfoProto::decode_field(&mut field)?),
                OUTPUT => graph.outputs.push(ValueInfoProto::decode_field(&mut field)?),
                _ => field.skip()?,
            }
        }
        Ok(graph)
    }
}

/// Reads one input or output.
///
/// # Errors
/// `Unsupported` if it is no tensor, or of a type that rten has no number format for.
pub(crate) fn tensor_spec(value: &ValueInfoProto) -> Result<TensorSpec> {
    let name = value.name.as_deref().unwrap_or_default();
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| Error::unsupported(format!("'{name}' is no tensor")))?;
    let element = tensor.elem_type.unwrap_or(OnnxType(0));
    let dtype = data_type(element).ok_or_else(|| {
        let element = element.name().map_or_else(|| format!("type {}", element.0), str::to_owned);
        Error::unsupported(format!("'{name}' is a tensor of {element}, which the engine 'rten' does not know"))
    })?;
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.as_slice()).unwrap_or_default();
    Ok(TensorSpec { name: name.into(), dtype, shape: dims.iter().map(dim).collect(), optional: false })
}

fn dim(dim: &Dimension) -> Dim {
    dim.dim_value.and_then(|extent| usize::try_from(extent).ok()).map_or(Dim::Free, Dim::Fixed)
}

fn data_type(element: OnnxType) -> Option<DataType> {
    match element {
        OnnxType::FLOAT => Some(DataType::Fp32),
        OnnxType::DOUBLE => Some(DataType::Fp64),
        OnnxType::FLOAT16 => Some(DataType::Fp16),
        OnnxType::INT32 => Some(DataType::Int32),
        OnnxType::INT64 => Some(DataType::Int64),
        OnnxType::INT8 => Some(DataType::Int8),
        OnnxType::UINT8 => Some(DataType::Uint8),
        OnnxType::BOOL => Some(DataType::Bool),
        _ => None,
    }
}
