//! What the REST and gRPC forms of the Open Inference Protocol have in common.
//!
//! Binary tensors, reserved parameters, version texts, and the one place where this protocol's
//! statuses differ from the table in `salver_core::ErrorKind`.

mod classification;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use bytes::Bytes;
use salver_core::{
    DataType, Elements, Error, ErrorKind, ModelConfig, ModelState, Parameter, Parameters, Result, ScheduledStep,
    Selector, Shape, Tensor,
};

pub(crate) use self::classification::Classes;
use crate::Limits;
use crate::json::read::clip;
use crate::shared_memory::Window;

/// Returns the HTTP status of this protocol: a full queue is 503 to Triton's clients, and a
/// conflict (a region that exists) is 400.
pub(crate) fn http_status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Overloaded => 503,
        ErrorKind::Conflict => 400,
        other => other.http_status(),
    }
}

/// Returns the gRPC code of this protocol, with the deviations of [`http_status`].
pub(crate) fn grpc_code(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::Overloaded => 14,
        ErrorKind::Conflict => 6,
        other => other.grpc_code(),
    }
}

/// Returns the state's name in the repository index.
pub(crate) fn index_state(state: Option<ModelState>) -> &'static str {
    match state {
        None => "",
        Some(ModelState::Pending | ModelState::Loading | ModelState::Warming) => "LOADING",
        Some(ModelState::Ready) => "READY",
        Some(ModelState::Draining) => "UNLOADING",
        Some(ModelState::Gone | ModelState::Failed) => "UNAVAILABLE",
    }
}

/// Returns the version that a step of an ensemble calls, as configurations have it: -1 for the latest.
pub(crate) fn scheduled_version(step: &ScheduledStep) -> i64 {
    match step.model.selector {
        Selector::Version(version) => i64::try_from(version).unwrap_or(i64::MAX),
        Selector::Latest | Selector::Label(_) => -1,
    }
}

/// Returns the element type's name in a model configuration: `TYPE_FP32`, `TYPE_STRING`, …
pub(crate) fn config_type(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "TYPE_BOOL",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int16 => "TYPE_INT16",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Uint16 => "TYPE_UINT16",
        DataType::Uint32 => "TYPE_UINT32",
        DataType::Uint64 => "TYPE_UINT64",
        DataType::Fp16 => "TYPE_FP16",
        DataType::Bf16 => "TYPE_BF16",
        DataType::Fp32 => "TYPE_FP32",
        DataType::Fp64 => "TYPE_FP64",
        DataType::Bytes => "TYPE_STRING",
    }
}

/// Returns the names of the execution accelerators: those of instances on GPUs, or of all others.
/// They belong to the model in Triton's terms, and to its instances in ours.
pub(crate) fn accelerators(config: &ModelConfig, on_gpu: bool) -> BTreeSet<&str> {
    let groups = config.instance_groups.iter().filter(|group| (group.kind == "KIND_GPU") == on_gpu);
    groups.filter_map(|group| group.accelerator.as_deref()).collect()
}

/// Returns the parameters of a model, and as parameters what a configuration file of Triton's would
/// have to say so, where it is not the default.
pub(crate) fn parameters(config: &ModelConfig) -> BTreeMap<&str, Cow<'_, str>> {
    let written = config.parameters.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_str())));
    let mut parameters: BTreeMap<_, _> = written.collect();
    let first = config.instance_groups.first();
    let threads = [
        ("intra_op_thread_count", first.map_or(1, |group| group.threads)),
        ("inter_op_thread_count", first.map_or(1, |group| group.inter_threads)),
    ];
    for (name, count) in threads.into_iter().filter(|(_, count)| *count != 1) {
        parameters.entry(name).or_insert_with(|| count.to_string().into());
    }
    if config.run_timeout != Some(ModelConfig::DEFAULT_RUN_TIMEOUT) {
        let milliseconds = config.run_timeout.map_or(0, |limit| limit.as_millis());
        parameters.entry("run_timeout_ms").or_insert_with(|| milliseconds.to_string().into());
    }
    parameters
}

