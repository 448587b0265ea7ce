//! Writes `sequence_batching` under the names of `config.pbtxt`.

use salver_core::{
    ControlKind, FalseTrue, InitialState, SequenceBatching, SequenceControl, SequenceState, SequenceStrategy,
};
use serde_json::{Value, json};

use super::dims;
use crate::oip;

pub(super) fn sequence_batching(sequences: &SequenceBatching) -> Value {
    let micros = u64::try_from(sequences.max_idle.as_micros()).unwrap_or(u64::MAX);
    let mut members = json!({
        "max_sequence_idle_microseconds": micros,
        "control_input": sequences.controls.iter().map(control).collect::<Vec<_>>(),
        "state": sequences.states.iter().map(state).collect::<Vec<_>>(),
        "iterative_sequence": false,
    });
    let (name, strategy) = strategy(&sequences.strategy);
    members[name] = strategy;
    members
}

fn strategy(strategy: &SequenceStrategy) -> (&'static str, Value) {
    match strategy {
        SequenceStrategy::Direct { max_queue_delay_microseconds, minimum_slot_utilization } => (
            "direct",
            json!({
                "max_queue_delay_microseconds": max_queue_delay_microseconds,
                "minimum_slot_utilization": minimum_slot_utilization,
            }),
        ),
        SequenceStrategy::Oldest {
            max_candidate_sequences,
            preferred_batch_size,
            max_queue_delay_microseconds,
            preserve_ordering,
        } => (
            "oldest",
            json!({
                "max_candidate_sequences": max_candidate_sequences,
                "preferred_batch_size": preferred_batch_size,
                "max_queue_delay_microseconds": max_queue_delay_microseconds,
                "preserve_ordering": preserve_ordering,
            }),
        ),
    }
}

fn control(control: &SequenceControl) -> Value {
    let (kind, values) = match control.kind {
        ControlKind::Start(values) => ("CONTROL_SEQUENCE_START", Some(values)),
        ControlKind::End(values) => ("CONTROL_SEQUENCE_END", Some(values)),
        ControlKind::Ready(values) => ("CONTROL_SEQUENCE_READY", Some(values)),
        ControlKind::CorrelationId(_) => ("CONTROL_SEQUENCE_CORRID", None),
    };
    let data_type = match control.kind {
        ControlKind::CorrelationId(dtype) => oip::config_type(dtype),
        ControlKind::Start(_) | ControlKind::End(_) | ControlKind::Ready(_) => "TYPE_INVALID",
    };
    let mut members = json!({
        "kind": kind,
        "int32_false_true": [],
        "fp32_false_true": [],
        "bool_false_true": [],
        "data_type": data_type,
    });
    match values {
        Some(FalseTrue::Int32(values)) => members["int32_false_true"] = json!(values),
        Some(FalseTrue::Fp32(values)) => members["fp32_false_true"] = json!(values),
        Some(FalseTrue::Bool(values)) => members["bool_false_true"] = json!(values),
        None => {}
    }
    json!({"name": control.input, "control": [members]})
}

fn state(state: &SequenceState) -> Value {
    let data_type = oip::config_type(state.dtype);
    let initial = |initial: &InitialState| {
        let mut members = json!({"name": initial.name, "data_type": data_type, "dims": initial.dims});
        match &initial.file {
            Some((name, _)) => members["data_file"] = json!(name),
            None => members["zero_data"] = json!(true),
        }
        members
    };
    json!({
        "input_name": state.input,
        "output_name": state.output,
        "data_type": data_type,
        "dims": dims(&state.dims),
        "initial_state": state.initial.iter().map(initial).collect::<Vec<_>>(),
        "use_same_buffer_for_input_output": false,
        "use_growable_memory": false,
    })
}
