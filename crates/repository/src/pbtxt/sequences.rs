//! The `sequence_batching` block of `config.pbtxt`. Files are named here; `triton.rs` finds them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use salver_core::{
    BatchRule, ControlKind, DataType, Dim, FalseTrue, InitialState, SequenceBatching, SequenceControl, SequenceState,
    SequenceStrategy,
};

use super::{batching, tensors};
use crate::limits::COUNT_LIMIT;
use crate::schema::triton::ModelSequenceBatching;
use crate::schema::triton::model_sequence_batching::{
    self as proto, StrategyChoice, control::Kind, initial_state::StateData,
};
use crate::text::{Checked, Fault};

pub(super) fn sequence_batching(sequences: &ModelSequenceBatching, batch: BatchRule) -> Checked<Arc<SequenceBatching>> {
    let converted = convert(sequences, batch).map_err(|fault| fault.within("sequence_batching", "sequence_batching"));
    converted.map(Arc::new)
}

fn convert(sequences: &ModelSequenceBatching, batch: BatchRule) -> Checked<SequenceBatching> {
    if sequences.iterative_sequence {
        return Err(Fault::unsupported("iterative_sequence", "iterative_sequence is not offered"));
    }
    let max_idle = match sequences.max_sequence_idle_microseconds {
        0 => SequenceBatching::DEFAULT_IDLE,
        micros => Duration::from_micros(micros),
    };
    let states = states(&sequences.state)?;
    Ok(SequenceBatching {
        strategy: strategy(sequences.strategy_choice.as_ref(), batch)?,
        max_idle,
        controls: controls(&sequences.control_input, &states)?,
        states,
    })
}

fn strategy(choice: Option<&StrategyChoice>, batch: BatchRule) -> Checked<SequenceStrategy> {
    match choice {
        None => Ok(SequenceStrategy::default()),
        Some(StrategyChoice::Direct(direct)) => {
            let part = direct.minimum_slot_utilization;
            if !(0.0..=1.0).contains(&part) {
                let message = format!("minimum_slot_utilization must be from 0 to 1, got {part}");
                return Err(Fault::invalid("direct.minimum_slot_utilization", message));
            }
            Ok(SequenceStrategy::Direct {
                max_queue_delay_microseconds: direct.max_queue_delay_microseconds,
                minimum_slot_utilization: part,
            })
        }
        Some(StrategyChoice::Oldest(oldest)) => {
            let within = |fault: Fault| fault.within("oldest", "oldest");
            let most = usize::try_from(COUNT_LIMIT).unwrap_or(usize::MAX);
            let written = oldest.max_candidate_sequences;
            let candidates = usize::try_from(written).ok().filter(|count| (1..=most).contains(count));
            let candidates = candidates.ok_or_else(|| {
                let message = format!("max_candidate_sequences must be from 1 to {COUNT_LIMIT}, got {written}");
                Fault::invalid("oldest.max_candidate_sequences", message)
            })?;
            Ok(SequenceStrategy::Oldest {
                max_candidate_sequences: candidates,
                preferred_batch_size: batching::preferred_sizes(&oldest.preferred_batch_size, batch).map_err(within)?,
                max_queue_delay_microseconds: oldest.max_queue_delay_microseconds,
                preserve_ordering: oldest.preserve_ordering,
            })
        }
    }
}

fn controls(inputs: &[proto::ControlInput], states: &[SequenceState]) -> Checked<Vec<SequenceControl>> {
    let mut names: BTreeSet<&str> = states.iter().map(|state| state.input.as_str()).collect();
    let mut kinds = BTreeSet::new();
    let mut found = Vec::new();
    for (idx, input) in inputs.iter().enumerate() {
        let shown = format!("control_input '{}'", input.name.escape_debug());
        let within = |fault: Fault| fault.within(&format!("control_input[{idx}]"), &shown);
        if input.name.is_empty() || !names.insert(&input.name) {
            return Err(within(Fault::invalid("name", "name must be that of an input that nothing else fills")));
        }
        let [control] = input.control.as_slice() else {
            let message = format!("one control is expected for an input, got {}", input.control.len());
            return Err(within(Fault::invalid("control", message)));
        };
        if !kinds.insert(control.kind) {
            let message = format!("{} is told by another input already", control.kind().as_str_name());
            return Err(within(Fault::invalid("control", message)));
        }
        found.push(SequenceControl { input: input.name.clone(), kind: control_kind(control).map_err(within)? });
    }
    Ok(found)
}

