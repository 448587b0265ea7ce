//! Tensors of a request as rten's values, and back.
//!
//! rten computes in FP32, INT32, INT8 and UINT8. INT64 becomes INT32 and is checked; FP64 becomes
//! FP32 and loses precision; FP16 becomes FP32; BOOL becomes 0 or 1 in INT32.

use half::f16;
use rten::Value;
use rten_tensor::Layout;
use salver_core::{DataType, Element, Error, Result, Shape, Tensor, TensorSpec};

/// Copies the bytes of an input into a value.
///
/// # Errors
/// `InvalidInput` for an INT64 beyond 32 bits, `Unsupported` for a type that rten has not.
pub(crate) fn to_value(name: &str, dtype: DataType, shape: &Shape, data: &[u8]) -> Result<Value> {
    match dtype {
        DataType::Fp32 => value(name, shape, elements::<f32>(data)),
        DataType::Fp64 => value(name, shape, elements::<f64>(data).into_iter().map(|x| x as f32).collect()),
        DataType::Fp16 => value(name, shape, elements::<f16>(data).into_iter().map(f16::to_f32).collect()),
        DataType::Int32 => value(name, shape, elements::<i32>(data)),
        DataType::Int64 => value(name, shape, narrow(name, data)?),
        DataType::Bool => value(name, shape, elements::<bool>(data).into_iter().map(i32::from).collect()),
        DataType::Int8 => value(name, shape, elements::<i8>(data)),
        DataType::Uint8 => value(name, shape, data.to_vec()),
        DataType::Int16 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 | DataType::Bf16 | DataType::Bytes => {
            Err(Error::unsupported(format!("input '{name}': the engine 'rten' does not know {dtype}")))
        }
    }
}

fn elements<T: Element>(data: &[u8]) -> Vec<T> {
    data.chunks_exact(size_of::<T>()).map(T::get).collect()
}

fn narrow(name: &str, data: &[u8]) -> Result<Vec<i32>> {
    let narrowed = elements::<i64>(data).into_iter().map(|number| {
        i32::try_from(number).map_err(|_| {
            Error::invalid_input(format!(
                "input '{name}': expected whole numbers of 32 bits (the engine 'rten' has no others), got {number}"
            ))
        })
    });
    narrowed.collect()
}

fn value<T>(name: &str, shape: &Shape, data: Vec<T>) -> Result<Value>
where
    Value: From<rten_tensor::Tensor<T>>,
{
    Value::from_shape(&**shape, data).map_err(|error| Error::invalid_input(format!("input '{name}': {error}")))
}

/// Copies a value into a tensor of the type that the file declares.
///
/// # Errors
/// `Engine` if the value is of no such type.
pub(crate) fn to_tensor(spec: &TensorSpec, value: Value) -> Result<Tensor> {
    match value {
        Value::FloatTensor(tensor) => from_floats(spec, &tensor.shape().into(), &tensor.into_data()),
        Value::Int32Tensor(tensor) => from_integers(spec, &tensor.shape().into(), &tensor.into_data()),
        Value::Int8Tensor(tensor) if spec.dtype == DataType::Int8 => {
            let shape = Shape::new(tensor.shape());
            Tensor::from_slice(spec.name.clone(), shape, &tensor.into_data())
        }
        Value::UInt8Tensor(tensor) if spec.dtype == DataType::Uint8 => {
            let shape = Shape::new(tensor.shape());
            Tensor::new(spec.name.clone(), DataType::Uint8, shape, tensor.into_data().into())
        }
        other => Err(unexpected(spec, &other.dtype().to_string())),
    }
}

fn from_floats(spec: &TensorSpec, shape: &Shape, values: &[f32]) -> Result<Tensor> {
    let (name, shape) = (spec.name.clone(), shape.clone());
    match spec.dtype {
        DataType::Fp32 => Tensor::from_slice(name, shape, values),
        DataType::Fp64 => Tensor::from_slice(name, shape, &map(values, f64::from)),
        DataType::Fp16 => Tensor::from_slice(name, shape, &map(values, f16::from_f32)),
        _ => Err(unexpected(spec, "f32")),
    }
}

fn from_integers(spec: &TensorSpec, shape: &Shape, values: &[i32]) -> Result<Tensor> {
    let (name, shape) = (spec.name.clone(), shape.clone());
    match spec.dtype {
        DataType::Int32 => Tensor::from_slice(name, shape, values),
        DataType::Int64 => Tensor::from_slice(name, shape, &map(values, i64::from)),
        DataType::Bool => Tensor::from_slice(name, shape, &map(values, |value| value != 0)),
        _ => Err(unexpected(spec, "i32")),
    }
}

fn map<T: Copy, U>(values: &[T], convert: impl Fn(T) -> U) -> Vec<U> {
    values.iter().map(|&value| convert(value)).collect()
}

fn unexpected(spec: &TensorSpec, got: &str) -> Error {
    Error::engine(format!("output '{}': expected {}, got {got}", spec.name, spec.dtype))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use salver_core::ErrorKind;

    use super::*;

    fn round_trip<T: Element>(values: &[T]) -> Result<Vec<T>> {
        let tensor = Tensor::from_slice("x", [values.len()], values)?;
        let data = tensor.bytes().unwrap();
        let value = to_value("x", T::DTYPE, tensor.shape(), data)?;
        let back = to_tensor(&TensorSpec::new("x", T::DTYPE, &[-1]), value)?;
        assert_eq!(back.shape(), tensor.shape());
        Ok(back.to_vec::<T>().unwrap())
    }

    proptest! {
        #[test]
        fn values_that_fit_come_back(
            floats: Vec<f32>, integers: Vec<i32>, bytes: Vec<u8>, small: Vec<i8>, flags: Vec<bool>,
        ) {
            let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|value| value.to_bits()).collect() };
            prop_assert_eq!(bits(&round_trip(&floats).unwrap()), bits(&floats));
            prop_assert_eq!(&round_trip(&integers).unwrap(), &integers);
            prop_assert_eq!(&round_trip(&bytes).unwrap(), &bytes);
            prop_assert_eq!(&round_trip(&small).unwrap(), &small);
            prop_assert_eq!(&round_trip(&flags).unwrap(), &flags);
            let wide: Vec<i64> = integers.iter().map(|&integer| integer.into()).collect();
            prop_assert_eq!(round_trip(&wide).unwrap(), wide);
        }

        #[test]
        fn integers_beyond_32_bits_are_refused(number: i64) {
            let result = round_trip(&[0, number]);
            prop_assert_eq!(result.is_ok(), i32::try_from(number).is_ok());
            if let Err(error) = result {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidInput);
                prop_assert!(error.message().contains(&number.to_string()));
            }
        }
    }

    #[test]
    fn half_precision_comes_back() {
        let values: Vec<f16> = [0.0, -1.5, 65504.0, f32::INFINITY].map(f16::from_f32).to_vec();
        assert_eq!(round_trip(&values).unwrap(), values);
    }

    #[test]
    fn a_value_of_another_type_than_declared_is_an_engine_error() {
        let value = Value::from_shape([1usize], vec![1.0f32]).unwrap();
        let error = to_tensor(&TensorSpec::new("y", DataType::Int32, &[1]), value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Engine);
    }
}
