//! Writes `sequence_batching` as the protocol's message.

use salver_core::{
    ControlKind, FalseTrue, InitialState, SequenceBatching, SequenceControl, SequenceState, SequenceStrategy,
};

use super::{data_type, dims, wire};
use wire::model_sequence_batching::{
    Control, ControlInput, InitialState as WireInitialState, State, StrategyChoice, StrategyDirect, StrategyOldest,
    control::Kind, initial_state::StateData,
};

pub(super) fn sequence_batching(sequences: &SequenceBatching) -> wire::ModelSequenceBatching {
    wire::ModelSequenceBatching {
        max_sequence_idle_microseconds: u64::try_from(sequences.max_idle.as_micros()).unwrap_or(u64::MAX),
        control_input: sequences.controls.iter().map(control_input).collect(),
        state: sequences.states.iter().map(state).collect(),
        iterative_sequence: false,
        strategy_choice: Some(strategy(&sequences.strategy)),
    }
}

fn strategy(strategy: &SequenceStrategy) -> StrategyChoice {
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    match strategy {
        SequenceStrategy::Direct { max_queue_delay_microseconds, minimum_slot_utilization } => {
            StrategyChoice::Direct(StrategyDirect {
                max_queue_delay_microseconds: *max_queue_delay_microseconds,
                minimum_slot_utilization: *minimum_slot_utilization,
            })
        }
        SequenceStrategy::Oldest {
            max_candidate_sequences,
            preferred_batch_size,
            max_queue_delay_microseconds,
            preserve_ordering,
        } => StrategyChoice::Oldest(StrategyOldest {
            max_candidate_sequences: number(*max_candidate_sequences),
            preferred_batch_size: preferred_batch_size.iter().copied().map(number).collect(),
            max_queue_delay_microseconds: *max_queue_delay_microseconds,
            preserve_ordering: *preserve_ordering,
        }),
    }
}

fn control_input(control: &SequenceControl) -> ControlInput {
    let mut written = Control::default();
    let (kind, values) = match control.kind {
        ControlKind::Start(values) => (Kind::ControlSequenceStart, Some(values)),
        ControlKind::End(values) => (Kind::ControlSequenceEnd, Some(values)),
        ControlKind::Ready(values) => (Kind::ControlSequenceReady, Some(values)),
        ControlKind::CorrelationId(dtype) => {
            written.data_type = data_type(Some(dtype));
            (Kind::ControlSequenceCorrid, None)
        }
    };
    written.kind = kind as i32;
    match values {
        Some(FalseTrue::Int32(values)) => written.int32_false_true = values.to_vec(),
        Some(FalseTrue::Fp32(values)) => written.fp32_false_true = values.to_vec(),
        Some(FalseTrue::Bool(values)) => written.bool_false_true = values.to_vec(),
        None => {}
    }
    ControlInput { name: control.input.clone(), control: vec![written] }
}

fn state(state: &SequenceState) -> State {
    let initial = |initial: &InitialState| WireInitialState {
        data_type: data_type(Some(state.dtype)),
        dims: initial.dims.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
        name: initial.name.clone(),
        state_data: Some(match &initial.file {
            Some((name, _)) => StateData::DataFile(name.clone()),
            None => StateData::ZeroData(true),
        }),
    };
    State {
        input_name: state.input.clone(),
        output_name: state.output.clone(),
        data_type: data_type(Some(state.dtype)),
        dims: dims(&state.dims),
        initial_state: state.initial.iter().map(initial).collect(),
        ..State::default()
    }
}
