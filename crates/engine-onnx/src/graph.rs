//! An open session with what is needed to run it: names for C, and the form of each output.
//!
//! Inputs are handed over where they lie, outputs are handed out where they lie.

use std::ffi::CString;

use ort::session::{RunOptions, Session};
use salver_core::{DataType, Error, Result, Signature, Tensor, TensorSpec};

use crate::instance::{Content, InputView};
use crate::raw::{CpuMemory, GiveBack, Named, PerTensor, SharedSession, Value};
use crate::signature::{self, Declared, OutputForm};

/// Weights and graph.
pub(crate) struct Graph {
    session: SharedSession,
    memory: CpuMemory,
    pub(crate) signature: Signature,
    /// In the order of `signature.inputs` and `signature.outputs`, for C.
    input_names: Vec<CString>,
    output_names: Vec<CString>,
    output_forms: Vec<OutputForm>,
    /// The last field: dropped when what the session held is free.
    _freed: GiveBack,
}

impl Graph {
    /// Reads what a session says of its inputs and outputs. An input with a value in the file may be
    /// left out; it is one only where `declared` names it, because files of some tools list all
    /// their weights so.
    ///
    /// # Errors
    /// `Unsupported` for inputs that no request can carry.
    pub(crate) fn new(session: &Session, declared: &[String]) -> Result<Self> {
        let inputs: Vec<Declared<'_>> = session.inputs().iter().map(|input| (input.name(), input.dtype())).collect();
        let outputs: Vec<Declared<'_>> = session.outputs().iter().map(|out| (out.name(), out.dtype())).collect();
        let given = session.overridable_initializers();
        let given = given.iter().filter(|input| declared.iter().any(|name| name == input.name()));
        let optional: Vec<Declared<'_>> = given.map(|input| (input.name(), input.dtype())).collect();
        let (signature, output_forms) = signature::read(&inputs, &optional, &outputs)?;
        Ok(Self {
            session: SharedSession::new(session),
            memory: CpuMemory::new()?,
            input_names: c_names(&signature.inputs)?,
            output_names: c_names(&signature.outputs)?,
            output_forms,
            signature,
            _freed: GiveBack,
        })
    }

    /// Runs the graph and returns its outputs in the signature's order.
    ///
    /// # Errors
    /// `InvalidInput` where the data itself is at fault, else `Engine`.
    pub(crate) fn run(&self, views: &[InputView<'_>], options: &RunOptions) -> Result<Vec<Tensor>> {
        let is_given = |spec: &TensorSpec| views.iter().any(|view| *view.name == *spec.name);
        if let Some(missing) = self.signature.inputs.iter().find(|spec| !spec.optional && !is_given(spec)) {
            return Err(Error::invalid_input(format!("input '{}' is missing", missing.name)));
        }
        let named: PerTensor<Named<'_, '_>> = views.iter().map(|view| self.named(view)).collect::<Result<_>>()?;
        let values = self.session.run(&named, &self.output_names, options)?;
        let borrowed: PerTensor<&[u8]> = views
            .iter()
            .filter_map(|view| match view.content {
                Content::Fixed(data) => Some(data),
                Content::Text(_) => None,
            })
            .collect();
        let outputs = self.signature.outputs.iter().zip(&self.output_forms).zip(values);
        outputs.map(|((spec, form), value)| self.output(spec, *form, value, &borrowed)).collect()
    }

    fn named<'m>(&'m self, view: &InputView<'m>) -> Result<Named<'m, 'm>> {
        let idx = self.signature.inputs.iter().position(|spec| *spec.name == *view.name);
        let name = idx.and_then(|idx| self.input_names.get(idx));
        let name = name.ok_or_else(|| Error::invalid_input(format!("the model has no input '{}'", view.name)))?;
        let value = match view.content {
            Content::Fixed(data) => Value::over(&self.memory, view.dtype, view.shape, data),
            Content::Text(elements) => Value::of_strings(view.shape, elements),
        };
        let value = value.map_err(|error| error.context(format!("input '{}'", view.name)))?;
        Ok(Named { name, value })
    }

    fn output(&self, spec: &TensorSpec, form: OutputForm, value: Value<'static>, borrowed: &[&[u8]]) -> Result<Tensor> {
        let name = spec.name.clone();
        if form == OutputForm::MapRows {
            return map_rows(spec, &value);
        }
        let (dtype, shape) = value.tensor_type()?;
        if dtype == DataType::Bytes {
            let n_elements = shape.element_count().unwrap_or(0);
            return Tensor::from_elements(name, shape, value.strings(n_elements)?);
        }
        Tensor::new(name, dtype, shape, self.session.output_bytes(value, borrowed)?)
    }
}

fn c_names(specs: &[TensorSpec]) -> Result<Vec<CString>> {
    let name = |spec: &TensorSpec| {
        CString::new(&*spec.name).map_err(|_| Error::unsupported("the name of an input or output contains NUL"))
    };
    specs.iter().map(name).collect()
}

/// Turns one map for each row into a matrix; its columns ascend by class, as the maps do.
fn map_rows(spec: &TensorSpec, value: &Value<'_>) -> Result<Tensor> {
    let n_rows = value.count()?;
    let mut cells: Vec<f32> = Vec::new();
    let mut n_classes = None;
    for row_idx in 0..n_rows {
        let row = value.item(row_idx)?.item(1)?.floats()?;
        if *n_classes.get_or_insert(row.len()) != row.len() {
            return Err(Error::engine(format!("output '{}': row {row_idx} has {} classes", spec.name, row.len())));
        }
        cells.extend(row);
    }
    Tensor::from_slice(spec.name.clone(), [n_rows, n_classes.unwrap_or(0)], &cells)
}
