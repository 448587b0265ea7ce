//! Reads ONNX files for people: what goes in and out, which operators, how many parameters.
//!
//! Serving does not pass here; the engines read the file themselves. Weights are skipped, not
//! copied. The depth of nested graphs is bounded by the protobuf reader.

mod element_type;
mod graph_io;
mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use salver_core::{DataType, Error, Result};

use self::element_type::{byte_count, element_type};
pub(crate) use self::graph_io::signature;
use self::messages::{
    DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, TypeValue,
    ValueInfoProto,
};
use crate::files;

/// What an ONNX file says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnnxSummary {
    /// The version of the format.
    pub ir_version: i64,
    /// The tool that wrote the file, with its version; may be empty.
    pub producer: String,
    /// Operator set versions by domain; the empty domain is ONNX's own.
    pub opsets: BTreeMap<String, i64>,
    /// What goes in; initializers that are listed as inputs are left out.
    pub inputs: Vec<OnnxValue>,
    /// Those initializers: a request may give another value.
    pub optional_inputs: Vec<OnnxValue>,
    /// What comes out.
    pub outputs: Vec<OnnxValue>,
    /// How often each operator stands, by domain and name, graphs within the graph included.
    pub operators: BTreeMap<(String, String), usize>,
    /// Elements of all initializers.
    pub parameter_count: u64,
    /// Bytes of all initializers; texts count nothing.
    pub parameter_bytes: u64,
    /// Free-form metadata.
    pub metadata: BTreeMap<String, String>,
    /// Files with weights outside this one, relative to its folder.
    pub external_files: BTreeSet<String>,
    /// The size of the file itself.
    pub file_bytes: u64,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxValue {
    /// The name in the graph.
    pub name: String,
    /// What it is.
    pub kind: OnnxType,
}

/// The type of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnnxType {
    /// A tensor.
    Tensor {
        /// The element type as it stands on the wire; none: one that no protocol has.
        dtype: Option<DataType>,
        /// The element type as ONNX calls it.
        onnx_type: String,
        /// The extents; none: not even their number is known.
        dims: Option<Vec<OnnxDim>>,
    },
    /// Anything else, in words: `sequence(map(INT64, FLOAT))`.
    Other(String),
}

/// One extent of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnnxDim {
    /// Always this.
    Fixed(i64),
    /// Free, under a name; the same name is the same extent.
    Named(String),
    /// Free.
    Unknown,
}

impl fmt::Display for OnnxDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(extent) => write!(f, "{extent}"),
            Self::Named(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for OnnxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (onnx_type, dims) = match self {
            Self::Other(text) => return f.write_str(text),
            Self::Tensor { onnx_type, dims: None, .. } => return write!(f, "{onnx_type}[...]"),
            Self::Tensor { onnx_type, dims: Some(dims), .. } => (onnx_type, dims),
        };
        let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
        write!(f, "{onnx_type}[{}]", dims.join(","))
    }
}

/// Reads the ONNX file at `path`.
///
/// # Errors
/// `NotFound` if there is none, `InvalidInput` if it is no ONNX file or names files outside its
/// folder; both name the file.
pub fn summarize(path: &Path) -> Result<OnnxSummary> {
    files::check_artifact(path)?;
    let bytes = fs::read(path).map_err(|error| files::io_error(path, error))?;
    summarize_bytes(bytes.into()).map_err(|error| error.context(path.display()))
}

/// Reads the bytes of an ONNX file.
///
/// # Errors
/// `InvalidInput` if they are no ONNX file, or name files outside its folder.
pub(crate) fn summarize_bytes(bytes: Bytes) -> Result<OnnxSummary> {
    let file_bytes = bytes.len() as u64;
    let guess = other_format(&bytes);
    let refuse = |what: &str| {
        let hint = guess.map(|guess| format!("; it looks like {guess}")).unwrap_or_default();
        Error::invalid_input(format!("not an ONNX model: {what}{hint}"))
    };
    let model = ModelProto::decode(bytes).map_err(|error| refuse("it is cut off or damaged").with_source(error))?;
    let Some(graph) = &model.graph else {
        return Err(refuse("it holds no graph"));
    };
    if model.ir_version <= 0 {
        return Err(refuse("it names no version of the format"));
    }
    let mut summary = OnnxSummary {
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        opsets: model.opset_import.iter().map(|opset| (domain(&opset.domain), opset.version)).collect(),
        metadata: model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
        inputs: inputs(graph, false),
        optional_inputs: inputs(graph, true),
        outputs: graph.output.iter().map(value).collect(),
        file_bytes,
        ..OnnxSummary::default()
    };
    summary.add_graph(graph)?;
    model.functions.iter().try_for_each(|function| summary.add_nodes(&function.node))?;
    Ok(summary)
}

