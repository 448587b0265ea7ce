//! Runs a model's warm-up requests before it is called ready.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use half::{bf16, f16};
use salver_core::{
    DataType, Dim, Element, Elements, Error, Inputs, Instance, Result, Shape, Tensor, TensorSpec, WarmupData,
    WarmupInput, WarmupRequest,
};

use crate::interface::Interface;

/// Makes the inputs of a request, as the graph takes them.
///
/// # Errors
/// `InvalidInput` for a request that does not fit the model.
fn inputs(model: &str, interface: &Interface, request: &WarmupRequest) -> Result<Vec<Tensor>> {
    let batch = interface.wire.is_batched().then_some(request.batch_size.max(1));
    let inputs = request.inputs.iter().map(|input| tensor(input, batch)).collect::<Result<_>>();
    inputs
        .and_then(|inputs| interface.accept_sample(model, inputs))
        .map_err(|error| error.context(format_args!("model_warmup '{}'", request.name)))
}

/// Checks every request without running any.
///
/// # Errors
/// As [`inputs`].
pub(crate) fn check(model: &str, interface: &Interface, requests: &[WarmupRequest]) -> Result<()> {
    requests.iter().try_for_each(|request| inputs(model, interface, request).map(drop))
}

/// Runs every request as often as it asks for.
///
/// # Errors
/// `InvalidInput` for a request that does not fit the model, else what the engine said.
pub(crate) fn run(
    model: &str,
    interface: &Interface,
    requests: &[WarmupRequest],
    instance: &mut dyn Instance,
) -> Result<()> {
    for request in requests {
        let inputs = inputs(model, interface, request)?;
        for _ in 0..request.count.max(1) {
            let ran = instance.run(Inputs::Direct(&inputs));
            ran.map_err(|error| error.context(format_args!("model_warmup '{}'", request.name)))?;
        }
    }
    Ok(())
}

/// The most elements of an input, and the most bytes of a file with one.
const LARGEST: usize = 1 << 28;
/// The most elements of a made-up input.
const LARGEST_GENERATED: usize = 1 << 24;

/// Makes a request of zeros with one row, for a model whose signature leaves nothing open but the
/// batch size and whose inputs all have to be there.
pub(crate) fn generate(interface: &Interface) -> Option<WarmupRequest> {
    let batched = interface.wire.is_batched();
    let input = |spec: &TensorSpec| {
        let row = spec.shape.get(usize::from(batched)..).unwrap_or_default();
        let dims = row.iter().map(|dim| match dim {
            Dim::Fixed(len) => Some(*len),
            Dim::Free => None,
        });
        let dims = dims.collect::<Option<Vec<usize>>>()?;
        dims.iter()
            .try_fold(1usize, |count, dim| count.checked_mul(*dim))
            .filter(|count| *count <= LARGEST_GENERATED)?;
        Some(WarmupInput { name: spec.name.to_string(), dtype: spec.dtype, dims, data: WarmupData::Zeros })
    };
    let inputs = interface.wire.inputs.iter().map(input).collect::<Option<Vec<_>>>()?;
    Some(WarmupRequest { name: "generated".to_owned(), batch_size: usize::from(batched), count: 1, inputs })
}

fn tensor(input: &WarmupInput, batch: Option<usize>) -> Result<Tensor> {
    let shape: Shape = batch.into_iter().chain(input.dims.iter().copied()).collect();
    match &input.data {
        WarmupData::Zeros => filled(&input.name, input.dtype, shape, |_| 0),
        WarmupData::Random => filled(&input.name, input.dtype, shape, scatter),
        WarmupData::File { name, path } => {
            let row = read(path).map_err(|error| Error::invalid_input(format!("input_data_file '{name}': {error}")))?;
            let batch = batch.unwrap_or(1);
            if row.len().checked_mul(batch).is_none_or(|len| len > LARGEST) {
                return Err(Error::invalid_input(format!(
                    "input_data_file '{name}': {batch} times its data is too much"
                )));
            }
            let rows = row.repeat(batch);
            let tensor = match input.dtype {
                DataType::Bytes => elements(&rows).and_then(|found| Tensor::from_elements(&*input.name, shape, found)),
                dtype => Tensor::new(&*input.name, dtype, shape, rows.into()),
            };
            tensor.map_err(|error| error.context(format!("input_data_file '{name}'")))
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut row = Vec::new();
    File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut row)?;
    if row.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {LARGEST} bytes")));
    }
    Ok(row)
}

