//! What `sequence_batching` becomes.

use salver_core::{ControlKind, FalseTrue, SequenceBatching, SequenceStrategy};

use super::*;

#[track_caller]
fn sequences(text: &str) -> SequenceBatching {
    let config = read(&format!("max_batch_size: 8 sequence_batching {{ {text} }}"));
    assert!(config.dynamic_batching.is_none());
    SequenceBatching::clone(config.sequence_batching.as_ref().unwrap())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    check_invalid(
        &format!("max_batch_size: 8 sequence_batching {{ {text} }}"),
        &format!("sequence_batching: {expected}"),
    );
}

#[test]
fn what_is_left_out_has_tritons_defaults() {
    let empty = sequences("");
    assert_eq!(empty.strategy, SequenceStrategy::default());
    assert_eq!((empty.max_idle, empty.controls.len(), empty.states.len()), (Duration::from_secs(1), 0, 0));
    assert_eq!(sequences("max_sequence_idle_microseconds: 7").max_idle, Duration::from_micros(7));
}

#[test]
fn both_strategies_are_read() {
    let direct = sequences("direct { max_queue_delay_microseconds: 5 minimum_slot_utilization: 0.5 }").strategy;
    let expected = SequenceStrategy::Direct { max_queue_delay_microseconds: 5, minimum_slot_utilization: 0.5 };
    assert_eq!(direct, expected);
    let oldest = "oldest { max_candidate_sequences: 4 preferred_batch_size: [ 8, 2 ] preserve_ordering: true }";
    let expected = SequenceStrategy::Oldest {
        max_candidate_sequences: 4,
        preferred_batch_size: vec![2, 8],
        max_queue_delay_microseconds: 0,
        preserve_ordering: true,
    };
    assert_eq!(sequences(oldest).strategy, expected);
    check("direct { minimum_slot_utilization: 2 }", "minimum_slot_utilization must be from 0 to 1, got 2");
    check("oldest { }", "max_candidate_sequences must be from 1 to 1024, got 0");
    check(
        "oldest { max_candidate_sequences: 1 preferred_batch_size: 9 }",
        "oldest: preferred_batch_size must be from 1 to max_batch_size (8), got 9",
    );
}

#[test]
fn controls_have_a_kind_and_its_values() {
    let read = sequences(
        "control_input [
           { name: 's' control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } },
           { name: 'e' control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ -1, 1 ] } },
           { name: 'r' control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ true, false ] } },
           { name: 'c' control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } } ]",
    );
    let kinds: Vec<_> = read.controls.iter().map(|control| (control.input.as_str(), control.kind)).collect();
    let expected = [
        ("s", ControlKind::Start(FalseTrue::Int32([0, 1]))),
        ("e", ControlKind::End(FalseTrue::Fp32([-1.0, 1.0]))),
        ("r", ControlKind::Ready(FalseTrue::Bool([true, false]))),
        ("c", ControlKind::CorrelationId(DataType::Bytes)),
    ];
    assert_eq!(kinds, expected);
    let start = "control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }";
    check(
        "control_input { name: 's' control { kind: CONTROL_SEQUENCE_START int32_false_true: 1 } }",
        "control_input 's': CONTROL_SEQUENCE_START needs one of int32_false_true, fp32_false_true and \
         bool_false_true, with two values, the one for false first",
    );
    check(
        "control_input { name: 's' control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32 } }",
        "control_input 's': the data_type of CONTROL_SEQUENCE_CORRID must be TYPE_UINT64, TYPE_INT64, TYPE_UINT32, \
         TYPE_INT32 or TYPE_STRING",
    );
    check("control_input { name: 's' }", "control_input 's': one control is expected for an input, got 0");
    check(
        &format!("control_input [ {{ name: 's' {start} }}, {{ name: 't' {start} }} ]"),
        "control_input 't': CONTROL_SEQUENCE_START is told by another input already",
    );
    check(
        &format!("control_input [ {{ name: 's' {start} }}, {{ name: 's' {start} }} ]"),
        "control_input 's': name must be that of an input that nothing else fills",
    );
}

#[test]
fn states_have_a_shape_and_a_beginning() {
    let state = |rest: &str| {
        format!("state {{ input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: [ -1, 2 ] {rest} }}")
    };
    let read = sequences(&state("initial_state { name: 'n' data_type: TYPE_FP32 dims: [ 3, 2 ] data_file: 'f' }"));
    let initial = read.states[0].initial.as_ref().unwrap();
    assert_eq!((initial.dims.as_slice(), initial.file.as_ref().unwrap().0.as_str()), (&[3, 2][..], "f"));
    assert!(sequences(&state("use_same_buffer_for_input_output: true")).states[0].initial.is_none());
    check(
        &state("initial_state { dims: [ 3, 1 ] zero_data: true }"),
        "state 'i': initial_state: dims must fit those of the state, [-1, 2], with every extent 1 or more, got [3, 1]",
    );
    check(&state("initial_state { dims: [ 3, 2 ] }"), "state 'i': initial_state: zero_data or data_file is missing");
    check(
        "state { input_name: 'i' data_type: TYPE_FP32 }",
        "state 'i': output_name must be that of an output of its own",
    );
    check(&format!("{} {}", state(""), state("")), "state 'i': input_name must be that of an input of its own");
}

#[test]
fn what_cannot_go_with_sequences_is_refused() {
    check_error(
        "sequence_batching { iterative_sequence: true }",
        ErrorKind::Unsupported,
        "sequence_batching: iterative_sequence is not offered",
    );
    check_invalid(
        "sequence_batching { } response_cache { enable: true }",
        "response_cache has to be left out: the answers of sequence_batching depend on earlier requests",
    );
}