impl OnnxSummary {
    fn add_graph(&mut self, graph: &GraphProto) -> Result<()> {
        let sparse = graph.sparse_initializer.iter().flat_map(|sparse| [&sparse.values, &sparse.indices]).flatten();
        for tensor in graph.initializer.iter().chain(sparse) {
            let count = element_count(tensor);
            self.parameter_count = self.parameter_count.saturating_add(count);
            self.parameter_bytes = self.parameter_bytes.saturating_add(byte_count(tensor.data_type, count));
            self.add_external(tensor)?;
        }
        self.add_nodes(&graph.node)
    }

    fn add_nodes(&mut self, nodes: &[NodeProto]) -> Result<()> {
        for node in nodes {
            *self.operators.entry((domain(&node.domain), node.op_type.clone())).or_default() += 1;
            for attribute in &node.attribute {
                attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.add_external(tensor))?;
                attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.add_graph(graph))?;
            }
        }
        Ok(())
    }

    fn add_external(&mut self, tensor: &TensorProto) -> Result<()> {
        let Some(location) = tensor.external_data.iter().find(|entry| entry.key == "location") else {
            return Ok(());
        };
        if !files::is_plain(&location.value) {
            return Err(Error::invalid_input(format!(
                "tensor '{}' keeps its data in '{}', which must be a path inside the model's folder",
                tensor.name.escape_debug(),
                location.value.escape_debug()
            )));
        }
        self.external_files.insert(location.value.clone());
        Ok(())
    }
}

/// `ai.onnx` is another way to write the empty domain.
fn domain(name: &str) -> String {
    if name == "ai.onnx" { String::new() } else { name.to_owned() }
}

fn inputs(graph: &GraphProto, have_values: bool) -> Vec<OnnxValue> {
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    let initialized: BTreeSet<&str> = graph.initializer.iter().chain(sparse).map(|tensor| &*tensor.name).collect();
    graph.input.iter().filter(|input| initialized.contains(&*input.name) == have_values).map(value).collect()
}

fn value(info: &ValueInfoProto) -> OnnxValue {
    let kind = match info.r#type.as_ref().and_then(|of| of.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => {
            let (onnx_type, dtype) = element_type(tensor.elem_type);
            OnnxType::Tensor { dtype, onnx_type: onnx_type.to_owned(), dims: tensor.shape.as_ref().map(dims) }
        }
        _ => OnnxType::Other(info.r#type.as_ref().map_or_else(|| "unknown".to_owned(), type_text)),
    };
    OnnxValue { name: info.name.clone(), kind }
}

fn dims(shape: &TensorShapeProto) -> Vec<OnnxDim> {
    let dim = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Value(extent)) if *extent >= 0 => OnnxDim::Fixed(*extent),
        Some(DimensionValue::Param(name)) if !name.is_empty() => OnnxDim::Named(name.clone()),
        _ => OnnxDim::Unknown,
    };
    shape.dim.iter().map(|proto| dim(&proto.value)).collect()
}

/// Says a type in words, shapes left out. The protobuf reader bounds the depth.
fn type_text(of: &TypeProto) -> String {
    let inner = |of: &Option<TypeProto>| of.as_ref().map_or_else(|| "unknown".to_owned(), type_text);
    match &of.value {
        None => "unknown".to_owned(),
        Some(TypeValue::Tensor(tensor)) => element_type(tensor.elem_type).0.to_owned(),
        Some(TypeValue::SparseTensor(tensor)) => format!("sparse_tensor({})", element_type(tensor.elem_type).0),
        Some(TypeValue::Sequence(element)) => format!("sequence({})", inner(&element.elem_type)),
        Some(TypeValue::Optional(element)) => format!("optional({})", inner(&element.elem_type)),
        Some(TypeValue::Map(map)) => format!("map({}, {})", element_type(map.key_type).0, inner(&map.value_type)),
    }
}

/// Returns the product of the extents; nonsense counts nothing.
fn element_count(tensor: &TensorProto) -> u64 {
    let mut extents = tensor.dims.iter().map(|&dim| u64::try_from(dim).ok());
    extents.try_fold(1u64, |product, extent| product.checked_mul(extent?)).unwrap_or(0)
}

/// Recognises what is often taken for an ONNX file.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let forms: [(&[u8], &str); 7] = [
        (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
        (b"PK\x03\x04", "a zip archive, such as a PyTorch or Keras model"),
        (b"\x89HDF", "an HDF5 file, such as an older Keras model"),
        (b"\x80\x02", "a Python pickle"),
        (b"\x80\x04", "a Python pickle"),
        (b"<", "a web page or XML"),
        (b"{", "JSON"),
    ];
    forms.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