/// Reads elements that each stand behind their length, four bytes in little-endian order.
pub(crate) fn elements(mut data: &[u8]) -> Result<Elements> {
    let mut elements = Vec::new();
    while !data.is_empty() {
        let parts = data
            .split_first_chunk()
            .and_then(|(len, rest)| rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?));
        let Some((element, rest)) = parts else {
            return Err(Error::invalid_input("it ends within an element"));
        };
        elements.push(element);
        data = rest;
    }
    Ok(elements.into_iter().collect())
}

fn filled(name: &str, dtype: DataType, shape: Shape, value: impl Fn(u64) -> u8) -> Result<Tensor> {
    // Warm-up data is the one place that allocates by a claimed size: bound it.
    let count = shape.element_count().filter(|count| *count <= LARGEST);
    let count = count.ok_or_else(|| Error::invalid_input(format!("input '{name}' has {shape}, too many elements")))?;
    if dtype == DataType::Bytes {
        let elements: Elements = std::iter::repeat_n(b"", count).collect();
        return Tensor::from_elements(name, shape, elements);
    }
    let mut data = Vec::new();
    for idx in 0..count as u64 {
        put(dtype, value(idx), &mut data);
    }
    Tensor::new(name, dtype, shape, data.into())
}

/// Makes a tensor of ones; BYTES are empty.
///
/// # Errors
/// `InvalidInput` for a shape with too many elements.
pub(crate) fn ones(name: &str, dtype: DataType, shape: Shape) -> Result<Tensor> {
    filled(name, dtype, shape, |_| 1)
}

/// Spreads indexes over 0..128 the same way every time (the finaliser of splitmix64).
fn scatter(idx: u64) -> u8 {
    let mixed = (idx ^ (idx >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 57) as u8
}

fn put(dtype: DataType, value: u8, out: &mut Vec<u8>) {
    let fraction = f32::from(value) / 128.0;
    match dtype {
        DataType::Bool => (value % 2 == 1).put(out),
        DataType::Int8 | DataType::Uint8 => value.put(out),
        DataType::Int16 | DataType::Uint16 => u16::from(value).put(out),
        DataType::Int32 | DataType::Uint32 => u32::from(value).put(out),
        DataType::Int64 | DataType::Uint64 => u64::from(value).put(out),
        DataType::Fp16 => f16::from_f32(fraction).put(out),
        DataType::Bf16 => bf16::from_f32(fraction).put(out),
        DataType::Fp32 => fraction.put(out),
        DataType::Fp64 => f64::from(fraction).put(out),
        DataType::Bytes => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_the_declared_type_and_shape() {
        for dtype in DataType::ALL {
            let input = WarmupInput { name: "x".to_owned(), dtype, dims: vec![3], data: WarmupData::Random };
            let tensor = tensor(&input, Some(2)).unwrap();
            assert_eq!((tensor.dtype(), &**tensor.shape()), (dtype, [2, 3].as_slice()));
        }
    }

    #[test]
    fn a_file_holds_one_row_in_binary() {
        let folder = tempfile::tempdir().unwrap();
        let read = |dtype, data: &[u8]| {
            let path = folder.path().join("x.bin");
            std::fs::write(&path, data).unwrap();
            let data = WarmupData::File { name: "x.bin".to_owned(), path };
            tensor(&WarmupInput { name: "x".to_owned(), dtype, dims: vec![2], data }, Some(2))
        };
        let numbers = read(DataType::Int16, &[1, 0, 2, 1]).unwrap();
        assert_eq!(
            (&**numbers.shape(), &**numbers.bytes().unwrap()),
            ([2, 2].as_slice(), [1, 0, 2, 1, 1, 0, 2, 1].as_slice())
        );
        let words = read(DataType::Bytes, b"\x02\0\0\0ab\0\0\0\0").unwrap();
        assert_eq!(words.payload_len(), 4);
        for (dtype, data) in
            [(DataType::Int16, &[1, 0, 2][..]), (DataType::Bytes, b"\x05\0\0\0ab"), (DataType::Bytes, b"\x01\0")]
        {
            let error = read(dtype, data).unwrap_err();
            assert!(error.message().contains("input_data_file 'x.bin'"), "{error}");
        }
    }

    #[test]
    fn absurd_sizes_are_refused_before_they_are_allocated() {
        let input =
            WarmupInput { name: "x".to_owned(), dtype: DataType::Fp32, dims: vec![1 << 40], data: WarmupData::Zeros };
        assert!(tensor(&input, None).is_err());
    }
}
