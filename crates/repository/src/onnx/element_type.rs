//! ONNX's element types: their names, which of them the protocols have, and how much room they take.
//!
//! Numbers as in `onnx.proto`, IR version 13.

use salver_core::DataType;

/// Returns ONNX's name of an element type, and the protocols' where they have it.
pub(super) fn element_type(number: i32) -> (&'static str, Option<DataType>) {
    match number {
        1 => ("FLOAT", Some(DataType::Fp32)),
        2 => ("UINT8", Some(DataType::Uint8)),
        3 => ("INT8", Some(DataType::Int8)),
        4 => ("UINT16", Some(DataType::Uint16)),
        5 => ("INT16", Some(DataType::Int16)),
        6 => ("INT32", Some(DataType::Int32)),
        7 => ("INT64", Some(DataType::Int64)),
        8 => ("STRING", Some(DataType::Bytes)),
        9 => ("BOOL", Some(DataType::Bool)),
        10 => ("FLOAT16", Some(DataType::Fp16)),
        11 => ("DOUBLE", Some(DataType::Fp64)),
        12 => ("UINT32", Some(DataType::Uint32)),
        13 => ("UINT64", Some(DataType::Uint64)),
        14 => ("COMPLEX64", None),
        15 => ("COMPLEX128", None),
        16 => ("BFLOAT16", Some(DataType::Bf16)),
        17 => ("FLOAT8E4M3FN", None),
        18 => ("FLOAT8E4M3FNUZ", None),
        19 => ("FLOAT8E5M2", None),
        20 => ("FLOAT8E5M2FNUZ", None),
        21 => ("UINT4", None),
        22 => ("INT4", None),
        23 => ("FLOAT4E2M1", None),
        24 => ("FLOAT8E8M0", None),
        25 => ("UINT2", None),
        26 => ("INT2", None),
        _ => ("UNDEFINED", None),
    }
}

/// Returns the bytes of `count` elements; texts count nothing.
pub(super) fn byte_count(data_type: i32, count: u64) -> u64 {
    let bits: u64 = match (element_type(data_type).1.and_then(DataType::size), data_type) {
        (Some(size), _) => 8 * size as u64,
        (None, 14) => 64,
        (None, 15) => 128,
        (None, 17..=20 | 24) => 8,
        (None, 21..=23) => 4,
        (None, 25 | 26) => 2,
        (None, _) => 0,
    };
    count.checked_mul(bits).map_or(u64::MAX, |bits| bits.div_ceil(8))
}
