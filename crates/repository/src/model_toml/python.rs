//! `[python]`, and the tensors that `[[input]]` and `[[output]]` declare for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use salver_core::{Dim, Predictor, PythonTensor, Shape, TensorSpec};
use serde::Deserialize;
use toml::Spanned;

use super::fault::Fault;
use super::number::Whole;
use super::schema::{File, Input, Output};
use crate::python::{self, ADAPTERS, NamedEnvironment, PythonDraft};

/// The largest extent of a declared shape.
const MAX_EXTENT: i64 = i32::MAX as i64;
/// What a variable may hold; the system takes no more than twice of that.
const MAX_VALUE_BYTES: usize = 65_536;
/// Variables with this beginning are the server's own.
const OWN_PREFIX: &str = "SALVER_";

/// `[python]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Python {
    /// The class in the artifact.
    class: Option<Spanned<String>>,
    /// What reads the artifact instead.
    adapter: Option<Spanned<String>>,
    /// An interpreter or a virtual environment.
    interpreter: Option<Spanned<String>>,
    /// A file of requirements.
    requirements: Option<Spanned<String>>,
    /// The most memory of one worker.
    memory_limit_mb: Option<Whole<1, 16_777_216>>,
    /// How long a worker may take to start.
    start_timeout_s: Option<Whole<1, 3600>>,
    /// Environment variables.
    env: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Settings that the code reads.
    settings: BTreeMap<String, String>,
}

/// Puts `[python]` and the declared tensors together; none: another engine runs the model, or it
/// is not known yet.
pub(super) fn draft(file: &File) -> Result<Option<PythonDraft>, Fault> {
    if !is_python(file) {
        return check_absent(file).map(|()| None);
    }
    check_device(file)?;
    let draft = PythonDraft { inputs: inputs(&file.input)?, outputs: outputs(&file.output)?, ..PythonDraft::default() };
    match &file.python {
        None => Ok(Some(draft)),
        Some(table) => settings(table.get_ref(), draft).map(Some),
    }
}

/// The engine is named, or there is nothing else that could run it.
fn is_python(file: &File) -> bool {
    match &file.engine {
        Some(engine) => engine.get_ref() == python::ENGINE,
        None => file.python.is_some() || file.artifact.as_deref().is_some_and(python::is_python),
    }
}

/// Other devices are providers of ONNX Runtime.
fn check_device(file: &File) -> Result<(), Fault> {
    let Some(device) = file.instances.as_ref().and_then(|instances| instances.device.as_ref()) else {
        return Ok(());
    };
    match device.get_ref().as_str() {
        name if name.starts_with("tensorrt:") || name == "openvino" => {
            Err(Fault::invalid(device, format_args!("must be 'cpu' or 'cuda:N' for engine = \"python\", got '{name}'")))
        }
        _ => Ok(()),
    }
}

/// Of other engines, the graph says what goes in and out.
fn check_absent(file: &File) -> Result<(), Fault> {
    let engine = file.engine.as_ref().map(|engine| engine.get_ref().as_str());
    if let Some(table) = &file.python {
        return Err(misplaced(table, engine, ""));
    }
    // Those say for themselves what an input or output may have.
    if super::remote::is_remote(file) || super::ensemble::is_ensemble(file) {
        return Ok(());
    }
    let why = ": of other models, the artifact itself says so";
    for input in &file.input {
        if let Some(dtype) = &input.dtype {
            return Err(misplaced(dtype, engine, why));
        }
        if let Some(shape) = &input.shape {
            return Err(misplaced(shape, engine, why));
        }
        if let Some(optional) = &input.optional {
            return Err(misplaced(optional, engine, why));
        }
    }
    match file.output.first() {
        Some(output) => Err(misplaced(&output.name, engine, why)),
        None => Ok(()),
    }
}

fn misplaced<T>(place: &Spanned<T>, engine: Option<&str>, why: &str) -> Fault {
    match engine {
        Some(engine) => Fault::invalid(
            place,
            format_args!("belongs to engine = \"python\", not to \"{}\"; leave it out{why}", engine.escape_debug()),
        ),
        None => Fault::invalid(place, format_args!("needs engine = \"python\" at the top of the file{why}")),
    }
}

fn settings(table: &Python, draft: PythonDraft) -> Result<PythonDraft, Fault> {
    Ok(PythonDraft {
        predictor: predictor(table)?,
        environment: environment(table)?,
        memory_limit: table.memory_limit_mb.map(|limit| u64::from(limit.get()) << 20),
        start_timeout: table.start_timeout_s.map(|limit| Duration::from_secs(limit.get().into())),
        variables: variables(&table.env)?,
        settings: table.settings.clone(),
        ..draft
    })
}

fn predictor(table: &Python) -> Result<Option<Predictor>, Fault> {
    super::check_choice(table.adapter.as_ref(), &ADAPTERS)?;
    match (&table.class, &table.adapter) {
        (Some(_), Some(adapter)) => {
            Err(Fault::invalid(adapter, "stands beside class; a class needs no adapter, keep one of the two"))
        }
        (Some(class), None) if !is_identifier(class.get_ref()) => Err(Fault::invalid(
            class,
            format_args!("must be the name of a class, got '{}'", class.get_ref().escape_debug()),
        )),
        (Some(class), None) => Ok(Some(Predictor::Class(Some(class.get_ref().clone())))),
        (None, Some(adapter)) => Ok(Some(Predictor::Adapter(adapter.get_ref().clone()))),
        (None, None) => Ok(None),
    }
}

