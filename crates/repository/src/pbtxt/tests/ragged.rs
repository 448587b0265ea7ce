//! What `allow_ragged_batch`, `batch_input` and `batch_output` become.

use salver_core::{BatchInput, BatchInputKind, BatchOutput, NumberType};

use super::*;

const TENSORS: &str = "max_batch_size: 8
  input [ { name: 'X' data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }, { name: 'P' dims: [ 1 ] } ]
  output [ { name: 'Y' dims: [ -1 ] }, { name: 'Z' }, { name: 'W' dims: [ 2, -1 ] } ] ";

#[track_caller]
fn check(text: &str, expected: &str) {
    let text = format!("{}{text}", TENSORS.replace('\n', ""));
    check_invalid(&text, expected);
}

#[test]
fn every_kind_is_read_and_kept_in_order() {
    for kind in BatchInputKind::ALL {
        let block = format!(
            "batch_input {{ kind: {} target_name: 'N' data_type: TYPE_INT32 source_input: 'X' }}",
            kind.as_str()
        );
        let numbers = NumberType::Int32;
        let expected = BatchInput { kind, targets: vec!["N".to_owned()], numbers, source: "X".to_owned() };
        assert_eq!(read(&format!("{TENSORS} {block}")).batch_inputs, [expected]);
    }
    let config = read(&format!(
        "{TENSORS} batch_input [ {{ target_name: [ 'N', 'M' ] data_type: TYPE_FP32 source_input: [ 'X' ] }},
                                 {{ kind: BATCH_ITEM_SHAPE target_name: 'L' data_type: TYPE_INT32 source_input: 'X' }} ]
         batch_output {{ target_name: 'Y' kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: 'X' }}"
    ));
    let first = &config.batch_inputs[0];
    assert_eq!((first.kind, first.numbers), (BatchInputKind::ElementCount, NumberType::Fp32));
    assert_eq!((first.targets.len(), config.batch_inputs[1].targets[0].as_str()), (2, "L"));
    assert_eq!(config.batch_outputs, [BatchOutput { targets: vec!["Y".to_owned()], source: "X".to_owned() }]);
}

#[test]
fn what_the_server_cannot_make_is_refused() {
    let input = |text: &str| format!("batch_input {{ {text} }}");
    let of_x = "data_type: TYPE_INT32 source_input: 'X'";
    check(&input(of_x), "batch_input 1: target_name is missing");
    check(&input(&format!("target_name: '' {of_x}")), "batch_input '': target_name must not be empty");
    for taken in ["'X'", "'P'", "[ 'N', 'N' ]"] {
        let error = parse(&format!("{TENSORS} {}", input(&format!("target_name: {taken} {of_x}"))), "m").unwrap_err();
        assert!(error.message().ends_with("must be an input that nothing else fills"), "{error}");
    }
    let other = "data_type must be TYPE_INT32 or TYPE_FP32, got";
    check(&input("target_name: 'N' source_input: 'X'"), &format!("batch_input 'N': {other} TYPE_INVALID"));
    let long = "target_name: 'N' data_type: TYPE_INT64 source_input: 'X'";
    check(&input(long), &format!("batch_input 'N': {other} TYPE_INT64"));
    let from = |sources: &str| input(&format!("target_name: 'N' data_type: TYPE_INT32 {sources}"));
    check(&from(""), "batch_input 'N': one source_input is expected, got 0");
    check(&from("source_input: [ 'X', 'P' ]"), "batch_input 'N': one source_input is expected, got 2");
    for (name, shown) in [("P", "P"), ("Q", "Q")] {
        let message = "must be one of the inputs with allow_ragged_batch: true";
        let text = from(&format!("source_input: '{name}'"));
        check(&text, &format!("batch_input 'N': source_input '{shown}' {message}"));
    }
}

#[test]
fn outputs_are_cut_by_shapes_that_fit() {
    let output = |text: &str| format!("batch_output {{ {text} }}");
    check(&output("source_input: 'X'"), "batch_output 1: target_name is missing");
    check(&output("target_name: 'Y'"), "batch_output 'Y': one source_input is expected, got 0");
    let of_x = |names: &str| output(&format!("target_name: {names} source_input: 'X'"));
    check(&of_x("'Q'"), "batch_output 'Q': target_name 'Q' must be one of the declared outputs");
    check(&of_x("[ 'Y', 'Y' ]"), "batch_output 'Y': target_name 'Y' is given twice");
    check(
        &of_x("'Z'"),
        "batch_output 'Z': target_name 'Z' must be an output with dims: they are the shape that each request gets",
    );
    check(
        &of_x("'W'"),
        "batch_output 'W': target_name 'W' has a free extent (-1) as dimension 2 of its dims, but 'X' has 1 dimensions",
    );
}

#[test]
fn a_ragged_input_has_a_shape_and_is_always_there() {
    check_invalid(
        "input { name: 'X' allow_ragged_batch: true }",
        "input 'X': allow_ragged_batch needs dims beside it: the shape within requests, as the graph's is flat",
    );
    check_invalid(
        "input { name: 'X' dims: -1 allow_ragged_batch: true optional: true }",
        "input 'X': optional has to be left out beside allow_ragged_batch: every request adds its elements",
    );
    check_error(
        "max_batch_size: 8 input { name: 'X' dims: -1 allow_ragged_batch: true } sequence_batching { }",
        ErrorKind::Unsupported,
        "input 'X': allow_ragged_batch is not offered beside sequence_batching",
    );
    check_error(
        "batch_input { target_name: 'N' data_type: TYPE_INT32 source_input: 'X' }",
        ErrorKind::InvalidInput,
        "batch_input 'N': source_input 'X' must be one of the inputs with allow_ragged_batch: true",
    );
}

#[test]
fn faults_are_found_on_their_lines() {
    let head = "input { name: 'X' dims: -1 allow_ragged_batch: true }\noutput { name: 'Y' dims: -1 }\n";
    for (line, text) in [
        (4, "batch_input {\n target_name: [ 'X' ] data_type: TYPE_INT32 source_input: 'X' }"),
        (5, "batch_input {\n target_name: 'N'\n data_type: TYPE_INT64 source_input: 'X' }"),
        (
            5,
            "batch_input [ { target_name: 'N' data_type: TYPE_INT32 source_input: 'X' },\n { target_name: 'M' data_type: TYPE_INT32\n source_input: 'Y' } ]",
        ),
        (4, "batch_output { source_input: 'X'\n target_name: 'Q' }"),
        (4, "batch_output { target_name: 'Y'\n source_input: 'Y' }"),
    ] {
        let error = parse(&format!("{head}{text}"), "m").expect_err(text);
        assert!(error.message().starts_with(&format!("line {line}: ")), "{text:?}: {error}");
    }
}

#[test]
fn what_hangs_on_a_bad_input_is_not_blamed_for_it() {
    let faults = |text: &str| {
        let review = super::super::review(text, "m").unwrap();
        review.faults.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    let hanging = "batch_input { target_name: 'N' data_type: TYPE_INT32 source_input: 'X' }
                   batch_output { target_name: 'Y' source_input: 'X' }";
    let bad_input =
        format!("input {{ name: 'X' dims: 0 allow_ragged_batch: true }} output {{ name: 'Y' dims: -1 }} {hanging}");
    assert_eq!(faults(&bad_input), ["input[0].dims[0]"]);
    assert_eq!(faults("batch_output { target_name: 'Y' source_input: 'X' } max_batch_size: -1").len(), 2);
}