/// Reads a version as it stands in a message or path. Empty, and -1 as Triton reads it, mean the
/// highest version.
pub(crate) fn selector(version: &str) -> Result<Selector> {
    if version.is_empty() || version == "-1" {
        return Ok(Selector::Latest);
    }
    let digits = version.bytes().all(|byte| byte.is_ascii_digit());
    match version.parse::<i64>() {
        Ok(number) if digits => Ok(Selector::Version(number.unsigned_abs())),
        _ => Err(Error::invalid_input(format!(
            "model version '{}' is not a whole number of at most 63 bits",
            clip(version)
        ))),
    }
}

/// Reads a data type as it stands on the wire; `what` is the tensor in messages.
pub(crate) fn datatype(what: impl Display, text: &str) -> Result<DataType> {
    DataType::from_wire(text).ok_or_else(|| {
        Error::invalid_input(format!(
            "invalid datatype for {what}: '{}' is not one of BOOL, INT8, …, BYTES",
            clip(text)
        ))
    })
}

/// Bounds the name of a tensor or parameter.
pub(crate) fn check_name(what: &str, name: &str, limits: &Limits) -> Result<()> {
    if name.len() > limits.max_name_bytes {
        return Err(Error::invalid_input(format!(
            "{what} '{}…' is longer than {} bytes",
            clip(&name.chars().take(32).collect::<String>()),
            limits.max_name_bytes
        )));
    }
    Ok(())
}

/// Makes the error for a list that has more entries than allowed.
pub(crate) fn too_many(what: &str, limit: usize) -> Error {
    Error::too_large(format!("the request has more than {limit} {what}"))
}

/// Makes the error for a parameter that asks for a feature this server does not offer.
pub(crate) fn not_offered(what: &str, feature: &str) -> Error {
    Error::unsupported(format!("{what} asks for {feature}, which this server does not offer"))
}

/// Makes the error for a reserved parameter of the wrong type.
pub(crate) fn wrong_parameter(what: &str, name: &str, expected: &str) -> Error {
    Error::invalid_input(format!("parameter '{}' of {what} must be {expected}", clip(name)))
}

/// Checks the types of the request parameters that the protocol reserves.
pub(crate) fn check_reserved(parameters: &Parameters) -> Result<()> {
    for (name, value) in parameters {
        let expected = match name.as_str() {
            "priority" | "timeout" if !is_unsigned(value) => "a whole number from 0",
            "sequence_start" | "sequence_end" | "binary_data_output" | "triton_enable_empty_final_response"
                if !matches!(value, Parameter::Bool(_)) =>
            {
                "a boolean"
            }
            "sequence_id" if !matches!(value, Parameter::Text(_)) && !is_unsigned(value) => {
                "a string or a whole number from 0"
            }
            "headers" if !matches!(value, Parameter::Text(_)) => "a string",
            "triton_enable_empty_final_response" => continue,
            reserved if reserved.starts_with("triton_") => {
                return Err(Error::invalid_input(format!(
                    "parameter '{}' of the request: names that start with 'triton_' are reserved",
                    clip(name)
                )));
            }
            _ => continue,
        };
        return Err(wrong_parameter("the request", name, expected));
    }
    Ok(())
}

fn is_unsigned(value: &Parameter) -> bool {
    matches!(value, Parameter::Int(0..) | Parameter::Uint(_))
}

/// Reads the size of an input's blob, if it has one.
pub(crate) fn blob_size(what: impl Display, parameters: &Parameters) -> Result<Option<usize>> {
    let wrong = |expected: &str| Err(wrong_parameter(&what.to_string(), "binary_data_size", expected));
    match parameters.get("binary_data_size") {
        None => Ok(None),
        Some(Parameter::Int(size)) if *size >= 0 => match usize::try_from(*size) {
            Ok(size) => Ok(Some(size)),
            Err(_) => wrong("a size that fits in memory"),
        },
        Some(_) => wrong("a whole number from 0"),
    }
}

/// How one output shall come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OutputOptions {
    /// Whether as binary data, where that is said.
    pub(crate) binary: Option<bool>,
    /// How many of its best classes instead of its values; 0: its values.
    pub(crate) classes: usize,
    /// Where in shared memory, instead of in the reply.
    pub(crate) window: Option<Window>,
}

