//! Element types: ours, the C API's, and those of the `ort` crate.

use ort::sys::ONNXTensorElementDataType as RawType;
use ort::value::TensorElementType;
use salver_core::DataType;

/// Returns the C API's constant.
pub(crate) fn to_raw(dtype: DataType) -> RawType {
    match dtype {
        DataType::Bool => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        DataType::Int8 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DataType::Int16 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DataType::Int32 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DataType::Int64 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DataType::Uint8 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DataType::Uint16 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DataType::Uint32 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DataType::Uint64 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DataType::Fp16 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DataType::Bf16 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        DataType::Fp32 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DataType::Fp64 => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DataType::Bytes => RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}

/// Reads the C API's constant; none: a type that requests cannot carry (complex, 8 and 4 bit floats, …).
pub(crate) fn from_raw(raw: RawType) -> Option<DataType> {
    DataType::ALL.into_iter().find(|&dtype| to_raw(dtype) == raw)
}

/// Reads the `ort` crate's type.
pub(crate) fn from_ort(element: TensorElementType) -> Option<DataType> {
    from_raw(element.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_and_others_are_refused() {
        for dtype in DataType::ALL {
            assert_eq!(from_raw(to_raw(dtype)), Some(dtype));
        }
        assert_eq!(from_raw(RawType::ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX64), None);
        assert_eq!(from_ort(TensorElementType::Bfloat16), Some(DataType::Bf16));
        assert_eq!(from_ort(TensorElementType::Float8E4M3FN), None);
    }
}