fn control_kind(control: &proto::Control) -> Checked<ControlKind> {
    Ok(match control.kind() {
        Kind::ControlSequenceStart => ControlKind::Start(false_true(control)?),
        Kind::ControlSequenceEnd => ControlKind::End(false_true(control)?),
        Kind::ControlSequenceReady => ControlKind::Ready(false_true(control)?),
        Kind::ControlSequenceCorrid => ControlKind::CorrelationId(correlation_type(control)?),
    })
}

fn false_true(control: &proto::Control) -> Checked<FalseTrue> {
    let kind = control.kind().as_str_name();
    match (&*control.int32_false_true, &*control.fp32_false_true, &*control.bool_false_true) {
        (&[no, yes], [], []) => Ok(FalseTrue::Int32([no, yes])),
        ([], &[no, yes], []) => Ok(FalseTrue::Fp32([no, yes])),
        ([], [], &[no, yes]) => Ok(FalseTrue::Bool([no, yes])),
        _ => {
            let message = format!(
                "{kind} needs one of int32_false_true, fp32_false_true and bool_false_true, with two values, the one \
                 for false first"
            );
            Err(Fault::invalid("control", message))
        }
    }
}

fn correlation_type(control: &proto::Control) -> Checked<DataType> {
    let is_number = |dtype: &DataType| {
        matches!(dtype, DataType::Int32 | DataType::Int64 | DataType::Uint32 | DataType::Uint64 | DataType::Bytes)
    };
    tensors::data_type(control.data_type()).filter(is_number).ok_or_else(|| {
        let message = "the data_type of CONTROL_SEQUENCE_CORRID must be TYPE_UINT64, TYPE_INT64, TYPE_UINT32, \
                       TYPE_INT32 or TYPE_STRING";
        Fault::invalid("control", message)
    })
}

fn states(states: &[proto::State]) -> Checked<Vec<SequenceState>> {
    let mut names = (BTreeSet::new(), BTreeSet::new());
    let mut found = Vec::new();
    for (idx, state) in states.iter().enumerate() {
        let shown = format!("state '{}'", state.input_name.escape_debug());
        let within = |fault: Fault| fault.within(&format!("state[{idx}]"), &shown);
        if state.input_name.is_empty() || !names.0.insert(&state.input_name) {
            return Err(within(Fault::invalid("input_name", "input_name must be that of an input of its own")));
        }
        if state.output_name.is_empty() || !names.1.insert(&state.output_name) {
            return Err(within(Fault::invalid("output_name", "output_name must be that of an output of its own")));
        }
        found.push(convert_state(state).map_err(within)?);
    }
    Ok(found)
}

fn convert_state(state: &proto::State) -> Checked<SequenceState> {
    let Some(dtype) = tensors::data_type(state.data_type()) else {
        return Err(Fault::invalid("data_type", "data_type is missing"));
    };
    let dims = tensors::dimensions("dims", &state.dims)?;
    let initial = match state.initial_state.as_slice() {
        [] => None,
        [initial] => Some(
            convert_initial(initial, dtype, &dims)
                .map_err(|fault| fault.within("initial_state[0]", "initial_state"))?,
        ),
        several => {
            let message = format!("one initial_state is expected, got {}", several.len());
            return Err(Fault::invalid("initial_state[1]", message));
        }
    };
    Ok(SequenceState { input: state.input_name.clone(), output: state.output_name.clone(), dtype, dims, initial })
}

fn convert_initial(initial: &proto::InitialState, of: DataType, dims: &[Dim]) -> Checked<InitialState> {
    if tensors::data_type(initial.data_type()).is_some_and(|dtype| dtype != of) {
        return Err(Fault::invalid("data_type", format!("data_type must be that of the state, {of}")));
    }
    let extents = initial.dims.iter().map(|&dim| usize::try_from(dim).ok().filter(|&extent| extent > 0));
    let fits = |extents: &Vec<usize>| {
        let pairs = extents.iter().zip(dims);
        extents.len() == dims.len()
            && pairs.into_iter().all(|(&extent, dim)| matches!(dim, Dim::Free) || *dim == Dim::Fixed(extent))
    };
    let Some(extents) = extents.collect::<Option<Vec<usize>>>().filter(fits) else {
        let wire: Vec<i64> = dims.iter().map(|dim| dim.to_wire()).collect();
        let message =
            format!("dims must fit those of the state, {wire:?}, with every extent 1 or more, got {:?}", initial.dims);
        return Err(Fault::invalid("dims", message));
    };
    let file = match &initial.state_data {
        Some(StateData::DataFile(name)) => Some((name.clone(), PathBuf::new())),
        Some(StateData::ZeroData(_)) => None,
        None => return Err(Fault::invalid("dims", "zero_data or data_file is missing")),
    };
    Ok(InitialState { name: initial.name.clone(), dims: extents, file })
}