/// Python allows letters of every script.
fn is_identifier(name: &str) -> bool {
    let begins = name.starts_with(|first: char| first.is_alphabetic() || first == '_');
    begins && name.chars().all(|char| char.is_alphanumeric() || char == '_')
}

fn environment(table: &Python) -> Result<Option<NamedEnvironment>, Fault> {
    let path = |place: &Spanned<String>| match place.get_ref().as_str() {
        name if name.is_empty() || name.contains('\0') => {
            Err(Fault::invalid(place, format_args!("must be a path, got '{}'", name.escape_debug())))
        }
        name => Ok(name.to_owned()),
    };
    match (&table.interpreter, &table.requirements) {
        (Some(_), Some(requirements)) => Err(Fault::invalid(
            requirements,
            "stands beside interpreter, into which nothing is installed; keep one of the two",
        )),
        (Some(interpreter), None) => Ok(Some(NamedEnvironment::Interpreter(path(interpreter)?))),
        (None, Some(requirements)) => Ok(Some(NamedEnvironment::Requirements(path(requirements)?))),
        (None, None) => Ok(None),
    }
}

fn variables(env: &BTreeMap<Spanned<String>, Spanned<String>>) -> Result<BTreeMap<String, String>, Fault> {
    for (name, value) in env {
        let (key, text) = (name.get_ref(), value.get_ref());
        if !is_variable(key) {
            let message = format_args!("'{}' must be letters, digits and '_', no digit first", key.escape_debug());
            return Err(Fault::invalid(name, message));
        }
        if key.starts_with(OWN_PREFIX) {
            return Err(Fault::invalid(name, format_args!("'{key}' begins with {OWN_PREFIX}, as the server's own do")));
        }
        if text.contains('\0') || text.len() > MAX_VALUE_BYTES {
            let message = format_args!("must be at most {MAX_VALUE_BYTES} bytes without a NUL");
            return Err(Fault::invalid(value, message));
        }
    }
    Ok(env.iter().map(|(name, value)| (name.get_ref().clone(), value.get_ref().clone())).collect())
}

pub(super) fn is_variable(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(is_part)
}

/// Inputs with a type and a shape: all, or none.
fn inputs(inputs: &[Input]) -> Result<Vec<PythonTensor>, Fault> {
    let says_something = |input: &Input| input.dtype.is_some() || input.shape.is_some() || input.optional.is_some();
    if !inputs.iter().any(says_something) {
        return Ok(Vec::new());
    }
    let declared = |input: &Input| match (&input.dtype, &input.shape) {
        (Some(dtype), Some(shape)) => {
            let mut tensor = tensor(&input.name, dtype, shape)?;
            tensor.spec.optional = input.optional.as_ref().is_some_and(|optional| *optional.get_ref());
            Ok(tensor)
        }
        _ => Err(Fault::invalid(&input.name, "needs dtype and shape beside it; give every input both, or none")),
    };
    inputs.iter().map(declared).collect()
}

fn outputs(outputs: &[Output]) -> Result<Vec<PythonTensor>, Fault> {
    let mut names = BTreeSet::new();
    let declared = |output: &Output| {
        super::check_new(&output.name, &mut names)?;
        match (&output.dtype, &output.shape) {
            (Some(dtype), Some(shape)) => tensor(&output.name, dtype, shape),
            _ => Err(Fault::invalid(&output.name, "needs dtype and shape beside it")),
        }
    };
    outputs.iter().map(declared).collect()
}

/// Reads a declared tensor.
pub(super) fn tensor(
    name: &Spanned<String>,
    dtype: &Spanned<String>,
    shape: &Spanned<Vec<Spanned<i64>>>,
) -> Result<PythonTensor, Fault> {
    let Some((element, is_text)) = python::element_type(dtype.get_ref()) else {
        let got = dtype.get_ref().escape_debug();
        return Err(Fault::invalid(dtype, format_args!("must be {}, got '{got}'", python::ELEMENT_TYPES)));
    };
    let rank = shape.get_ref().len();
    if rank > Shape::MAX_RANK {
        let most = Shape::MAX_RANK;
        return Err(Fault::invalid(shape, format_args!("must have at most {most} extents, got {rank}")));
    }
    let extent = |extent: &Spanned<i64>| match *extent.get_ref() {
        -1 => Ok(Dim::Free),
        1..=MAX_EXTENT => Ok(Dim::Fixed(usize::try_from(*extent.get_ref()).unwrap_or(usize::MAX))),
        got => Err(Fault::invalid(extent, format_args!("must be -1 (any) or from 1 to {MAX_EXTENT}, got {got}"))),
    };
    let shape = shape.get_ref().iter().map(extent).collect::<Result<_, _>>()?;
    let spec = TensorSpec { name: name.get_ref().as_str().into(), dtype: element, shape, optional: false };
    Ok(PythonTensor { spec, is_text })
}
