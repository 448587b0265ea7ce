//! Ragged inputs of `config.pbtxt`, and what the server makes for them: `allow_ragged_batch`,
//! `batch_input`, `batch_output`.
//!
//! Whether the graph takes its inputs that way is checked by whoever has read the graph.

use std::collections::BTreeSet;

use salver_core::{BatchInput, BatchInputKind, BatchOutput, Dim, IoConfig, NumberType};

use crate::schema::triton::model_config::SchedulingChoice;
use crate::schema::triton::{self as proto, batch_input::Kind};
use crate::text::{Checked, Fault};

/// Checks what inputs that may be ragged say beside that.
pub(super) fn check_inputs(config: &proto::ModelConfig) -> Checked<()> {
    let is_stateful = matches!(config.scheduling_choice, Some(SchedulingChoice::SequenceBatching(_)));
    for (idx, input) in config.input.iter().enumerate().filter(|(_, input)| input.allow_ragged_batch) {
        let within = |fault: Fault| fault.within(&format!("input[{idx}]"), &shown("input", &input.name));
        if is_stateful {
            let message = "allow_ragged_batch is not offered beside sequence_batching";
            return Err(within(Fault::unsupported("allow_ragged_batch", message)));
        }
        if input.optional {
            let message = "optional has to be left out beside allow_ragged_batch: every request adds its elements";
            return Err(within(Fault::invalid("optional", message)));
        }
        if input.dims.is_empty() {
            let message = "allow_ragged_batch needs dims beside it: the shape within requests, as the graph's is flat";
            return Err(within(Fault::invalid("allow_ragged_batch", message)));
        }
    }
    Ok(())
}

/// Converts the `batch_input` blocks; `inputs` are those of requests.
pub(super) fn batch_inputs(blocks: &[proto::BatchInput], inputs: &[IoConfig]) -> Checked<Vec<BatchInput>> {
    let mut taken: BTreeSet<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    let convert =
        |(idx, block)| batch_input(block, inputs, &mut taken).map_err(within("batch_input", idx, &block.target_name));
    blocks.iter().enumerate().map(convert).collect()
}

fn batch_input<'a>(
    block: &'a proto::BatchInput,
    inputs: &[IoConfig],
    taken: &mut BTreeSet<&'a str>,
) -> Checked<BatchInput> {
    check_targets(&block.target_name)?;
    for (idx, name) in block.target_name.iter().enumerate() {
        if !taken.insert(name) {
            let message = format!("target_name '{}' must be an input that nothing else fills", name.escape_debug());
            return Err(Fault::invalid(format!("target_name[{idx}]"), message));
        }
    }
    let numbers = match block.data_type() {
        proto::DataType::TypeInt32 => NumberType::Int32,
        proto::DataType::TypeFp32 => NumberType::Fp32,
        other => {
            let message = format!("data_type must be TYPE_INT32 or TYPE_FP32, got {}", other.as_str_name());
            return Err(Fault::invalid("data_type", message));
        }
    };
    let source = source(&block.source_input, inputs)?.name.clone();
    Ok(BatchInput { kind: kind(block.kind()), targets: block.target_name.clone(), numbers, source })
}

fn kind(kind: Kind) -> BatchInputKind {
    match kind {
        Kind::BatchElementCount => BatchInputKind::ElementCount,
        Kind::BatchAccumulatedElementCount => BatchInputKind::AccumulatedElementCount,
        Kind::BatchAccumulatedElementCountWithZero => BatchInputKind::AccumulatedElementCountWithZero,
        Kind::BatchMaxElementCountAsShape => BatchInputKind::MaxElementCountAsShape,
        Kind::BatchItemShape => BatchInputKind::ItemShape,
        Kind::BatchItemShapeFlatten => BatchInputKind::ItemShapeFlatten,
    }
}

/// Converts the `batch_output` blocks; `inputs` and `outputs` are those of requests.
pub(super) fn batch_outputs(
    blocks: &[proto::BatchOutput],
    inputs: &[IoConfig],
    outputs: &[IoConfig],
) -> Checked<Vec<BatchOutput>> {
    let mut taken = BTreeSet::new();
    let convert = |(idx, block)| {
        batch_output(block, inputs, outputs, &mut taken).map_err(within("batch_output", idx, &block.target_name))
    };
    blocks.iter().enumerate().map(convert).collect()
}

fn batch_output<'a>(
    block: &'a proto::BatchOutput,
    inputs: &[IoConfig],
    outputs: &[IoConfig],
    taken: &mut BTreeSet<&'a str>,
) -> Checked<BatchOutput> {
    check_targets(&block.target_name)?;
    let source = source(&block.source_input, inputs)?;
    for (idx, name) in block.target_name.iter().enumerate() {
        let blame = |message: String| {
            let message = format!("target_name '{}' {message}", name.escape_debug());
            Fault::invalid(format!("target_name[{idx}]"), message)
        };
        let Some(output) = outputs.iter().find(|output| output.name == *name) else {
            return Err(blame("must be one of the declared outputs".to_owned()));
        };
        if !taken.insert(name.as_str()) {
            return Err(blame("is given twice".to_owned()));
        }
        check_scattered(output, source).map_err(blame)?;
    }
    Ok(BatchOutput { targets: block.target_name.clone(), source: source.name.clone() })
}

/// Free extents of the output are those that stand at the same place of the input.
fn check_scattered(output: &IoConfig, source: &IoConfig) -> Result<(), String> {
    let Some(dims) = in_graph(output) else {
        return Err("must be an output with dims: they are the shape that each request gets".to_owned());
    };
    let rank = in_graph(source).map_or(0, <[Dim]>::len);
    match dims.iter().rposition(|dim| *dim == Dim::Free) {
        Some(idx) if idx >= rank => Err(format!(
            "has a free extent (-1) as dimension {} of its dims, but '{}' has {rank} dimensions",
            idx + 1,
            source.name.escape_debug()
        )),
        _ => Ok(()),
    }
}

fn in_graph(io: &IoConfig) -> Option<&[Dim]> {
    io.reshape.as_deref().or(io.dims.as_deref())
}

fn check_targets(names: &[String]) -> Checked<()> {
    match names.iter().position(String::is_empty) {
        Some(idx) => Err(Fault::invalid(format!("target_name[{idx}]"), "target_name must not be empty")),
        None if names.is_empty() => Err(Fault::invalid("target_name", "target_name is missing")),
        None => Ok(()),
    }
}

fn source<'a>(names: &[String], inputs: &'a [IoConfig]) -> Checked<&'a IoConfig> {
    let [name] = names else {
        return Err(Fault::invalid("source_input", format!("one source_input is expected, got {}", names.len())));
    };
    let found = inputs.iter().find(|input| input.name == *name && input.allow_ragged_batch);
    found.ok_or_else(|| {
        let name = name.escape_debug();
        let message = format!("source_input '{name}' must be one of the inputs with allow_ragged_batch: true");
        Fault::invalid("source_input[0]", message)
    })
}

/// Names a block by what it is for.
fn within(block: &'static str, idx: usize, targets: &[String]) -> impl Fn(Fault) -> Fault + use<> {
    let shown = match targets.first() {
        Some(name) => shown(block, name),
        None => format!("{block} {}", idx + 1),
    };
    move |fault| fault.within(&format!("{block}[{idx}]"), &shown)
}

fn shown(block: &str, name: &str) -> String {
    format!("{block} '{}'", name.escape_debug())
}
