//! The `input` and `output` blocks of `config.pbtxt`: names, types, shapes and reshapes.
//!
//! Whether they fit the graph is checked later, by whoever has read the graph.

use std::collections::BTreeSet;

use salver_core::{DataType, Dim, IoConfig, Shape};

use crate::schema::triton as proto;
use crate::text::{Checked, Fault};

pub(super) fn inputs(inputs: &[proto::ModelInput]) -> Checked<Vec<IoConfig>> {
    let convert = |input: &proto::ModelInput| {
        let shapes = shapes(&input.dims, input.reshape.as_ref())?;
        Ok(IoConfig {
            optional: input.optional,
            format: input.format().as_str_name().to_owned(),
            allow_ragged_batch: input.allow_ragged_batch,
            is_shape_tensor: input.is_shape_tensor,
            ..shapes.named(&input.name, data_type(input.data_type()))
        })
    };
    convert_all("input", inputs, |input| &input.name, convert)
}

pub(super) fn outputs(outputs: &[proto::ModelOutput]) -> Checked<Vec<IoConfig>> {
    let convert = |output: &proto::ModelOutput| {
        let shapes = shapes(&output.dims, output.reshape.as_ref())?;
        Ok(IoConfig {
            label_filename: output.label_filename.clone(),
            is_shape_tensor: output.is_shape_tensor,
            ..shapes.named(&output.name, data_type(output.data_type()))
        })
    };
    convert_all("output", outputs, |output| &output.name, convert)
}

/// Converts each block; messages name the block and its tensor.
fn convert_all<T>(
    block: &str,
    items: &[T],
    name: impl Fn(&T) -> &str,
    convert: impl Fn(&T) -> Checked<IoConfig>,
) -> Checked<Vec<IoConfig>> {
    let mut seen = BTreeSet::new();
    let mut converted = Vec::new();
    for (idx, item) in items.iter().enumerate() {
        let name = name(item);
        if name.is_empty() {
            return Err(Fault::invalid(format!("{block}[{idx}]"), format!("{block} {} has no name", idx + 1)));
        }
        let shown = format!("{block} '{}'", name.escape_debug());
        let within = |fault: Fault| fault.within(&format!("{block}[{idx}]"), &shown);
        if !seen.insert(name) {
            return Err(within(Fault::invalid("name", "is given twice")));
        }
        converted.push(convert(item).map_err(within)?);
    }
    Ok(converted)
}

struct Shapes {
    dims: Option<Vec<Dim>>,
    reshape: Option<Vec<Dim>>,
}

impl Shapes {
    fn named(self, name: &str, dtype: Option<DataType>) -> IoConfig {
        IoConfig {
            name: name.to_owned(),
            dtype,
            dims: self.dims,
            reshape: self.reshape,
            label_filename: String::new(),
            optional: false,
            format: "FORMAT_NONE".to_owned(),
            allow_ragged_batch: false,
            is_shape_tensor: false,
        }
    }
}

fn shapes(dims: &[i64], reshape: Option<&proto::ModelTensorReshape>) -> Checked<Shapes> {
    let Some(reshape) = reshape else {
        let dims = (!dims.is_empty()).then(|| dimensions("dims", dims)).transpose()?;
        return Ok(Shapes { dims, reshape: None });
    };
    if dims.is_empty() {
        return Err(Fault::invalid("reshape", "reshape needs dims beside it"));
    }
    let (wire, graph) = (dimensions("dims", dims)?, dimensions("reshape.shape", &reshape.shape)?);
    if segments(&wire) != segments(&graph) {
        let shape = &reshape.shape;
        let message = format!("dims {dims:?} and reshape.shape {shape:?} differ in the number of elements");
        return Err(Fault::invalid("reshape", message));
    }
    Ok(Shapes { dims: Some(wire), reshape: Some(graph) })
}

pub(super) fn dimensions(field: &str, dims: &[i64]) -> Checked<Vec<Dim>> {
    if dims.len() > Shape::MAX_RANK {
        let (count, most) = (dims.len(), Shape::MAX_RANK);
        return Err(Fault::invalid(field, format!("{field} has {count} dimensions, at most {most} are allowed")));
    }
    let check = |(idx, &dim): (usize, &i64)| match Dim::from_wire(dim) {
        Some(valid) if dim != 0 => Ok(valid),
        _ => {
            let message = format!("{field} must be -1 (any extent) or 1 and more, got {dim}");
            Err(Fault::invalid(format!("{field}[{idx}]"), message))
        }
    };
    dims.iter().enumerate().map(check).collect()
}

/// Multiplies what stands between free extents: the same products mean the same elements.
/// `None` for a product that overflows.
fn segments(dims: &[Dim]) -> Vec<Option<usize>> {
    let mut products = vec![Some(1usize)];
    for dim in dims {
        match (dim, products.last_mut()) {
            (Dim::Fixed(extent), Some(product)) => *product = product.and_then(|product| product.checked_mul(*extent)),
            _ => products.push(Some(1)),
        }
    }
    products
}

/// Returns `None` where no type is written.
pub(super) fn data_type(dtype: proto::DataType) -> Option<DataType> {
    Some(match dtype {
        proto::DataType::TypeInvalid => return None,
        proto::DataType::TypeBool => DataType::Bool,
        proto::DataType::TypeUint8 => DataType::Uint8,
        proto::DataType::TypeUint16 => DataType::Uint16,
        proto::DataType::TypeUint32 => DataType::Uint32,
        proto::DataType::TypeUint64 => DataType::Uint64,
        proto::DataType::TypeInt8 => DataType::Int8,
        proto::DataType::TypeInt16 => DataType::Int16,
        proto::DataType::TypeInt32 => DataType::Int32,
        proto::DataType::TypeInt64 => DataType::Int64,
        proto::DataType::TypeFp16 => DataType::Fp16,
        proto::DataType::TypeFp32 => DataType::Fp32,
        proto::DataType::TypeFp64 => DataType::Fp64,
        proto::DataType::TypeString => DataType::Bytes,
        proto::DataType::TypeBf16 => DataType::Bf16,
    })
}
