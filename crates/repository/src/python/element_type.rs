//! Names of element types, as people who write Python know them.

use salver_core::DataType;

/// What may be written, for messages.
pub(crate) const NAMES: &str = "a type of the Open Inference Protocol (FP32, INT64, BOOL, …) or of numpy (float32, \
    int64, bool, …), STRING for texts, or BYTES";

/// Reads a name; the second value says whether BYTES are texts in Python.
pub(crate) fn element_type(name: &str) -> Option<(DataType, bool)> {
    let dtype = match name {
        "STRING" | "str" => return Some((DataType::Bytes, true)),
        "bytes" => DataType::Bytes,
        "bool" => DataType::Bool,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::Uint8,
        "uint16" => DataType::Uint16,
        "uint32" => DataType::Uint32,
        "uint64" => DataType::Uint64,
        "float16" => DataType::Fp16,
        "bfloat16" => DataType::Bf16,
        "float32" => DataType::Fp32,
        "float64" => DataType::Fp64,
        other => DataType::from_wire(other)?,
    };
    Some((dtype, false))
}