/// Reads the parameters of a requested output.
pub(crate) fn output_options(what: &str, parameters: &Parameters, limits: &Limits) -> Result<OutputOptions> {
    let classes = match parameters.get("classification") {
        None => 0,
        Some(Parameter::Int(count @ 0..)) => usize::try_from(*count).unwrap_or(usize::MAX),
        Some(Parameter::Uint(_)) => usize::MAX,
        Some(_) => return Err(wrong_parameter(what, "classification", "a whole number from 0")),
    };
    let binary = match parameters.get("binary_data") {
        None => None,
        Some(Parameter::Bool(binary)) => Some(*binary),
        Some(_) => return Err(wrong_parameter(what, "binary_data", "a boolean")),
    };
    Ok(OutputOptions { binary, classes, window: Window::read(what, parameters, limits)? })
}

/// Makes a tensor from packed little-endian data, without a copy where that is possible.
pub(crate) fn tensor_from_binary(name: &str, dtype: DataType, shape: Shape, data: Bytes) -> Result<Tensor> {
    match dtype {
        DataType::Bytes => {
            let elements = split_elements(name, &shape, data)?;
            Tensor::from_elements(name, shape, elements)
        }
        // Engines want 0 or 1; the wire allows any byte for true.
        DataType::Bool if data.iter().any(|&byte| byte > 1) => {
            let normal: Vec<u8> = data.iter().map(|&byte| u8::from(byte != 0)).collect();
            Tensor::new(name, dtype, shape, normal.into())
        }
        _ => Tensor::new(name, dtype, shape, data),
    }
}

/// Finds the elements of a BYTES tensor, each prefixed with its length in 32 bits.
fn split_elements(name: &str, shape: &Shape, data: Bytes) -> Result<Elements> {
    if u32::try_from(data.len()).is_err() {
        return Err(Error::too_large(format!("tensor '{name}': a BYTES tensor takes at most 4 GiB")));
    }
    let expected = shape.element_count().filter(|count| count.checked_mul(4).is_some_and(|least| least <= data.len()));
    let Some(expected) = expected else {
        return Err(Error::invalid_input(format!(
            "tensor '{name}': {} bytes cannot hold the BYTES elements of shape {shape}",
            data.len()
        )));
    };
    let mut spans = Vec::with_capacity(expected);
    let mut at = 0;
    while at < data.len() {
        let element = next_element(&data, at).ok_or_else(|| {
            Error::invalid_input(format!("tensor '{name}': BYTES element {} ends beyond its data", spans.len()))
        })?;
        at = element.1 as usize;
        if spans.len() == expected {
            return Err(Error::invalid_input(format!(
                "tensor '{name}': more BYTES elements than the {expected} of shape {shape}"
            )));
        }
        spans.push(element);
    }
    Elements::new(data, spans)
}

/// Returns where the element whose prefix stands at `at` begins and ends, if it is all there.
fn next_element(data: &[u8], at: usize) -> Option<(u32, u32)> {
    let prefix: [u8; 4] = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
    let start = u32::try_from(at + 4).ok()?;
    let end = start.checked_add(u32::from_le_bytes(prefix)).filter(|&end| end as usize <= data.len())?;
    Some((start, end))
}

/// Returns the bytes that `tensor` takes in binary form.
pub(crate) fn binary_len(tensor: &Tensor) -> usize {
    match tensor.elements() {
        Some(elements) => elements.total_len() + 4 * elements.len(),
        None => tensor.payload_len(),
    }
}

/// Appends `tensor` in binary form.
pub(crate) fn put_binary(tensor: &Tensor, out: &mut Vec<u8>) -> Result<()> {
    if let Some(data) = tensor.bytes() {
        out.extend_from_slice(data);
        return Ok(());
    }
    for element in tensor.elements().into_iter().flat_map(Elements::iter) {
        let len = u32::try_from(element.len()).map_err(|_| {
            Error::too_large(format!("tensor '{}': an element of 4 GiB or more has no binary form", tensor.name()))
        })?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(element);
    }
    Ok(())
}

/// Returns `tensor` in binary form, sharing its bytes where that is possible.
pub(crate) fn binary_blob(tensor: &Tensor) -> Result<Bytes> {
    if let Some(data) = tensor.bytes() {
        return Ok(data.clone());
    }
    let mut out = Vec::with_capacity(binary_len(tensor));
    put_binary(tensor, &mut out)?;
    Ok(out.into())
}
